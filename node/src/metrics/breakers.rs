//! Breakers by name.

use super::sheet::{Label, Sheet};
use esker_node::resilience::BreakerReport;
use std::collections::BTreeMap;
use std::fmt;

/// Writes how each is, and what went through it.
pub(super) fn write(
    sheet: &mut Sheet<'_>,
    breakers: &BTreeMap<String, BreakerReport>,
) -> fmt::Result {
    let named = |name: &String| -> Label { ("breaker", name.clone()) };
    let states: Vec<_> = breakers
        .iter()
        .map(|(name, report)| ([named(name)], f64::from(report.state as u8)))
        .collect();
    sheet.gauges("breaker_state", "0 closed, 1 open, 2 half-open", &states)?;
    let calls = breakers.iter().flat_map(|(name, report)| {
        let of = |result: &str, count| ([named(name), ("result", result.to_owned())], count);
        [
            of("success", report.successes),
            of("failure", report.failures),
            of("rejected", report.rejected),
        ]
    });
    let help = "Calls through a breaker by how they ended; rejected ones were not made";
    sheet.counters("breaker_calls", help, &calls.collect::<Vec<_>>())
}
