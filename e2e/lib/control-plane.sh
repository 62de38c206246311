# shellcheck shell=bash
# Level 1: etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

SERVICE_CIDR=10.96.0.0/16

# On the machine itself ports are chosen free, and not any that another run has chosen and not yet opened.
choose_ports() {
    local taken port chosen=()
    taken=$({
        ss -Htanu | awk '{print $5}' | sed 's/.*://'
        cat "$RUNS"/portcullis-e2e-*/ports 2>/dev/null || true
    } | sort -u)
    while [ ${#chosen[@]} -lt 5 ]; do
        port=$((20000 + RANDOM % 12000)) # below the range that the kernel hands out
        grep -qx "$port" <<<"$taken" || chosen+=("$port")
        taken+=$'\n'$port
    done
    printf '%s\n' "${chosen[@]}" >"$STATE/ports"
}

# Sets the addresses of the control plane: those of the machine, or those of the node's own network.
set_addresses() {
    local ports=(2379 2380 6443 10257 10259)
    BIND=127.0.0.1 ADDRESS=127.0.0.1 HOST_ADDRESS=127.0.0.1
    if [ "$LEVEL" = 1 ]; then
        locked choose_ports
        mapfile -t ports <"$STATE/ports"
    else
        BIND=0.0.0.0 ADDRESS=$NODE_ADDRESS HOST_ADDRESS=$NODE_GATEWAY
    fi
    ETCD_PORT=${ports[0]} ETCD_PEER_PORT=${ports[1]} API_PORT=${ports[2]} MANAGER_PORT=${ports[3]} SCHEDULER_PORT=${ports[4]}
    SERVER=https://$ADDRESS:$API_PORT
}

start_control_plane() {
    make_certificates
    start_etcd
    start_apiserver
    [ "$LEVEL" != 1 ] || [ -z "${KUBEBUILDER_ASSETS:-}" ] || return 0 # has no other programs
    start_controllers
}

make_certificates() {
    make_ca
    issue kube-apiserver /CN=kube-apiserver \
        "IP:127.0.0.1,IP:$ADDRESS,IP:${SERVICE_CIDR%.0/*}.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    issue kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    new_user admin kubernetes-admin system:masters >/dev/null
    new_user kube-controller-manager system:kube-controller-manager >/dev/null
    new_user kube-scheduler system:kube-scheduler >/dev/null
}

start_etcd() {
    launch etcd "$BIN/etcd" --name e2e --data-dir "$STATE/etcd" --unsafe-no-fsync --logger zap --log-level warn \
        --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --listen-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" --initial-advertise-peer-urls "http://127.0.0.1:$ETCD_PEER_PORT" \
        --initial-cluster "e2e=http://127.0.0.1:$ETCD_PEER_PORT"
}

start_apiserver() {
    local extra=()
    # Without a node nothing may be behind the `kubernetes` Service, least of all a loopback address.
    [ "$LEVEL" != 1 ] || extra+=(--endpoint-reconciler-type=none)
    # Without a controller manager nothing makes the service accounts that this plugin asks for.
    [ "$LEVEL" != 1 ] || [ -z "${KUBEBUILDER_ASSETS:-}" ] || extra+=(--disable-admission-plugins=ServiceAccount)
    # shellcheck disable=SC2206 # words on purpose
    extra+=(${E2E_APISERVER_ARGS:-})
    cat >"$STATE/authentication.yaml" <<'YAML'
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions: [{path: /livez}, {path: /readyz}, {path: /healthz}]
YAML
    launch kube-apiserver "$BIN/kube-apiserver" \
        --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
        --bind-address="$BIND" --advertise-address="$ADDRESS" --secure-port="$API_PORT" \
        --tls-cert-file="$STATE/pki/kube-apiserver.crt" --tls-private-key-file="$STATE/pki/kube-apiserver.key" \
        --client-ca-file="$STATE/pki/ca.crt" --authentication-config="$STATE/authentication.yaml" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
        --service-cluster-ip-range="$SERVICE_CIDR" --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file="$STATE/pki/service-account.key" \
        --service-account-signing-key-file="$STATE/pki/service-account.key" \
        --kubelet-certificate-authority="$STATE/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --kubelet-client-certificate="$STATE/pki/kubelet-client.crt" --kubelet-client-key="$STATE/pki/kubelet-client.key" \
        "${extra[@]}"
    await kube-apiserver apiserver_ready
}

apiserver_ready() { curl -sf --max-time 2 --cacert "$STATE/pki/ca.crt" "$SERVER/readyz"; }

start_controllers() {
    launch kube-controller-manager "$BIN/kube-controller-manager" \
        --kubeconfig="$STATE/kube-controller-manager.kubeconfig" \
        --authentication-kubeconfig="$STATE/kube-controller-manager.kubeconfig" \
        --authorization-kubeconfig="$STATE/kube-controller-manager.kubeconfig" \
        --bind-address=127.0.0.1 --secure-port="$MANAGER_PORT" --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000 \
        --use-service-account-credentials --service-account-private-key-file="$STATE/pki/service-account.key" \
        --root-ca-file="$STATE/pki/ca.crt" \
        --cluster-signing-cert-file="$STATE/pki/ca.crt" --cluster-signing-key-file="$STATE/pki/ca.key"
    launch kube-scheduler "$BIN/kube-scheduler" \
        --kubeconfig="$STATE/kube-scheduler.kubeconfig" \
        --authentication-kubeconfig="$STATE/kube-scheduler.kubeconfig" \
        --authorization-kubeconfig="$STATE/kube-scheduler.kubeconfig" \
        --bind-address=127.0.0.1 --secure-port="$SCHEDULER_PORT" --leader-elect=false
    # Its account in `default` shows that the controllers work; pods are refused before it is there.
    await kube-controller-manager kube get serviceaccount default
    await kube-scheduler "${ENTER[@]}" curl -skf --max-time 2 "https://127.0.0.1:$SCHEDULER_PORT/healthz"
}

kube() { "$KUBECTL" --kubeconfig "$STATE/admin.kubeconfig" "$@"; }
