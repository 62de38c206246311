# shellcheck shell=bash
# Clusters that are not built here: the user's own, and one made by kind.

# Whether the user gave a kubeconfig on purpose; one that e2e/up itself printed before does not count.
users_own() { [ -n "${E2E_KUBECONFIG:-}" ] && { [ -z "${E2E_STATE:-}" ] || [ "${E2E_PROVIDER_USED:-}" = own ]; }; }

# kind stands in for levels 2 and 3 only: level 1 starts faster without it, and its tests stop single processes and
# serve webhooks on this machine's loopback. Nobody has run this path where e2e/ was written: there was no Docker.
kind_answers() {
    [ "$LEVEL" != 1 ] && command -v kind >/dev/null && command -v docker >/dev/null && docker info >/dev/null 2>&1
}

provider() {
    if [ -n "${E2E_PROVIDER:-}" ]; then
        [[ $E2E_PROVIDER =~ ^(own|kind|built)$ ]] || usage_error "\`E2E_PROVIDER\` must be one of own, kind, built, got \`$E2E_PROVIDER\`"
        echo "$E2E_PROVIDER"
    elif users_own; then
        echo own
    elif kind_answers; then
        echo kind
    else
        echo built
    fi
}

# kind's own network plugin enforces NetworkPolicy since kind 0.24, so that level 3 needs nothing more.
start_kind() {
    kind create cluster --name "portcullis-e2e-$NAME" --kubeconfig "$STATE/admin.kubeconfig" --wait 120s >&2
    chmod 600 "$STATE/admin.kubeconfig"
    HOST_ADDRESS=$(docker network inspect kind --format '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' | grep -m1 -F .)
}

stop_kind() {
    command -v kind >/dev/null || die "cluster \`$NAME\` was made by kind, which must be on PATH to remove it"
    kind delete cluster --name "portcullis-e2e-$NAME" >&2
}

check_own() {
    kubectl --kubeconfig "$E2E_KUBECONFIG" version >/dev/null 2>&1 ||
        die "\`E2E_KUBECONFIG\` must be the kubeconfig of a cluster that answers, got \`$E2E_KUBECONFIG\`"
}
