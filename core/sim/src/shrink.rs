//! Makes a failing seed small: fewer faults, fewer clients, fewer acts, as long as the same thing
//! fails.

use std::process::ExitCode;

use zabra_sim::ensemble::plan::{Fault, Script, When};
use zabra_sim::plan::Plan;

use crate::{run, run_script, say};

/// Shrinks a seed and shows what is left.
pub(crate) fn shrink(seed: u64) -> ExitCode {
    let mut best = Plan::new(seed);
    let Some(violation) = run(&best, false).violation else {
        say("nothing is violated");
        return ExitCode::SUCCESS;
    };
    let fails = |plan: &Plan| {
        let found = run(plan, false).violation;
        found.is_some_and(|found| found.invariant == violation.invariant)
    };
    loop {
        let smaller = candidates(&best).into_iter().find(|plan| fails(plan));
        match smaller {
            Some(plan) => best = plan,
            None => break,
        }
    }
    say(run(&best, true));
    say(format_args!("{best:?}"));
    ExitCode::FAILURE
}

/// Plans that are a little less, the boldest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut candidates = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        candidates.push(smaller);
    };
    if !plan.faults.is_empty() {
        offer(&|plan| plan.faults.clear());
    }
    for index in 0..plan.faults.len() {
        offer(&|plan| {
            plan.faults.remove(index);
        });
    }
    if plan.clients > 1 {
        offer(&|plan| plan.clients = 1);
        offer(&|plan| plan.clients -= 1);
    }
    if plan.acts > 1 {
        offer(&|plan| plan.acts /= 2);
        offer(&|plan| plan.acts -= 1);
    }
    if plan.duration_us > 100_000 {
        offer(&|plan| plan.duration_us /= 2);
        offer(&|plan| plan.duration_us -= plan.duration_us / 8);
    }
    if plan.disruptions > 0 {
        offer(&|plan| plan.disruptions = 0);
    }
    if plan.burst > 1 {
        offer(&|plan| plan.burst = 1);
    }
    if plan.latency_us > 0 {
        offer(&|plan| plan.latency_us = 0);
    }
    if plan.sync_us > 0 {
        offer(&|plan| plan.sync_us = 0);
    }
    candidates
}

/// Shrinks a script and shows what is left.
pub(crate) fn shrink_script(script: Script) -> ExitCode {
    let mut best = script;
    let Some(violation) = run_script(&best, false).violation else {
        say("nothing is violated");
        return ExitCode::SUCCESS;
    };
    let fails = |script: &Script| {
        let found = run_script(script, false).violation;
        found.is_some_and(|found| found.invariant == violation.invariant)
    };
    while let Some(smaller) = smaller_scripts(&best).into_iter().find(|it| fails(it)) {
        best = smaller;
    }
    say(run_script(&best, true));
    say(&best);
    ExitCode::FAILURE
}

/// Scripts that are a little less, the boldest first.
fn smaller_scripts(script: &Script) -> Vec<Script> {
    let mut smaller = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Script)| {
        let mut changed = script.clone();
        change(&mut changed);
        if changed != *script {
            smaller.push(changed);
        }
    };
    offer(&|script| script.faults.clear());
    let half = script.faults.len() / 2;
    if half > 0 {
        offer(&|script| script.faults.truncate(half));
        offer(&|script| drop(script.faults.drain(..half)));
    }
    for index in 0..script.faults.len() {
        offer(&|script| drop(script.faults.remove(index)));
    }
    offer(&|script| script.observers = 0);
    offer(&|script| script.spares = 0);
    offer(&|script| script.observers = script.observers.saturating_sub(1));
    offer(&|script| script.voters = 3);
    offer(&|script| script.drift_ppm = 0);
    for plan in candidates(&script.base) {
        offer(&|script| script.base = plan.clone());
    }
    // A server of many, and rounder times.
    for index in 0..script.faults.len() {
        offer(&|script| {
            if let Some(planned) = script.faults.get_mut(index)
                && let Fault::Kill(servers) | Fault::Power(servers) = &mut planned.fault
                && servers.len() > 1
            {
                servers.pop();
            }
        });
        offer(&|script| {
            if let Some(planned) = script.faults.get_mut(index)
                && let When::At(at) = &mut planned.when
            {
                *at -= *at % 100_000;
            }
        });
    }
    smaller
}
