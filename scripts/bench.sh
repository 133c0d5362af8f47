#!/usr/bin/env bash
# cairn and etcd 3.4 side by side on this machine: rate, latency, server CPU per request, memory.
# Usage: scripts/bench.sh [--members N, default 1] [--tls] [--auth] [SECONDS per run, default 5] [ROUNDS, default 3]
# With several members the connections are spread over all of them, and the CPU is that of all together. Runs alternate between
# the two; the table shows medians. The load comes from the same cores, so trust the CPU column.
# With --tls clients speak TLS, with the same certificate for both (ECDSA P-256).
# With --auth each server also runs with authentication on, every request is signed, and the table shows on against off.
set -euo pipefail
cd "$(dirname "$0")/.."
members=1
scheme=http
auth=
while true; do
  case ${1:-} in
    --members) members=$2; shift 2 ;;
    --tls) scheme=https; shift ;;
    --auth) auth=1; shift ;;
    *) break ;;
  esac
done
seconds=${1:-5} rounds=${2:-3}

for tool in etcd wrk curl; do
  command -v $tool >/dev/null || { echo "bench.sh: $tool is missing (Debian: etcd-server, wrk, curl)" >&2; exit 1; }
done
cargo build --release --locked --quiet

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null; rm -rf "$work"' EXIT

tls=()
if [ $scheme = https ]; then
  command -v openssl >/dev/null || { echo "bench.sh: openssl is missing (Debian: openssl)" >&2; exit 1; }
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" \
    -days 2 -subj /CN=bench -addext subjectAltName=IP:127.0.0.1 2>/dev/null
  chmod 600 "$work/key.pem"
  tls=(--cert-file "$work/cert.pem" --key-file "$work/key.pem")
fi

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() { # name binary [flags]: starts a cluster; sets urls_NAME and pids_NAME
  local name=$1 binary=$2; shift 2
  local clients=() peers=() list="" n
  for n in $(seq "$members"); do
    clients+=("$scheme://127.0.0.1:$(free_port)") peers+=("http://127.0.0.1:$(free_port)")
    list+="${list:+,}m$n=${peers[-1]}"
  done
  eval "urls_$name=(${clients[*]}) pids_$name=()"
  for n in $(seq "$members"); do
    local client=${clients[$((n - 1))]} peer=${peers[$((n - 1))]}
    "$binary" --name "m$n" --data-dir "$work/$name$n" "$@" \
      --listen-client-urls "$client" --advertise-client-urls "$client" \
      --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
      --initial-cluster "$list" "${tls[@]}" >"$work/$name$n.log" 2>&1 &
    pids+=($!)
    eval "pids_$name+=($!)"
  done
  for n in $(seq "$members"); do wait_for "${clients[$((n - 1))]}" "$work/$name$n.log"; done
}

wait_for() { # url log
  for _ in $(seq 200); do
    case $(curl -s -k "$1/version" || true) in *'"etcdcluster":"3'*) return ;; esac
    sleep 0.05
  done
  echo "bench.sh: $1 did not start:" >&2; tail -5 "$2" >&2; exit 1
}

# What signs a request; without --auth nothing does.
signed=$([ -z "$auth" ] || printf 'wrk.headers["Authorization"] = "Basic %s"' "$(printf root:password | base64)")

cat >"$work/put.lua" <<LUA
$signed
LUA
cat >>"$work/put.lua" <<'LUA'
local value = string.rep("x", 256)
local thread = 0
function setup(t) t:set("id", thread); thread = thread + 1 end
function init() math.randomseed(id + os.time()); n = 0 end
function request()
  n = n + 1
  return wrk.format("PUT", string.format("/v2/keys/bench/%d/%d", id, n % 1000),
    {["Content-Type"] = "application/x-www-form-urlencoded", ["Authorization"] = wrk.headers["Authorization"]},
    "value=" .. value)
end
LUA
cat >"$work/get.lua" <<LUA
$signed
function request() return wrk.format("GET", "/v2/keys/bench/one") end
LUA
cat >"$work/qget.lua" <<LUA
$signed
function request() return wrk.format("GET", "/v2/keys/bench/one?quorum=true") end
LUA

ticks() { for pid in "$@"; do awk '{ print $14 + $15 }' "/proc/$pid/stat"; done | awk '{ sum += $1 } END { print sum }'; }
hz=$(getconf CLK_TCK)

run() { # server load connections -> a line in results: rate p50_ms p99_ms cpu_us
  local name=$1 load=$2 connections=$3 before after n clients=()
  local -n urls=urls_$name server_pids=pids_$name
  local count=${#urls[@]}
  [ "$connections" -ge "$count" ] || count=$connections
  local threads=$((members > 1 || connections < 2 ? 1 : 2))
  before=$(ticks "${server_pids[@]}")
  rm -f "$work"/out.*
  for n in $(seq 0 $((count - 1))); do
    local share=$(((connections + n) / count))
    wrk -t$threads -c"$share" -d"${seconds}s" --latency -s "$work/$load.lua" "${urls[$n]}" >"$work/out.$n" &
    clients+=($!)
  done
  wait "${clients[@]}"
  after=$(ticks "${server_pids[@]}")
  # Rates add up; a median of several is taken as their mean, a 99th percentile as the worst.
  cat "$work"/out.* | awk -v ticks=$((after - before)) -v hz="$hz" '
    function ms(text) { return text ~ /us$/ ? text / 1000 : text ~ /ms$/ ? text + 0 : text * 1000 }
    /^ +50%/ { p50 += ms($2); outs++ } /^ +99%/ { t = ms($2); if (t > p99) p99 = t }
    /requests in/ { requests += $1 } /^Requests\/sec/ { rate += $2 }
    /Non-2xx/ { errors = $0 }
    END { printf "%.0f %.3f %.3f %.1f %s\n", rate, p50 / outs, p99, ticks * 1e6 / hz / requests, errors }
  ' >>"$work/$name.$load.$connections"
}

median() { cut -d' ' -f"$2" "$1" | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }

start etcd etcd --enable-v2
start cairn target/release/cairn
for name in etcd cairn; do
  eval "curl -s -k -o /dev/null -XPUT \${urls_$name[0]}/v2/keys/bench/one -d value=$(printf 'x%.0s' $(seq 256))"
done

if [ -n "$auth" ]; then
  start etcd_auth etcd --enable-v2
  start cairn_auth target/release/cairn
  for name in etcd_auth cairn_auth; do
    eval "url=\${urls_$name[0]}"
    curl -s -k -o /dev/null -XPUT "$url/v2/keys/bench/one" -d value="$(printf 'x%.0s' $(seq 256))"
    curl -s -k -o /dev/null -XPUT "$url/v2/auth/users/root" -d '{"user":"root","password":"password"}'
    curl -s -k -o /dev/null -XPUT "$url/v2/auth/enable"
    curl -s -k -o /dev/null -u root:password -XDELETE "$url/v2/auth/roles/guest"
  done
  echo "| load | connections | etcd off 1/s | etcd on 1/s | cairn off 1/s | cairn on 1/s | on/off | cairn off CPU us | cairn on CPU us | on/off |"
  echo "|---|---|---|---|---|---|---|---|---|---|"
  for load in put get qget; do
    for connections in 1 64; do
      for _ in $(seq "$rounds"); do
        for name in etcd etcd_auth cairn cairn_auth; do run $name $load $connections; done
      done
      file() { echo "$work/$1.$load.$connections"; }
      awk -v load=$load -v n=$connections \
        -v eo="$(median "$(file etcd)" 1)" -v ea="$(median "$(file etcd_auth)" 1)" \
        -v co="$(median "$(file cairn)" 1)" -v ca="$(median "$(file cairn_auth)" 1)" \
        -v uo="$(median "$(file cairn)" 4)" -v ua="$(median "$(file cairn_auth)" 4)" 'BEGIN {
          printf "| %s | %d | %d | %d | %d | %d | %.2f | %s | %s | %.2f |\n",
            toupper(load), n, eo, ea, co, ca, ca / co, uo, ua, ua / uo }'
      for name in etcd_auth cairn_auth; do
        cut -d' ' -f5- "$(file $name)" | grep -v '^ *$' | head -1 | sed "s/^/$name: /" || true
      done
    done
  done
  exit
fi

echo "| load | connections | etcd 1/s | cairn 1/s | ratio | etcd p50 ms | cairn p50 ms | etcd p99 ms | cairn p99 ms | etcd CPU us | cairn CPU us | ratio |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|"
spread="1 64"
[ "$members" = 1 ] || spread="1 64 256"
for load in put get qget; do
  for connections in $spread; do
    for _ in $(seq "$rounds"); do
      run etcd $load $connections
      run cairn $load $connections
    done
    e=$work/etcd.$load.$connections c=$work/cairn.$load.$connections
    awk -v load=$load -v n=$connections -v er="$(median "$e" 1)" -v cr="$(median "$c" 1)" \
      -v e5="$(median "$e" 2)" -v c5="$(median "$c" 2)" -v e9="$(median "$e" 3)" -v c9="$(median "$c" 3)" \
      -v eu="$(median "$e" 4)" -v cu="$(median "$c" 4)" 'BEGIN {
        printf "| %s | %d | %d | %d | %.2f | %s | %s | %s | %s | %s | %s | %.2f |\n",
          toupper(load), n, er, cr, cr / er, e5, c5, e9, c9, eu, cu, cu / eu }'
    cat "$e" "$c" | cut -d' ' -f5- | grep -v '^ *$' | head -1 || true
  done
done
cat >"$work/watchers.py" <<'PY'
"""Milliseconds from a PUT until the last of many long polls on its key has its event."""
import asyncio, sys, time, urllib.parse

async def main(url, count, rounds):
    at = urllib.parse.urlparse(url)
    async def poll():
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        writer.write(b"GET /v2/keys/watched?wait=true HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer
    took = []
    for n in range(rounds):
        polls = [await poll() for _ in range(count)]
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        body = b"value=%d" % n
        begun = time.perf_counter()
        writer.write(b"PUT /v2/keys/watched HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.gather(*(reader.readuntil(b"\n0\r\n\r\n"[:1]) for reader, _ in polls))
        took.append((time.perf_counter() - begun) * 1000)
        for _, poll_writer in polls + [(reader, writer)]:
            poll_writer.close()
    print("%.1f" % sorted(took)[rounds // 2])

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
PY
# The watchers speak no TLS.
[ $scheme = https ] || for name in etcd cairn; do
  eval "url=\${urls_$name[0]}"
  echo "PUT to the last of 1,000 watchers, $name: $(python3 "$work/watchers.py" "$url" 1000 5) ms"
done
for name in etcd cairn; do
  eval "server_pids=(\${pids_$name[@]})"
  echo "resident memory of $name: $(for pid in "${server_pids[@]}"; do awk '/VmRSS/ { printf "%d MiB ", $2 / 1024 }' "/proc/$pid/status"; done)"
done
