//! The search for members on the local network.

use super::sheet::{Label, Sheet};
use crate::replicas::Discovery;
use std::fmt;

/// Writes what was sent and heard; zeros where nobody is looked for.
pub(super) fn write(sheet: &mut Sheet<'_>, discovery: Option<&Discovery>) -> fmt::Result {
    let count = |of: fn(&Discovery) -> u64| discovery.map_or(0, of);
    let result = |name: &str| -> [Label; 1] { [("result", name.to_owned())] };
    let beacons = [
        (result("sent"), count(|it| it.sent)),
        (result("unsent"), count(|it| it.unsent)),
        (result("heard"), count(|it| it.heard)),
        (result("foreign"), count(|it| it.foreign)),
        (result("refused"), count(|it| it.refused)),
    ];
    let help =
        "Beacons sent, not sent for an error, heard of this group and of others, and refused";
    sheet.counters("discovery_beacons", help, &beacons)?;
    let kind = |name: &str| -> [Label; 1] { [("kind", name.to_owned())] };
    let nodes = [
        (kind("member"), count(|it| it.members) as f64),
        (kind("stranger"), count(|it| it.strangers.len() as u64) as f64),
    ];
    let help = "Nodes that are heard now: members, and others that know the group";
    sheet.gauges("discovery_nodes", help, &nodes)
}
