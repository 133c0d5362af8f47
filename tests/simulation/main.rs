//! A cluster in one thread: virtual time, disks in memory, a network of pipes that can be cut.
//!
//! Everything that a member gets from outside (time, randomness, network, files) comes from the world of the test, so a run
//! takes a second and gives all members the same time-outs and latencies for the same seed: `SIMULATION_SEED=7 cargo test
//! --test simulation`. Only the order in which tokio wakes those who watch the same value is its own.

mod time;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use cairn::model::{KeyPath, MemberId};
use cairn::store::{Applied, Command, Write};
use world::World;

fn set(n: u64) -> Command {
    let value = n.to_string().as_bytes().into();
    let write = Write { value, dir: false, ttl: None, refresh: false };
    Command::Set { path: KeyPath::from(format!("/key/{n}").as_str()), write }
}

pub(crate) fn seeds() -> Vec<u64> {
    match std::env::var("SIMULATION_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIMULATION_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    }
}

/// What a run comes to.
#[derive(Debug)]
struct Outcome {
    term: u64,
    index: u64,
    took: Duration,
}

/// Three members, an election, a leader that is cut off, and a thousand writes at whatever member comes next.
fn a_life(seed: u64) -> Outcome {
    World::run(seed, async |world: World| {
        for id in 1..=3 {
            world.start(MemberId(id), &[1, 2, 3]).await;
        }
        let first = world.leader(&[1, 2, 3]).await;
        for n in 0..500 {
            let member = 1 + world.random(3);
            world.replica(member).write(set(n)).await.expect("all are well");
        }
        world.cut_off(first);
        let others: Vec<_> = (1..=3).filter(|id| *id != first).collect();
        let second = world.leader(&others).await;
        assert_ne!(second, first);
        for n in 500..1000 {
            let member = others[usize::try_from(world.random(2)).expect("small")];
            world.replica(member).write(set(n)).await.expect("a majority is well");
        }
        // The one that is cut off knows nothing of it, and says so.
        assert_eq!(world.replica(first).status().leadership.leader, None);
        world.replica(first).write(set(0)).await.expect_err("it has no majority");
        world.replica(first).read_barrier().await.expect_err("it cannot tell what is new");
        let behind = world.replica(first).view().store.index();
        world.heal();
        world.replica(first).read_barrier().await.expect("it is back");
        assert!(world.replica(first).view().store.index() > behind);
        world.converge(&[1, 2, 3]).await;
        let view = world.replica(first).view();
        for n in 0..1000 {
            let path = KeyPath::from(format!("/key/{n}").as_str());
            let node = view.store.get(&path).outcome.expect("acknowledged writes are there");
            let value = node.value().expect("a file");
            assert_eq!(*value, *n.to_string().as_bytes(), "key {n}");
        }
        view.store.check();
        Outcome { term: view.position.term.0, index: view.store.index().0, took: world.elapsed() }
    })
}

#[test]
fn a_cluster_lives_in_one_thread_through_an_election_and_a_partition() {
    for seed in seeds() {
        eprintln!("repeat with SIMULATION_SEED={seed}");
        let outcome = a_life(seed);
        eprintln!("{outcome:?}");
        // The facts of three members, and a thousand writes.
        assert_eq!(outcome.index, 7 + 1000);
        assert!(outcome.term >= 2 && outcome.took > Duration::from_secs(1), "{outcome:?}");
    }
}

/// Strict checks look at the view of the member that is asked. Two removals that were checked at the same time at two members
/// both passed, and the majority was lost: of four members one was down, and of the two that were left only one ran.
fn two_removals_at_once(seed: u64) {
    World::run(seed, async |world: World| {
        let all = [1, 2, 3, 4];
        for id in all {
            world.start(MemberId(id), &all).await;
        }
        let leader = world.leader(&all).await;
        let followers: Vec<_> = all.into_iter().filter(|id| *id != leader).collect();
        let [one, other, down] = followers[..] else { panic!("four members") };
        world.cut_off(down);
        // Until the leader has missed its answers.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (one_asked, other_asked) = (world.replica(leader), world.replica(one));
        let (first, second) = tokio::join!(
            one_asked.remove_member(MemberId(one), true),
            other_asked.remove_member(MemberId(other), true)
        );
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let left = if first.is_ok() { other } else { one };
        world.replica(leader).write(set(1)).await.expect("two of three are well");
        world.replica(left).read_barrier().await.expect("two of three are well");
        let members: Vec<_> = {
            let view = world.replica(leader).view();
            view.store.members().iter().map(|(id, _)| id.0).collect()
        };
        assert_eq!(members.len(), 3, "{members:?}");
    });
}

#[test]
fn of_two_removals_at_once_only_one_passes_if_both_would_cost_the_majority() {
    for seed in seeds() {
        eprintln!("repeat with SIMULATION_SEED={seed}");
        two_removals_at_once(seed);
    }
}

/// A write that can be told from all others, and that shows if it happens twice: each time it makes another node.
fn post(n: u64) -> Command {
    let value = n.to_string().as_bytes().into();
    let write = Write { value, dir: false, ttl: None, refresh: false };
    Command::CreateInOrder { dir: KeyPath::from("/queue"), write }
}

/// How often each value stands in the queue.
fn queued(world: &World, member: u64) -> BTreeMap<u64, u64> {
    let view = world.replica(member).view();
    let mut found = BTreeMap::new();
    let Ok(queue) = view.store.get(&KeyPath::from("/queue")).outcome else { return found };
    for (_, node) in queue.visible_children() {
        let value = std::str::from_utf8(node.value().expect("a file")).expect("digits");
        *found.entry(value.parse().expect("a number")).or_default() += 1;
    }
    found
}

/// Connections on which a follower forwards writes break at every byte, in both directions, while what was sent still arrives
/// seconds later. Its writes waited for their deadline before there were fences, and their outcome was unknown.
fn writes_over_breaking_connections(seed: u64, leaders_change: bool) {
    const BREAKS: u64 = 1000;
    World::run(seed, async |world: World| {
        let all = [1, 2, 3];
        world.break_questions();
        for id in all {
            world.start(MemberId(id), &all).await;
        }
        world.leader(&all).await;
        let (mut n, mut acknowledged, mut slowest) = (0, Vec::new(), Duration::ZERO);
        while world.broken_questions() < BREAKS {
            let leader = world.leader(&all).await;
            let follower = all[usize::try_from(world.random(3)).expect("small")];
            let writers = (0..3).map(|_| {
                n += 1;
                let (number, replica) = (n, world.replica(follower));
                async move {
                    let begun = Instant::now();
                    (number, replica.write(post(number)).await, begun.elapsed())
                }
            });
            let writers = futures_util::future::join_all(writers);
            let cut = async {
                if leaders_change && world.random(10) == 0 {
                    tokio::time::sleep(Duration::from_millis(world.random(8))).await;
                    world.cut_off(leader);
                    tokio::time::sleep(Duration::from_millis(1500 + world.random(2000))).await;
                    world.heal();
                }
            };
            for (number, outcome, took) in tokio::join!(writers, cut).0 {
                // At first connections do not live long enough for the fence and the writes behind it.
                if world.broken_questions() > BREAKS * 6 / 10 {
                    slowest = slowest.max(took);
                }
                match outcome {
                    Ok(answer) => {
                        assert!(matches!(answer.applied, Applied::Changed(_)), "{answer:?}");
                        acknowledged.push(number);
                    }
                    Err(why) => assert!(leaders_change, "write {number}: {why}"),
                }
            }
        }
        world.keep_questions();
        world.replica(1).write(post(0)).await.expect("all are well");
        // What is still on its way arrives, and must not count any more.
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.converge(&all).await;
        let found = queued(&world, 1);
        for number in &acknowledged {
            assert_eq!(found.get(number), Some(&1), "write {number}");
        }
        let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "these happened twice: {twice:?}");
        eprintln!("{} of {n} writes, the slowest took {slowest:?}", acknowledged.len());
        if !leaders_change {
            assert!(slowest < Duration::from_millis(600), "the slowest write took {slowest:?}");
        }
    });
}

#[test]
fn a_connection_that_breaks_at_whatever_byte_costs_its_writers_a_moment_and_nothing_happens_twice()
{
    for seed in seeds() {
        eprintln!("repeat with SIMULATION_SEED={seed}");
        writes_over_breaking_connections(seed, false);
    }
}

#[test]
fn nothing_happens_twice_when_connections_break_while_leaders_change() {
    for seed in seeds() {
        eprintln!("repeat with SIMULATION_SEED={seed}");
        writes_over_breaking_connections(seed, true);
    }
}
