#!/usr/bin/env bash
# How cairn and etcd 3.4 do with more keys, connections, members, watchers, larger values and directories: curves in docs/growth and a
# part of docs/benchmarks.md. About 12 minutes. Usage: scripts/growth.sh [flags of scripts/bench.sh]
set -euo pipefail
exec "$(dirname "$0")/bench.sh" --growth --write "$@"
