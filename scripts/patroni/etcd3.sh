#!/usr/bin/env bash
# A Patroni cluster (three PostgreSQL servers, from Debian) whose state is in cairn's version 3 keys, as its section `etcd3:` says: it
# starts, its leadership is handed over, its leader dies, and cairn is killed and started again under it, which must cost no failover.
#
# usage: scripts/patroni/etcd3.sh PROGRAM      (the cairn to test; as root, because PostgreSQL has to run as another user)
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/need.sh
cairn=$(realpath "${1:?name the program}")
. scripts/patroni/common.sh

names_leader() { [ "$(key leader)" = "$1" ]; }
has_row() { [ "$(ask "$1" "select count(*) from written where n = $2")" = 1 ]; }
# A row that is written at the leader is at the others soon.
replicates() {
  local n
  ask "$1" "insert into written values ($2)"
  for n in 1 2 3; do patience has_row $n "$2"; done
}

step "cairn, and three PostgreSQL servers under Patroni $(patroni --version | cut -d' ' -f2), etcd3"
server 0 "$cairn" --data-dir "$dir/server0"
cairn0=$server
three_agents etcd3
names_leader pg1 || fail "the leader's key names another"
[ "$(curl -fsS "http://127.0.0.1:${client[0]}/v2/keys/" | grep -c nodes)" = 0 ] || fail "something is in the keys of version 2"
ask 1 'create table written (n bigint primary key)'
replicates 1 1

step "the leadership is handed to pg2"
ctl switchover moved --force --candidate pg2 >/dev/null
patience leads 2
names_leader pg2 || fail "the leader's key names another"
patience running 1
replicates 2 2

step "pg2 dies"
pkill -KILL -P "${agent[2]}"
runuser -u postgres -- "$bin/pg_ctl" -D "$dir/pg2" -m immediate stop >/dev/null
another_leads() { leads 1 || leads 3; }
from=$SECONDS
patience another_leads
if leads 1 >/dev/null 2>&1; then leader=1; else leader=3; fi
step "pg$leader leads after $((SECONDS - from)) s"
[ $((SECONDS - from)) -le 40 ] || fail "the lease of the dead leader lived too long"
gone "${agent[2]}"
agent 2
patience running 2
replicates $leader 3

step "cairn is killed, and starts again"
before=$(timeline $leader)
kill -KILL "$cairn0"; gone "$cairn0"
server 0 "$cairn" --data-dir "$dir/server0"
held=$(key status)
changed() { [ "$(key status)" != "$held" ]; }
# The leader writes its position with each round.
replicates $leader 4
patience changed
names_leader "pg$leader" || fail "the leader's key names another"
patience leads $leader
replicates $leader 5
[ "$(timeline $leader)" = "$before" ] || fail "there was a failover"
step "five rows on three servers, one handover, one failover"
