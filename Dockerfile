# The image that users get, and the one that the tests run. Nothing is pulled and nothing is built here: `make image`
# puts a static binary into dist/ (x86_64-unknown-linux-gnu with -C target-feature=+crt-static), and the image is that
# file alone. No shell, no libc, no CA bundle: the only server it calls is the API server, whose CA is mounted.
FROM scratch

# A path within dist/, which is all that .dockerignore lets through.
ARG BINARY=dist/portcullis
ARG VERSION=unknown
ARG REVISION=unknown

LABEL org.opencontainers.image.title="portcullis" \
      org.opencontainers.image.description="Enforces, generates and records what a SecurityPolicy demands of an application's workloads" \
      org.opencontainers.image.source="https://github.com/portcullis/portcullis" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --chmod=0755 ${BINARY} /portcullis

# By number, since runAsNonRoot cannot look up a name, and there is no /etc/passwd.
USER 65532:65532

ENTRYPOINT ["/portcullis"]
