# shellcheck shell=bash
# What every script here shares: where things are, how they are named, how they speak.

E2E_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/portcullis
RUNS=${TMPDIR:-/tmp}
RUNS=${RUNS%/}
# shellcheck source=e2e/versions.env
. "$E2E_DIR/versions.env"

log() { printf 'e2e: %s\n' "$*" >&2; }

die() {
    log "error: $*"
    exit 1
}

# Prints the comment at the head of the running script, which is its help.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

usage_error() {
    log "error: $*"
    usage >&2
    exit 2
}

is_root() { [ "$(id -u)" = 0 ]; }

# Sets NAME, STATE and the rest of what a run is called; the name is the only input.
use_name() {
    [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ ]] ||
        usage_error "\`--name\` must be at most 32 of a-z, 0-9 and -, got \`$1\`"
    NAME=$1
    STATE=$RUNS/portcullis-e2e-$NAME
    LINK=pc$(printf '%s' "$STATE" | sha256sum | cut -c1-10) # the host's end of the node's cable
}

# Like use_name, for scripts that need the run to be up.
use_running() {
    use_name "$1"
    [ -f "$STATE/env" ] || die "no cluster \`$NAME\` is up; start it with: e2e/up --name $NAME"
    # shellcheck source=/dev/null
    . "$STATE/env"
}

# The run that scripts mean when no --name is given: the one whose environment this is.
default_name() { printf '%s' "${E2E_NAME:-default}"; }

# Runs a command while no other run of ours does the same: ports and addresses are chosen under it.
locked() {
    mkdir -p "$CACHE"
    {
        flock 9
        "$@"
    } 9>"$CACHE/$1.lock"
}

# Seconds that anything may take, on a machine that is busy with something else: they cost nothing while things work.
PATIENCE=120

# Calls a function until it succeeds: wait_until WHAT COMMAND...
wait_until() {
    local deadline=$((SECONDS + PATIENCE)) what=$1
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "$what did not happen in time; logs: $STATE/log"
        sleep 0.1
    done
}
