# shellcheck shell=bash
# Level 3: NetworkPolicy, enforced by kube-network-policies in the node's namespaces.

QUEUE=100

start_netpol() {
    new_user netpol portcullis-e2e:netpol >/dev/null
    apply_manifest netpol
    launch kube-network-policies "$(part_dir netpol)/bin/kube-network-policies" \
        --kubeconfig "$STATE/netpol.kubeconfig" --hostname-override "$NODE_NAME" \
        --nfqueue-id "$QUEUE" --metrics-bind-address 127.0.0.1:9080 -v 2
    queue_packets
    await kube-network-policies "${ENTER[@]}" grep -q "^ *$QUEUE " /proc/net/netfilter/nfnetlink_queue
}

# The agent's own rules need the kernel's nft_queue, which not every kernel has; these do the same through iptables:
# the first packet from or to a pod goes to the agent, except the node's own (probes, the API server's webhooks).
queue_packets() {
    local queue=(-m conntrack --ctstate NEW -j NFQUEUE --queue-num "$QUEUE")
    "${ENTER[@]}" bash -euo pipefail -s <<SETUP
        iptables -w -t mangle -A POSTROUTING -m owner --uid-owner 0 -j RETURN
        iptables -w -t mangle -A POSTROUTING -s $POD_CIDR ${queue[*]}
        iptables -w -t mangle -A POSTROUTING -d $POD_CIDR ${queue[*]}
        iptables -w -t mangle -A INPUT ! -i lo -s $POD_CIDR ${queue[*]}
SETUP
}
