//! Verifies every byte that the demonstration left behind.

use super::report::Report;
use crate::commands::check::{self, Level};
use crate::error::Outcome;
use std::path::Path;

/// Checks all databases as `esker check --level paranoid` does.
pub(super) fn check_directories(directory: &Path, report: &mut Report<'_>) -> Outcome {
    let mut step = report.begin("check");
    for name in ["main", "killed", "a", "b", "c"] {
        let findings = check::findings(&directory.join(name), Level::Paranoid)?;
        step.check(findings.is_empty(), &format!("{name} has {} findings", findings.len()));
    }
    report.end(step, "every file, block and link of all five databases verified")
}
