//! Every scenario of the folder holds, with whole servers and as a drill.
//!
//! Slow without optimisation; `cargo test --release -p zabra-sim` takes seconds.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::path::Path;

use zabra_sim::ensemble::plan::{Cast, Script};
use zabra_sim::ensemble::{World, text};
use zabra_sim::world::Report;

fn run(script: Script) -> Report {
    let mut world = World::new(script, false);
    let violation = world.run();
    world.report(violation)
}

/// What a scenario says that it reaches, so that it goes on to: `# reaches: MARK, MARK`.
fn reaches(text: &str) -> Vec<String> {
    let lines = text.lines();
    let said = lines.filter_map(|line| line.strip_prefix("# reaches: "));
    let marks = said.flat_map(|marks| marks.split(", "));
    marks.map(str::to_owned).collect()
}

fn scenarios() -> Vec<(String, Script, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let texts = paths.filter(|path| path.extension().is_some_and(|it| it == "txt"));
    let mut scenarios: Vec<_> = texts
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, text::parse(&text).unwrap(), reaches(&text))
        })
        .collect();
    scenarios.sort_by(|one, other| one.0.cmp(&other.0));
    scenarios
}

fn ensure_holds(name: &str, script: &Script, cast: Cast) -> Report {
    let script = Script {
        cast,
        ..script.clone()
    };
    let report = run(script);
    assert_eq!(report.violation, None, "{name} with {cast:?}: {report}");
    let was_disturbed = report
        .marks
        .iter()
        .any(|(mark, _)| mark.starts_with("fault"));
    assert!(was_disturbed, "{name} with {cast:?} meets no fault");
    report
}

#[test]
fn every_scenario_holds() {
    let scenarios = scenarios();
    assert!(scenarios.len() >= 20, "{} are found", scenarios.len());
    for (name, script, reaches) in scenarios {
        let report = ensure_holds(&name, &script, Cast::Service);
        for mark in reaches {
            let is_reached = report.marks.iter().any(|(reached, _)| reached == mark);
            assert!(is_reached, "{name} does not reach {mark}");
        }
    }
}

/// Every third, for time's sake: the campaigns drill far more.
#[test]
fn scenarios_hold_as_drills() {
    for (name, script, _) in scenarios().into_iter().step_by(3) {
        ensure_holds(&name, &script, Cast::Drill);
    }
}

/// The bound of L3 would allow that it waits for initLimit and asks again.
#[test]
fn a_learner_that_asks_as_the_epoch_begins_is_sent_the_state_at_once() {
    let scenarios = scenarios();
    let wanted = "state-asked-for-before-the-epoch-begins";
    let script = scenarios.into_iter().find(|(name, ..)| name == wanted);
    let mut world = World::new(script.unwrap().1, true);
    let violation = world.run();
    let report = world.report(violation);
    assert_eq!(report.violation, None, "{report}");
    let first = |text: &str, from: usize| {
        let mut lines = report.trace.iter().enumerate().skip(from);
        lines.find_map(|(at, line)| line.contains(text).then_some(at))
    };
    let met = first("begins: on A receives:NEWLEADER", 0).expect("it is met");
    let synced = first("Synced { how: \"SNAP of", met).expect("it is sent the state");
    let waits = first("no word from", met).filter(|at| *at < synced);
    assert_eq!(waits, None, "nobody waits in vain");
}

#[test]
fn a_seed_of_an_ensemble_means_the_same_every_time() {
    for seed in 0..6 {
        let [first, second] = [(); 2].map(|()| run(Script::new(seed)));
        assert_eq!(first.violation, None, "seed {seed}: {first}");
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
    }
}
