//! What takes the disk, by kind and by keyspace.

use super::sheet::Sheet;
use engine::{KeyspaceStats, Stats};
use std::cmp::Reverse;
use std::fmt;

/// Keyspaces with numbers of their own at most, those that take the most: there may be ten thousand.
const KEYSPACES_MAX: usize = 100;

/// Writes what `stats` and `keyspaces` know of it.
pub(super) fn write(
    sheet: &mut Sheet<'_>,
    stats: &Stats,
    keyspaces: &[KeyspaceStats],
) -> fmt::Result {
    let kind = |name: &str| [("kind", name.to_owned())];
    let kinds = [
        (kind("tables"), stats.table_bytes as f64),
        (kind("log"), stats.log_bytes as f64),
        (kind("archive"), stats.archive_bytes as f64),
    ];
    let help = "Bytes of disk by what they are of; the archive waits for the next backup";
    sheet.gauges("space_bytes", help, &kinds)?;
    let help = "Bytes of the keys and values of all entries in tables, before compression";
    sheet.gauge("raw_bytes", help, stats.raw_bytes as f64)?;
    let help = "Those of them that are live, as estimated from what the manifest knows of tables";
    sheet.gauge("live_bytes", help, stats.live_bytes as f64)?;
    amplification(sheet, stats)?;
    sheet.gauge(
        "keyspaces",
        "Keyspaces, those of the node itself as well",
        keyspaces.len() as f64,
    )?;
    let largest = largest_of(keyspaces);
    let by_keyspace = |of: fn(&KeyspaceStats) -> u64| -> Vec<_> {
        let label = |keyspace: &KeyspaceStats| [("keyspace", keyspace.name.clone())];
        largest.iter().map(|keyspace| (label(keyspace), of(keyspace) as f64)).collect()
    };
    let help = "Bytes of the blocks of a keyspace in tables; the 100 largest";
    sheet.gauges("keyspace_bytes", help, &by_keyspace(|keyspace| keyspace.table_bytes))?;
    let help = "Bytes of keys and values of a keyspace in tables, all versions; the 100 largest";
    sheet.gauges("keyspace_raw_bytes", help, &by_keyspace(|keyspace| keyspace.raw_bytes))?;
    let help = "Entries of a keyspace in tables, all versions and tombstones; the 100 largest";
    sheet.gauges("keyspace_entries", help, &by_keyspace(|keyspace| keyspace.entries))
}

/// What is known of it: before the first write, and the first read, that is not all.
fn amplification(sheet: &mut Sheet<'_>, stats: &Stats) -> fmt::Result {
    let known = [
        ("write", stats.write_amplification()),
        ("read", stats.read_amplification()),
        ("space", stats.space_amplification()),
    ];
    let known = known.into_iter().filter_map(|(of, ratio)| Some(([("of", of.to_owned())], ratio?)));
    let help = "Bytes written for each byte put, blocks looked into by a get, bytes of tables for each live byte; what is not known yet is missing";
    sheet.gauges("amplification_ratio", help, &known.collect::<Vec<_>>())?;
    let help = "The most blocks of tables that a get may have to look into";
    sheet.gauge("read_amplification_max", help, stats.read_amplification_max() as f64)
}

/// Those that take the most, by name where they take the same.
fn largest_of(keyspaces: &[KeyspaceStats]) -> Vec<&KeyspaceStats> {
    let mut all: Vec<&KeyspaceStats> = keyspaces.iter().collect();
    all.sort_by_key(|keyspace| (Reverse(keyspace.table_bytes), &keyspace.name));
    all.truncate(KEYSPACES_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_keyspaces_the_largest_are_shown() {
        let of = |number: u64| {
            let mut keyspace = KeyspaceStats::default();
            (keyspace.name, keyspace.table_bytes) = (format!("k{number:03}"), number / 2);
            keyspace
        };
        let all: Vec<_> = (0..300).map(of).collect();
        let shown = largest_of(&all);
        assert_eq!(shown.len(), KEYSPACES_MAX);
        assert_eq!((&*shown[0].name, &*shown[1].name, &*shown[2].name), ("k298", "k299", "k296"));
        assert_eq!(shown[99].table_bytes, 100);
    }
}
