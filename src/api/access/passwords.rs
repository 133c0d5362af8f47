//! Passwords: compared with their hashes once, and known from then on.
//!
//! Comparing takes a processor for fifty milliseconds on purpose, so it is done away from the threads that serve, by no more
//! processors than there are, and a bounded number waits for that. What was right is remembered as a keyed hash of the whole
//! header, bound to the password as the applied state has it: a change of the password, made at whatever member, counts when it is
//! applied here. What was wrong is not remembered, only slowed.
//!
//! Holds: no password is kept; the key is made anew with each start and never leaves the process. The look-up compares hashes that
//! no client can know or choose, so the time it takes tells nothing of a password.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::api::access::basic::{self, Claim};
use crate::api::access::failures::{Failures, Who};
use crate::base::lock;
use crate::model::{Unavailable, codes};
use crate::store::{Auth, AuthRevision, Identity, PasswordHash};

/// As in etcd, whose users may be moved here.
const COST: u32 = 10;

/// What wrong names are compared with, at the same cost: a hash of random bytes that are kept nowhere.
const OF_NO_USER: &str = "$2a$10$.Rjjax//OrzdL1ISNRu.wuzkXnpmPY7fiih7fXu1S/IKMfZzjOEF2";

/// Headers that are remembered. One that is forgotten is compared again.
const KNOWN_MAX: usize = 4096;

/// Passwords that wait to be compared or hashed: with two processors about three seconds of work.
const WAITING_MAX: usize = 64;

/// Different attempts under way, those included that wait because a wrong password came before.
const ATTEMPTS_MAX: usize = 1024;

type Digest = [u8; 32];

/// Comes when the password is compared: who it is, if it is right.
type Outcome = Option<Result<Option<Arc<Identity>>, Unavailable>>;

/// All that a member does with passwords.
pub(in crate::api) struct Passwords {
    key: [u8; 32],
    known: ArcSwap<OrdMap<Digest, Arc<Identity>>>,
    attempts: Mutex<BTreeMap<(Digest, AuthRevision), watch::Receiver<Outcome>>>,
    failures: Failures,
    waiting: Arc<Semaphore>,
    processors: Arc<Semaphore>,
}

/// A password that is to be compared.
struct Attempt {
    digest: Digest,
    claim: Claim,
    /// The hash to compare with, and which password of the user it is of; none for an unknown user.
    stored: Option<(PasswordHash, AuthRevision)>,
    who: Who,
}

impl Passwords {
    /// Nothing is known yet.
    pub(in crate::api) fn new() -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            key: random_key(),
            known: ArcSwap::default(),
            attempts: Mutex::default(),
            failures: Failures::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX + processors)),
            processors: Arc::new(Semaphore::new(processors)),
        })
    }

    /// Who sends this header, if that is known and still true.
    pub(super) fn known(&self, auth: &Auth, header: &[u8]) -> Option<Arc<Identity>> {
        let identity = self.known.load().get(&self.digest(header)).map(Arc::clone)?;
        let user = auth.user(&identity.name)?;
        (identity.password == Some(user.password_set)).then_some(identity)
    }

    /// Begins to find out who sends this header; `None` when it cannot be read. All who send the same one wait for the same
    /// comparison. That goes on when they hang up.
    pub(super) fn check(
        self: &Arc<Self>,
        auth: &Auth,
        header: &[u8],
        address: Option<IpAddr>,
    ) -> Option<impl Future<Output = Result<Option<Arc<Identity>>, Unavailable>> + use<>> {
        let claim = basic::read(header)?;
        let user = auth.user(&claim.user);
        let stored = user.map(|user| (user.password.clone(), user.password_set));
        let digest = self.digest(header);
        let who = (self.digest(claim.user.as_bytes()), address);
        let begun = self.begin(Attempt { digest, claim, stored, who });
        Some(async move {
            let mut outcome = begun?;
            let outcome = outcome.wait_for(Option::is_some).await;
            // The sender is gone without a word only when the runtime ends.
            outcome.map_or(Err(Unavailable::Stopped), |outcome| {
                outcome.clone().unwrap_or(Err(Unavailable::Stopped))
            })
        })
    }

    fn begin(self: &Arc<Self>, attempt: Attempt) -> Result<watch::Receiver<Outcome>, Unavailable> {
        let revision = attempt.stored.as_ref().map(|(_, revision)| *revision).unwrap_or_default();
        let place = (attempt.digest, revision);
        let mut attempts = lock(&self.attempts);
        if let Some(outcome) = attempts.get(&place) {
            return Ok(outcome.clone());
        }
        if attempts.len() >= ATTEMPTS_MAX {
            return Err(Unavailable::TooManyPasswords);
        }
        let (outcome_tx, outcome) = watch::channel(None);
        attempts.insert(place, outcome.clone());
        drop(attempts);
        let passwords = Arc::clone(self);
        tokio::spawn(async move {
            let result = passwords.compare(attempt).await;
            lock(&passwords.attempts).remove(&place);
            // Those who asked may have hung up.
            let _ = outcome_tx.send(Some(result));
        });
        Ok(outcome)
    }

    async fn compare(&self, attempt: Attempt) -> Result<Option<Arc<Identity>>, Unavailable> {
        let Attempt { digest, claim, stored, who } = attempt;
        let Some(turn) = self.failures.turn(&who, Instant::now()) else {
            return Err(Unavailable::TooManyPasswords);
        };
        tokio::time::sleep_until(turn).await;
        let hash = match &stored {
            Some((hash, _)) => hash.clone(),
            None => PasswordHash::new(OF_NO_USER),
        };
        let Claim { user, password } = claim;
        let is_right = move || bcrypt::verify(password, hash.as_str()).unwrap_or(false);
        let is_right = self.work(is_right).await?;
        let exists = stored.is_some();
        let Some((_, revision)) = stored.filter(|_| is_right) else {
            // Not of unknown names: some of them are passwords in the wrong field.
            if exists {
                warn!(target: "auth", code = codes::WRONG_PASSWORD, "wrong password for user {user}");
            }
            self.failures.failed(who, Instant::now());
            return Ok(None);
        };
        self.failures.forget(&who);
        let identity = Arc::new(Identity { name: user.into(), password: Some(revision) });
        self.remember(digest, &identity);
        Ok(Some(identity))
    }

    fn remember(&self, digest: Digest, identity: &Arc<Identity>) {
        self.known.rcu(|known| {
            let mut known = OrdMap::clone(known);
            // Hashes are random, so the smallest one is any of them.
            while known.len() >= KNOWN_MAX {
                known = known.without_min().1;
            }
            known.update(digest, Arc::clone(identity))
        });
    }

    /// Is this the password whose hash is kept; of nobody, if there is none? A wrong one has the next one of that name wait.
    pub(in crate::api) async fn verify(
        &self,
        user: &str,
        password: String,
        stored: Option<PasswordHash>,
    ) -> Result<bool, Unavailable> {
        let who = (self.digest(user.as_bytes()), None);
        let turn = self.failures.turn(&who, Instant::now());
        tokio::time::sleep_until(turn.ok_or(Unavailable::TooManyPasswords)?).await;
        let exists = stored.is_some();
        let hash = stored.unwrap_or_else(|| PasswordHash::new(OF_NO_USER));
        let compared = move || bcrypt::verify(password, hash.as_str()).unwrap_or(false);
        let is_right = self.work(compared).await? && exists;
        if is_right {
            self.failures.forget(&who);
        } else {
            self.failures.failed(who, Instant::now());
        }
        Ok(is_right)
    }

    /// A new hash of a password.
    pub(in crate::api) async fn hash(&self, password: String) -> Result<PasswordHash, Unavailable> {
        self.hash_at(COST, password).await
    }

    /// The same with another cost, as bcrypt counts it.
    pub(in crate::api) async fn hash_at(
        &self,
        cost: u32,
        password: String,
    ) -> Result<PasswordHash, Unavailable> {
        let hash = move || {
            let hashed = bcrypt::hash_with_result(password, cost);
            hashed.map(|parts| PasswordHash::new(&parts.format_for_version(bcrypt::Version::TwoA)))
        };
        // It fails only when the system has no random numbers.
        self.work(hash).await?.map_err(|_| Unavailable::Stopped)
    }

    /// Does what takes a processor for long.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let waiting = waiting.map_err(|_| Unavailable::TooManyPasswords)?;
        let processor = Arc::clone(&self.processors).acquire_owned().await;
        let processor = processor.map_err(|_| Unavailable::Stopped)?;
        let work = tokio::task::spawn_blocking(move || {
            let _held = (waiting, processor);
            work()
        });
        // It ends early only with the runtime.
        work.await.map_err(|_| Unavailable::Stopped)
    }

    fn digest(&self, text: &[u8]) -> Digest {
        Sha256::new().chain_update(self.key).chain_update(text).finalize().into()
    }
}

fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    let filled = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty());
    assert_eq!(
        filled,
        Ok(key.len()),
        "Linux gives so few bytes at once, or waits for them at boot"
    );
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogTime;
    use crate::store::{AuthCommand, Command, HistoryLimits, Store};
    use base64::Engine as _;

    fn header(user: &str, password: &str) -> Vec<u8> {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        format!("Basic {encoded}").into_bytes()
    }

    /// A state with a user `u`, made by the same steps as on a member.
    fn auth(store: &mut Store, password: &str) {
        let hash = bcrypt::hash_with_result(password, COST_OF_TESTS).unwrap();
        let password = Some(PasswordHash::new(&hash.format_for_version(bcrypt::Version::TwoA)));
        let command = AuthCommand::PutUser { name: "u".into(), password, roles: None };
        store.apply(LogTime(1), &Command::Auth(command));
    }

    const COST_OF_TESTS: u32 = 4;

    fn store() -> Store {
        Store::new(HistoryLimits { events_max: 10, bytes_max: 1000 })
    }

    async fn check(
        passwords: &Arc<Passwords>,
        store: &Store,
        header: &[u8],
    ) -> Result<Option<Arc<Identity>>, Unavailable> {
        passwords.check(store.auth(), header, None).expect("it can be read").await
    }

    #[test]
    fn a_name_that_is_no_user_is_compared_at_the_same_cost() {
        assert!(matches!(bcrypt::verify("x", OF_NO_USER), Ok(false)));
        assert_eq!(OF_NO_USER.parse::<bcrypt::HashParts>().unwrap().get_cost(), COST);
    }

    #[tokio::test]
    async fn a_hash_is_one_of_etcd() {
        let hash = Passwords::new().hash("p".to_owned()).await.unwrap();
        assert!(hash.as_str().starts_with("$2a$10$"), "{}", hash.as_str());
        assert_eq!(bcrypt::verify("p", hash.as_str()).ok(), Some(true));
        let of_etcd = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        assert!(bcrypt::verify("x", of_etcd).is_ok(), "it can be read");
    }

    #[tokio::test]
    async fn only_the_first_seventy_two_bytes_count_as_in_etcd() {
        let long = "x".repeat(72);
        let hash = bcrypt::hash_with_result(format!("{long}y"), COST_OF_TESTS).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoA);
        assert_eq!(bcrypt::verify(format!("{long}z"), &hash).ok(), Some(true));
    }

    #[tokio::test]
    async fn what_was_right_is_known_until_the_password_changes() {
        let (passwords, mut store) = (Passwords::new(), store());
        auth(&mut store, "p");
        let right = header("u", "p");
        assert!(passwords.known(store.auth(), &right).is_none());
        let identity = check(&passwords, &store, &right).await.unwrap().unwrap();
        assert_eq!(passwords.known(store.auth(), &right), Some(identity));
        assert!(passwords.known(store.auth(), &header("u", "q")).is_none());
        auth(&mut store, "p");
        assert!(passwords.known(store.auth(), &right).is_none(), "the same again is another one");
        check(&passwords, &store, &right).await.unwrap().expect("it is right");
        auth(&mut store, "q");
        assert!(passwords.known(store.auth(), &right).is_none());
        assert_eq!(check(&passwords, &store, &right).await, Ok(None));
        let command = AuthCommand::DeleteUser { name: "u".into() };
        store.apply(LogTime(1), &Command::Auth(command));
        assert!(passwords.known(store.auth(), &header("u", "q")).is_none());
    }

    #[tokio::test]
    async fn what_was_wrong_is_compared_again() {
        let (passwords, mut store) = (Passwords::new(), store());
        auth(&mut store, "p");
        for _ in 0..2 {
            assert_eq!(check(&passwords, &store, &header("u", "q")).await, Ok(None));
            assert_eq!(check(&passwords, &store, &header("nobody", "q")).await, Ok(None));
        }
        assert_eq!(passwords.known.load().len(), 0);
        assert!(lock(&passwords.attempts).is_empty());
    }

    /// A thousand connections of one client come back at once after a restart.
    #[tokio::test]
    async fn those_who_say_the_same_wait_for_one_comparison() {
        let (passwords, mut store) = (Passwords::new(), store());
        auth(&mut store, "p");
        let right = header("u", "p");
        let checks: Vec<_> = (0..1000).map(|_| check(&passwords, &store, &right)).collect();
        let outcomes = futures_util::future::join_all(checks).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Some(_)))));
        assert!(Arc::ptr_eq(
            outcomes[0].as_ref().unwrap().as_ref().unwrap(),
            outcomes[999].as_ref().unwrap().as_ref().unwrap()
        ));
    }

    #[tokio::test]
    async fn so_many_passwords_wait_and_the_others_are_told() {
        let passwords = Passwords::new();
        let store = store();
        let users: Vec<_> = (0..ATTEMPTS_MAX + 1).map(|n| header(&format!("u{n}"), "p")).collect();
        let checks = users.iter().map(|header| check(&passwords, &store, header));
        let outcomes = futures_util::future::join_all(checks).await;
        let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        let processors = passwords.processors.available_permits();
        assert!(refused >= ATTEMPTS_MAX + 1 - WAITING_MAX - 2 * processors - 64, "{refused}");
        assert!(outcomes.contains(&Err(Unavailable::TooManyPasswords)));
        assert_eq!(passwords.waiting.available_permits(), WAITING_MAX + processors);
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let passwords = Passwords::new();
        for n in 0..KNOWN_MAX + 10 {
            let identity = Identity { name: "u".into(), password: Some(AuthRevision(1)) };
            let digest = passwords.digest(&n.to_le_bytes());
            passwords.remember(digest, &Arc::new(identity));
        }
        assert_eq!(passwords.known.load().len(), KNOWN_MAX);
    }
}
