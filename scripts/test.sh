#!/usr/bin/env bash
# Installs what the tests need and runs all of them. Ends with the test runner's own summary line.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/need.sh

need cc gcc || { echo "test.sh: a C compiler is needed (Debian: gcc)" >&2; exit 1; }
need curl curl || { echo "test.sh: curl is needed" >&2; exit 1; }
need openssl openssl || { echo "test.sh: openssl is needed" >&2; exit 1; }
need_cargo cargo-nextest cargo-nextest
need_cargo cargo-deny cargo-deny

skipped=()
if ! need etcd etcd-server || ! need etcdctl etcd-client; then
  export CAIRN_SKIP_ETCD=1
  skipped+=("differential test and etcdctl session: etcd 3.4 cannot be installed here (Debian: etcd-server, etcd-client)")
fi
# The validator of OpenAPI documents comes from PyPI, into a place of its own.
validator=target/openapi/bin/openapi-spec-validator
if [ ! -x $validator ]; then
  need python3 python3 || true
  python3 -m venv target/openapi 2>/dev/null || { need pip3 python3-venv && python3 -m venv target/openapi; } || true
  target/openapi/bin/pip install --quiet openapi-spec-validator 2>/dev/null || true
fi
if [ ! -x $validator ]; then
  export CAIRN_SKIP_OPENAPI=1
  skipped+=("validation of api-spec/openapi.yaml: openapi-spec-validator cannot be installed here (PyPI)")
fi
need valgrind valgrind || skipped+=("what reading costs: valgrind cannot be installed here (Debian: valgrind)")
if ! need dnsmasq dnsmasq-base; then
  export CAIRN_SKIP_DNS=1
  skipped+=("discovery by DNS: dnsmasq cannot be installed here (Debian: dnsmasq-base)")
fi
if ! need faketime faketime; then
  export CAIRN_SKIP_FAKETIME=1
  skipped+=("wrong wall clocks: faketime cannot be installed here (Debian: faketime)")
fi
if ! need_unpacked prometheus promtool; then
  export CAIRN_SKIP_PROMETHEUS=1
  skipped+=("alerts and dashboard: prometheus cannot be fetched here (Debian: prometheus)")
fi
if ! docker info >/dev/null 2>&1; then
  export CAIRN_SKIP_DOCKER=1
  skipped+=("image and three containers, Debian package: no Docker engine answers here (Debian: docker.io)")
else
  if ! docker compose version >/dev/null 2>&1 && ! need docker-compose docker-compose; then
    export CAIRN_SKIP_COMPOSE=1
    skipped+=("compose.yaml: docker-compose cannot be installed here (Debian: docker-compose)")
  fi
  if ! command -v dpkg-deb >/dev/null || ! need mmdebstrap mmdebstrap; then
    export CAIRN_SKIP_DEBIAN=1
    skipped+=("Debian package: dpkg-deb and mmdebstrap cannot be had here (Debian: dpkg, mmdebstrap)")
  fi
  need lintian lintian || skipped+=("lintian of the Debian package: it cannot be installed here (Debian: lintian)")
fi
if [ "$(id -u)" != 0 ] || ! need patroni patroni || ! need runuser util-linux || ! need_postgresql; then
  export CAIRN_SKIP_PATRONI=1
  skipped+=("Patroni at cairn, and moved to it from etcd: PostgreSQL and Patroni cannot be installed here, or this is not root (Debian: patroni, postgresql)")
fi
if ! scripts/clients.sh --install etcd3 etcd3gw; then
  export CAIRN_SKIP_CLIENTS=1
  skipped+=("test suites of python-etcd3 and etcd3gw: they, or a network of their own, cannot be had here (PyPI; Debian: python3-venv, iproute2)")
fi
need_for_faults

scripts/check.sh

# Tests wait more than they compute: for elections, deadlines, disks.
export NEXTEST_TEST_THREADS=${NEXTEST_TEST_THREADS:-$(($(nproc) + 1))}
for reason in "${skipped[@]}"; do echo "test.sh: skipped: $reason"; done
exec cargo nextest run --workspace --locked --no-fail-fast "$@"
