//! Makes a failing seed small: fewer faults, fewer clients, fewer acts, as long as the same thing
//! fails.

use std::process::ExitCode;

use zabra_sim::plan::Plan;

use crate::{run, say};

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
