#!/usr/bin/env bash
# Everything that must hold before a commit, without the tests: format, lints, documentation, dependencies. Writes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items --quiet

if command -v cargo-deny >/dev/null; then
  cargo deny --log-level error check licenses bans sources
  # The database of advisories lives elsewhere on the network; a machine that cannot reach it says so.
  if ! cargo deny --log-level error check advisories; then
    if cargo deny fetch db >/dev/null 2>&1; then
      echo "check.sh: cargo deny found an advisory" >&2
      exit 1
    fi
    echo "check.sh: skipped advisories: their database cannot be reached from here"
  fi
else
  echo "check.sh: cargo-deny is missing; scripts/test.sh installs it" >&2
  exit 1
fi
