#!/usr/bin/env bash
# Makes an image that can build cairn from what this machine has: its Rust toolchain, C compiler and C library, and the
# sources of our dependencies; or one with a cairn in it. No registry is asked, neither for the image nor by a build in it.
# Usage: tests/support/docker-builder.sh TAG LABEL=VALUE [PROGRAM]
#   PROGRAM  a cairn that is there already: the image has a shell and it, and takes it as it is
# CAIRN_DOCKER_RELEASE=1 makes one that builds as slowly and as well as for a release.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=$1 label=$2 program=${3:-}

if [ -z "$program" ] && ! command -v dpkg >/dev/null; then
  echo "docker-builder.sh: only Debian says where its C library is: name an image with Rust by CAIRN_DOCKER_BUILD_IMAGE" >&2
  exit 1
fi

# A file under all its names: each link on the way, and the file itself.
file() {
  local path=$1
  [ -e "$path" ] || { echo "docker-builder.sh: $path is missing" >&2; return 1; }
  while :; do
    path=$(realpath "$(dirname "$path")")/$(basename "$path")
    echo "$path"
    [ -L "$path" ] || return 0
    path=$(cd "$(dirname "$path")" && realpath -s "$(readlink "$path")")
  done
}

# A program with the libraries that it loads.
program() {
  local library
  file "$1"
  for library in $(ldd "$1" | grep -o '/[^ ]*'); do file "$library"; done
}

# What the Dockerfile runs beside the compiler.
shell() {
  local name path
  # Where these are links into /usr, they are so in the image.
  for path in /bin /sbin /lib /lib64; do
    if [ -L $path ]; then echo $path; fi
  done
  for name in sh chmod cp env ln mkdir rm sed; do program "$(command -v $name)"; done
}

toolchain() {
  local name path libgcc names
  for name in cc gcc ar as ld; do program "$(command -v $name)"; done
  for name in cc1 collect2 lto-wrapper; do program "$(gcc -print-prog-name=$name)"; done
  libgcc=$(realpath "$(dirname "$(gcc -print-libgcc-file-name)")")
  find "$libgcc" -maxdepth 1 \( -name 'crt*.o' -o -name 'libgcc*' -o -name liblto_plugin.so -o -name include \)
  file "$(gcc -print-file-name=libgcc_s.so.1)"
  # Headers, and what a program is linked with, static or not.
  for path in $(dpkg -L libc6-dev linux-libc-dev | grep -e /include/ -e '/lib/'); do
    if [ ! -d "$path" ]; then file "$path"; fi
  done
  for name in cargo rustc; do program "$sysroot/bin/$name"; done
  echo "$sysroot/lib/rustlib/$host"
  # The dependencies as cargo has fetched them, and their places in its index.
  names=$(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.lock | sort -u)
  find "$cargo_home/registry/index" -type f |
    awk -F/ 'NR == FNR { wanted[$0]; next } $NF in wanted || $NF == "config.json"' <(echo "$names") -
  names=$(awk -F'"' '/^name = /{ name = $2 } /^version = / && name { print name "-" $2 ".crate" }' Cargo.lock)
  find "$cargo_home/registry/cache" -type f |
    awk -F/ 'NR == FNR { wanted[$0]; next } $NF in wanted' <(echo "$names") -
}

list=$(mktemp)
trap 'rm -f "$list"' EXIT
variables="PATH=/usr/local/bin:/usr/bin:/bin HOME=/root"
if [ -n "$program" ]; then
  { shell; realpath "$program"; } | sort -u | sed 's,^/,,' >"$list"
  variables+=" CAIRN_BINARY=$(realpath "$program")"
else
  sysroot=$(rustc --print sysroot)
  host=$(rustc -vV | sed -n 's/^host: //p')
  cargo_home=${CARGO_HOME:-$HOME/.cargo}
  { shell; toolchain; } | sort -u | sed 's,^/,,' >"$list"
  variables="PATH=$sysroot/bin:/usr/local/bin:/usr/bin:/bin HOME=/root CARGO_HOME=$cargo_home CARGO_NET_OFFLINE=true"
  # A build for a test is to be quick; the program need not be.
  if [ "${CAIRN_DOCKER_RELEASE:-}" != 1 ]; then
    variables+=" CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off"
    variables+=" CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=false"
  fi
fi
tar -C / -cf - --no-recursion tmp --recursion -T "$list" |
  docker import --change "LABEL $label" --change "ENV $variables" - "$tag" >/dev/null
