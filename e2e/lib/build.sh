# shellcheck shell=bash
# Builds each part from source, once per set of inputs, into the cache.

PARTS=(control-plane node netpol tools deny)

# The directory of a finished part; its name follows from everything that the part is made of.
part_dir() {
    local key
    key=$({ part_inputs "$1" && declare -f "build_${1//-/_}" go_build go_install; } | sha256sum | cut -c1-12)
    printf '%s/%s-%s' "$CACHE" "$1" "$key"
}

part_inputs() {
    case $1 in
    control-plane) echo "$KUBERNETES_VERSION" && cat "$E2E_DIR"/k8s/{go.mod,go.sum,main.go} ;;
    node) echo "$CONTAINERD_VERSION $RUNC_VERSION $COREDNS_VERSION" && cat "$E2E_DIR"/images/*/* ;;
    netpol) echo "$NETPOL_VERSION" && cat "$E2E_DIR"/netpol/go.{mod,sum} ;;
    tools) echo "$HELM_VERSION $KUBECONFORM_VERSION $HELM_UNITTEST_VERSION" && cat "$E2E_DIR"/tools/go.{mod,sum} ;;
    deny) echo "$CARGO_DENY_VERSION" ;;
    *) usage_error "part must be one of ${PARTS[*]} all, got \`$1\`" ;;
    esac
}

# print_paths BIN_DIR...: the export lines for using what was built.
print_paths() {
    local bin
    [ $# = 0 ] || echo "export PATH=$(printf '%q:' "$@")\$PATH"
    for bin in "$@"; do
        [ ! -d "$bin/../plugins" ] || echo "export HELM_PLUGINS=$(printf %q "${bin%/bin}/plugins")"
    done
}

part_minutes() {
    case $1 in
    control-plane) echo 9 ;;
    tools | deny) echo 5 ;;
    *) echo 3 ;;
    esac
}

# Builds a part unless it is there. Two at once: the second waits, then finds it done.
build_part() {
    local part=$1 final
    final=$(part_dir "$part")
    [ -d "$final" ] && return
    mkdir -p "$CACHE"
    (
        flock 9
        [ -d "$final" ] && exit
        command -v go >/dev/null || die "building $part must have go on PATH; install Go 1.26.6 or later"
        log "building $part from source into $final; the first time takes about $(part_minutes "$part") minutes"
        tmp=$(mktemp -d "$final.XXXXXX")
        trap 'rm -rf "$tmp"' EXIT
        mkdir "$tmp/bin"
        cd / # away from any go.mod
        started=$SECONDS
        "build_${part//-/_}" "$tmp" >&2
        chmod 755 "$tmp"
        mv "$tmp" "$final"
        log "built $part in $((SECONDS - started)) s"
    ) 9>"$CACHE/build-$part.lock"
}

# go_build MODULE_DIR OUTPUT PACKAGE [LDFLAGS]: from a module of ours, at its go.sum.
go_build() {
    (cd "$1" && env GOWORK=off GOTOOLCHAIN=local GOFLAGS=-buildvcs=false CGO_ENABLED=0 \
        go build -mod=readonly -trimpath -ldflags="-s -w ${4:-}" -o "$2" "$3")
}

# go_install BIN_DIR PACKAGE@VERSION...: from upstream's own module, at its own go.sum.
go_install() {
    local bin=$1
    shift
    env GOWORK=off GOTOOLCHAIN=local GOFLAGS=-buildvcs=false GOBIN="$bin" CGO_ENABLED="${CGO_ENABLED:-0}" \
        go install -trimpath -ldflags='-s -w' ${GO_TAGS:+-tags "$GO_TAGS"} "$@"
}

build_control_plane() {
    local stamp='' package program
    must_require k8s "k8s.io/kubernetes v$KUBERNETES_VERSION"
    # Without a version helm and kubectl refuse to talk to the server.
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        stamp+=" -X $package.gitVersion=v$KUBERNETES_VERSION -X $package.gitMajor=1"
        stamp+=" -X $package.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION")"
    done
    go_build "$E2E_DIR/k8s" "$1/bin/kubernetes" . "$stamp"
    for program in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
        ln -s kubernetes "$1/bin/$program"
    done
    go_build "$E2E_DIR/k8s" "$1/bin/kubectl" k8s.io/kubernetes/cmd/kubectl "$stamp"
}

build_node() {
    local image
    go_install "$1/bin" "github.com/containerd/containerd/v2/cmd/"{containerd,containerd-shim-runc-v2,ctr}"@v$CONTAINERD_VERSION"
    # Debian's runc is too old for this containerd.
    CGO_ENABLED=1 GO_TAGS=seccomp go_install "$1/bin" "github.com/opencontainers/runc@v$RUNC_VERSION"
    go_install "$1/bin" "github.com/coredns/coredns@v$COREDNS_VERSION"
    go_build "$E2E_DIR/images/probe" "$1/bin/probe" .
    mkdir "$1/images"
    for image in pause probe coredns; do
        mkdir "$1/context"
        cp "$E2E_DIR/images/$image/Dockerfile" "$1/bin/"{probe,coredns} "$1/context"
        build_image "$1/context" "portcullis.test/$image:v1" "$1/images/$image.tar"
        rm -r "$1/context"
    done
    rm "$1/bin/coredns" # only its image is used
}

build_netpol() {
    must_require netpol "sigs.k8s.io/kube-network-policies v$NETPOL_VERSION"
    go_build "$E2E_DIR/netpol" "$1/bin/kube-network-policies" sigs.k8s.io/kube-network-policies/cmd/kube-network-policies/standard
}

build_tools() {
    must_require tools "github.com/helm-unittest/helm-unittest v$HELM_UNITTEST_VERSION"
    go_install "$1/bin" "helm.sh/helm/v4/cmd/helm@v$HELM_VERSION"
    go_install "$1/bin" "github.com/yannh/kubeconform/cmd/kubeconform@v$KUBECONFORM_VERSION"
    # Upstream calls the plugin's program untt; it runs without helm just as well.
    go_build "$E2E_DIR/tools" "$1/bin/untt" github.com/helm-unittest/helm-unittest/cmd/helm-unittest
    mkdir -p "$1/plugins/unittest"
    cat >"$1/plugins/unittest/plugin.yaml" <<YAML
name: unittest
version: $HELM_UNITTEST_VERSION
usage: unit tests for charts
description: Unit tests for charts, in YAML.
command: "\$HELM_PLUGIN_DIR/../../bin/untt"
YAML
}

build_deny() {
    cargo install --quiet --locked --version "$CARGO_DENY_VERSION" --root "$1" --target-dir "$1/target" cargo-deny
    rm -rf "$1/target"
}

# versions.env and a go.mod of ours must say the same.
must_require() {
    grep -Eq "^(require)?[[:space:]]*$2( // indirect)?\$" "$E2E_DIR/$1/go.mod" || die "e2e/$1/go.mod must require $2, as e2e/versions.env says"
}

# build_image CONTEXT TAG ARCHIVE [BUILDAH_ARGUMENT...]: a docker-archive, without any daemon and without root's image store.
build_image() {
    local context=$1 tag=$2 archive=$3 store
    shift 3
    is_root || die "building images must be done as root; run e2e/build as root, or level 1 only"
    store=$(mktemp -d)
    local buildah=(buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs)
    rm -f "$archive"
    if ! { "${buildah[@]}" bud --isolation chroot --tag "$tag" "$@" "$context" &&
        "${buildah[@]}" push "$tag" "docker-archive:$archive:$tag"; } >"$store/log" 2>&1; then
        cat "$store/log" >&2
        rm -rf "$store"
        die "image $tag must build from $context"
    fi
    rm -rf "$store"
}
