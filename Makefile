# The commands of this project. `make help` lists them.
#
#   make demo    the whole product on a real cluster, in one go
#   make test    everything that must be green, cheap things first
#   make unit    the fast part of it, for every save

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

IMAGE ?= portcullis.test/portcullis:dev

.PHONY: help demo test unit fmt clippy deny chart generate binary image bench clean

help: ## lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/'

demo: ## shows the whole product on a real cluster
	@e2e/demo

test: ## runs every test, on a real API server and a real cluster
	@e2e/test

unit: ## format, lints and the tests that need no cluster
	@e2e/test unit

generate: ## rewrites what is generated from the types: crds/ and the chart's copy
	UPDATE=1 cargo test --quiet --locked --test generated

binary: dist/portcullis ## the static binary that goes into the image

# Linked statically, so that the image is this file alone. A build for the target by name keeps build scripts and
# procedural macros, which cannot be static, out of it. Packed relocations are a MiB that no process has to touch.
dist/portcullis: $(shell git ls-files 'src/*.rs' 'crates/*.rs' Cargo.toml Cargo.lock 'docs/rules/*')
	RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" cargo build --locked --release --target x86_64-unknown-linux-gnu
	mkdir -p dist
	install -m 0755 "$${CARGO_TARGET_DIR:-target}"/x86_64-unknown-linux-gnu/release/portcullis dist/portcullis

image: dist/portcullis ## the image as an archive, dist/portcullis.tar
	e2e/image --archive dist/portcullis.tar . $(IMAGE)

bench: ## measures speed and memory; prints tables and writes dist/bench.json
	@e2e/bench

clean: ## removes what was built in this checkout; the cache of the test cluster stays
	cargo clean
	rm -rf dist
