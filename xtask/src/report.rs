//! What was run, how long it took and how it ended.

use core::time::Duration;
use std::process::ExitCode;
use std::time::Instant;

use crate::workspace::Workspace;

/// How a step that did not fail ended.
pub(crate) enum Outcome {
    Passed,
    /// Why, in words that tell what to do about it.
    Skipped(String),
}

/// The steps that have run, in order.
pub(crate) struct Report {
    ci: bool,
    lines: Vec<Line>,
}

struct Line {
    name: &'static str,
    time: Duration,
    result: Result<Outcome, String>,
}

impl Report {
    pub(crate) const fn new(workspace: &Workspace) -> Self {
        Self {
            ci: workspace.ci,
            lines: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, name: &'static str, step: impl FnOnce() -> crate::Result) {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let result = match step() {
            Ok(Outcome::Skipped(why)) if self.ci => Err(format!("skipped, and CI=true: {why}")),
            result => result,
        };
        if let Err(message) = &result {
            eprintln!("error: {message}");
        }
        self.lines.push(Line {
            name,
            time: start.elapsed(),
            result,
        });
    }

    /// Prints the table.
    pub(crate) fn finish(self) -> ExitCode {
        eprintln!("\n{:<8} {:>8}  result", "step", "seconds");
        for Line { name, time, result } in &self.lines {
            let result = match result {
                Ok(Outcome::Passed) => "ok".to_owned(),
                Ok(Outcome::Skipped(why)) => format!("skipped: {why}"),
                Err(message) => format!("FAILED: {message}"),
            };
            eprintln!("{name:<8} {:>8.1}  {result}", time.as_secs_f64());
        }
        let failed = self.lines.iter().any(|line| line.result.is_err());
        if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Report};

    fn finish(ci: bool, result: crate::Result) -> bool {
        let mut report = Report {
            ci,
            lines: Vec::new(),
        };
        report.run("first", || Ok(Outcome::Passed));
        report.run("second", || result);
        let failed = report.lines.iter().any(|line| line.result.is_err());
        assert_eq!(report.lines.len(), 2);
        failed
    }

    #[test]
    fn skipped_step_fails_in_ci_only() {
        assert!(!finish(false, Ok(Outcome::Skipped("no Java".into()))));
        assert!(finish(true, Ok(Outcome::Skipped("no Java".into()))));
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        assert!(finish(false, Err("broken".into())));
        assert!(!finish(true, Ok(Outcome::Passed)));
    }
}
