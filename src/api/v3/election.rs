//! `v3electionpb.Election`.

use std::sync::Arc;

use futures_util::stream;

use crate::api::context::Context;
use crate::api::v3::call::{Answers, Call};
use crate::api::v3::queue::Queue;
use crate::api::v3::{access, convert, header_now, refused};
use crate::model::Value;
use crate::mvcc::{DeleteRange, KeyRange, KeyValue, LeaseId, Op, Put};
use crate::replica::v3::watch::{Told, WatchStream};
use crate::rpc::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse, Status, status,
};

/// The lead, once all who wanted it before are gone. The client that gives up before has no place in the queue any more.
pub(super) async fn campaign(
    api: Arc<Context>,
    call: Call,
    request: CampaignRequest,
) -> Result<CampaignResponse, Status> {
    let asker = access::asker(&api, &call).await?;
    let queue = Queue::new(Arc::clone(&api), asker, &request.name);
    let value: Value = (*request.value).into();
    let (place, said) = queue.join(LeaseId(request.lease), value.clone()).await?;
    if said != value {
        let put = put(&place.key, &value, place.lease);
        let (_, there) = queue.if_there(&place.key, place.created.0, put).await?;
        if !there {
            return Err(status::ELECTION_NOT_LEADER);
        }
    }
    queue.wait(&place).await?;
    let place = place.take();
    let leader = LeaderKey {
        name: request.name,
        key: place.key.to_vec().into(),
        rev: convert::revision(place.created),
        lease: place.lease.0,
    };
    Ok(CampaignResponse { header: Some(header_now(&api)), leader: Some(leader) })
}

fn put(key: &Value, value: &Value, lease: LeaseId) -> Op {
    let mut put = Put::new(key.clone(), value.clone());
    put.lease = lease;
    Op::Put(put)
}

/// The revision that made a leader's key.
fn made(revision: i64) -> Result<u64, Status> {
    u64::try_from(revision).map_err(|_| status::ELECTION_NOT_LEADER)
}

/// The leader says something else.
pub(super) async fn proclaim(
    api: Arc<Context>,
    call: Call,
    request: ProclaimRequest,
) -> Result<ProclaimResponse, Status> {
    let leader = request.leader.ok_or(status::LEADER_KEY_MISSING)?;
    let asker = access::asker(&api, &call).await?;
    let queue = Queue::new(Arc::clone(&api), asker, &leader.name);
    let key: Value = (*leader.key).into();
    let put = put(&key, &(*request.value).into(), LeaseId(leader.lease));
    let (revision, there) = queue.if_there(&key, made(leader.rev)?, put).await?;
    if !there {
        return Err(status::ELECTION_NOT_LEADER);
    }
    Ok(ProclaimResponse { header: Some(convert::header(&api, revision)) })
}

/// The leader gives up; one that does not lead any more has nothing to give up.
pub(super) async fn resign(
    api: Arc<Context>,
    call: Call,
    request: ResignRequest,
) -> Result<ResignResponse, Status> {
    let leader = request.leader.ok_or(status::LEADER_KEY_MISSING)?;
    let asker = access::asker(&api, &call).await?;
    let queue = Queue::new(Arc::clone(&api), asker, &leader.name);
    let key: Value = (*leader.key).into();
    let delete = DeleteRange { range: KeyRange::Single(key.clone()), prev_kv: false };
    let delete = Op::DeleteRange(delete);
    let (revision, _) = queue.if_there(&key, made(leader.rev)?, delete).await?;
    Ok(ResignResponse { header: Some(convert::header(&api, revision)) })
}

/// Who leads.
pub(super) async fn leader(
    api: Arc<Context>,
    call: Call,
    request: LeaderRequest,
) -> Result<LeaderResponse, Status> {
    let asker = access::asker(&api, &call).await?;
    let queue = Queue::new(Arc::clone(&api), asker, &request.name);
    queue.check_read()?;
    api.replica.read_barrier().await.map_err(refused::unavailable)?;
    let view = api.replica.view();
    let first = queue.first(view.store.mvcc()).ok_or(status::ELECTION_NO_LEADER)?;
    Ok(LeaderResponse { header: Some(header_now(&api)), kv: Some(convert::key_value(&first)) })
}

/// Who leads, now and from now on, and what they say.
pub(super) async fn observe(
    api: Arc<Context>,
    call: Call,
    request: LeaderRequest,
) -> Result<Answers<LeaderResponse>, Status> {
    let asker = access::asker(&api, &call).await?;
    let queue = Queue::new(Arc::clone(&api), asker, &request.name);
    queue.check_read()?;
    api.replica.read_barrier().await.map_err(refused::unavailable)?;
    let observer = Observer { queue, watched: Watched::Nothing };
    Ok(Box::pin(stream::unfold(Some(observer), |observer| async {
        let mut observer = observer?;
        match observer.next().await {
            Ok(kv) => {
                let header = Some(header_now(&observer.queue.api));
                let answer = LeaderResponse { header, kv: Some(convert::key_value(&kv)) };
                Some((Ok(answer), Some(observer)))
            }
            Err(status) => Some((Err(status), None)),
        }
    })))
}

struct Observer {
    queue: Queue,
    watched: Watched,
}

enum Watched {
    /// It is to be found out who leads.
    Nothing,
    /// Nobody leads, and whoever comes first does.
    All(WatchStream),
    /// The leader.
    Leader(WatchStream),
}

impl Observer {
    /// What the leader says next.
    async fn next(&mut self) -> Result<Arc<KeyValue>, Status> {
        loop {
            let (watchers, any) = match &mut self.watched {
                Watched::Nothing => {
                    if let Some(leader) = self.look()? {
                        return Ok(leader);
                    }
                    continue;
                }
                Watched::All(watchers) => (watchers, true),
                Watched::Leader(watchers) => (watchers, false),
            };
            match watchers.next().await {
                None => return Err(status::STOPPED),
                Some(Told::Progress { .. }) => {}
                Some(Told::Compacted { .. }) => self.watched = Watched::Nothing,
                // Whoever came is found by a look.
                Some(Told::Events { .. }) if any => self.watched = Watched::Nothing,
                Some(Told::Events { notice, .. }) => {
                    // A key changes once in a revision.
                    let kv = &notice.events[0].kv;
                    if !kv.is_deletion() {
                        return Ok(Arc::clone(kv));
                    }
                    self.watched = Watched::Nothing;
                }
            }
        }
    }

    /// Finds out who leads, and watches them; or whoever may come.
    fn look(&mut self) -> Result<Option<Arc<KeyValue>>, Status> {
        let view = self.queue.api.replica.view();
        let leader = self.queue.first(view.store.mvcc());
        let key = leader.as_ref().map(|leader| leader.key.clone());
        let watchers = self.queue.watch_places(&view, key)?;
        self.watched =
            if leader.is_some() { Watched::Leader(watchers) } else { Watched::All(watchers) };
        Ok(leader)
    }
}
