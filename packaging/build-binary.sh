#!/bin/sh
# Builds cairn as it is released: one static program, for this machine's architecture or for another one.
# Usage: packaging/build-binary.sh FILE [amd64|arm64]
# For another architecture a C compiler and a C library for it are installed if this is root on Debian, and Rust's own library by
# rustup. The Dockerfile runs this in images that have little more than a shell, so it needs no other programs.
# CAIRN_BINARY names one that is there already, which is taken as it is.
set -eu
cd "${0%/*}/.."
file=${1:?"usage: packaging/build-binary.sh FILE [amd64|arm64]"}
if [ -n "${CAIRN_BINARY:-}" ]; then
  cp "$CAIRN_BINARY" "$file"
  exit
fi
host=$(rustc -vV | sed -n 's/^host: //p')
case ${2:-} in
  '') target=$host ;;
  amd64) target=x86_64-unknown-linux-gnu cross=x86_64-linux-gnu packages='gcc-x86-64-linux-gnu libc6-dev-amd64-cross' ;;
  arm64) target=aarch64-unknown-linux-gnu cross=aarch64-linux-gnu packages='gcc-aarch64-linux-gnu libc6-dev-arm64-cross' ;;
  *) echo "build-binary.sh: what is $2? amd64 and arm64 are known" >&2; exit 2 ;;
esac

if [ "$target" != "$host" ]; then
  if ! command -v "$cross-gcc" >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null || {
      echo "build-binary.sh: $cross-gcc is missing (Debian: $packages)" >&2
      exit 1
    }
  fi
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target"
  # As cargo and the crates with parts in C call the target.
  lower=$(echo "$target" | sed 's/-/_/g')
  upper=$(echo "$lower" | sed y/abcdefghijklmnopqrstuvwxyz/ABCDEFGHIJKLMNOPQRSTUVWXYZ/)
  export "CC_$lower=$cross-gcc" "AR_$lower=$cross-ar" "CARGO_TARGET_${upper}_LINKER=$cross-gcc"
fi

# With a target, the flags reach cairn alone: macros and build scripts are loaded by the compiler and cannot be static.
RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=debuginfo \
  cargo build --release --locked --bin cairn --target "$target"
cp "${CARGO_TARGET_DIR:-target}/$target/release/cairn" "$file"
