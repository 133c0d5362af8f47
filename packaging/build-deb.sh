#!/usr/bin/env bash
# Builds the Debian package, and prints where it is.
# Usage: packaging/build-deb.sh [ARCH] [BINARY]
#   ARCH    amd64 or arm64; without it, this machine's
#   BINARY  a cairn that is there already; without it, a static one is built, which runs on every Debian
# CAIRN_DEB_VERSION, CAIRN_DEB_OUT and DEBFULLNAME/DEBEMAIL name another version, folder and maintainer. CAIRN_DEB_RUN names a cairn
# of the same version that runs here, for manual pages and completions, when BINARY does not.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-$(dpkg --print-architecture)} binary=${2:-}
version=${CAIRN_DEB_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-1}
out=${CAIRN_DEB_OUT:-target/debian}
maintainer="${DEBFULLNAME:-cairn} <${DEBEMAIL:-cairn@$(uname -n)}>"
# The same source gives the same package, byte by byte.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}

case $arch in
  amd64 | arm64) ;;
  *) echo "build-deb.sh: what is $arch? amd64 and arm64 are known" >&2; exit 2 ;;
esac
command -v dpkg-deb >/dev/null || { echo "build-deb.sh: dpkg-deb is missing (Debian: dpkg)" >&2; exit 1; }

mkdir -p "$out"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
put() { install -D -m "$1" "$2" "$root/$3"; }  # mode file place
zip() { mkdir -p "$root/$(dirname "$1")"; gzip -9n >"$root/$1"; }

if [ -z "$binary" ]; then
  binary=$out/cairn-$arch
  if [ "$arch" = "$(dpkg --print-architecture)" ]; then
    packaging/build-binary.sh "$binary"
  else
    packaging/build-binary.sh "$binary" "$arch"
  fi
fi
put 755 "$binary" usr/bin/cairn
# What finds the line of a fault is half of the file and of no use without the source. Names of functions stay.
strip=strip
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
  if [ "$arch" = arm64 ]; then strip=aarch64-linux-gnu-strip; else strip=x86_64-linux-gnu-strip; fi
fi
if command -v $strip >/dev/null; then $strip --strip-debug "$root/usr/bin/cairn"; fi
for name in etcd etcdctl cairnctl; do ln -s cairn "$root/usr/bin/$name"; done

depends='adduser'
# A program that loads the C library needs one as new as its newest symbol; a static one names none.
glibc=$({ grep -ao 'GLIBC_2\.[0-9]*' "$root/usr/bin/cairn" || true; } | sort -Vu | tail -n 1)
if [ -n "$glibc" ]; then depends+=", libc6 (>= ${glibc#GLIBC_}), libgcc-s1"; fi

run=${CAIRN_DEB_RUN:-$binary}
"$run" --version >/dev/null 2>&1 || {
  echo "build-deb.sh: $run does not run here: name one of the same version that does by CAIRN_DEB_RUN" >&2
  exit 1
}
for name in etcdctl cairnctl; do
  "$run" "$name" man | zip usr/share/man/man1/$name.1.gz
  "$run" "$name" completion bash >"$root/bash"
  put 644 "$root/bash" usr/share/bash-completion/completions/$name
  "$run" "$name" completion fish >"$root/fish"
  put 644 "$root/fish" usr/share/fish/vendor_completions.d/$name.fish
done
"$run" etcdctl completion zsh >"$root/zsh"
put 644 "$root/zsh" usr/share/zsh/vendor-completions/_etcdctl
rm "$root/bash" "$root/fish" "$root/zsh"
{
  sed "s/@VERSION@/$version/" packaging/cairn.8
  # The program's own words, as they are: a backslash or a dot at the start of a line means nothing.
  "$run" --help | sed 's/\\/\\e/g; s/-/\\-/g; s/^\([.'\'']\)/\\\&\1/'
  echo .fi
} | zip usr/share/man/man8/cairn.8.gz
ln -s cairn.8.gz "$root/usr/share/man/man8/etcd.8.gz"

put 755 packaging/start usr/lib/cairn/start
put 644 packaging/cairn.service usr/lib/systemd/system/cairn.service
put 644 packaging/sysusers.conf usr/lib/sysusers.d/cairn.conf
put 644 packaging/etcd.default usr/share/cairn/etcd.default
put 644 packaging/debian/copyright usr/share/doc/cairn/copyright
put 644 packaging/debian/lintian-overrides usr/share/lintian/overrides/cairn
# Not compressed: entries of the journal name sections of it.
put 644 docs/messages.md usr/share/doc/cairn/messages.md
zip usr/share/doc/cairn/systemd.md.gz <docs/operations/systemd.md
zip usr/share/doc/cairn/changelog.gz <docs/changelog.md
zip usr/share/doc/cairn/changelog.Debian.gz <<END
cairn ($version) unstable; urgency=medium

  * What has changed is in changelog.gz.

 -- $maintainer  $(date -Rud "@$SOURCE_DATE_EPOCH")
END

find "$root" -type d -exec chmod 755 {} +
size=$(du -ks --apparent-size "$root" | cut -f1)
for name in preinst postinst prerm postrm; do put 755 packaging/debian/$name DEBIAN/$name; done
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@DEPENDS@/$depends/; s/@MAINTAINER@/$maintainer/" \
  packaging/debian/control >"$root/DEBIAN/control"
(cd "$root" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k2) >"$root/DEBIAN/md5sums"
chmod 755 "$root/DEBIAN"
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/md5sums"

package=$out/cairn_${version}_$arch.deb
dpkg-deb --root-owner-group --build "$root" "$package" >&2
echo "$package"
