#!/usr/bin/env bash
# cairn and etcd 3.4 side by side on this machine, under the load of `cairn bench`: rate, latency, server CPU, memory.
# Usage: scripts/bench.sh [--members N] [--tls] [--auth] [--rounds N] [--seconds N]      one table
#        scripts/bench.sh --section NAME                   one part of docs/benchmarks.md; --help lists them
#        scripts/bench.sh --growth [--curve NAME]          curves, as SVG
#        ... --write                                       into docs/
# CAIRN_TEST_BIN, ETCD_BIN and FLOOR_BIN name other programs; what is not named of this project is built as a release.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONDONTWRITEBYTECODE=1

for tool in python3 openssl "${ETCD_BIN:-etcd}"; do
  command -v "$tool" >/dev/null || { echo "bench.sh: $tool is missing (Debian: python3, openssl, etcd-server)" >&2; exit 1; }
done
case " $* " in *" --help "* | *" -h "*) exec python3 scripts/bench/main.py --help ;; esac
[ -n "${CAIRN_TEST_BIN:-}" ] || cargo build --release --locked --quiet
[ -n "${FLOOR_BIN:-}" ] || cargo build --release --locked --quiet --package floor
exec python3 scripts/bench/main.py "$@"
