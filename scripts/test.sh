#!/usr/bin/env bash
# Installs what the tests need and runs all of them. Ends with the test runner's own summary line.
set -euo pipefail
cd "$(dirname "$0")/.."

# A tool from Debian, if this machine can install it.
need() { # command package
  command -v "$1" >/dev/null && return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    [ -n "${APT_UPDATED:-}" ] || { apt-get update -qq; APT_UPDATED=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null && return 0
  fi
  return 1
}

# A tool from crates.io.
need_cargo() { # command crate
  command -v "$1" >/dev/null || cargo install --locked --quiet "$2"
}

need cc gcc || { echo "test.sh: a C compiler is needed (Debian: gcc)" >&2; exit 1; }
need curl curl || { echo "test.sh: curl is needed" >&2; exit 1; }
need_cargo cargo-nextest cargo-nextest
need_cargo cargo-deny cargo-deny

skipped=()
if ! need etcd etcd-server || ! need etcdctl etcd-client; then
  export CAIRN_SKIP_ETCD=1
  skipped+=("differential test and etcdctl session: etcd 3.4 cannot be installed here (Debian: etcd-server, etcd-client)")
fi
if ! need openapi-spec-validator python3-openapi-spec-validator; then
  export CAIRN_SKIP_OPENAPI=1
  skipped+=("validation of api-spec/openapi.yaml: no validator (Debian: python3-openapi-spec-validator)")
fi

scripts/check.sh

for reason in "${skipped[@]}"; do echo "test.sh: skipped: $reason"; done
exec cargo nextest run --locked --no-fail-fast "$@"
