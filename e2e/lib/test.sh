# shellcheck shell=bash
# The stages of e2e/test, and how their results are counted.

passed=0 failed=0 skipped=0 summary=()

# run_stage STAGE LOG: runs a stage, shows its output, counts its results and remembers its time.
run_stage() {
    local stage=$1 log=$2 started=$SECONDS before=$failed code=0
    log "== $stage: $("about_$stage")"
    # In a condition bash would not stop at a command that fails, so the stage is a shell of its own.
    set +e
    (set -e && "stage_$stage") 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    set -e
    count "$log" "$code"
    [ "$failed" = "$before" ] || summary+=("$stage failed")
    log "== $stage: $((SECONDS - started)) s"
}

# Adds up what test runners printed; a stage without such lines is one check. A runner that stopped without telling of a
# failed test, as when a test does not compile, is one failure.
count() {
    local log=$1 code=$2 p f s
    read -r p f s < <(awk '
        /^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i; if ($(i+1) ~ /^ignored/) s += $i } }
        /^Tests:/       { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i } }
        /^e2e: skipped [0-9]+ / { s += $3 }
        END { print p + 0, f + 0, s + 0 }' "$log")
    if [ "$code" = 0 ] && [ $((p + f + s)) = 0 ]; then p=1; fi
    if [ "$code" != 0 ] && [ "$f" = 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

print_totals() {
    [ ${#summary[@]} = 0 ] || printf 'e2e: %s\n' "${summary[@]}" >&2
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ] || return 1
    [ "${CI:-}" != true ] || [ "$skipped" = 0 ] || die "in CI nothing may be skipped"
}

about_fmt() { echo "the code is formatted"; }
stage_fmt() { cargo fmt --all --check; }

about_clippy() { echo "lints; the first time compiles all dependencies, about 2 minutes"; }
stage_clippy() { cargo clippy --quiet --workspace --all-targets --locked -- -D warnings; }

about_scripts() { echo "the scripts of e2e/ are clean"; }
stage_scripts() {
    if ! command -v shellcheck >/dev/null; then
        echo "e2e: skipped 1 check: shellcheck is not installed; as root e2e/packages installs it"
        return
    fi
    shellcheck -x e2e/{build,bench,demo,down,image,load-image,node,packages,process,run,schemas,test,up,user}
}

about_deny() { echo "licences, sources and versions of the dependencies"; }
stage_deny() {
    eval "$("$E2E_DIR/build" deny)"
    # Advisories need a database from a host that a build machine may not reach: `cargo deny check advisories` by hand.
    cargo-deny --locked check bans licenses sources
}

about_unit() { echo "what needs no cluster; the first time compiles all dependencies, about 4 minutes"; }
stage_unit() {
    local tests=() file
    for file in tests/*.rs; do
        case $(basename "$file" .rs) in
        api_* | node_*) ;;
        *) tests+=(--test "$(basename "$file" .rs)") ;;
        esac
    done
    cargo test --quiet --locked --package portcullis-api --package portcullis-engine
    cargo test --quiet --locked --package portcullis --lib --bins "${tests[@]}"
}

about_chart() { echo "the chart: lint, unit tests, rendered objects against strict schemas"; }
stage_chart() {
    eval "$("$E2E_DIR/build" tools)"
    helm lint --strict --quiet charts/portcullis
    # For the Kubernetes of these tests; helm would take the newest that it knows, which the chart may not support yet.
    helm template portcullis charts/portcullis --namespace portcullis-system --set serviceMonitor.enabled=false \
        --kube-version "$KUBERNETES_VERSION" |
        kubeconform -strict -summary -schema-location "$("$E2E_DIR/schemas")" -
    kubeconform -strict -summary -schema-location "$("$E2E_DIR/schemas")" manifests
    untt --color=false charts/portcullis
}

about_api() { echo "on a real API server; the first time builds it, about 6 minutes"; }
stage_api() { cargo_test_of api_; }

about_node() { echo "on a real node, as root; the first time builds its parts, helm and the image, about 15 minutes"; }
stage_node() {
    if ! is_root; then
        echo "e2e: skipped $(cat tests/node_*.rs | grep -c '^#\[tokio::test\|^#\[test\]') tests that need root for a node of the cluster"
        return
    fi
    "$E2E_DIR/packages"
    make --no-print-directory image
    cargo_test_of node_
}

# cargo_test_of PREFIX: the test files whose names begin so, one after the other, as each starts a cluster of its own.
cargo_test_of() {
    local tests=() file
    for file in tests/"$1"*.rs; do
        tests+=(--test "$(basename "$file" .rs)")
    done
    cargo test --quiet --locked --no-fail-fast --package portcullis "${tests[@]}"
}
