//! The table of calls: what each is called over gRPC and in JSON, and who answers it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream as streams};
use http::{HeaderMap, HeaderName};

use crate::api::context::Context;
use crate::api::metrics::{CallMeter, Metrics};
use crate::api::v3::call::{Answers, Call, Requests};
use crate::api::v3::{auth, cluster, election, health, kv, lease, lock, maintenance, watch};
use crate::rpc::{self, Code, Message, Status, json};

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Protobuf behind its length.
    Framed,
    /// JSON.
    Json,
}

/// A message that came.
pub(super) enum Came {
    /// Protobuf.
    Protobuf(Bytes),
    /// JSON.
    Json(json::Value),
}

impl Came {
    fn form(&self) -> Form {
        match self {
            Self::Protobuf(_) => Form::Framed,
            Self::Json(_) => Form::Json,
        }
    }

    fn read<M: Message>(self) -> Result<M, Status> {
        match self {
            Self::Protobuf(bytes) => M::decode(bytes).map_err(|error| {
                Status::with(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
            }),
            Self::Json(value) => json::read(&value)
                .map_err(|error| Status::with(Code::InvalidArgument, error.to_string())),
        }
    }
}

impl Form {
    pub(super) fn write(self, message: &impl Message) -> Bytes {
        match self {
            Self::Framed => rpc::framed(message),
            Self::Json => json::write(message).into(),
        }
    }
}

/// Clients of etcd say of which version they are.
const CLIENT_VERSION: HeaderName = HeaderName::from_static("client-api-version");

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Unary = dyn Fn(Arc<Context>, Call, Came) -> Boxed<Result<Bytes, Status>> + Send + Sync;
type Streaming = dyn Fn(Arc<Context>, Call, Requests<Came>, Form) -> Boxed<Result<Answers<Bytes>, Status>>
    + Send
    + Sync;

/// Who answers a call.
pub(super) enum Handler {
    /// One message in, one out.
    Unary(Box<Unary>),
    /// Any number of either.
    Streaming(Box<Streaming>),
}

/// One call.
pub(super) struct Method {
    pub(super) service: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) handler: Handler,
    /// Its paths below `/v3/`.
    paths: &'static [&'static str],
}

/// Where a call stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

/// A call, and the count of it.
pub(super) struct Known {
    pub(super) place: Place,
    pub(super) method: Method,
    pub(super) meter: CallMeter,
}

/// As metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    /// One request, many answers.
    Server,
    /// Many of both.
    Both,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Server => "server_stream",
            Self::Both => "bidi_stream",
        }
    }
}

/// A call with one message in and one out.
pub(super) fn unary<Q, A, F>(
    service: &'static str,
    name: &'static str,
    paths: &'static [&'static str],
    answer: impl Fn(Arc<Context>, Call, Q) -> F + Copy + Send + Sync + 'static,
) -> Method
where
    Q: Message,
    A: Message,
    F: Future<Output = Result<A, Status>> + Send + 'static,
{
    let handler = move |api: Arc<Context>, call: Call, came: Came| -> Boxed<_> {
        Box::pin(async move {
            let form = came.form();
            let answered = answer(api, call, came.read()?).await?;
            Ok(form.write(&answered))
        })
    };
    Method { service, name, kind: Kind::Unary, handler: Handler::Unary(Box::new(handler)), paths }
}

/// A call with any number of messages in and out.
pub(super) fn stream<Q, A, F>(
    service: &'static str,
    name: &'static str,
    paths: &'static [&'static str],
    answer: impl Fn(Arc<Context>, Call, Requests<Q>) -> F + Copy + Send + Sync + 'static,
) -> Method
where
    Q: Message,
    A: Message,
    F: Future<Output = Result<Answers<A>, Status>> + Send + 'static,
{
    written_stream(service, name, paths, move |api, call, requests, form| async move {
        let answers = answer(api, call, requests).await?;
        let written = answers.map(move |answer| Ok(form.write(&answer?)));
        Ok(Box::pin(written) as Answers<Bytes>)
    })
}

/// The same, which writes its answers itself.
pub(super) fn written_stream<Q, F>(
    service: &'static str,
    name: &'static str,
    paths: &'static [&'static str],
    answer: impl Fn(Arc<Context>, Call, Requests<Q>, Form) -> F + Copy + Send + Sync + 'static,
) -> Method
where
    Q: Message,
    F: Future<Output = Result<Answers<Bytes>, Status>> + Send + 'static,
{
    let handler =
        move |api: Arc<Context>, call: Call, came: Requests<Came>, form: Form| -> Boxed<_> {
            Box::pin(async move {
                let requests = match form {
                    Form::Framed => Box::pin(came.map(|came| came?.read())) as Requests<Q>,
                    Form::Json => begun(came).await?,
                };
                answer(api, call, requests, form).await
            })
        };
    Method {
        service,
        name,
        kind: Kind::Both,
        handler: Handler::Streaming(Box::new(handler)),
        paths,
    }
}

/// What a stream in JSON is asked. As in etcd, a first value that is wrong is the answer, and a later one ends what is asked.
async fn begun<Q: Message>(mut came: Requests<Came>) -> Result<Requests<Q>, Status> {
    let first = match came.next().await {
        None => return Ok(Box::pin(streams::empty())),
        Some(first) => first.and_then(Came::read),
    };
    let first = first.map_err(|status| Status { code: Code::Unknown, ..status })?;
    let later = came.map(|came| came?.read());
    let later = later.take_while(|read: &Result<Q, Status>| {
        let goes_on = read.as_ref().map_or_else(|status| status.code == Code::Cancelled, |_| true);
        std::future::ready(goes_on)
    });
    Ok(Box::pin(streams::once(std::future::ready(Ok(first))).chain(later)))
}

/// A call with one message in and any number out.
pub(super) fn server_stream<Q, A, F>(
    service: &'static str,
    name: &'static str,
    paths: &'static [&'static str],
    answer: impl Fn(Arc<Context>, Call, Q) -> F + Copy + Send + Sync + 'static,
) -> Method
where
    Q: Message,
    A: Message,
    F: Future<Output = Result<Answers<A>, Status>> + Send + 'static,
{
    let first = move |api: Arc<Context>, call: Call, mut requests: Requests<Q>| async move {
        let missing = || Err(Status::new(Code::Internal, "the call ended before its request"));
        let request = requests.next().await.unwrap_or_else(missing)?;
        answer(api, call, request).await
    };
    Method { kind: Kind::Server, ..stream(service, name, paths, first) }
}

/// Every call.
fn table() -> Vec<Method> {
    const AUTH: &str = "etcdserverpb.Auth";
    const KV: &str = "etcdserverpb.KV";
    const CLUSTER: &str = "etcdserverpb.Cluster";
    const MAINTENANCE: &str = "etcdserverpb.Maintenance";
    const LEASE: &str = "etcdserverpb.Lease";
    const LOCK: &str = "v3lockpb.Lock";
    const ELECTION: &str = "v3electionpb.Election";
    const HEALTH: &str = "grpc.health.v1.Health";
    vec![
        unary(KV, "Range", &["kv/range"], kv::range),
        unary(KV, "Put", &["kv/put"], kv::put),
        unary(KV, "DeleteRange", &["kv/deleterange"], kv::delete_range),
        unary(KV, "Txn", &["kv/txn"], kv::txn),
        unary(KV, "Compact", &["kv/compaction"], kv::compact),
        written_stream("etcdserverpb.Watch", "Watch", &["watch"], watch::watch),
        unary(LEASE, "LeaseGrant", &["lease/grant"], lease::grant),
        unary(LEASE, "LeaseRevoke", &["lease/revoke", "kv/lease/revoke"], lease::revoke),
        stream(LEASE, "LeaseKeepAlive", &["lease/keepalive"], lease::keep_alive),
        unary(
            LEASE,
            "LeaseTimeToLive",
            &["lease/timetolive", "kv/lease/timetolive"],
            lease::time_to_live,
        ),
        unary(LEASE, "LeaseLeases", &["lease/leases", "kv/lease/leases"], lease::leases),
        unary(LOCK, "Lock", &["lock/lock"], lock::lock),
        unary(LOCK, "Unlock", &["lock/unlock"], lock::unlock),
        unary(ELECTION, "Campaign", &["election/campaign"], election::campaign),
        unary(ELECTION, "Proclaim", &["election/proclaim"], election::proclaim),
        unary(ELECTION, "Leader", &["election/leader"], election::leader),
        server_stream(ELECTION, "Observe", &["election/observe"], election::observe),
        unary(ELECTION, "Resign", &["election/resign"], election::resign),
        unary(CLUSTER, "MemberAdd", &["cluster/member/add"], cluster::add),
        unary(CLUSTER, "MemberRemove", &["cluster/member/remove"], cluster::remove),
        unary(CLUSTER, "MemberUpdate", &["cluster/member/update"], cluster::update),
        unary(CLUSTER, "MemberPromote", &["cluster/member/promote"], cluster::promote),
        unary(CLUSTER, "MemberList", &["cluster/member/list"], cluster::list),
        unary(MAINTENANCE, "Alarm", &["maintenance/alarm"], maintenance::alarm),
        unary(MAINTENANCE, "Status", &["maintenance/status"], maintenance::status),
        unary(MAINTENANCE, "Defragment", &["maintenance/defragment"], maintenance::defragment),
        unary(MAINTENANCE, "Hash", &["maintenance/hash"], maintenance::hash),
        unary(MAINTENANCE, "HashKV", &["maintenance/hashkv"], maintenance::hash_kv),
        server_stream(MAINTENANCE, "Snapshot", &["maintenance/snapshot"], maintenance::snapshot),
        unary(
            MAINTENANCE,
            "MoveLeader",
            &["maintenance/transfer-leadership"],
            maintenance::move_leader,
        ),
        unary(AUTH, "AuthEnable", &["auth/enable"], auth::enable),
        unary(AUTH, "AuthDisable", &["auth/disable"], auth::disable),
        unary(AUTH, "AuthStatus", &["auth/status"], auth::status),
        unary(AUTH, "Authenticate", &["auth/authenticate"], auth::authenticate),
        unary(AUTH, "UserAdd", &["auth/user/add"], auth::user_add),
        unary(AUTH, "UserGet", &["auth/user/get"], auth::user_get),
        unary(AUTH, "UserList", &["auth/user/list"], auth::user_list),
        unary(AUTH, "UserDelete", &["auth/user/delete"], auth::user_delete),
        unary(AUTH, "UserChangePassword", &["auth/user/changepw"], auth::user_change_password),
        unary(AUTH, "UserGrantRole", &["auth/user/grant"], auth::user_grant_role),
        unary(AUTH, "UserRevokeRole", &["auth/user/revoke"], auth::user_revoke_role),
        unary(AUTH, "RoleAdd", &["auth/role/add"], auth::role_add),
        unary(AUTH, "RoleGet", &["auth/role/get"], auth::role_get),
        unary(AUTH, "RoleList", &["auth/role/list"], auth::role_list),
        unary(AUTH, "RoleDelete", &["auth/role/delete"], auth::role_delete),
        unary(AUTH, "RoleGrantPermission", &["auth/role/grant"], auth::role_grant_permission),
        unary(AUTH, "RoleRevokePermission", &["auth/role/revoke"], auth::role_revoke_permission),
        unary(HEALTH, "Check", &[], health::check),
        server_stream(HEALTH, "Watch", &[], health::watch),
    ]
}

/// All calls, to be found by their names.
pub(in crate::api) struct Methods {
    all: Vec<Known>,
    /// By service, then by name.
    by_name: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    by_path: BTreeMap<&'static str, usize>,
}

impl Methods {
    pub(in crate::api) fn new(metrics: &Metrics) -> Self {
        let mut by_name: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        let mut by_path = BTreeMap::new();
        let all = table().into_iter().enumerate().map(|(place, method)| {
            by_name.entry(method.service).or_default().insert(method.name, place);
            by_path.extend(method.paths.iter().map(|path| (*path, place)));
            let meter = metrics.calls(method.kind.name(), method.service, method.name);
            Known { place: Place(place), method, meter }
        });
        Self { all: all.collect(), by_name, by_path }
    }

    /// The call at this place.
    pub(super) fn get(&self, Place(place): Place) -> &Known {
        &self.all[place]
    }

    /// The call with this path over gRPC: `/service/method`.
    pub(super) fn called(&self, path: &str) -> Result<&Known, Status> {
        let unknown = |text: String| Err(Status::with(Code::Unimplemented, text));
        let Some((service, name)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') else {
            return unknown(format!("malformed method name: {path:?}"));
        };
        let Some(methods) = self.by_name.get(service) else {
            return unknown(format!("unknown service {service}"));
        };
        match methods.get(name) {
            Some(place) => Ok(&self.all[*place]),
            None => unknown(format!("unknown method {name} for service {service}")),
        }
    }

    /// The call with this path below `/v3/`.
    pub(super) fn at(&self, path: &str) -> Option<&Known> {
        self.by_path.get(path).map(|place| &self.all[*place])
    }
}

/// Counts a call from its beginning to its end; one whose client goes is cancelled.
pub(super) struct Ending {
    api: Arc<Context>,
    place: Place,
    begun: Instant,
    counted: bool,
}

impl Ending {
    /// A call begins.
    pub(super) fn begin(api: &Arc<Context>, known: &Known, headers: &HeaderMap) -> Self {
        let version = headers.get(CLIENT_VERSION).and_then(|version| version.to_str().ok());
        known.meter.started(version);
        Self { api: Arc::clone(api), place: known.place, begun: Instant::now(), counted: false }
    }

    pub(super) fn meter(&self) -> &CallMeter {
        &self.api.methods.get(self.place).meter
    }

    pub(super) fn ended(&mut self, code: Code) {
        if !self.counted {
            self.counted = true;
            self.meter().handled(code, self.begun.elapsed());
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.ended(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_a_name_and_a_path_of_its_own() {
        let methods = Methods::new(&Metrics::new(false));
        let names: usize = methods.by_name.values().map(BTreeMap::len).sum();
        assert_eq!(names, methods.all.len());
        let paths: usize = methods.all.iter().map(|known| known.method.paths.len()).sum();
        assert_eq!(paths, methods.by_path.len());
    }

    #[test]
    fn what_is_not_there_is_named_as_etcd_names_it() {
        let methods = Methods::new(&Metrics::new(false));
        let refused = |path| methods.called(path).map(|_| ()).unwrap_err();
        assert_eq!(refused("/foo.Bar/Baz").text, "unknown service foo.Bar");
        assert_eq!(
            refused("/etcdserverpb.Cluster/Nope").text,
            "unknown method Nope for service etcdserverpb.Cluster"
        );
        assert_eq!(refused("/foo").code, Code::Unimplemented);
        let found = methods.called("/etcdserverpb.Cluster/MemberList").unwrap();
        assert_eq!(found.method.name, "MemberList");
    }
}
