//! One round of each fault, with readers, writers and watchers at all members meanwhile.

use std::time::Duration;

use super::beside_others;
use super::rounds::{Blow, Plan, run};
use super::support::faults::Fault;
use super::support::rng::seed_from_env;

/// Longer than an election takes.
const LASTS: Duration = Duration::from_secs(2);
const CLIENTS: u32 = 8;

fn round(members: usize, fault: Fault, second: Option<Fault>) {
    let _beside_others = beside_others();
    let seed = seed_from_env("CAIRN_SEED");
    let report = run(&Plan {
        members,
        seed,
        clients: CLIENTS,
        blows: vec![Blow { fault, second, lasts: LASTS }],
        args: Vec::new(),
        story: format!("{fault:?}, {second:?} with {members} members, CAIRN_SEED={seed}"),
        keep: false,
    });
    let Some(report) = report else { return };
    let checked = report.checked;
    let silences: Vec<_> = report.struck.iter().map(|struck| struck.silence).collect();
    let of_v3 = report.checked_v3;
    eprintln!("{} calls, longest silence {silences:?}, {checked:?}", report.calls);
    eprintln!("version 3: {} turns, {} keep-alives, {of_v3:?}", report.turns, report.kept);
    assert!(checked.written > 100 && checked.quorum_reads > 10 && checked.plain_reads > 10);
    assert!(of_v3.written > 50 && of_v3.quorum_reads > 5 && of_v3.plain_reads > 5);
    assert!(report.turns > 0 && report.kept > 0, "locks go round, and leases live");
    for checked in [checked, of_v3] {
        assert!(checked.watched > checked.events, "watchers at every member saw something");
    }
}

macro_rules! rounds {
    ($($name:ident: $fault:ident $(and $second:ident)? of $members:literal;)*) => {
        $(
            #[test]
            fn $name() {
                round($members, Fault::$fault, [$(Fault::$second)?].first().copied());
            }
        )*
    };
}

rounds! {
    one_of_three_is_killed: KillOne of 3;
    the_leader_of_three_is_killed: KillLeader of 3;
    two_of_three_are_killed: KillMajority of 3;
    all_three_are_killed: KillAll of 3;
    the_leader_is_paused: PauseLeader of 3;
    a_follower_is_cut_from_the_others: CutMinority of 3;
    the_leader_is_cut_from_the_others: CutLeader of 3;
    the_leader_is_cut_from_everybody: CutOffLeader of 3;
    the_leader_hears_nobody: DeafLeader of 3;
    no_follower_hears_the_leader: MuteLeader of 3;
    two_of_three_do_not_hear_each_other: Ring of 3;
    a_disk_is_full: FillDisk of 3;
    a_sync_fails: FailSync of 3;
    syncs_of_the_leader_take_long: SlowSync of 3;
    a_follower_loses_its_data_and_is_replaced: Replace of 3;
    a_follower_loses_its_data_and_joins_again: LoseData of 3;
    a_member_joins_and_leaves: AddAndRemove of 3;
    all_are_restarted_in_turn: RollingRestart of 3;
    the_leader_is_stopped: StopLeader of 3;
    three_of_five_are_killed: KillMajority of 5;
    two_of_five_are_cut_from_the_others: CutMinority of 5;
    the_leader_of_five_is_cut_off_with_another_one: CutLeader of 5;
    five_hear_only_their_neighbours: Ring of 5;
    the_leader_of_five_is_killed_while_two_are_cut_off: CutMinority and KillLeader of 5;
}
