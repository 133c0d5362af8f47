# cairn in an image of its own: one static program and nothing else.
#
#   docker build -t cairn .
#   docker run -p 2379:2379 cairn etcd -name a -listen-client-urls http://0.0.0.0:2379 -advertise-client-urls http://HOST:2379
#
# --build-arg TARGETARCH=arm64 builds for that architecture on any machine, without emulation.
# Where no registry can be reached, --build-arg BUILD_IMAGE names an image that is there already. It needs Rust 1.90 or newer, a
# C compiler, a shell, and glibc 2.34 or newer with libc.a: since then names are looked up without loading a library.
ARG BUILD_IMAGE=rust:1-bookworm

FROM ${BUILD_IMAGE} AS build
# amd64 or arm64, for another machine than this one: --build-arg TARGETARCH=arm64. BuildKit says it by itself with --platform.
ARG TARGETARCH
WORKDIR /src
COPY . .
RUN mkdir -p /image/usr/local/bin /image/usr/share/doc/cairn /image/var/lib /data/cairn \
 && packaging/build-binary.sh /image/usr/local/bin/cairn "$TARGETARCH" \
 && chmod 0700 /data/cairn \
 && for name in etcd etcdctl cairnctl; do ln -s cairn "/image/usr/local/bin/$name"; done \
 && cp LICENSE /image/usr/share/doc/cairn/ \
 && rm -rf target

FROM scratch
LABEL org.opencontainers.image.title="cairn" \
      org.opencontainers.image.description="A highly available key-value store that speaks etcd's v2 HTTP+JSON API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
# Of the user that --user 65532 takes, as compose.yaml does. Without it the server is root, as in etcd's image, so that whatever
# directories and keys were mounted for that can be read and written.
COPY --from=build --chown=65532:65532 /data/ /var/lib/
# Here a member without --data-dir keeps its NAME.cairn.
WORKDIR /var/lib/cairn
VOLUME /var/lib/cairn
EXPOSE 2379 2380
# The leadership is handed over, and it ends within five seconds.
STOPSIGNAL SIGTERM
# Finds the member by the flags of the first process. Unhealthy is who has no leader, so there is time for an election.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["/usr/local/bin/cairn", "health"]
ENTRYPOINT ["/usr/local/bin/cairn"]
