#!/usr/bin/env bash
# The test suites of clients, as their authors publish them, at members of cairn. Each suite runs in a network of its own, because
# some of them know one address only, and ends with its own summary line.
#
# usage: scripts/clients.sh                        all suites
#        scripts/clients.sh SUITE [WORD...]        one of them; the words go to its runner, as -k watch or --list
#        scripts/clients.sh --install [SUITE...]   only fetches what the suites need, into target/clients
#
# etcd3        python-etcd3 0.12, over gRPC, at three members of which it stops two for a moment
# etcd3gw      etcd3gw 2.7, over the JSON gateway
# etcd-client  the crate etcd-client 0.21, over gRPC, with users; it is built first, which takes minutes
#
# CLIENTS_SERVER is the server (target/debug/cairn); with `etcd` it is the real one. CLIENTS_ALL=1 runs also what is left out below.
# Ends with 77 when something is lacking, after it has said what.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

home=$PWD/target/clients
suites=(etcd3 etcd3gw etcd-client)

# What is left out, and why. `etcd` marks what fails at the real etcd 3.4.23 in the same way.
left_out() { # suite: lines of NAME REASON
  case $1 in
    etcd3) cat <<'LIST'
TestClient::test_user_pwd_auth etcd: it looks for a module by a name that it has in no installation
LIST
      ;;
  esac
}

lacking() { echo "clients.sh: $*"; exit 77; }

# A virtual environment with what a suite was written for: later releases refuse what it does.
environment() { # name package...
  local at=$home/$1
  shift
  [ -e "$at/done" ] && return
  need python3 python3 || lacking "python3 is needed (Debian: python3)"
  rm -rf "$at"
  python3 -m venv "$at" 2>/dev/null || { need pip3 python3-venv && python3 -m venv "$at"; } || lacking "python3 makes no environments (Debian: python3-venv)"
  "$at/bin/pip" install --quiet --disable-pip-version-check "$@" || lacking "pip cannot install: $*"
  touch "$at/done"
}

install_etcd3() {
  need pgrep procps || lacking "pgrep is needed (Debian: procps)"
  environment etcd3 etcd3==0.12.0 'protobuf<4' tenacity==6.1.0 'hypothesis<5' 'pytest<7' mock six
  [ -d "$home/etcd3-0.12.0" ] && return
  # Its tests are in the source alone.
  "$home/etcd3/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary etcd3 --dest "$home" etcd3==0.12.0 ||
    lacking "pip cannot fetch the source of etcd3 0.12.0"
  tar -C "$home" -xzf "$home/etcd3-0.12.0.tar.gz"
}

install_etcd3gw() { environment etcd3gw etcd3gw==2.7.0 oslotest pytest; }

install_etcd-client() {
  local crate=$home/etcd-client
  need protoc protobuf-compiler || lacking "protoc is needed (Debian: protobuf-compiler)"
  if [ ! -d "$crate" ]; then
    # A package that does nothing but name it: cargo fetches it then, and says where it is.
    mkdir -p "$home/asks/src"
    touch "$home/asks/src/lib.rs"
    printf '[package]\nname = "asks"\nedition = "2021"\n[dependencies]\netcd-client = "=0.21.1"\n[workspace]\n' >"$home/asks/Cargo.toml"
    local manifest
    manifest=$(cargo metadata --quiet --format-version 1 --manifest-path "$home/asks/Cargo.toml" |
      python3 -c 'import json, sys; print(*(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "etcd-client"))') &&
      [ -n "$manifest" ] || lacking "cargo cannot fetch etcd-client 0.21.1"
    cp -r "$(dirname "$manifest")" "$crate"
    chmod -R u+w "$crate"
  fi
  (cd "$crate" && CARGO_TARGET_DIR=$home/built cargo test --quiet --locked --no-run) || lacking "etcd-client cannot be built"
}

# As many members as wanted, in this network. The first is where every suite looks by itself.
members() { # count flag...
  local count=$1 n all=() as=()
  shift
  [ "$server" = etcd ] && as=(--enable-v2)
  for ((n = 0; n < count; n++)); do all+=("pifpaf$n=http://127.0.0.1:$((2380 + 10 * n))"); done
  for ((n = 0; n < count; n++)); do
    # The suite of etcd3 looks for processes with these names.
    "$server" --name pifpaf$n --data-dir "$dir/$n" --initial-cluster "$(IFS=,; echo "${all[*]}")" \
      --listen-client-urls "http://127.0.0.1:$((2379 + 10 * n))" --advertise-client-urls "http://127.0.0.1:$((2379 + 10 * n))" \
      --listen-peer-urls "http://127.0.0.1:$((2380 + 10 * n))" --initial-advertise-peer-urls "http://127.0.0.1:$((2380 + 10 * n))" \
      "${as[@]}" "$@" >"$dir/log$n" 2>&1 &
  done
  local deadline=$((SECONDS + 60))
  until etcdctl endpoint health >"$dir/health" 2>&1; do
    [ $SECONDS -lt $deadline ] || { cat "$dir"/log*; echo "clients.sh: the members do not serve" >&2; exit 1; }
    sleep 0.1
  done
}

play_etcd3() {
  members 3
  local words=()
  while read -r name _; do words+=(--deselect "tests/test_etcd3.py::$name"); done < <(chosen etcd3)
  cd "$home/etcd3-0.12.0"
  TEST_ETCD_VERSION=v3.4 PYTHON_ETCD_HTTP_URL=http://127.0.0.1:2379 \
    "$home/etcd3/bin/python" -m pytest -q --tb=short -p no:cacheprovider -W ignore "${words[@]}" tests "$@"
}

play_etcd3gw() {
  members 1
  local words=()
  while read -r name _; do words+=(--deselect "$name"); done < <(chosen etcd3gw)
  cd "$dir"
  "$home/etcd3gw/bin/python" -m pytest -q --tb=short -p no:cacheprovider -W ignore "${words[@]}" --pyargs etcd3gw.tests "$@"
}

play_etcd-client() {
  members 1 --auth-token-ttl=2
  etcdctl user add root:rootpwd >/dev/null
  etcdctl user grant-role root root >/dev/null
  local words=()
  while read -r name _; do words+=(--skip "$name"); done < <(chosen etcd-client)
  cd "$home/etcd-client"
  CARGO_TARGET_DIR=$home/built cargo test --quiet --locked --offline --no-fail-fast -- "${words[@]}" "$@"
}

chosen() { [ "${CLIENTS_ALL:-}" = 1 ] || left_out "$1"; }

# In the network of its own, where the loop is down at first.
inside() { # suite word...
  local suite=$1
  shift
  server=${CLIENTS_SERVER:-$PWD/target/debug/cairn}
  dir=$(mktemp -d "${TMPDIR:-/tmp}/cairn-clients-XXXXXX")
  trap 'rm -rf "$dir"' EXIT
  ip link set lo up
  if [ "$server" != etcd ]; then
    mkdir "$dir/bin"
    ln -s "$server" "$dir/bin/etcdctl"
    PATH=$dir/bin:$PATH
  fi
  export ETCDCTL_API=3
  "play_$suite" "$@"
}

# A network and processes of its own: nobody else's ports are taken, and all of it ends with the suite.
apart=(unshare --net --pid --fork --kill-child --mount-proc)
[ "$(id -u)" = 0 ] || apart+=(--user --map-root-user)

# One installs at a time; the others find it done.
install() { # suite
  need ip iproute2 && "${apart[@]}" ip link set lo up 2>/dev/null ||
    lacking "no network of its own can be made here (Debian: iproute2, util-linux; as root, or with user namespaces)"
  (flock 9 && "install_$1") 9>"$home/lock" || exit $?
}

run() { # suite word...
  echo "== $1 at ${CLIENTS_SERVER:-target/debug/cairn}"
  "${apart[@]}" "$PWD/scripts/clients.sh" --inside "$@"
}

known() { case " ${suites[*]} " in *" $1 "*) ;; *) echo "clients.sh: there is no suite $1, but: ${suites[*]}" >&2; exit 2 ;; esac; }

mkdir -p "$home"
case ${1:-} in
  --inside)
    shift
    inside "$@"
    ;;
  --install)
    shift
    [ $# -gt 0 ] || set -- "${suites[@]}"
    for suite in "$@"; do known "$suite"; install "$suite"; done
    ;;
  "")
    failed=()
    for suite in "${suites[@]}"; do install "$suite"; run "$suite" || failed+=("$suite"); done
    [ ${#failed[@]} = 0 ] || { echo "clients.sh: failed: ${failed[*]}" >&2; exit 1; }
    ;;
  *)
    known "$1"
    install "$1"
    run "$@"
    ;;
esac
