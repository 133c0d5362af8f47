#!/usr/bin/env bash
# Three members on loopback, to try things out. Ctrl-C stops them; the next start goes on with their data.
# Usage: scripts/cluster.sh [--fresh] [--dir DIR] [--port PORT]
#   --fresh      forget the data of the last start
#   --dir DIR    where data and logs are: ./cluster
#   --port PORT  clients of the first member: 2379. The other two have 20000 and 30000 more, and peers always one more.
# CAIRN_BIN names the program to start; without it, it is built.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
fresh= dir=cluster port=2379
usage() { sed -n '2,/^set/{/^# /s/^# //p}' "$0"; }
while [ $# -gt 0 ]; do
  case $1 in
    --fresh) fresh=1; shift ;;
    --dir | --port)
      [ -n "${2:-}" ] || { usage >&2; exit 2; }
      if [ "$1" = --dir ]; then dir=$2; else port=$2; fi
      shift 2 ;;
    -h | --help) usage; exit ;;
    *) echo "cluster.sh: what is $1?" >&2; usage >&2; exit 2 ;;
  esac
done
case $port in
  *[!0-9]*) port=0 ;;
esac
if [ "$port" -lt 1 ] || [ "$port" -gt 35534 ]; then
  echo "cluster.sh: --port is a number up to 35534, so that all six ports are" >&2
  exit 2
fi

cairn=${CAIRN_BIN:-}
export -n CAIRN_BIN # a member takes such variables for flags
if [ -z "$cairn" ]; then
  cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml"
  cairn=${CARGO_TARGET_DIR:-$root/target}/release/cairn
fi

names=(a b c)
clients=("$port" $((port + 20000)) $((port + 30000)))
founders=
for i in 0 1 2; do founders+=,${names[i]}=http://127.0.0.1:$((clients[i] + 1)); done
founders=${founders#,}

mkdir -p "$dir"
if [ -n "$fresh" ]; then
  # Only what a start made: the folder may be anybody's.
  for name in "${names[@]}"; do rm -rf "${dir:?}/$name.cairn" "${dir:?}/$name.log"; done
  rm -f "${dir:?}/port"
fi
# Members remember where the others are.
if [ -e "$dir/port" ] && [ "$(cat "$dir/port")" != "$port" ]; then
  echo "cluster.sh: the members in $dir were founded with --port $(cat "$dir/port"): say so, or --fresh" >&2
  exit 1
fi
echo "$port" >"$dir/port"

pids=()
stop() {
  trap - EXIT
  trap '' INT TERM # a second Ctrl-C does not leave members behind
  echo "stopping"
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  exit "$1"
}
trap 'stop $?' EXIT
trap 'stop 0' INT TERM

for i in 0 1 2; do
  "$cairn" --name "${names[i]}" --data-dir "$dir/${names[i]}.cairn" \
    --listen-client-urls "http://127.0.0.1:${clients[i]}" --advertise-client-urls "http://127.0.0.1:${clients[i]}" \
    --listen-peer-urls "http://127.0.0.1:$((clients[i] + 1))" \
    --initial-advertise-peer-urls "http://127.0.0.1:$((clients[i] + 1))" \
    --initial-cluster "$founders" --initial-cluster-token cairn-local >"$dir/${names[i]}.log" 2>&1 &
  pids+=($!)
done

for i in 0 1 2; do
  # Its own log says it; at its port somebody else may answer.
  until grep -q 'ready to serve client requests' "$dir/${names[i]}.log"; do
    if ! kill -0 "${pids[i]}" 2>/dev/null; then
      echo "cluster.sh: member ${names[i]} did not start; the end of $dir/${names[i]}.log:" >&2
      tail -3 "$dir/${names[i]}.log" >&2
      exit 1
    fi
    sleep 0.1
  done
  echo "member ${names[i]}: http://127.0.0.1:${clients[i]} (process ${pids[i]}, log $dir/${names[i]}.log)"
done

cat <<EOF

  curl http://127.0.0.1:${clients[0]}/v2/keys/message -XPUT -d value=hello
  curl http://127.0.0.1:${clients[1]}/v2/keys/message
  curl http://127.0.0.1:${clients[2]}/v2/stats/self
  kill ${pids[2]}        # two of three go on

Ctrl-C stops all.
EOF
left=3
while [ $left -gt 0 ]; do
  gone= status=0
  wait -n -p gone "${pids[@]}" || status=$?
  for i in 0 1 2; do
    if [ "${pids[i]:-}" = "$gone" ]; then echo "member ${names[i]} has ended with $status"; unset "pids[i]"; fi
  done
  left=${#pids[@]}
done
exit 1
