# Sourced by the scripts beside it, with the program in $cairn: PostgreSQL servers under Patroni, and servers for its state.

[ "$(id -u)" = 0 ] || { echo "skipped: only root can start programs as another user"; exit 77; }
for tool in "patroni patroni" "runuser util-linux" "python3 python3"; do
  # shellcheck disable=SC2086
  need $tool || { echo "skipped: there is no ${tool% *} (Debian: ${tool#* })"; exit 77; }
done
for library in etcd psycopg2; do
  /usr/bin/python3 -c "import $library" 2>/dev/null || need "python3-$library is not a program" "python3-$library" ||
    { echo "skipped: there is no python3-$library"; exit 77; }
done
need_postgresql || true
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || { echo "skipped: there is no PostgreSQL (Debian: postgresql)"; exit 77; }

dir=$(mktemp -d /tmp/cairn-patroni-XXXXXX)
chmod 755 "$dir"
started=()
finish() {
  local code=$?
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for n in 1 2 3; do
    runuser -u postgres -- "$bin/pg_ctl" -D "$dir/pg$n" -m immediate stop >/dev/null 2>&1 || true
  done
  for pid in "${started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ $code = 0 ] && [ -z "${KEEP:-}" ]; then rm -rf "$dir"; else echo "left behind: $dir"; fi
}
trap finish EXIT

# Ports that nobody has now.
ports=($(/usr/bin/python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(12)]
for s in held: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in held])
PY
))
sql=("${ports[@]:0:3}") rest=("${ports[@]:3:3}") client=("${ports[@]:6:3}") peer=("${ports[@]:9:3}")

step() { printf '== %s (%s s)\n' "$*" "$SECONDS"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
patience() { for _ in $(seq 600); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done; fail "never: $*"; }
gone() { patience eval "! kill -0 $1"; wait "$1" 2>/dev/null || true; }

# A server of version 2: `server N PROGRAM [FLAG..]`; $server is its process.
server() {
  local n=$1 program=$2; shift 2
  "$program" --name "s$n" --listen-client-urls "http://127.0.0.1:${client[n]}" --advertise-client-urls "http://127.0.0.1:${client[n]}" \
    --listen-peer-urls "http://127.0.0.1:${peer[n]}" --initial-advertise-peer-urls "http://127.0.0.1:${peer[n]}" \
    --initial-cluster "s$n=http://127.0.0.1:${peer[n]}" "$@" >>"$dir/server$n.log" 2>&1 &
  server=$!
  started+=("$server")
  patience curl -fsS "http://127.0.0.1:${client[n]}/v2/keys/?quorum=true"
}

# Patroni's file for a node, with the server that it asks: `configure N PORT [etcd|etcd3]`.
configure() {
  local n=$1 port=$2 api=${3:-etcd} i=$(($1 - 1))
  cat >"$dir/pg$n.yml" <<YML
scope: moved
name: pg$n
restapi: {listen: "127.0.0.1:${rest[i]}", connect_address: "127.0.0.1:${rest[i]}"}
$api: {host: "127.0.0.1:$port"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    postgresql: {use_slots: true, parameters: {max_connections: 30, wal_keep_size: 64MB}}
  initdb: [{encoding: UTF8}, data-checksums]
postgresql:
  listen: "127.0.0.1:${sql[i]}"
  connect_address: "127.0.0.1:${sql[i]}"
  data_dir: $dir/pg$n
  bin_dir: $bin
  pgpass: $dir/pgpass$n
  use_pg_rewind: true
  authentication:
    replication: {username: replicator, password: r}
    superuser: {username: postgres, password: s}
  parameters: {unix_socket_directories: $dir, shared_buffers: 16MB, fsync: "off"}
  pg_hba: ["host replication all 127.0.0.1/32 trust", "host all all 127.0.0.1/32 trust", "local all all trust"]
YML
}

declare -A agent
# Starts the agent of a node.
agent() {
  runuser -u postgres -- patroni "$dir/pg$1.yml" >>"$dir/pg$1.log" 2>&1 &
  agent[$1]=$!
  started+=("${agent[$1]}")
}
# Ends the agent, and leaves PostgreSQL running, as in Patroni's maintenance mode.
unagent() { pkill -TERM -P "${agent[$1]}" || kill "${agent[$1]}"; gone "${agent[$1]}"; }
ctl() { runuser -u postgres -- patronictl -c "$dir/pg1.yml" "$@"; }
ask() { runuser -u postgres -- "$bin/psql" -XAtq -h 127.0.0.1 -p "${sql[$1 - 1]}" -U postgres -c "$2" postgres; }
running() { [ "$(curl -fsS "http://127.0.0.1:${rest[$1 - 1]}/patroni" | /usr/bin/python3 -c 'import json,sys; print(json.load(sys.stdin)["state"])')" = running ]; }
leads() { curl -fsS "http://127.0.0.1:${rest[$1 - 1]}/leader"; }
streams() { [ "$(ask 1 "select count(*) from pg_stat_replication where state = 'streaming'")" = 2 ]; }

# Three nodes that ask the server 0, the first of which leads.
three_agents() { # etcd|etcd3
  local n
  for n in 1 2 3; do install -d -o postgres -m 700 "$dir/pg$n"; configure $n "${client[0]}" "$1"; done
  chown postgres "$dir" "$dir"/*.yml
  agent 1
  patience leads 1
  agent 2; agent 3
  patience running 2; patience running 3
  patience streams
}

# Begins to write a row after the other, and to note which were acknowledged, and how long none was; $writer is the process.
writer() {
  cat >"$dir/writer.py" <<'PY'
import psycopg2, sys, time
ports, out = sys.argv[1], open(sys.argv[2], "w")
n, connection, last, longest = 0, None, time.monotonic(), 0.0
while True:
    try:
        if connection is None:
            hosts = ",".join(["127.0.0.1"] * len(ports.split(",")))
            connection = psycopg2.connect(host=hosts, port=ports, user="postgres", dbname="postgres",
                                          target_session_attrs="read-write", connect_timeout=2)
            connection.autocommit = True
        n += 1
        connection.cursor().execute("insert into written values (%s)", (n,))
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now
        print(n, "%.3f" % longest, file=out, flush=True)
        time.sleep(0.01)
    except psycopg2.Error:
        connection = None
        time.sleep(0.05)
PY
  /usr/bin/python3 "$dir/writer.py" "$(IFS=,; echo "${sql[*]}")" "$dir/written" & writer=$!
  started+=("$writer")
}
# Every row that was acknowledged is on each server; $longest is how long no row was.
none_is_lost() {
  local n
  read -r count longest <<<"$(tail -1 "$dir/written")"
  rows() { [ "$(ask "$1" "select count(*) from written where n <= $count")" -ge "$(wc -l <"$dir/written")" ]; }
  for n in 1 2 3; do
    patience rows $n
    ask $n "select n from written" | sort >"$dir/rows$n"
    lost=$(cut -d' ' -f1 "$dir/written" | sort | comm -23 - "$dir/rows$n" | wc -l)
    [ "$lost" = 0 ] || fail "pg$n lacks $lost acknowledged rows"
  done
}
# A key of version 3 of the server 0, as text.
key() {
  curl -fsS "http://127.0.0.1:${client[0]}/v3/kv/range" -d "{\"key\":\"$(printf %s "/service/moved/$1" | base64 -w0)\"}" |
    /usr/bin/python3 -c 'import base64, json, sys; print(base64.b64decode(json.load(sys.stdin)["kvs"][0]["value"]).decode())'
}
# On which timeline a server writes or reads; another one after a failover.
timeline() {
  ask "$1" "select case when pg_is_in_recovery() then (select received_tli from pg_stat_wal_receiver)
    else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end"
}
