#!/usr/bin/env bash
# Makes inputs for what strangers can send, SECONDS for each target: scripts/fuzz.sh [SECONDS [TARGET...]]
# Needs the nightly compiler. What was tried before is kept in fuzz/corpus; an input that fails is kept in fuzz/artifacts, and its
# place once it is mended is fuzz/seeds/TARGET, which scripts/test.sh reads.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/need.sh

seconds=${1:-60}
shift || true
cargo +nightly --version >/dev/null 2>&1 || { echo "fuzz.sh: the nightly compiler is needed (rustup toolchain install nightly)" >&2; exit 1; }
need_cargo cargo-fuzz cargo-fuzz
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)

cargo +nightly fuzz build
failed=()
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  # Ends at the first input that fails, that takes more than 10 s, or that takes more than 2 GB.
  if ! "fuzz/target/x86_64-unknown-linux-gnu/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
      -max_len=8192 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target" \
      2>&1 | grep --line-buffered -E "^(stat::(number_of_executed_units|new_units_added|peak_rss_mb)|Done|thread|==|SUMMARY|artifact)|panicked|assert|left:|right:" \
      | sed "s/^/$target: /"; then
    failed+=("$target")
  fi
done
# What killed members of the last three targets leave behind.
rm -rf "${TMPDIR:-/tmp}"/cairn-fuzz-*
if [ ${#failed[@]} -gt 0 ]; then echo "fuzz.sh: failed: ${failed[*]}"; exit 1; fi
echo "fuzz.sh: ${#targets[@]} targets, $seconds s each, nothing found"
