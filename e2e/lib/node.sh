# shellcheck shell=bash
# Level 2: one node, in namespaces of its own, so that it leaves nothing on the machine.
#
# All of the cluster's processes run in one set of process, mount, network, host name and IPC namespaces. Addresses,
# rules, devices, mounts and sockets are therefore the same in every run and never meet; a cable (a veth pair) joins
# the run's network to the machine's. When the first process of the namespaces ends, the kernel ends the rest.

NODE_NAME=portcullis-e2e
POD_CIDR=10.244.0.0/24
DNS_ADDRESS=10.96.0.10

# Everything that can be said before anything is started.
prepare_machine() {
    is_root || die "level $LEVEL must be started as root; level 1 works as any user"
    [[ $STATE != /var/lib/* ]] || die "\`TMPDIR\` must not lie in /var/lib, which the node has its own of, got \`$TMPDIR\`"
    "$E2E_DIR/packages"
}

start_namespaces() {
    local probe
    probe=$(part_dir node)/bin/probe
    mkdir -p "$STATE/log"
    modprobe -qa overlay nf_tables nfnetlink_queue 2>/dev/null || true # may be built in
    setsid unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc --propagation private \
        "$probe" pause "$STATE" >"$STATE/log/node.log" 2>&1 </dev/null 9>&- &
    echo $! >"$STATE/node-holder.pid"
    disown
    wait_until "the first process of the node" first_process
    pgrep -P "$(<"$STATE/node-holder.pid")" >"$STATE/node.pid"
    set_enter
    "${ENTER[@]}" bash -euo pipefail -s <<SETUP
        # The kubelet and containerd pass mounts to each other; none reaches the machine.
        mount --make-rshared /
        mount -t tmpfs tmpfs /run
        mount -t tmpfs tmpfs /var/log
        mkdir /run/lock /run/upper /run/work
        mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/upper,workdir=/run/work /var/lib # cni, kubelet
        hostname $NODE_NAME
        ip link set lo up
SETUP
    locked plug_cable
    make_cgroups
}

first_process() {
    local pid
    pid=$(pgrep -P "$(<"$STATE/node-holder.pid")") && [ "$(readlink "/proc/$pid/exe")" = "$(part_dir node)/bin/probe" ]
}

# Chooses the first /30 that the machine does not use, and joins it to the node's network.
plug_cable() {
    local number
    for number in {0..255}; do
        [ -n "$(ip -4 -o address show to "10.213.$number.0/24")" ] || break
    done
    NODE_GATEWAY=10.213.$number.1 NODE_ADDRESS=10.213.$number.2
    ip link add "$LINK" type veth peer name eth0 netns "$(<"$STATE/node.pid")"
    ip address add "$NODE_GATEWAY/30" dev "$LINK"
    ip link set "$LINK" up
    "${ENTER[@]}" bash -euo pipefail -s <<SETUP
        ip address add $NODE_ADDRESS/30 dev eth0
        ip link set eth0 up
        ip route add default via $NODE_GATEWAY
        sysctl -qw net.ipv4.ip_forward=1
SETUP
}

# The run's own control group, in each of version 1's trees or in version 2's only one.
make_cgroups() {
    local tree trees=(/sys/fs/cgroup/*/)
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        trees=(/sys/fs/cgroup/)
        echo "+cpu +cpuset +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
    fi
    for tree in "${trees[@]}"; do
        [ ! -f "$tree/cgroup.procs" ] || mkdir -p "$tree/${STATE##*/}"
    done
}

start_node() {
    NODE_BIN=$(part_dir node)/bin
    start_containerd
    import_images "$(part_dir node)/images/"*.tar
    start_kubelet
    start_kube_proxy
    apply_manifest dns
    wait_until "node Ready" node_ready
    wait_until "cluster DNS" kube -n kube-system wait --for=condition=Available deployment/coredns --timeout=1s
}

start_containerd() {
    mkdir -p "$STATE/node/cni"
    cat >"$STATE/node/containerd.toml" <<TOML
version = 3
root = '$STATE/node/containerd'
state = '/run/containerd'
disabled_plugins = ['io.containerd.internal.v1.opt']
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = 'portcullis.test/pause:v1'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '$STATE/node/cni'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '$NODE_BIN/runc'
TOML
    # Point to point: each packet between pods is routed, so that Services and policies see it without br_netfilter.
    cat >"$STATE/node/cni/10-e2e.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "e2e", "plugins": [
  {"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "dataDir": "/run/cni",
    "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
    launch containerd env PATH="$NODE_BIN:$PATH" containerd --config "$STATE/node/containerd.toml"
    await containerd "${ENTER[@]}" "$NODE_BIN/ctr" version
}

start_kubelet() {
    new_user kubelet "system:node:$NODE_NAME" system:nodes >/dev/null
    issue kubelet-server "/CN=$NODE_NAME" "IP:$NODE_ADDRESS,DNS:$NODE_NAME"
    cat >"$STATE/node/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$STATE/pki/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/kubelet-server.crt
tlsPrivateKeyFile: $STATE/pki/kubelet-server.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /${STATE##*/}
failCgroupV1: false
enforceNodeAllocatable: []
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [$DNS_ADDRESS]
resolvConf: ""
podLogsDir: $STATE/node/pods
volumePluginDir: $STATE/node/plugins
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
registerNode: true
syncFrequency: 10s
YAML
    launch kubelet env PATH="$NODE_BIN:$PATH" "$BIN/kubelet" --config "$STATE/node/kubelet.yaml" \
        --kubeconfig "$STATE/kubelet.kubeconfig" --root-dir "$STATE/node/kubelet" \
        --node-ip "$NODE_ADDRESS" --hostname-override "$NODE_NAME"
}

node_ready() { kube wait --for=condition=Ready "node/$NODE_NAME" --timeout=1s; }

start_kube_proxy() {
    new_user kube-proxy system:kube-proxy >/dev/null
    cat >"$STATE/node/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: "$STATE/kube-proxy.kubeconfig"}
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE_NAME
conntrack: {maxPerCore: 0} # one number for the whole machine, not ours to change
YAML
    launch kube-proxy "$BIN/kube-proxy" --config "$STATE/node/kube-proxy.yaml"
}

apply_manifest() { kube apply -f "$E2E_DIR/manifests/$1.yaml" >/dev/null; }
