//! `check`: load on a cluster, and whether it bears it.
//!
//! Owns: how much, and what is enough. Never knows: how load is made for measurements; `cairn bench` does that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, interval, sleep_until};

use crate::base::{SplitMix, system_random};
use crate::client::{Client, Terms};
use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::v3::commands::{Job, keys};
use crate::ctl::v3::{code, error, words};
use crate::discovery::HttpClient;
use crate::rpc::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};

/// How much one size of the first check is.
struct Load {
    writes_a_second: u32,
    clients: usize,
}

/// Of the second.
struct Scale {
    keys: u64,
    value_bytes: usize,
    clients: usize,
}

const SECONDS: u64 = 60;
/// What a request may take at most, and how far apart they may be.
const SLOWEST_MAX: f64 = 0.5;
const DEVIATION_MAX: f64 = 0.1;
/// Of the writes that were asked for.
const ENOUGH: f64 = 0.9;
const VALUE_BYTES: usize = 1024;
const KEY_BYTES: usize = 256;

fn unknown(load: &str) -> Failure {
    error(code::BAD_FEATURE, format!("unknown load option {load}"))
}

fn load(name: &str) -> Result<Load, Failure> {
    let (writes_a_second, clients) = match name {
        "s" | "small" => (150, 50),
        "m" | "medium" => (1000, 200),
        "l" | "large" => (8000, 500),
        "xl" | "xLarge" => (15_000, 1000),
        other => return Err(unknown(other)),
    };
    Ok(Load { writes_a_second, clients })
}

fn scale(name: &str) -> Result<Scale, Failure> {
    let (keys, clients) = match name {
        "s" | "small" => (10_000, 50),
        "m" | "medium" => (100_000, 200),
        "l" | "large" => (1_000_000, 500),
        "xl" | "xLarge" => (3_000_000, 1000),
        other => return Err(unknown(other)),
    };
    Ok(Scale { keys, value_bytes: VALUE_BYTES, clients })
}

/// Keys in the way of the check must be somebody's.
async fn refuse_keys(job: &Job<'_>, client: &Client, prefix: &str) -> Result<(), Failure> {
    let (key, range_end) = keys::prefix(prefix);
    let request = RangeRequest { key, range_end, limit: 1, ..RangeRequest::default() };
    match job.ask(client, &request).await?.kvs.is_empty() {
        true => Ok(()),
        false => Err(error(
            code::INVALID_INPUT,
            format!("prefix {prefix:?} has keys. Delete with etcdctl del --prefix {prefix} first"),
        )),
    }
}

/// Takes the keys away, and what else was asked for.
async fn clear(job: &Job<'_>, client: &Client, prefix: &str) -> Result<(), Failure> {
    let (key, range_end) = keys::prefix(prefix);
    let request = DeleteRangeRequest { key, range_end, prev_kv: false };
    let terms = Terms::within(job.settings.command_timeout().max(Duration::from_secs(60)));
    let deleted = client.ask(&request, terms).await;
    let deleted = deleted.map_err(|status| error(code::ERROR, words(&status)))?;
    if job.said.is_on("auto-compact") {
        let revision = deleted.header.as_ref().map_or(0, |header| header.revision);
        print::out(&format!("Compacting with revision {revision}\n"))?;
        job.ask(client, &CompactionRequest { revision, physical: true }).await?;
        print::out(&format!("Compacted with revision {revision}\n"))?;
    }
    if job.said.is_on("auto-defrag") {
        for endpoint in client.endpoints().to_vec() {
            let name = endpoint.written.clone();
            print::out(&format!("Defragmenting {name:?}\n"))?;
            job.ask(&client.only(endpoint), &DefragmentRequest {}).await?;
            print::out(&format!("Defragmented {name:?}\n"))?;
        }
    }
    Ok(())
}

/// How far it is, on one line that is written over.
fn progress(done: u64, all: u64) -> Result<(), Failure> {
    let hundredths = done * 10_000 / all.max(1);
    print::out(&format!("\r {done} / {all} {:>4}.{:02}%", hundredths / 100, hundredths % 100))
}

/// What one write took, or why it failed.
type Taken = Result<Duration, String>;

async fn write(client: &Client, put: PutRequest, terms: Terms) -> Taken {
    let begun = Instant::now();
    let asked = client.ask(&put, terms).await;
    asked.map(|_| begun.elapsed()).map_err(|status| words(&status))
}

fn random_key(prefix: &str, bytes: usize, numbers: &mut SplitMix) -> Bytes {
    let mut key = prefix.as_bytes().to_vec();
    while key.len() < prefix.len() + bytes {
        key.extend_from_slice(&numbers.next().to_le_bytes());
    }
    key.truncate(prefix.len() + bytes);
    key.into()
}

/// `check perf`
pub(super) async fn perf(job: &Job<'_>) -> Result<(), Failure> {
    let load = load(job.said.text("load").unwrap_or("s"))?;
    let prefix = job.said.text("prefix").unwrap_or("/etcdctl-check-perf/").to_owned();
    let (client, _) = job.client().await?;
    refuse_keys(job, &client, &prefix).await?;
    let mut clients = vec![client];
    for _ in 1..load.clients {
        clients.push(job.settings.client().await?);
    }
    let begun = Instant::now();
    let end = begun + Duration::from_secs(SECONDS);
    let turn = AtomicU64::new(0);
    let mut taken: Vec<Taken> = Vec::new();
    let work = async {
        let line = clients.iter().map(|client| {
            let (turn, prefix) = (&turn, &prefix);
            async move {
                let (mut numbers, mut all) = (SplitMix::new(system_random()), Vec::new());
                let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
                loop {
                    // Writes are spread evenly; who is free takes the next one.
                    let place = turn.fetch_add(1, Ordering::Relaxed);
                    let micros = place * 1_000_000 / u64::from(load.writes_a_second);
                    let at = begun + Duration::from_micros(micros);
                    if at >= end || Instant::now() >= end {
                        return all;
                    }
                    sleep_until(at).await;
                    let key = random_key(prefix, KEY_BYTES, &mut numbers);
                    let put = PutRequest { key, value: value.clone(), ..PutRequest::default() };
                    all.push(write(client, put, job.terms()).await);
                }
            }
        });
        line.collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await
    };
    let show = async {
        let mut ticks = interval(Duration::from_secs(1));
        let mut done = 0;
        while done < SECONDS {
            ticks.tick().await;
            done = begun.elapsed().as_secs().min(SECONDS);
            progress(done, SECONDS)?;
        }
        Ok::<_, Failure>(())
    };
    let (written, shown) = tokio::join!(work, show);
    shown?;
    let seconds = begun.elapsed().as_secs_f64();
    progress(SECONDS, SECONDS)?;
    print::out(&format!(" {}m{}s\n", SECONDS / 60, SECONDS % 60))?;
    written.into_iter().for_each(|all| taken.extend(all));
    clear(job, &clients[0], &prefix).await?;
    judge(&load, &taken, seconds)
}

/// Says whether it was enough.
fn judge(load: &Load, taken: &[Taken], seconds: f64) -> Result<(), Failure> {
    let mut well = true;
    let mut line = |good: bool, pass: String, fail: String| {
        well &= good;
        print::out(&if good { format!("PASS: {pass}\n") } else { format!("FAIL: {fail}\n") })
    };
    let times: Vec<f64> = taken.iter().flatten().map(Duration::as_secs_f64).collect();
    let failed: Vec<&String> = taken.iter().filter_map(|taken| taken.as_ref().err()).collect();
    if let Some(why) = failed.first() {
        line(false, String::new(), format!("too many errors: {} of {why:?}", failed.len()))?;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a minute has no more writes than a float counts"
    )]
    let count = times.len() as f64;
    let rate = count / seconds;
    let wanted = f64::from(load.writes_a_second);
    let enough = rate / wanted > ENOUGH;
    let rounded = rate.round();
    line(
        enough,
        format!("Throughput is {rounded:.0} writes/s"),
        format!("Throughput too low: {rounded:.0} writes/s"),
    )?;
    let slowest = times.iter().copied().fold(0.0, f64::max);
    line(
        slowest <= SLOWEST_MAX,
        format!("Slowest request took {slowest:.6}s"),
        format!("Slowest request took too long: {slowest:.6}s"),
    )?;
    let average = times.iter().sum::<f64>() / count.max(1.0);
    let squares = times.iter().map(|time| (time - average).powi(2)).sum::<f64>();
    let deviation = (squares / count.max(1.0)).sqrt();
    line(
        deviation <= DEVIATION_MAX,
        format!("Stddev is {deviation:.6}s"),
        format!("Stddev too high: {deviation:.6}s"),
    )?;
    print::out(if well { "PASS\n" } else { "FAIL\n" })?;
    if well { Ok(()) } else { Err(Failure::code(code::ERROR)) }
}

/// The memory that a member says it takes.
async fn resident(client: &Client) -> Option<f64> {
    let endpoint = client.endpoints().first()?;
    let mut http = HttpClient::new();
    if let Some(tls) = client.tls() {
        http = http.with_tls(tls);
    }
    let answer = http.get(&endpoint.url("/metrics")).await.ok()?;
    let page = String::from_utf8_lossy(&answer.body);
    let line = page.lines().find(|line| line.starts_with("process_resident_memory_bytes "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// `check datascale`
pub(super) async fn data_scale(job: &Job<'_>) -> Result<(), Failure> {
    let scale = scale(job.said.text("load").unwrap_or("s"))?;
    let prefix = job.said.text("prefix").unwrap_or("/etcdctl-check-datascale/").to_owned();
    let (client, _) = job.client().await?;
    // The first endpoint alone, as its memory is looked at.
    let first = client.endpoints()[0].clone();
    let client = client.only(first);
    refuse_keys(job, &client, &prefix).await?;
    let before = resident(&client).await.ok_or_else(no_memory)?;
    print::out(&format!(
        "Start data scale check for work load [{} key-value pairs, {} bytes per key-value, {} concurrent clients].\n",
        scale.keys, scale.value_bytes, scale.clients
    ))?;
    let turn = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let work = (0..scale.clients).map(|_| {
        let (turn, done, prefix, client) = (&turn, &done, &prefix, &client);
        async move {
            let mut numbers = SplitMix::new(system_random());
            let value = Bytes::from(vec![b'v'; scale.value_bytes]);
            while turn.fetch_add(1, Ordering::Relaxed) < scale.keys {
                let key = random_key(prefix, KEY_BYTES, &mut numbers);
                let put = PutRequest { key, value: value.clone(), ..PutRequest::default() };
                write(client, put, job.terms()).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        }
    });
    let begun = Instant::now();
    let mut work = work.collect::<FuturesUnordered<_>>();
    let mut ticks = interval(Duration::from_millis(200));
    let mut failed = None;
    loop {
        tokio::select! {
            ended = work.next() => match ended {
                Some(Ok(())) => {}
                Some(Err(why)) => failed = Some(why),
                None => break,
            },
            _ = ticks.tick() => progress(done.load(Ordering::Relaxed), scale.keys)?,
        }
    }
    progress(done.load(Ordering::Relaxed), scale.keys)?;
    print::out(&format!(" {}s\n", begun.elapsed().as_secs()))?;
    let after = resident(&client).await.ok_or_else(no_memory)?;
    clear(job, &client, &prefix).await?;
    if let Some(why) = failed {
        print::out(&format!("FAIL: too many errors: {why}\n"))?;
        return Err(Failure::code(code::ERROR));
    }
    let used = (after - before) / f64::from(1 << 20);
    print::out(&format!("PASS: Approximate system memory used : {used:.2} MB.\n"))
}

fn no_memory() -> Failure {
    error(code::BAD_CONNECTION, "the endpoint does not say how much memory it takes (/metrics)")
}
