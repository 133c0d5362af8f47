//! Keys live as long as they should, whatever wall clocks show.

use std::time::Duration;

use cairn::model::{KeyPath, MemberId, StoreIndex, Ttl};
use cairn::store::{Action, Command, Write};

use crate::seeds;
use crate::world::World;

const ALL: [u64; 3] = [1, 2, 3];
const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// An election takes no longer; nor does it take to find out that one is needed.
const ELECTED: Duration = Duration::from_secs(5);

fn set(key: &str, ttl_s: u64) -> Command {
    let write =
        Write { value: b"v"[..].into(), dir: false, ttl: Ttl::from_s(ttl_s), refresh: false };
    Command::Set { path: KeyPath::from(key), write }
}

fn is_there(world: &World, member: u64, key: &str) -> bool {
    world.replica(member).view().store.get(&KeyPath::from(key)).outcome.is_ok()
}

/// Waits until a key has died at all of `members`; returns how long that took from `since` on.
async fn death(world: &World, members: &[u64], key: &str, since: Duration) -> Duration {
    while members.iter().any(|member| is_there(world, *member, key)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.elapsed() - since
}

fn assert_lifetime(lived: Duration, ttl_s: u64, allowed: Duration, why: &str) {
    let ttl = Duration::from_secs(ttl_s);
    assert!(lived >= ttl, "{why}: it died early, after {lived:?} of {ttl:?}");
    assert!(lived <= ttl + allowed, "{why}: it lived for {lived:?} instead of {ttl:?}");
}

async fn three(world: &World) -> u64 {
    for id in ALL {
        world.start(MemberId(id), &ALL).await;
    }
    world.leader(&ALL).await
}

fn lives(life: impl AsyncFn(World)) {
    for seed in seeds() {
        eprintln!("repeat with SIMULATION_SEED={seed}");
        World::run(seed, &life);
    }
}

/// Stamps were the leader's wall clock: after it had been an hour ahead and was set right, the time stood still for an hour, and
/// a lock with a lifetime of two seconds was held for as long.
#[test]
fn a_leader_whose_wall_clock_jumps_lets_no_key_die_early_or_late() {
    lives(async |world| {
        let leader = three(&world).await;
        for wrong_s in [HOUR, 0, -HOUR, YEAR, -YEAR] {
            let written = world.elapsed();
            world.replica(leader).write(set("/before", 10)).await.expect("all are well");
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.set_wall(leader, wrong_s);
            let jumped = world.elapsed();
            world.replica(leader).write(set("/after", 3)).await.expect("all are well");
            let second = Duration::from_secs(1);
            let why = format!("a wall clock set to {wrong_s:+} s");
            let lived = death(&world, &ALL, "/after", jumped).await;
            assert_lifetime(lived, 3, second, &why);
            let lived = death(&world, &ALL, "/before", written).await;
            assert_lifetime(lived, 10, second, &why);
            let wrong_ns = i128::from(wrong_s) * 1_000_000_000;
            for member in ALL {
                let store = &world.replica(member).view().store;
                let offset = i128::from(store.wall_offset().0);
                assert!(
                    (offset - wrong_ns).abs() < 1_000_000_000,
                    "{why}: dates are {offset} ns off"
                );
            }
        }
        world.converge(&ALL).await;
    });
}

#[test]
fn leadership_that_moves_to_a_wrong_wall_clock_lets_no_key_die_early_or_late() {
    for wrong_s in [YEAR, -YEAR] {
        lives(async |world| {
            let first = three(&world).await;
            let others: Vec<_> = ALL.into_iter().filter(|id| *id != first).collect();
            for member in &others {
                world.set_wall(*member, wrong_s);
            }
            let written = world.elapsed();
            world.replica(first).write(set("/lock", 20)).await.expect("all are well");
            tokio::time::sleep(Duration::from_secs(5)).await;
            world.cut_off(first);
            world.leader(&others).await;
            let lived = death(&world, &others, "/lock", written).await;
            assert_lifetime(lived, 20, Duration::from_secs(1), "a leader a year off");
        });
    }
}

/// A member that was started again is elected before it has heard from the leader; the one that elects it knows the time.
#[test]
fn a_leader_that_has_just_started_learns_the_time_from_a_follower() {
    lives(async |world| {
        let leader = three(&world).await;
        let (behind, ahead) = ((leader % 3) + 1, ((leader + 1) % 3) + 1);
        let written = world.elapsed();
        world.replica(leader).write(set("/lock", 60)).await.expect("all are well");
        world.converge(&ALL).await;
        // Only a member with the longer log can be elected by the other.
        world.cut_off(behind);
        world.replica(leader).write(set("/more", 3600)).await.expect("two are well");
        world.converge(&[leader, ahead]).await;
        world.stop(leader).await;
        world.stop(ahead).await;
        world.set_wall(ahead, YEAR);
        world.heal();
        world.start(MemberId(ahead), &ALL).await;
        assert_eq!(world.leader(&[ahead, behind]).await, ahead);
        let lived = death(&world, &[ahead, behind], "/lock", written).await;
        assert_lifetime(lived, 60, Duration::from_secs(1), "started a year ahead");
        assert!(is_there(&world, ahead, "/more"));
    });
}

#[test]
fn keys_whose_time_passed_while_all_were_down_die_at_the_start() {
    lives(async |world| {
        let leader = three(&world).await;
        let written = world.elapsed();
        world.replica(leader).write(set("/short", 600)).await.expect("all are well");
        world.replica(leader).write(set("/long", 3660)).await.expect("all are well");
        world.converge(&ALL).await;
        for member in ALL {
            world.stop(member).await;
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let started = world.elapsed();
        let leader = three(&world).await;
        let took = death(&world, &ALL, "/short", started).await;
        assert!(took < ELECTED, "it died {took:?} after the start");
        assert!(is_there(&world, leader, "/long"));
        let lived = death(&world, &ALL, "/long", written).await;
        assert_lifetime(lived, 3660, Duration::from_secs(1), "down for an hour");
    });
}

/// All of them died in one entry, and what clients wrote waited for it.
#[test]
fn many_keys_that_are_due_at_once_die_in_ticks_that_follow_one_another_at_once() {
    // Of three ticks.
    const KEYS: usize = 2500;
    lives(async |world| {
        let leader = three(&world).await;
        for n in 0..KEYS {
            let key = format!("/{n}");
            world.replica(leader).write(set(&key, 600)).await.expect("all are well");
        }
        world.converge(&ALL).await;
        for member in ALL {
            world.stop(member).await;
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let leader = three(&world).await;
        let first = death(&world, &[leader], "/0", Duration::ZERO).await;
        let all = death(&world, &ALL, &format!("/{}", KEYS - 1), Duration::ZERO).await;
        assert!(all - first < Duration::from_secs(1), "the rest took {:?}", all - first);
        world.converge(&ALL).await;
        for member in ALL {
            let view = world.replica(member).view();
            let mut deadlines = Vec::new();
            for (_, event) in view.store.history().slots_from(StoreIndex(0)) {
                let Some(event) = event.filter(|event| event.action == Action::Expire) else {
                    continue;
                };
                deadlines.push(event.prev.as_ref().and_then(|prev| prev.expires));
            }
            assert_eq!(deadlines.len(), KEYS);
            assert!(deadlines.is_sorted(), "the soonest dies first");
        }
    });
}

#[test]
fn wall_clocks_that_went_back_while_all_were_down_say_that_no_time_passed() {
    for wrong_s in [-HOUR, -YEAR] {
        lives(async |world| {
            let leader = three(&world).await;
            world.replica(leader).write(set("/lock", 60)).await.expect("all are well");
            world.converge(&ALL).await;
            for member in ALL {
                world.stop(member).await;
                world.set_wall(member, wrong_s);
            }
            let started = world.elapsed();
            let leader = three(&world).await;
            let written = world.elapsed();
            world.replica(leader).write(set("/new", 2)).await.expect("all are well");
            let lived = death(&world, &ALL, "/new", written).await;
            assert_lifetime(lived, 2, Duration::from_secs(1), "a new key");
            let lived = death(&world, &ALL, "/lock", started).await;
            assert!(lived <= Duration::from_secs(60) + ELECTED, "it lived on for {lived:?}");
        });
    }
}

/// The log once ran a year ahead; with the right clock every lifetime would have begun in a year.
#[test]
fn members_that_once_ran_a_year_ahead_work_at_once_with_the_right_time() {
    lives(async |world| {
        for member in ALL {
            world.set_wall(member, YEAR);
        }
        let leader = three(&world).await;
        world.replica(leader).write(set("/lock", 600)).await.expect("all are well");
        world.converge(&ALL).await;
        for member in ALL {
            world.stop(member).await;
            world.set_wall(member, 0);
        }
        let leader = three(&world).await;
        let written = world.elapsed();
        world.replica(leader).write(set("/new", 2)).await.expect("all are well");
        let lived = death(&world, &ALL, "/new", written).await;
        assert_lifetime(lived, 2, Duration::from_secs(1), "a new key");
        let store = &world.replica(leader).view().store;
        let shown = store.now().on_the_wall(store.wall_offset());
        let wrong = shown.since(world.right_time()).max(world.right_time().since(shown));
        assert!(wrong < Duration::from_secs(4), "dates are {wrong:?} off");
    });
}
