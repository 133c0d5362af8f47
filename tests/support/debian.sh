#!/usr/bin/env bash
# Makes an image of a small Debian with systemd in it, from the archive that this machine installs from. No registry is asked.
# Usage: tests/support/debian.sh TAG LABEL=VALUE
# The file system is kept in target/debian-root.tar, because it takes half a minute to make.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=$1 label=$2 kept=${CARGO_TARGET_DIR:-target}/debian-root.tar

command -v mmdebstrap >/dev/null || {
  echo "debian.sh: mmdebstrap is missing (Debian: mmdebstrap), or name an image with systemd by CAIRN_DEBIAN_IMAGE" >&2
  exit 1
}
if [ ! -e "$kept" ]; then
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # The packages that must give way are kept inside, to be installed without a network.
  mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,init-system-helpers,adduser,procps \
    --customize-hook='chroot "$1" apt-get download -qq etcd-server etcd-client 2>/dev/null; mkdir -p "$1/packages"; mv "$1"/*.deb "$1/packages/"' \
    --customize-hook='rm -rf "$1"/usr/share/locale "$1"/var/lib/apt/lists/*' \
    "$suite" "$kept.$$.tar" >&2
  mv "$kept.$$.tar" "$kept"
fi
docker import --change "LABEL $label" --change 'CMD ["/sbin/init"]' "$kept" "$tag" >/dev/null
