# shellcheck shell=bash
# Starts and stops the cluster's processes, each by its id in $STATE/NAME.pid.
# Its command line is kept in $STATE/commands/NAME, so that a test can stop one and start it again.

# Sets ENTER to what runs a command where the cluster's processes run: here, or in the node's namespaces.
set_enter() {
    ENTER=()
    [ ! -f "$STATE/node.pid" ] || ENTER=(nsenter --target "$(<"$STATE/node.pid")" --mount --net --pid --ipc --uts)
}

# launch NAME COMMAND...: writes the command down and starts it.
launch() {
    local name=$1
    shift
    mkdir -p "$STATE/commands" "$STATE/log"
    {
        echo '#!/bin/sh'
        printf 'exec'
        printf ' %q' "$@"
        echo
    } >"$STATE/commands/$name"
    start_process "$name"
}

start_process() {
    local name=$1 parent
    [ -f "$STATE/commands/$name" ] || die "no process \`$name\` in $STATE; there are: $(ls "$STATE/commands")"
    ! process_runs "$name" || die "$name runs already, as process $(<"$STATE/$name.pid")"
    set_enter
    setsid "${ENTER[@]}" bash "$STATE/commands/$name" >>"$STATE/log/$name.log" 2>&1 </dev/null 9>&- &
    parent=$!
    disown # or bash reports its end
    if [ ${#ENTER[@]} = 0 ]; then
        echo "$parent" >"$STATE/$name.pid"
        # Until then it bears the name of this shell, and would be taken for one that has ended.
        until process_runs "$name" || [ ! -e "/proc/$parent" ]; do
            sleep 0.01
        done
    else # nsenter stays outside and forks
        until pgrep -P "$parent" >"$STATE/$name.pid"; do
            [ -e "/proc/$parent" ] || die "$name did not start; log: $STATE/log/$name.log"
            sleep 0.01
        done
    fi
}

# Whether the process of the pid file lives and is ours, not another that was given its number since.
process_runs() {
    local pid
    pid=$(cat "$STATE/$1.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    grep -qsF "$STATE" "/proc/$pid/cmdline"
}

# signal_process SIGNAL NAME: sends it and waits for the end.
signal_process() {
    local pid deadline=$((SECONDS + PATIENCE))
    process_runs "$2" || {
        rm -f "$STATE/$2.pid"
        return 0
    }
    pid=$(<"$STATE/$2.pid")
    kill "-$1" "$pid" 2>/dev/null || true
    while process_runs "$2" && [ "$SECONDS" -lt "$deadline" ]; do
        sleep 0.02
    done
    ! process_runs "$2" || die "$2, process $pid, did not end at SIG$1"
    rm -f "$STATE/$2.pid"
}

# await NAME COMMAND...: until the command succeeds; says why if the process ends before.
await() {
    local name=$1 deadline=$((SECONDS + PATIENCE))
    shift
    until "$@" >/dev/null 2>&1; do
        if ! process_runs "$name" || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 15 "$STATE/log/$name.log" >&2
            die "$name did not become ready; log: $STATE/log/$name.log"
        fi
        sleep 0.1
    done
}
