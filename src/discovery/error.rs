//! Why a member does not find the other founders. Each text begins as etcd's and ends with the fix.

use thiserror::Error;

use crate::model::MemberId;

/// Why a member does not find the other founders.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiscoveryError {
    /// The directory does not say how many members the cluster is to have.
    #[error(
        "discovery: size key not found: {url}/_config/size is not there; ask for a new directory with `curl \
         http://HOST:2379/new?size=3`, or put the number of founders under that key"
    )]
    SizeNotFound {
        /// The directory.
        url: String,
    },
    /// What it says is no such number.
    #[error(
        "discovery: size key is bad: {url}/_config/size holds {value:?}; put the number of founders there, from 1 to {most}"
    )]
    BadSize {
        /// The directory.
        url: String,
        /// What was found.
        value: String,
        /// The largest cluster that can be found.
        most: usize,
    },
    /// The directory is gone.
    #[error(
        "discovery: token not found: {url} has been removed; start all founders with a new directory as --discovery"
    )]
    TokenNotFound {
        /// The directory.
        url: String,
    },
    /// This member's place is taken by another one.
    #[error(
        "discovery: found duplicate id: {id} is registered in {url} as {found:?}, and this member is {own:?}; give each member \
         peer URLs of its own in --initial-advertise-peer-urls, or start all founders with a new directory as --discovery"
    )]
    DuplicateId {
        /// The directory.
        url: String,
        /// The id that both have.
        id: MemberId,
        /// What is registered.
        found: String,
        /// What this member would register.
        own: String,
    },
    /// Two founders have one name.
    #[error(
        "discovery: found duplicate name: {name:?} stands twice in {url}; give each member a --name of its own and start all \
         founders with a new directory as --discovery"
    )]
    DuplicateName {
        /// The directory.
        url: String,
        /// The name.
        name: String,
    },
    /// Two founders have one URL.
    #[error(
        "discovery cluster has duplicate url: {peer_url} stands twice in {url}; give each member peer URLs of its own in \
         --initial-advertise-peer-urls and start all founders with a new directory as --discovery"
    )]
    DuplicateUrl {
        /// The directory.
        url: String,
        /// The peer URL.
        peer_url: String,
    },
    /// All places are taken.
    #[error(
        "discovery: cluster is full: {size} other members registered in {url} before this one ({names}); let this member join \
         them at run time (POST /v2/members), or start it with a new directory as --discovery"
    )]
    Full {
        /// The directory.
        url: String,
        /// How many founders there are.
        size: usize,
        /// Who they are.
        names: String,
    },
    /// A founder registered what is no list of peer URLs.
    #[error(
        "discovery: invalid URL: {url}/{key} holds {value:?}, which is not name=http://HOST:PORT; remove that key, or start \
         all founders with a new directory as --discovery"
    )]
    InvalidUrl {
        /// The directory.
        url: String,
        /// The entry.
        key: String,
        /// What is there.
        value: String,
    },
    /// A founder computed its id from something else than this member.
    #[error(
        "discovery: {name:?} is registered in {url} as {found}, and its peer URLs and this --discovery make it {id}: write the \
         URL in exactly the same way on all members, it is part of the ids"
    )]
    ForeignId {
        /// The directory, as this member was told.
        url: String,
        /// The other founder.
        name: String,
        /// The id under which it registered.
        found: String,
        /// The id that it has for this member.
        id: MemberId,
    },
    /// A founder can only be reached in a way that members do not use with each other.
    #[error("not supported: {place} names {peer_url}: use http:// or https:// peer URLs")]
    NotSupported {
        /// Where it stands.
        place: String,
        /// The URL.
        peer_url: String,
    },
    /// Whatever answers is no directory of keys.
    #[error(
        "discovery: bad discovery endpoint: {url}: {why}; --discovery takes a directory of an etcd or cairn, for example \
         http://HOST:2379/v2/keys/discovery/TOKEN"
    )]
    BadEndpoint {
        /// What was asked.
        url: String,
        /// What came.
        why: String,
    },
    /// The service did not answer for so long that this member gave up.
    #[error(
        "discovery: too many retries: {tries} in a row failed, the last with: {last}; check the address in --discovery and the \
         network in between"
    )]
    TooManyRetries {
        /// How many.
        tries: u32,
        /// Why the last one failed.
        last: String,
    },
    /// The domain cannot be asked, or knows no members.
    #[error(
        "error setting up initial cluster: error querying DNS SRV records for {service}: {why}; check --discovery-srv, \
         --discovery-srv-name and the name server (--discovery-dns)"
    )]
    Dns {
        /// The service that was looked for.
        service: String,
        /// What went wrong.
        why: String,
    },
    /// This member is not among those that the domain names.
    #[error(
        "cannot find local etcd member {name:?} in SRV records: the records of {service} lead to {targets}, and \
         --initial-advertise-peer-urls is {advertised}; publish a record for this member, or advertise a URL that has one"
    )]
    NotInRecords {
        /// This member's name.
        name: String,
        /// The service.
        service: String,
        /// Where the records lead.
        targets: String,
        /// What this member advertises.
        advertised: String,
    },
    /// One of this member's URLs is not among those that the domain names.
    #[error(
        "--initial-advertise-peer-urls has {peer_url}, which no SRV record of {service} leads to: publish a record for it, or \
         leave it out"
    )]
    NoRecordFor {
        /// The URL.
        peer_url: String,
        /// The service.
        service: String,
    },
}
