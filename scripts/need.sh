# Sourced by scripts that install what they need where they can.

# A tool from Debian, if this machine can install it.
need() { # command package
  command -v "$1" >/dev/null && return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    [ -n "${APT_UPDATED:-}" ] || { apt-get update -qq; APT_UPDATED=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null && return 0
  fi
  return 1
}

# The programs of PostgreSQL, which are in no search path.
need_postgresql() {
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

# A tool written in Rust, from the registry of crates. It runs once for each time it is built: optimising it takes longer than that.
need_cargo() { # command crate
  command -v "$1" >/dev/null || cargo install --locked --quiet --debug "$2"
}

# What the faults of clusters need; `skipped` gets a line for each that cannot be had.
need_for_faults() {
  local probe=cairn-probe-$$
  if ! need ip iproute2 || ! need nsenter util-linux || ! ip netns add $probe 2>/dev/null; then
    skipped+=("partitions of clusters: no network namespaces can be made here (root; Debian: iproute2)")
  else
    ip netns del $probe
  fi
  [ "$(id -u)" = 0 ] || skipped+=("full disks and failing syncs: only root can make them")
  need strace strace || skipped+=("failing syncs: strace cannot be installed here (Debian: strace)")
}

# Programs of a Debian package that would start a service if it were installed: unpacked into target/<package>, as any user.
need_unpacked() { # package program
  local dir=target/$1
  command -v "$2" >/dev/null || [ -x "$dir/usr/bin/$2" ] && return 0
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
  mkdir -p "$dir" && chmod 755 "$dir" || return 1
  if ! (cd "$dir" && apt-get download -qq "$1" >/dev/null 2>&1); then
    [ "$(id -u)" = 0 ] && [ -z "${APT_UPDATED:-}" ] || return 1
    apt-get update -qq && APT_UPDATED=1
    (cd "$dir" && apt-get download -qq "$1" >/dev/null 2>&1) || return 1
  fi
  dpkg -x "$dir/$1"_*.deb "$dir" && rm -f "$dir/$1"_*.deb && [ -x "$dir/usr/bin/$2" ]
}
