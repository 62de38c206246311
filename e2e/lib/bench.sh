# shellcheck shell=bash
# The measurements of e2e/bench. Each leaves its figures in the folder of results.

build_benchmarks() {
    make --no-print-directory binary >&2
    cargo bench --quiet --locked --package portcullis --benches --no-run
    go_build benches/pod-security "$1/pod-security" .
    build_part control-plane
    build_part tools
}

bench() { cargo bench --quiet --locked --package portcullis --bench "$1"; }

# The Pod Security library directly after our own rules, on the pod that the former step left.
measure_engine() {
    log "== B1: one Deployment, judged; the same pod by the Pod Security library"
    bench evaluate
    "$1/pod-security" "$1/pod.json" | tee "$1/pod-security.json"
    bench allocations
}

measure_admission() {
    log "== B2: reviews through TLS, on one core"
    bench admission
}

# In a shell of its own, so that the cluster is taken away whatever happens.
measure_operator() (
    log "== B5, B6: the operator on a cluster with 1,000 policies"
    name=bench-$$
    environment=$("$E2E_DIR/build" tools && "$E2E_DIR/up" --level 1 --name "$name")
    trap '"$E2E_DIR/down" --name "$name"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    eval "$environment"
    # No replica: the operator that is measured runs beside the cluster, with the chart's options and rights.
    helm install portcullis charts/portcullis --namespace portcullis-system --create-namespace \
        --set replicaCount=0 --wait --timeout 120s >&2
    BENCH_OPERATOR_KUBECONFIG=$("$E2E_DIR/user" --name "$name" system:serviceaccount:portcullis-system:portcullis \
        system:serviceaccounts system:serviceaccounts:portcullis-system)
    BENCH_OPERATOR=$PWD/dist/portcullis
    export BENCH_OPERATOR BENCH_OPERATOR_KUBECONFIG
    bench operator
)

# What it was measured on; nothing that names the machine.
machine() {
    jq -n \
        --arg cpu "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)" \
        --arg cores "$(nproc)" \
        --arg memory "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)" \
        --arg kernel "$(uname -sr | cut -d. -f1,2)" \
        --arg rust "$(rustc --version | cut -d' ' -f2)" \
        --arg go "$(go env GOVERSION)" \
        --arg kubernetes "$KUBERNETES_VERSION" \
        '{$cpu, cores: ($cores | tonumber), $memory, $kernel, $rust, $go, $kubernetes}'
}

# As Markdown, so that docs/benchmarks.md can take it as it is.
print_table() {
    jq -r '
        (.machine | "\(.cpu), \(.cores) cores, \(.memory); \(.kernel); Rust \(.rust), \(.go), Kubernetes \(.kubernetes)"),
        "",
        "| # | measured | value | must be | |",
        "| --- | --- | --- | --- | --- |",
        (.results[] | "| \(.id) | \(.measured) | \(.value) \(.unit) | \(if .atMost then "≤ \(.atMost) \(.unit)" else "" end) | \(
            if .atMost == null then "" elif .value <= .atMost then "reached" else "missed" end) |")
    ' "$1"
}
