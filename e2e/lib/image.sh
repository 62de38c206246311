# shellcheck shell=bash
# Puts images into a running cluster.

# load_images ARCHIVE...: docker-archives.
load_images() {
    local archive
    case $(<"$STATE/provider") in
    built)
        [ -f "$STATE/node.pid" ] || die "cluster \`$NAME\` has no node for images; start it with: e2e/up --level 2"
        set_enter
        import_images "$@"
        ;;
    kind)
        for archive in "$@"; do
            kind load image-archive "$archive" --name "portcullis-e2e-$NAME" >&2
        done
        ;;
    own) die "cluster \`$NAME\` is your own: load $* into it yourself" ;;
    esac
}

# import_images ARCHIVE...: into the node's containerd; the log is shown only when it failed.
import_images() {
    local archive
    for archive in "$@"; do
        "${ENTER[@]}" "$(part_dir node)/bin/ctr" -n k8s.io images import --local "$archive" >"$STATE/log/import.log" 2>&1 || {
            cat "$STATE/log/import.log" >&2
            die "image $archive must be a docker-archive that containerd can import"
        }
    done
}
