//! What opening the database took.

use super::sheet::Sheet;
use recovery::Report;
use std::fmt;

/// Writes how long each stage took, and what it found.
pub(super) fn write(sheet: &mut Sheet<'_>, report: &Report) -> fmt::Result {
    let stages: Vec<_> = report
        .stages
        .iter()
        .map(|(stage, took)| ([("stage", stage.to_string())], took.as_secs_f64()))
        .collect();
    sheet.gauges("recovery_stage_seconds", "Time of each stage of the last opening", &stages)?;
    let help = "Commits that the last opening took from the log";
    sheet.gauge("recovery_replayed_commits", help, report.commits_replayed as f64)?;
    let help = "Files that the last opening set aside";
    sheet.gauge("recovery_quarantined_files", help, report.quarantined.len() as f64)
}
