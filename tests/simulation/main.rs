//! A cluster in one thread: virtual time, disks in memory, a network of pipes that can be cut.
//!
//! Everything that a member gets from outside (time, randomness, network, files) comes from the world of the test, so a run
//! takes a second and gives everybody the same time-outs and latencies for the same seed: `SIMULATION_SEED=7 cargo test
//! --test simulation`. Only the order in which tokio wakes those who watch the same value is its own.

mod time;
mod world;

use std::time::Duration;

use cairn::model::{KeyPath, MemberId};
use cairn::store::{Command, Write};
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
            assert_eq!(**value, *n.to_string().as_bytes(), "key {n}");
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
