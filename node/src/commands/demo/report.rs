//! What the demonstration did, step by step, and whether it held.

use crate::error::Outcome;
use crate::output::Output;
use base::Clock;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::time::Duration;

/// Numbers the steps, times them and counts their checks.
pub(super) struct Report<'a> {
    output: &'a mut Output,
    clock: &'a dyn Clock,
    step: u64,
    checks: u64,
    failed: u64,
}

/// A step under way.
pub(super) struct Step {
    title: &'static str,
    started: Duration,
    checks: u64,
    failed: u64,
    /// What failed; each kind once.
    failures: Vec<String>,
    /// What was measured, for programs.
    measured: Map<String, Value>,
}

#[derive(Serialize)]
struct StepLine<'a> {
    step: u64,
    title: &'a str,
    found: String,
    checks: u64,
    failed: u64,
    failures: &'a [String],
    #[serde(skip_serializing_if = "Map::is_empty")]
    measured: &'a Map<String, Value>,
    ms: u64,
}

impl<'a> Report<'a> {
    /// A report to `output`, timed by `clock`.
    pub(super) fn new(output: &'a mut Output, clock: &'a dyn Clock) -> Report<'a> {
        Report { output, clock, step: 0, checks: 0, failed: 0 }
    }

    /// Begins the step `title`.
    pub(super) fn begin(&self, title: &'static str) -> Step {
        let started = self.clock.monotonic();
        let (failures, measured) = (Vec::new(), Map::new());
        Step { title, started, checks: 0, failed: 0, failures, measured }
    }

    /// Seconds since `step` began.
    pub(super) fn seconds(&self, step: &Step) -> f64 {
        self.clock.monotonic().saturating_sub(step.started).as_secs_f64()
    }

    /// Ends `step`, of which `found` is worth telling.
    pub(super) fn end(&mut self, step: Step, found: impl Display) -> Outcome {
        let took = self.clock.monotonic().saturating_sub(step.started);
        self.step += 1;
        self.checks += step.checks;
        self.failed += step.failed;
        let counted = counted(step.checks);
        let verdict = match step.failed {
            0 => format!("{counted} ok"),
            failed => format!("{failed} of {counted} FAILED: {}", step.failures.join("; ")),
        };
        let (number, title, ms) = (self.step, step.title, took.as_millis());
        let line = StepLine {
            step: number,
            title,
            found: found.to_string(),
            checks: step.checks,
            failed: step.failed,
            failures: &step.failures,
            measured: &step.measured,
            ms: u64::try_from(ms).unwrap_or(u64::MAX),
        };
        let text = format!("{number:>2}. {title}: {found}\n    {verdict}, {ms} ms");
        self.output.result(text, &line)?;
        self.output.flush()
    }

    /// Checks made and checks failed, in all steps.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.checks, self.failed)
    }
}

impl Step {
    /// A number that programs may want to know.
    pub(super) fn measured(&mut self, name: &str, number: f64) {
        self.measured.insert(name.to_owned(), ((number * 1000.0).round() / 1000.0).into());
    }

    /// One check: that `what` holds.
    pub(super) fn check(&mut self, holds: bool, what: &str) {
        self.checks += 1;
        if holds {
            return;
        }
        self.failed += 1;
        if !self.failures.iter().any(|known| known == what) {
            self.failures.push(what.to_owned());
        }
    }
}

fn counted(checks: u64) -> String {
    if checks == 1 { "1 check".to_owned() } else { format!("{checks} checks") }
}
