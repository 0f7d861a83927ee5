//! What the node did by itself.

use super::sheet::{Label, Sheet};
use esker_node::resilience::RemedyReport;
use std::collections::BTreeMap;
use std::fmt;

/// Writes how often each remedy was taken, and whether it would be.
pub(super) fn write(
    sheet: &mut Sheet<'_>,
    remedies: &BTreeMap<&'static str, RemedyReport>,
    shed: u64,
) -> fmt::Result {
    let named = |name: &str| -> [Label; 1] { [("remedy", name.to_owned())] };
    let taken: Vec<_> = remedies.iter().map(|(name, report)| (named(name), report.taken)).collect();
    sheet.counters("remedies_taken", "What the node did by itself against trouble", &taken)?;
    let states: Vec<_> = remedies
        .iter()
        .map(|(name, report)| (named(name), f64::from(report.state as u8)))
        .collect();
    let help = "0 would be taken, 1 switched off, 2 taken as often as it may be in an hour";
    sheet.gauges("remedy_state", help, &states)?;
    sheet.counter("requests_shed", "Writes that were refused because too much work was owed", shed)
}
