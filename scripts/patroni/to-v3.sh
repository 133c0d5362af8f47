#!/usr/bin/env bash
# Moves a running Patroni cluster (three PostgreSQL servers, from Debian) from version 2 of cairn's API to version 3 of the same cairn: from
# Patroni's section `etcd:` to `etcd3:`, by `cairn copy v2-to-v3`, one node after the other. A client writes all the time. Patroni's
# configuration, history and id of the cluster must be kept; there must have been no failover and never two leaders, and every row
# whose write was acknowledged must be on each server. Behind the move the cluster must fail over as ever.
#
# usage: scripts/patroni/to-v3.sh PROGRAM      (the cairn to test; as root, because PostgreSQL has to run as another user)
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/need.sh
cairn=$(realpath "${1:?name the program}")
. scripts/patroni/common.sh

url="http://127.0.0.1:${client[0]}"
v2() { curl -fsS "$url/v2/keys/service/moved/$1?quorum=true" | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["node"]["value"])'; }
names_leader() { [ "$(key leader)" = "$1" ]; }
# The member's key is on a lease that is the agent's own: those of the copy begin alike.
renewed_by_itself() {
  curl -fsS "$url/v3/kv/range" -d "{\"key\":\"$(printf %s "/service/moved/$1" | base64 -w0)\"}" | /usr/bin/python3 -c '
import json, sys
lease = int(json.load(sys.stdin)["kvs"][0].get("lease", 0))
sys.exit(lease == 0 or lease >> 40 == 0x0ca152)'
}
paused_v3() { key config | grep -q '"pause": *true'; }
primaries() { local n; for n in 1 2 3; do ask $n 'select pg_is_in_recovery()' 2>/dev/null || true; done | grep -c f; }

step "cairn, and three PostgreSQL servers under Patroni $(patroni --version | cut -d' ' -f2), etcd"
server 0 "$cairn" --data-dir "$dir/server0"
three_agents etcd
ask 1 'create table written (n bigint primary key)'

step "what is to be kept: a handover in the history, and a parameter in the configuration"
ctl switchover moved --force --candidate pg2 >/dev/null
patience leads 2
patience running 1
patience v2 history
ctl edit-config moved --force -p work_mem=5MB >/dev/null
has_parameter() { [ "$(ask "$1" 'show work_mem')" = 5MB ]; }
for n in 1 2 3; do patience has_parameter $n; done
for name in config history initialize; do v2 $name >"$dir/$name"; done
before=$(timeline 2)

writer
patience test -s "$dir/written"

step "paused; cairn copies /service to version 3 and follows"
ctl pause --wait moved >/dev/null
"$cairn" copy v2-to-v3 --from "$url" --prefix /service --follow --verify >"$dir/copy.log" 2>&1 & copy=$!
started+=("$copy")
patience grep -q 'are copied' "$dir/copy.log"
names_leader pg2 || fail "the leader's key did not come over"
paused_v3 || fail "that Patroni pauses did not come over"
for name in history initialize; do key $name | cmp - "$dir/$name" || fail "$name is not as it was"; done

step "one node after the other, the leader's last"
for n in 3 1 2; do
  # A stranger in it would be a second leader when Patroni goes on.
  names_leader pg2 || fail "the leader's key names $(key leader)"
  unagent $n
  configure $n "${client[0]}" etcd3
  agent $n
  patience running $n
  patience renewed_by_itself "members/pg$n"
  [ "$(primaries)" = 1 ] || fail "$(primaries) servers take writes"
done
patience leads 2
patience renewed_by_itself leader
# The lock of version 2, which nobody renews, ends: that of version 3 is its owner's, and stays.
lock_is_gone() { ! v2 leader 2>/dev/null; }
patience lock_is_gone
names_leader pg2 || fail "the leader's key went with the old one"
kill -TERM "$copy"
wait "$copy" || { cat "$dir/copy.log"; fail "the copy did not end well"; }
grep -q 'verified: ' "$dir/copy.log" || fail "not verified"
names_leader pg2 || fail "the leader's key went with the copy"
for n in 1 2 3; do key "members/pg$n" >/dev/null || fail "pg$n's key went with the copy"; done
ctl resume --wait moved >/dev/null
intact() { leads 2 && [ "$(ask 2 "select count(*) from pg_stat_replication where state = 'streaming'")" = 2 ]; }
patience intact
[ "$(primaries)" = 1 ] || fail "$(primaries) servers take writes"
for n in 1 2 3; do [ "$(timeline $n)" = "$before" ] || fail "pg$n has another timeline: there was a failover"; done
for name in history initialize; do key $name | cmp - "$dir/$name" || fail "$name is not as it was"; done
for n in 1 2 3; do has_parameter $n || fail "pg$n has lost the parameter"; done
key config | grep -q 5MB || fail "the configuration has lost the parameter"

step "what was written"
kill "$writer"; gone "$writer"
none_is_lost
[ "$(key history)" = "$(cat "$dir/history")" ] || fail "there was a failover: $(key history)"
step "$(wc -l <"$dir/written") rows, none lost; no failover; the longest time without a row was $longest s"

step "pg2 dies, and another leads: version 3 is what counts"
pkill -KILL -P "${agent[2]}"
runuser -u postgres -- "$bin/pg_ctl" -D "$dir/pg2" -m immediate stop >/dev/null
another_leads() { leads 1 || leads 3; }
patience another_leads
# An agent says that its server leads before that server has ended its recovery.
some_take_writes() { [ "$(primaries)" != 0 ]; }
patience some_take_writes
[ "$(primaries)" = 1 ] || fail "$(primaries) servers take writes"
