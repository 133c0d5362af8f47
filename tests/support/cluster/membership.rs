//! Members that come, go, and are replaced while the cluster runs.
//!
//! Owns: the calls of the API for that, in their order, and what a new member is told. Never knows: why.

use std::fs;

use super::super::http::{self, Request};
use super::{Cluster, PATIENCE};

impl Cluster {
    /// Takes a member out over the API, through another one; tried until it is out.
    pub(crate) fn remove_from_list(&mut self, member: usize, asked: usize) {
        let id = self.members[asked].id_at(&self.members[member].peer_url());
        let id = id.expect("the member is listed");
        let request = Request::new("DELETE", format!("/v2/members/{id}"));
        self.wait_until("a member leaves the list", |cluster| {
            let reply = http::ask(cluster.members[asked].client, &request);
            reply.is_ok_and(|reply| matches!(reply.status(), 204 | 410))
        });
    }

    fn add_to_list(&mut self, member: usize, asked: usize) {
        let body = format!("{{\"peerURLs\":[\"{}\"]}}", self.members[member].peer_url());
        let request = Request::new("POST", "/v2/members");
        let request = request.header("Content-Type", "application/json").body(body);
        self.wait_until("a member is added", |cluster| {
            let reply = http::ask(cluster.members[asked].client, &request);
            reply.is_ok_and(|reply| matches!(reply.status(), 201 | 409))
        });
        let listed = self.listed();
        let member = &mut self.members[member];
        (member.cluster, member.state) = (listed, "existing");
    }

    /// The data of a member that is down is lost; it is removed, added again, and starts with nothing.
    pub(crate) fn replace(&mut self, member: usize, asked: usize) {
        assert!(!self.members[member].runs(), "only who is down is replaced");
        fs::remove_dir_all(self.members[member].data_dir()).expect("a folder can be removed");
        self.remove_from_list(member, asked);
        self.add_to_list(member, asked);
        self.start_member(member);
    }

    /// The data of a member that is down is lost; told that its cluster is there already, it will join again by itself.
    pub(crate) fn forget(&mut self, member: usize) {
        assert!(!self.members[member].runs(), "only who is down forgets");
        fs::remove_dir_all(self.members[member].data_dir()).expect("a folder can be removed");
        let listed = self.listed();
        let member = &mut self.members[member];
        (member.cluster, member.state) = (listed, "existing");
    }

    /// Adds one more member, on a host of its own, and waits until it serves. Its number is returned.
    pub(crate) fn add(&mut self, asked: usize) -> usize {
        self.prepare_member();
        let member = self.len() - 1;
        self.add_to_list(member, asked);
        self.start_member(member);
        self.targets.add(self.members[member].addr());
        member
    }

    /// Removes the member that was added last; it must end by itself.
    pub(crate) fn remove_last(&mut self, asked: usize) {
        let member = self.len() - 1;
        // It was the last to come for clients, too.
        let last = self.targets.all().last().map_or(0, |(target, _)| *target);
        self.targets.retire(last);
        self.remove_from_list(member, asked);
        let status = self.await_end(member, PATIENCE);
        assert!(status.success(), "a member that was removed ends with {status}");
        self.members.pop();
    }
}
