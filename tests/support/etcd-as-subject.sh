#!/bin/sh
# Lets the real etcd play the program under test: CAIRN_TEST_BIN=tests/support/etcd-as-subject.sh
exec "${ETCD_BIN:-etcd}" --enable-v2 --heartbeat-interval=20 --election-timeout=200 "$@"
