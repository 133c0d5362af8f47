#!/usr/bin/env bash
# Builds cairn as one static program for an image that is tested, and prints where it is.
# Usage: tests/support/static-program.sh
# It is made of what Docker gets of the project (.dockerignore) and of nothing else, with the libraries that the tests have compiled
# already: those take nine tenths of a build. They are compiled with what only tests need of them, so a program that is linked with
# them must be an example; and of those the flags of the last command reach the example alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
# What cargo tells of a package to its tests would look like a change to build scripts that ask for it.
for name in $(compgen -e | grep -E '^CARGO_(PKG|MANIFEST)_'); do unset "$name"; done
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
context=$target/tmp/context
rm -rf "$context"
mkdir -p "$context/examples"
sed -n 's/^!//p' .dockerignore | while read -r name; do cp -a --parents "$name" "$context"; done
cp -a src/main.rs "$context/examples/cairn.rs"
# A build for a test is to be quick; the program need not be.
CARGO_INCREMENTAL=0 cargo rustc --quiet --locked --offline --manifest-path "$context/Cargo.toml" --target-dir "$target" --example cairn \
  --config 'profile.dev.package.cairn.opt-level = 0' --config 'profile.dev.package.cairn.debug = false' \
  -- -C target-feature=+crt-static -C strip=debuginfo >&2
echo "$target/debug/examples/cairn"
