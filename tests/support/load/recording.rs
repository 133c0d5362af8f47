//! A run that is recorded from the first call to the last state.
//!
//! Owns: clients and watchers together, and the end at which they all meet. Never knows: what happens to the members
//! meanwhile; at the end those that are left must be able to answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::follower::{Follow, Follower, Home, Style};
use super::targets::{Stop, Targets};
use super::wire::{Line, Success, files};
use super::{Api, Load, LoadPlan, gateway};
use crate::support::history::{Action, Call, Final, History, Outcome};
use crate::support::http::{Request, ask_within};

/// How long a member may take for one answer at the end.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Pause between two looks at whether members have come together.
const PAUSE: Duration = Duration::from_millis(10);
/// The client number of the calls that end a run.
const LAST_CLIENT: u32 = u32::MAX;

/// Clients, a watcher of everything from the start, and a watcher at each member.
pub(crate) struct Recording {
    start: Instant,
    targets: Targets,
    plan: LoadPlan,
    load: Load,
    log: Follower,
    watchers: Vec<Follower>,
}

impl Recording {
    /// Starts everything. The members must answer.
    pub(crate) fn start(targets: impl Into<Targets>, plan: LoadPlan) -> Self {
        let (targets, start) = (targets.into(), Instant::now());
        let members = targets.all();
        let from = store_index(plan.api, &targets) + 1;
        let follow = |name: &str, style, home| {
            let (name, prefix) = (name.to_owned(), plan.prefix.clone());
            Follower::start(&targets, Follow { api: plan.api, name, prefix, from, style, home })
        };
        let home = |place: usize| members[place % members.len()].0;
        let log = follow("the log", Style::LongPoll, Home::Anywhere(home(0)));
        let mut watchers = vec![
            follow("a long poll", Style::LongPoll, Home::Anywhere(home(1))),
            follow("a stream", Style::Stream, Home::Anywhere(home(2))),
        ];
        for (member, _) in &members {
            let name = format!("a stream at member {member}");
            watchers.push(follow(&name, Style::Stream, Home::Only(*member)));
        }
        let load = Load::start(targets.clone(), &plan, start);
        Self { start, targets, plan, load, log, watchers }
    }

    /// When the run's time began.
    pub(crate) fn began(&self) -> Instant {
        self.start
    }

    /// The list of members, for members that come and go.
    pub(crate) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Calls that the store has said yes or no to, so far.
    pub(crate) fn answered(&self) -> u64 {
        self.load.answered()
    }

    /// Waits until the clients have got so many more answers.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub(crate) fn wait_for_answers(&self, more: u64, limit: Duration) {
        let (deadline, goal, never) =
            (Instant::now() + limit, self.answered() + more, Stop::default());
        while self.answered() < goal {
            let missing = goal - self.answered();
            assert!(Instant::now() < deadline, "{missing} of {more} answers are missing");
            never.pause(PAUSE);
        }
    }

    /// One more watcher of everything from `from` on.
    pub(crate) fn watch(&mut self, name: &str, from: u64, style: Style, home: Home) {
        let (name, prefix) = (name.to_owned(), self.plan.prefix.clone());
        let follow = Follow { api: self.plan.api, name, prefix, from, style, home };
        self.watchers.push(Follower::start(&self.targets, follow));
    }

    /// Ends the clients, waits until all members that are left agree, and puts everything together.
    ///
    /// # Errors
    /// When they do not agree within `limit`, a watcher does not get there, or an answer was strange.
    pub(crate) fn finish(self, limit: Duration) -> Result<History, String> {
        let mut recorded = self.load.stop();
        if !recorded.strange.is_empty() {
            return Err(format!("strange answers:\n{}", recorded.strange.join("\n")));
        }
        let calls = &mut recorded.calls;
        let space = Space { api: self.plan.api, targets: &self.targets, prefix: &self.plan.prefix };
        let (index, finals) = settle(space, self.start, calls, limit)?;
        let log = self.log.finish(index, limit)?.events;
        let watchers = self.watchers.into_iter().map(|watcher| watcher.finish(index, limit));
        let watchers = watchers.collect::<Result<Vec<_>, _>>()?;
        Ok(History { calls: recorded.calls, log, watchers, finals })
    }
}

/// The store's index, or version 3's revision, as the first member that answers says.
fn store_index(api: Api, targets: &Targets) -> u64 {
    let mut found = targets.all().into_iter().filter_map(|(_, addr)| {
        let request = match api {
            Api::V2 => Request::get("/v2/keys/?quorum=true"),
            Api::V3 => gateway::list("", true),
        };
        let reply = ask_within(addr, &request, ANSWER_MAX).ok()?;
        let reply = Some(reply).filter(|reply| reply.status() == 200)?;
        match api {
            Api::V2 => reply.index(),
            Api::V3 => Some(gateway::listed(&reply)?.0),
        }
    });
    found.next().expect("a member answers")
}

/// Where the recorded keys are.
#[derive(Clone, Copy)]
pub(crate) struct Space<'a> {
    pub(crate) api: Api,
    pub(crate) targets: &'a Targets,
    /// The directory.
    pub(crate) prefix: &'a str,
}

/// Writes a last key and waits until every member has come exactly as far. While anything else still happens, a late write
/// of unknown outcome for one, it begins again.
///
/// Returns the last index and what each member holds; the calls for that are added to the others.
///
/// # Errors
/// When the members do not come together within `limit`.
pub(crate) fn settle(
    space: Space<'_>,
    start: Instant,
    calls: &mut Vec<Call>,
    limit: Duration,
) -> Result<(u64, Vec<Final>), String> {
    let Space { api, targets, prefix } = space;
    let deadline = Instant::now() + limit;
    let first = targets.all().first().map_or(0, |(member, _)| *member);
    let mut line = Line::new(api, targets.clone(), first, ANSWER_MAX);
    let (never, mut trouble) = (Stop::default(), "no member takes a write".to_owned());
    let key = format!("{prefix}/end");
    for number in 0_u64.. {
        if Instant::now() > deadline {
            break;
        }
        let action = Action::Set { value: format!("end-{number}") };
        let began = start.elapsed();
        let answered = line.call(&key, &action);
        let (ended, outcome) = (start.elapsed(), answered.outcome);
        let (key, client, member) = (key.clone(), LAST_CLIENT, answered.member);
        calls.push(Call { client, member, key, action, began, ended, outcome: outcome.clone() });
        let Outcome::Done { modified, .. } = outcome else {
            never.pause(PAUSE);
            continue;
        };
        match gather(space, modified, deadline) {
            Ok(finals) if finals.iter().all(|last| last.index == modified) => {
                return Ok((modified, finals));
            }
            Ok(_) => trouble = "something goes on happening".to_owned(),
            Err(why) => trouble = why,
        }
    }
    Err(format!("the members do not come together: {trouble}"))
}

/// What each member holds once it has come as far as `index`.
fn gather(space: Space<'_>, index: u64, deadline: Instant) -> Result<Vec<Final>, String> {
    let never = Stop::default();
    let mut finals = Vec::new();
    for (member, _) in space.targets.all() {
        loop {
            let found = listing(space, member);
            match found {
                Some(found) if found.index >= index => {
                    finals.push(found);
                    break;
                }
                _ if space.targets.get(member).is_none() => break,
                found if Instant::now() > deadline => {
                    let at = found.map(|found| found.index);
                    return Err(format!("member {member} is at {at:?}, not at {index}"));
                }
                _ => never.pause(PAUSE),
            };
        }
    }
    Ok(finals)
}

fn listing(Space { api, targets, prefix }: Space<'_>, member: usize) -> Option<Final> {
    let addr = targets.get(member)?;
    let request = match api {
        Api::V2 => Request::get(&format!("/v2/keys{prefix}?recursive=true")),
        Api::V3 => gateway::list(prefix, false),
    };
    let reply = ask_within(addr, &request, ANSWER_MAX).ok()?;
    let (index, found) = match api {
        Api::V2 => {
            let body: Success = serde_json::from_slice(&reply.body).ok()?;
            let mut found = BTreeMap::new();
            files(&body.node, &mut found);
            (reply.index()?, found)
        }
        Api::V3 => gateway::listed(&reply)?,
    };
    Some(Final { member, index, files: found })
}
