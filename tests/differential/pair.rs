//! Two servers that are asked the same, and what their answers may differ in on purpose.

use std::{io, thread};

use crate::difference::{
    asks_sorted, difference, in_order, indexes, without_words, without_words_of,
};
use crate::event_log::EventLog;
use crate::program::Watch;
use crate::support::http::{Client, Progress, Reply, Request, is_cut};
use crate::support::json::Json;
use crate::support::server::{Flavor, Server, subject_is_etcd};

/// The highest ttl that fits etcd's clock of nanoseconds.
pub(crate) const TTL_MAX: u64 = 9_223_372_036;
/// Longer request lines make etcd drop the connection.
const ETCD_LINE_MAX: usize = 4096;
/// Longer forms are refused.
pub(crate) const FORM_MAX: usize = 10 << 20;

/// A server and a connection to it.
pub(crate) struct Side {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

impl Side {
    pub(crate) fn start(flavor: Flavor) -> Self {
        let server = Server::start(flavor);
        let client = Client::new(server.addr());
        Self { server, client }
    }

    /// An answer in words that do not depend on the ports of this server.
    pub(crate) fn neutral(&self, text: &str) -> String {
        text.replace(&self.server.addr().to_string(), "CLIENT")
            .replace(&self.server.peer_addr().to_string(), "PEER")
    }
}

/// etcd, and the program under test.
pub(crate) struct Pair {
    pub(crate) etcd: Side,
    pub(crate) subject: Side,
    pub(crate) events: EventLog,
}

impl Pair {
    pub(crate) fn start(subject: Flavor) -> Self {
        let (etcd, subject) = thread::scope(|scope| {
            let etcd = scope.spawn(|| Side::start(Flavor::Etcd));
            let subject = Side::start(subject);
            (etcd.join().expect("etcd starts"), subject)
        });
        Self { etcd, subject, events: EventLog::default() }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> (io::Result<Reply>, io::Result<Reply>) {
        (self.etcd.client.ask(request), self.subject.client.ask(request))
    }

    /// Compares two answers to one request.
    pub(crate) fn compare(
        &self,
        request: &Request,
        theirs: &io::Result<Reply>,
        ours: &io::Result<Reply>,
    ) -> Result<Option<&'static str>, String> {
        let difference = match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => {
                let neutral = |side: &Side, reply: &Reply| Reply {
                    head: reply.head.clone(),
                    body: side.neutral(&reply.text()).into_bytes(),
                };
                let (theirs, ours) = (neutral(&self.etcd, theirs), neutral(&self.subject, ours));
                if !subject_is_etcd() {
                    in_order(request, &ours)?;
                }
                difference(&theirs, &ours, asks_sorted(request))
            }
            (Err(a), Err(b)) if is_cut(a) && is_cut(b) => None,
            (Err(a), Err(b)) => Some(format!("no answer: etcd {a}, we {b}")),
            (Ok(_), Err(e)) => Some(format!("etcd answers, we do not: {e}")),
            (Err(e), Ok(reply)) => {
                Some(format!("etcd does not answer ({e}), we {}", reply.status()))
            }
        };
        let Some(difference) = difference else { return Ok(None) };
        let Some(ours) = ours.as_ref().ok().filter(|_| !subject_is_etcd()) else {
            return Err(difference);
        };
        // Ports differ between the servers, but only in answers that no improvement is about.
        let theirs = theirs.as_ref().ok();
        expected_difference(request, theirs, ours).map(Some).ok_or(difference)
    }

    /// Compares what two open requests have got so far; `None` when they agree.
    pub(crate) fn compare_events(
        &self,
        watch: &Watch,
        theirs: &Progress,
        ours: &Progress,
    ) -> Result<Option<&'static str>, String> {
        let (Some(their_reply), Some(our_reply)) = (theirs.reply(), ours.reply()) else {
            return Err(format!("no headers: etcd {:?}, we {:?}", theirs.error, ours.error));
        };
        let found = difference(&their_reply, &our_reply, true).or_else(|| {
            (theirs.ended != ours.ended)
                .then(|| format!("etcd ended: {}, we: {}", theirs.ended, ours.ended))
        });
        match found {
            Some(found) => self.expected_events(watch, theirs, ours).map(Some).ok_or(found),
            None => self.told_all(watch, theirs).map(|()| None),
        }
    }

    /// Whether a live watch at etcd has told of all that was written; else both are merely late.
    pub(crate) fn told_all(&self, watch: &Watch, theirs: &Progress) -> Result<(), String> {
        let status = theirs.head.as_ref().map_or(0, |head| head.status);
        if watch.past || status != 200 {
            return Ok(());
        }
        let (mut due, mut told) = (self.events.due(watch), indexes(theirs).unwrap_or_default());
        told.dedup();
        due.truncate(if watch.stream { usize::MAX } else { 1 });
        match due == told {
            true => Ok(()),
            false => Err(format!("both sides told of {told:?}, the writes say {due:?}")),
        }
    }

    /// The improvement on purpose that explains different events, if there is one.
    ///
    /// What we deliver must then be exactly what the rules of a live watch say of the writes so far.
    pub(crate) fn expected_events(
        &self,
        watch: &Watch,
        theirs: &Progress,
        ours: &Progress,
    ) -> Option<&'static str> {
        let headless = |p: &Progress| Some(Reply { head: p.head.clone()?, body: Vec::new() });
        if difference(&headless(theirs)?, &headless(ours)?, true).is_some() {
            return None;
        }
        if subject_is_etcd() {
            return None;
        }
        let due = self.events.due(watch);
        let (their_events, our_events) = (indexes(theirs)?, indexes(ours)?);
        if watch.stream {
            if our_events != due || ours.ended {
                return None;
            }
            let once = |progress: &Progress| {
                let text = String::from_utf8_lossy(&progress.body).into_owned();
                let mut lines: Vec<&str> = text.split('\n').collect();
                lines.dedup();
                Some(Reply { head: progress.head.clone()?, body: lines.join("\n").into_bytes() })
            };
            let (once, ours) = (once(theirs)?, ours.reply()?);
            let same = difference(&once, &ours, true).is_none();
            return match watch.past {
                // etcd stays silent after its only event; which one that is, is 4.
                true => Some("1"),
                false => same.then_some("2"),
            };
        }
        let first = due.first().copied();
        let right = our_events == Vec::from_iter(first) && ours.ended == first.is_some();
        // Here etcd's history has told of an event that a live watch would not have seen.
        let wrong = their_events.first().is_some_and(|&index| Some(index) != first);
        (watch.past && right && wrong).then_some("4")
    }
}

/// The improvement on purpose that explains different answers, if there is one.
pub(crate) fn expected_difference(
    request: &Request,
    theirs: Option<&Reply>,
    ours: &Reply,
) -> Option<&'static str> {
    let target = String::from_utf8_lossy(&request.target).into_owned();
    let Some(theirs) = theirs else {
        let line = request.method.len() + target.len() + "  HTTP/1.1".len();
        let handled = matches!(ours.status(), 200 | 201 | 404 | 414);
        return (line > ETCD_LINE_MAX && handled).then_some("7");
    };
    let code =
        |reply: &Reply| -> Option<u64> { Json::parse(&reply.text())?.get("errorCode")?.number() };
    if request.body.as_ref().is_some_and(|body| body.len() > FORM_MAX) {
        let json = ours.get("Content-Type").as_deref() == Some("application/json");
        let refused = ours.status() == 413 && json && Json::parse(&ours.text()).is_some();
        return (refused && code(theirs) == Some(210)).then_some("limits");
    }
    let form = request.body.as_deref().unwrap_or_default();
    let form = format!("{target}&{}", String::from_utf8_lossy(form));
    let fields: Vec<&str> = form.split(['?', '&']).collect();
    let ttl = fields.iter().find_map(|field| field.strip_prefix("ttl=")?.parse::<u64>().ok());
    if ttl.is_some_and(|ttl| ttl > TTL_MAX) && theirs.status() < 300 {
        return (ours.status() == 400 && code(ours) == Some(202)).then_some("8");
    }
    let converts = fields.contains(&"refresh=true") && fields.contains(&"dir=true");
    if converts && theirs.status() == 200 && (ours.status(), code(ours)) == (403, Some(102)) {
        return Some("20");
    }
    if let (Some(theirs), Some(ours)) = (without_words(theirs), without_words_of(ours))
        && difference(&theirs, &ours, true).is_none()
    {
        return Some("26");
    }
    None
}
