#!/usr/bin/env bash
# Moves a running Patroni cluster (three PostgreSQL servers, from Debian) from a real etcd to cairn, back, and to cairn again:
# by `cairn mirror`, while both serve, and by `cairn migrate`, with etcd stopped. A client writes all the time. At the end there must
# have been no failover, and every row whose write was acknowledged must be on each server.
#
# usage: scripts/patroni/move.sh PROGRAM      (the cairn to test; as root, because PostgreSQL has to run as another user)
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/need.sh
cairn=$(realpath "${1:?name the program}")
need etcd etcd-server || { echo "skipped: there is no etcd (Debian: etcd-server)"; exit 77; }
. scripts/patroni/common.sh

leader_key() { curl -fsS "http://127.0.0.1:${client[$1]}/v2/keys/service/moved/leader?quorum=true" | grep -q '"value":"pg1"'; }
# Each node says that this server holds the cluster's state: its member key is renewed there.
listed() { for n in 1 2 3; do curl -fsS "http://127.0.0.1:${client[$1]}/v2/keys/service/moved/members/pg$n" | grep -q '"ttl":'; done; }
paused() { curl -fsS "http://127.0.0.1:${client[$1]}/v2/keys/service/moved/config" | grep -q 'pause\\": *true'; }
renewed() { # The leader's key changes.
  local one=$(curl -fsS "http://127.0.0.1:${client[$1]}/v2/keys/service/moved/leader")
  for _ in $(seq 100); do
    [ "$(curl -fsS "http://127.0.0.1:${client[$1]}/v2/keys/service/moved/leader" | sed 's/"ttl":[0-9]*//')" = "$(sed 's/"ttl":[0-9]*//' <<<"$one")" ] || return 0
    sleep 0.1
  done
  return 1
}
# What must hold behind each move.
intact() {
  patience leads 1
  patience streams
  patience leader_key "$1"
  patience listed "$1"
  renewed "$1" || fail "nobody renews the leader's key at server $1"
  local n
  for n in 1 2 3; do
    [ "$(ask $n "select timeline_id from pg_control_checkpoint()")" = 1 ] || fail "pg$n has another timeline: there was a failover"
  done
  [ "$(ask 1 'select pg_is_in_recovery()')" = f ] || fail "pg1 leads no more"
}

step "etcd, and three PostgreSQL servers under Patroni $(patroni --version | cut -d' ' -f2)"
server 0 etcd --enable-v2 --data-dir "$dir/server0"
etcd0=$server
three_agents etcd
ask 1 'create table written (n bigint primary key)'

writer
patience test -s "$dir/written"

# Moves all agents from a server to another while both serve; `mirrored FROM TO`.
mirrored() {
  ctl pause --wait moved >/dev/null
  "$cairn" mirror --from "http://127.0.0.1:${client[$1]}" --to "http://127.0.0.1:${client[$2]}" --prefix /service/moved \
    --differences source --verify >"$dir/mirror$2.log" 2>&1 &
  local mirror=$! n
  started+=("$mirror")
  patience grep -q 'are copied' "$dir/mirror$2.log"
  leader_key "$2" || fail "the leader's key did not come over"
  paused "$2" || fail "that Patroni pauses did not come over"
  # First those that only follow.
  for n in 3 2 1; do
    unagent $n
    configure $n "${client[$2]}"
    agent $n
    patience running $n
  done
  ctl resume --wait moved >/dev/null
  intact "$2"
  kill -TERM "$mirror"
  wait "$mirror" || { cat "$dir/mirror$2.log"; fail "the mirror did not end well"; }
  grep -q 'verified: ' "$dir/mirror$2.log" || fail "not verified"
}

step "by cairn mirror: from etcd to cairn, while both serve"
server 1 "$cairn" --data-dir "$dir/server1"
cairn1=$server
mirrored 0 1
kill "$etcd0"; gone "$etcd0"
intact 1

step "by cairn mirror: from cairn back to another etcd"
server 2 etcd --enable-v2 --data-dir "$dir/server2"
etcd2=$server
mirrored 1 2
kill "$cairn1"; gone "$cairn1"
intact 2

step "by cairn migrate: etcd stops, cairn starts in its place"
ctl pause --wait moved >/dev/null
before=$(curl -fsSi "http://127.0.0.1:${client[2]}/v2/keys/service/moved/leader" | tr -d '\r' | sed -n 's/^X-Etcd-Cluster-Id: //p')
from=$SECONDS
kill "$etcd2"; gone "$etcd2"
"$cairn" migrate --from "$dir/server2" --data-dir "$dir/server2.cairn" >"$dir/migrate.log" || { cat "$dir/migrate.log"; fail "not migrated"; }
server 2 "$cairn" --data-dir "$dir/server2.cairn"
step "the pause without a server took $((SECONDS - from)) s"
leader_key 2 || fail "the leader's key is not there"
after=$(curl -fsSi "http://127.0.0.1:${client[2]}/v2/keys/service/moved/leader" | tr -d '\r' | sed -n 's/^X-Etcd-Cluster-Id: //p')
[ "$before" = "$after" ] || fail "the cluster's id was $before and is $after"
ctl resume --wait moved >/dev/null
intact 2

step "what was written"
kill "$writer"; gone "$writer"
none_is_lost
history=$(curl -fsS "http://127.0.0.1:${client[2]}/v2/keys/service/moved/history" 2>/dev/null || true)
[ -z "$history" ] || fail "there was a failover: $history"
step "$(wc -l <"$dir/written") rows, none lost; no failover; the longest time without a row was $longest s"
