//! A short campaign: the long ones are run by CI with the binary.

use zabra_sim::plan::{Fault, Plan};
use zabra_sim::world::{Report, World};

fn run(plan: Plan) -> Report {
    let mut world = World::new(plan, false);
    let violation = world.run();
    world.report(violation)
}

fn quiet(seed: u64) -> Plan {
    let mut plan = Plan::new(seed);
    plan.faults.clear();
    plan.disruptions = 0;
    plan
}

#[test]
fn seeds_find_nothing_wrong() {
    for seed in 1..=40 {
        let report = run(Plan::new(seed));
        assert_eq!(report.violation, None, "seed {seed}: {report}");
    }
}

#[test]
fn a_seed_means_the_same_every_time() {
    for seed in 100..110 {
        let [first, second] = [(); 2].map(|()| run(Plan::new(seed)));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.events, second.events);
    }
}

#[test]
fn what_is_acknowledged_survives_power_cuts_in_the_middle_of_the_log() {
    for seed in 0..20 {
        let mut plan = quiet(seed);
        plan.faults = (1..12)
            .map(|nth| (nth * 150_000, Fault::PowerCutInStore(nth % 7)))
            .collect();
        let report = run(plan);
        assert_eq!(report.violation, None, "seed {seed}: {report}");
    }
}

#[test]
fn what_a_killed_server_had_written_survives_a_power_cut_after_its_restart() {
    for seed in 0..20 {
        let mut plan = quiet(seed);
        plan.faults = (1..8)
            .flat_map(|nth| {
                let at = nth * 400_000;
                [
                    (at, Fault::KillInStore(nth % 4)),
                    (at + 200_000, Fault::PowerCut),
                ]
            })
            .collect();
        let report = run(plan);
        assert_eq!(report.violation, None, "seed {seed}: {report}");
    }
}

#[test]
fn a_server_whose_first_snapshot_fails_serves_in_the_end() {
    let mut plan = quiet(3);
    plan.sync_us = 60_000;
    plan.faults = vec![(5000, Fault::SnapshotFails)];
    let report = run(plan);
    assert_eq!(report.violation, None, "{report}");
}

#[test]
fn sessions_outlive_pauses_and_jumps_of_the_clock_as_they_should() {
    for seed in 0..10 {
        let mut plan = quiet(seed);
        plan.faults = vec![
            (300_000, Fault::ClockJump(-86_400_000)),
            (600_000, Fault::Pause(900)),
            (900_000, Fault::Kill),
            (1_500_000, Fault::ClockJump(10_000_000)),
        ];
        let report = run(plan);
        assert_eq!(report.violation, None, "seed {seed}: {report}");
    }
}

#[test]
fn a_few_seeds_meet_almost_everything() {
    let mut marks = zabra_sim::marks::Marks::default();
    for seed in 200..260 {
        marks.merge(&run(Plan::new(seed)).marks);
    }
    let missing = marks.missing(true, false);
    assert!(missing.len() <= 6, "never happened: {missing:?}");
}
