//! The protocol of `--discovery`: register in a directory of keys, and wait until enough others have.
//!
//! ```text
//! GET  DIR/_config/size            how many founders
//! GET  DIR                         who is there; full without this member: the end
//! PUT  DIR/ID prevExist=false      name=url,name=url
//! GET  DIR                         enough? the first `size` by createdIndex found the cluster
//! GET  DIR?wait&waitIndex          something changes: the line above again
//! ```
//!
//! Every step can be done again, so a founder that was stopped half-way goes on where it was. The operator's text of the
//! directory's URL is the token of the cluster, as in etcd; members that spell it differently would have different ids for
//! each other, and that is noticed here.

use std::time::Duration;

use tracing::{info, warn};

use crate::discovery::directory::{Directory, Listing, Registered, Trouble};
use crate::discovery::entries::{self, Entry};
use crate::discovery::{DiscoveryError, Founders, HttpClient, Own};
use crate::model::{MemberId, codes};

/// More voters than a cluster should have; a number beyond it was not meant as one.
const SIZE_MAX: usize = 64;

/// How patiently a service is asked that does not answer.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Before the second try; before each further one twice as long as before the last.
    pub first_pause: Duration,
    /// After so many doublings the pause stays as it is.
    pub doublings_max: u32,
    /// So many tries in a row may fail.
    pub tries_max: u32,
}

impl Default for RetryPolicy {
    /// 1, 2, 4 ... 256 s, and no end: an operator who starts a member wants it to run.
    fn default() -> Self {
        Self { first_pause: Duration::from_secs(1), doublings_max: 8, tries_max: u32::MAX }
    }
}

pub(super) async fn found(
    url: &str,
    client: HttpClient,
    own: &Own<'_>,
    patience: RetryPolicy,
) -> Result<Founders, DiscoveryError> {
    let directory = Directory::new(url, client);
    let founder = Founder {
        url,
        id: (own.id_of)(own.peer_urls, url),
        value: entries::written(own),
        id_of: own.id_of,
        patience,
    };
    founder.run(&directory).await
}

/// The peer URLs of those who have registered and are among the founders; nothing is registered.
pub(super) async fn peers(
    url: &str,
    client: HttpClient,
    patience: RetryPolicy,
) -> Result<Vec<String>, DiscoveryError> {
    let directory = Directory::new(url, client);
    let size = steadily(url, patience, async || directory.size().await).await?;
    let size = parse_size(url, &size)?;
    let listing = steadily(url, patience, async || directory.list().await).await?;
    let founders =
        listing.entries.iter().take(size).filter_map(|entry| entries::read(&entry.value));
    Ok(founders.flat_map(|(_, urls)| urls).collect())
}

/// This member, on its way into the directory.
struct Founder<'a> {
    url: &'a str,
    id: MemberId,
    value: String,
    id_of: fn(&[String], &str) -> MemberId,
    patience: RetryPolicy,
}

impl Founder<'_> {
    async fn run(&self, directory: &Directory) -> Result<Founders, DiscoveryError> {
        let size = steadily(self.url, self.patience, async || directory.size().await).await?;
        let size = parse_size(self.url, &size)?;
        let (mut registered_before, mut seen, mut moment) = (None, 0, None);
        loop {
            let Listing { mut entries, index } =
                steadily(self.url, self.patience, async || directory.list().await).await?;
            // Something between here and there ends long polls for nothing: then it is asked like any other page.
            if moment.replace(index) == Some(index) {
                tokio::time::sleep(self.patience.first_pause).await;
            }
            let registered = self.is_registered(&entries)?;
            // A member that comes when all places are taken leaves no trace.
            self.check_place(&entries, size)?;
            if registered {
                registered_before.get_or_insert(true);
                entries.truncate(size);
                self.log_progress(&entries, seen, size);
                seen = entries.len();
            } else {
                let register = async || directory.register(self.id, &self.value).await;
                let outcome = steadily(self.url, self.patience, register).await?;
                // A lost answer looks like a registration from before; then that is what it is taken for.
                registered_before.get_or_insert(outcome == Registered::Before);
            }
            if let Some(registered_before) = registered_before.filter(|_| seen == size) {
                let members = entries::cluster(self.url, &entries, self.id_of)?;
                return Ok(Founders { members, registered_before });
            }
            steadily(self.url, self.patience, async || directory.changed(index).await).await?;
        }
    }

    /// Tools wait for etcd's words.
    fn log_progress(&self, entries: &[Entry], seen: usize, size: usize) {
        for entry in entries.iter().skip(seen) {
            let who = if self.is_own(entry) { "self" } else { "peer" };
            info!(target: "discovery", "found {who} {} in the cluster", entry.key);
        }
        match size - entries.len() {
            0 => info!(target: "discovery", "found {size} needed peer(s)"),
            more => info!(
                target: "discovery",
                "found {} peer(s), waiting for {more} more in {}", entries.len(), self.url
            ),
        }
    }

    fn is_own(&self, entry: &Entry) -> bool {
        MemberId::parse(&entry.key) == Some(self.id)
    }

    /// Is this member there? Another one in its place is an error.
    fn is_registered(&self, entries: &[Entry]) -> Result<bool, DiscoveryError> {
        let Some(entry) = entries.iter().find(|entry| self.is_own(entry)) else { return Ok(false) };
        if entries::read(&entry.value) == entries::read(&self.value) {
            return Ok(true);
        }
        Err(DiscoveryError::DuplicateId {
            url: self.url.to_owned(),
            id: self.id,
            found: entry.value.clone(),
            own: self.value.clone(),
        })
    }

    /// Is this member among the first, or may it still become one of them?
    fn check_place(&self, entries: &[Entry], size: usize) -> Result<(), DiscoveryError> {
        let first = entries.iter().take(size);
        if first.len() < size || first.clone().any(|entry| self.is_own(entry)) {
            return Ok(());
        }
        let name = |entry: &Entry| match entries::read(&entry.value) {
            Some((name, _)) => name,
            None => entry.key.clone(),
        };
        let names = first.map(name).collect::<Vec<_>>().join(", ");
        Err(DiscoveryError::Full { url: self.url.to_owned(), size, names })
    }
}

fn parse_size(url: &str, text: &str) -> Result<usize, DiscoveryError> {
    let size = text.trim().parse().ok().filter(|size| (1..=SIZE_MAX).contains(size));
    size.ok_or_else(|| DiscoveryError::BadSize {
        url: url.to_owned(),
        value: text.to_owned(),
        most: SIZE_MAX,
    })
}

/// Tries until it goes well or cannot. Others are waited for as long as they need to come back.
async fn steadily<T>(
    url: &str,
    patience: RetryPolicy,
    mut attempt: impl AsyncFnMut() -> Result<T, Trouble>,
) -> Result<T, DiscoveryError> {
    let RetryPolicy { first_pause, doublings_max, tries_max } = patience;
    let mut tries = 0;
    loop {
        let last = match attempt().await {
            Ok(done) => return Ok(done),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Passing(why)) => why,
        };
        let pause = first_pause * 2u32.pow(doublings_max.min(tries));
        tries += 1;
        if tries >= tries_max {
            return Err(DiscoveryError::TooManyRetries { tries, last });
        }
        warn!(target: "discovery", code = codes::DISCOVERY_RETRY, "{last}; retrying in {pause:?} (--discovery={url})");
        tokio::time::sleep(pause).await;
    }
}
