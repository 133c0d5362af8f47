#!/usr/bin/env bash
# Random faults against clusters of three and five members under load, for so many minutes; everything the clients saw is
# checked after each round. Ends with 1 at the first thing that is wrong, leaves logs and history, and says how to repeat it.
# Usage: scripts/soak.sh MINUTES [SEED]
# CAIRN_TEST_BIN names the program to test; without it, a release is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

case ${1:-} in
  '' | *[!0-9]*) sed -n '2,/^set/{/^# /s/^# //p}' "$0" >&2; exit 2 ;;
esac
export CAIRN_SOAK_MINUTES=$1
if [ -n "${2:-}" ]; then export CAIRN_SEED=$2; fi

skipped=()
need_for_faults
for reason in "${skipped[@]}"; do echo "soak.sh: skipped: $reason"; done

profile=--release
if [ -n "${CAIRN_TEST_BIN:-}" ]; then profile=; fi
# shellcheck disable=SC2086 # an empty profile is no word
cargo test $profile --locked --quiet --test cluster -- \
  --ignored --exact soak::faults_in_random_order --nocapture || exit 1
