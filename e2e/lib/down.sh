# shellcheck shell=bash
# Takes a cluster away, however far it came: every step does nothing where there is nothing.

remove_cluster() {
    [ -d "$STATE" ] || return 0
    case $(cat "$STATE/provider" 2>/dev/null) in
    kind) stop_kind ;;
    own) ;;
    *)
        stop_namespaces
        stop_processes
        remove_cable
        remove_cgroups
        ;;
    esac
    rm -rf "$STATE"
}

# The first process of the node's namespaces takes with it all that is in them: containers, mounts, devices, rules.
# Its parent, outside, then ends by itself; where it has no child yet, it is ended too.
stop_namespaces() {
    if process_runs node; then
        signal_process KILL node
        signal_process 0 node-holder
    else
        signal_process KILL node-holder
    fi
}

stop_processes() {
    local file pid
    for file in "$STATE"/*.pid; do
        [ -e "$file" ] || continue
        file=${file##*/}
        signal_process KILL "${file%.pid}"
    done
    # What was started but not yet written down, or by a test: our programs, at work for this run.
    for pid in $(pgrep -f -- "$STATE/" || true); do
        case $(readlink "/proc/$pid/exe" 2>/dev/null) in
        "$CACHE"/* | "${KUBEBUILDER_ASSETS:-$CACHE}"/*) kill -KILL "$pid" 2>/dev/null || true ;;
        esac
    done
}

remove_cable() {
    ! is_root || ! ip link show "$LINK" >/dev/null 2>&1 || ip link delete "$LINK" 2>/dev/null || true
}

# Control groups outlive their processes. In version 1 there is one tree for each controller.
remove_cgroups() {
    local tree
    is_root || return 0
    for _ in {1..50}; do
        for tree in /sys/fs/cgroup/"${STATE##*/}" /sys/fs/cgroup/*/"${STATE##*/}"; do
            [ ! -d "$tree" ] || find "$tree" -depth -type d -exec rmdir {} + 2>/dev/null || true
        done
        compgen -G "/sys/fs/cgroup/*/${STATE##*/}" >/dev/null || [ -d "/sys/fs/cgroup/${STATE##*/}" ] || return 0
        sleep 0.1
    done
    log "control groups of $STATE could not be removed; a process of the run may still live"
}
