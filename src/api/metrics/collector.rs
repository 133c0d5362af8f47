//! Numbers of the member that are read when the page is asked for, because others count them anyway.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::api::metrics::families::{Families, Labelled};
use crate::api::metrics::limits::LimitHits;
use crate::api::metrics::surroundings::Surroundings;
use crate::model::{CLUSTER_VERSION, ETCD_VERSION};
use crate::mvcc::AlarmKind;
use crate::raft::Role;
use crate::replica::Replica;
use crate::store::Counter;
use crate::transport::PeerTraffic;

/// Reads the numbers of a member when they are asked for.
pub(super) struct MemberCollector {
    pub(super) replica: Replica,
    pub(super) surroundings: Surroundings,
    pub(super) limits: Arc<LimitHits>,
}

impl Collector for MemberCollector {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Families::default();
        self.server(&mut families);
        self.peers(&mut families);
        self.clocks(&mut families);
        self.followers(&mut families);
        self.own(&mut families);
        self.surroundings.collect(&mut families);
        self.store(&mut families);
        self.space(&mut families);
        self.mvcc(&mut families);
        families.0
    }
}

impl MemberCollector {
    fn space(&self, families: &mut Families) {
        let quota = self.replica.space().quota_bytes();
        for (name, help, value) in [
            (
                "cairn_storage_size_bytes",
                "What the key space weighs, as --quota-bytes counts it.",
                self.replica.view().store.bytes(),
            ),
            ("cairn_storage_quota_bytes", "What it may weigh: --quota-bytes.", quota),
        ] {
            families.gauge(name, help, value);
        }
        families.real(
            "etcd_server_quota_backend_bytes",
            "Bytes that the data may take: --quota-bytes.",
            quota as f64,
        );
        let no_space = self.replica.shortage().is_some() || self.replica.has_space_alarm();
        let corrupt = self.replica.has_alarm(AlarmKind::Corrupt);
        let alarms = [("nospace", no_space), ("corrupt", corrupt)];
        families.gauge_by(
            "cairn_alarm",
            "Is there no room for writes that need some, or has somebody said that the data is wrong? 1 for yes.",
            "kind",
            &alarms.map(|(kind, raised)| (kind.to_owned(), u64::from(raised))),
        );
    }

    fn server(&self, families: &mut Families) {
        let (status, member) = (self.replica.status(), self.replica.member());
        let (stats, view) = (self.replica.stats(), self.replica.view());
        let leads = status.leadership.role == Role::Leader;
        // In etcd a quorum read is a proposal too; here it costs no log entry, but dashboards count it all the same.
        let reads = stats.barriers();
        for (name, help, value) in [
            (
                "etcd_server_has_leader",
                "Is there a leader?",
                u64::from(status.leadership.leader.is_some()),
            ),
            ("etcd_server_is_leader", "Is it this member?", u64::from(leads)),
            (
                "etcd_server_is_learner",
                "Has it no vote?",
                u64::from(status.leadership.role == Role::Learner),
            ),
            (
                "etcd_server_proposals_committed_total",
                "Proposals that a majority has: log entries and quorum reads.",
                status.committed.0 + reads,
            ),
            (
                "etcd_server_proposals_applied_total",
                "Proposals that this member has applied: log entries and quorum reads.",
                view.position.index.0 + reads,
            ),
            (
                "etcd_server_proposals_pending",
                "Proposals that wait for a majority.",
                u64::try_from(stats.proposals_pending()).unwrap_or(0),
            ),
            (
                "etcd_server_snapshot_apply_in_progress_total",
                "Is a snapshot of the leader being installed?",
                u64::from(self.replica.raft().installs_snapshot()),
            ),
            ("etcd_debugging_store_watchers", "Waiting watchers.", self.watchers()),
            ("etcd_store_watchers", "Waiting watchers.", self.watchers()),
        ] {
            families.gauge(name, help, value);
        }
        for (name, help, value) in [
            (
                "etcd_server_leader_changes_seen_total",
                "Leaders this member has seen come.",
                stats.leader_changes(),
            ),
            (
                "etcd_server_proposals_failed_total",
                "Proposals without an answer in time.",
                stats.proposals_failed(),
            ),
            (
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats that left too late, for want of processor most likely.",
                stats.late_heartbeats(),
            ),
            (
                "cairn_wall_clock_jumps_total",
                "How often this member's wall clock jumped.",
                stats.clock_jumps(),
            ),
            (
                "etcd_server_read_indexes_failed_total",
                "Quorum reads without an answer in time.",
                stats.failed_barriers(),
            ),
            (
                "etcd_server_learner_promote_successes",
                "Members that this one has given a vote.",
                stats.promotions(),
            ),
        ] {
            families.counter(name, help, value);
        }
        for (name, help, label, value) in [
            ("etcd_server_id", "This member.", "server_id", member.id.to_string()),
            ("etcd_server_version", "Its version.", "server_version", ETCD_VERSION.to_owned()),
            (
                "etcd_cluster_version",
                "The cluster's version.",
                "cluster_version",
                cluster_version(),
            ),
        ] {
            families.labelled(name, help, label, &value);
        }
    }

    fn peers(&self, families: &mut Families) {
        let traffic = self.replica.raft().transport().traffic().all();
        let by_peer = |value: &dyn Fn(&PeerTraffic) -> u64| -> Labelled<u64> {
            traffic.iter().map(|(id, peer)| (id.to_string(), value(peer))).collect()
        };
        for (name, help, label, values) in [
            (
                "etcd_network_peer_sent_bytes_total",
                "Bytes to peers.",
                "To",
                by_peer(&PeerTraffic::sent_bytes),
            ),
            (
                "etcd_network_peer_received_bytes_total",
                "Bytes from peers.",
                "From",
                by_peer(&PeerTraffic::received_bytes),
            ),
            (
                "etcd_network_peer_sent_failures_total",
                "Messages to peers that did not get through.",
                "To",
                by_peer(&PeerTraffic::sent_failures),
            ),
            (
                "etcd_network_peer_received_failures_total",
                "Messages from peers that could not be read.",
                "From",
                by_peer(&PeerTraffic::received_failures),
            ),
        ] {
            families.counter_by(name, help, label, &values);
        }
        let local = self.replica.member().id.to_string();
        let mut active = Vec::new();
        let mut lost = Vec::new();
        for (id, peer) in &traffic {
            active.push((id.to_string(), u64::from(peer.connections() > 0)));
            lost.push((id.to_string(), peer.disconnects()));
        }
        let name = "etcd_network_active_peers";
        families.gauge_between(name, "Is there a connection to the peer?", &local, &active);
        let name = "etcd_network_disconnected_peers_total";
        families.counter_between(name, "How often the last one went.", &local, &lost);
    }

    /// Of the leaders there were since this member started; none on the only member of a cluster.
    fn clocks(&self, families: &mut Families) {
        let differences = self.replica.raft().clock_differences();
        let in_seconds: Vec<_> =
            differences.iter().map(|(id, ns)| (id.to_string(), *ns as f64 / 1e9)).collect();
        families.seconds_by(
            "cairn_peer_clock_difference_seconds",
            "How far the wall clock of a leader is ahead of this member's.",
            "To",
            &in_seconds,
        );
    }

    /// Of a leader alone; no other member knows.
    fn followers(&self, families: &mut Families) {
        let raft = self.replica.raft();
        let voting = raft.voting();
        let others = voting.voters.iter().chain(&voting.learners);
        let known = others.filter_map(|id| Some((id.to_string(), raft.latency(*id)?)));
        let (mut latencies, mut entries) = (Vec::new(), Vec::new());
        for (id, latency) in known {
            latencies.push((id.clone(), latency.latency.as_secs_f64()));
            entries.push((id, latency.entries));
        }
        families.seconds_by(
            "cairn_member_latency_seconds",
            "How long a follower takes, or has been taking, to have on its disk what the leader has appended.",
            "To",
            &latencies,
        );
        families.gauge_by(
            "cairn_member_lag_entries",
            "Entries of the leader's log that a follower has not acknowledged.",
            "To",
            &entries,
        );
    }

    fn own(&self, families: &mut Families) {
        let (view, hub, raft) = (self.replica.view(), self.replica.hub(), self.replica.raft());
        let (history, limits) = (view.store.history(), raft.history_limits());
        let budget = self.replica.budget();
        families.labelled(
            "cairn_build_info",
            "The version of this program.",
            "version",
            env!("CARGO_PKG_VERSION"),
        );
        for (name, help, value) in [
            ("cairn_raft_term", "The term.", self.replica.status().leadership.term.0),
            ("cairn_nodes", "Files and directories in the key space.", view.store.nodes_count()),
            ("cairn_watchers", "Waiting watches.", self.watchers()),
            (
                "cairn_watchers_limit",
                "Watches that may wait at a time; more are refused.",
                hub.watchers_max() as u64,
            ),
            ("cairn_history_events", "Events kept for waitIndex.", history.len() as u64),
            ("cairn_history_events_limit", "Events that may be kept.", limits.events_max as u64),
            ("cairn_history_bytes", "Bytes of these events.", history.bytes() as u64),
            ("cairn_history_limit_bytes", "Bytes that may be kept.", limits.bytes_max as u64),
            (
                "cairn_history_oldest_index",
                "The lowest waitIndex that is answered.",
                history.oldest().0,
            ),
            (
                "cairn_requests_inflight_bytes",
                "Bytes of writes that are under way.",
                budget.used() as u64,
            ),
            (
                "cairn_requests_inflight_limit_bytes",
                "Bytes of writes that may be under way at a time; more are refused.",
                budget.bytes_max() as u64,
            ),
        ] {
            families.gauge(name, help, value);
        }
        families.counter(
            "cairn_history_misses_total",
            "Watches whose waitIndex the history no longer reached.",
            hub.missed(),
        );
        let kept_elsewhere =
            [("max-watchers", hub.refused()), ("max-inflight-bytes", budget.refused())];
        let hits = self.limits.by_flag().chain(kept_elsewhere);
        let hits: Vec<_> = hits.map(|(flag, hits)| (flag.to_owned(), hits)).collect();
        families.counter_by(
            "cairn_limit_hits_total",
            "How often what a flag limits was at its limit.",
            "flag",
            &hits,
        );
    }

    fn store(&self, families: &mut Families) {
        let view = self.replica.view();
        let count = |counter| view.store.counters().get(counter);
        let reads = self.replica.reads();
        let reads = [
            ("get", reads.plain.load(std::sync::atomic::Ordering::Relaxed)),
            ("getRecursive", reads.recursive.load(std::sync::atomic::Ordering::Relaxed)),
        ];
        use Counter as C;
        let writes = [
            ("set", count(C::SetsSuccess) + count(C::SetsFail)),
            ("create", count(C::CreateSuccess) + count(C::CreateFail)),
            ("update", count(C::UpdateSuccess) + count(C::UpdateFail)),
            ("delete", count(C::DeleteSuccess) + count(C::DeleteFail)),
            ("compareAndSwap", count(C::CompareAndSwapSuccess) + count(C::CompareAndSwapFail)),
            (
                "compareAndDelete",
                count(C::CompareAndDeleteSuccess) + count(C::CompareAndDeleteFail),
            ),
        ];
        let requests = self.replica.hub().requests();
        // The names of etcd 3, and those of etcd 2.
        for prefix in ["etcd_debugging_store", "etcd_store"] {
            families.by_action(&format!("{prefix}_reads_total"), "Reads of the key space.", &reads);
            families.by_action(&format!("{prefix}_writes_total"), "Writes to it.", &writes);
            families.counter(
                &format!("{prefix}_expires_total"),
                "Keys that died of their deadline.",
                count(C::ExpireCount),
            );
            families.counter(
                &format!("{prefix}_watch_requests_total"),
                "Watches asked for.",
                requests,
            );
        }
    }

    /// The keys of version 3, their watchers and leases.
    fn mvcc(&self, families: &mut Families) {
        let (view, hub) = (self.replica.view(), self.replica.hub().v3());
        let mvcc = view.store.mvcc();
        // etcd says by it that nothing was ever compacted.
        let compacted = mvcc.compacted().map_or(-1.0, |revision| revision.0 as f64);
        families.real("etcd_debugging_mvcc_compact_revision", "Of the last compaction.", compacted);
        for (name, help, value) in [
            ("etcd_debugging_mvcc_current_revision", "Of the last change.", mvcc.revision().0),
            ("etcd_debugging_mvcc_keys_total", "Keys that are there.", mvcc.keys_count()),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "What the data weighs, as --quota-bytes counts it.",
                view.store.bytes(),
            ),
            ("etcd_debugging_mvcc_watcher_total", "Watchers.", hub.watchers() as u64),
            ("etcd_debugging_mvcc_watch_stream_total", "Their streams.", hub.streams() as u64),
            (
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that read from the history.",
                hub.slow_watchers() as u64,
            ),
            (
                "etcd_debugging_mvcc_pending_events_total",
                "Events that wait until streams have read what was before.",
                hub.events_pending() as u64,
            ),
            ("etcd_debugging_auth_revision", "Of users and roles.", mvcc.auth().revision().0),
            ("cairn_leases", "Leases that are there.", mvcc.leases_count() as u64),
            (
                "cairn_leases_recorded",
                "Those of which the log says when they end: it takes an entry to keep one alive.",
                mvcc.leases().filter(|(_, lease)| lease.deadline().is_recorded()).count() as u64,
            ),
        ] {
            families.gauge(name, help, value);
        }
        for (name, help, value) in [
            (
                "etcd_debugging_mvcc_events_total",
                "Events that watchers were told.",
                hub.events_told(),
            ),
            (
                "etcd_debugging_lease_renewed_total",
                "How often this member has kept a lease alive while it led.",
                self.replica.leases_renewed(),
            ),
            (
                "etcd_debugging_server_lease_expired_total",
                "Leases that this member has ended while it led.",
                self.replica.leases_expired(),
            ),
        ] {
            families.counter(name, help, value);
        }
    }

    fn watchers(&self) -> u64 {
        self.replica.hub().watchers() as u64
    }
}

fn cluster_version() -> String {
    CLUSTER_VERSION.trim_end_matches(".0").to_owned()
}
