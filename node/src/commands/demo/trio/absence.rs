//! One node is away: first while much is written, then while deletes are made and forgotten.

use super::super::node::{Node, until, write};
use super::super::report::Report;
use super::{BATCH_RECORDS, KEYSPACE, Trio, has};
use crate::args::Durability;
use crate::commands::demo::ledger::{Stamp, Write};
use crate::error::Outcome;
use crate::output::human_bytes;
use crate::place::{Place, Remote};
use crate::record::Record;
use crate::replicas::{PeerChange, PeerClass};
use crate::ucd;
use serde_json::Value;

/// Where much is written: texts of this length, so many.
const BULK: &str = "texts";
const BULK_RECORDS: usize = 8_000;
const BULK_VALUE_LEN: usize = 4_000;
/// The characters that are deleted: Cuneiform, and the jamo of Hangul.
const DELETED: [(u32, u32); 2] = [(0x12000, 0x123FF), (0x1100, 0x11FF)];

impl Trio<'_> {
    /// Stops c, writes much to a, starts c again.
    pub(super) fn catch_up(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("c is away while much is written");
        let [a, _, c] = &mut self.nodes;
        step.check(c.stop()?, "c did not end well");
        let texts = texts()?;
        let mut bytes = 0;
        let mut sink = a.data()?.sink(BULK, Durability::Sync)?;
        for (number, (key, value)) in texts.iter().enumerate() {
            bytes += key.len() + value.len();
            let (key, value) = (key.clone().into(), value.clone().into());
            sink.add(&Record { keyspace: None, key, value })?;
            if (number + 1) % BATCH_RECORDS == 0 {
                sink.commit()?;
            }
        }
        sink.commit()?;
        let started = report.seconds(&step);
        c.start()?;
        let (at_c, last) = (c.data()?, texts.last().map_or("", |(key, _)| key));
        until("c has the last record", || has(&at_c, BULK, last))?;
        let seconds = report.seconds(&step) - started;
        for (key, value) in texts {
            let value = Some(value);
            self.ledger.note(BULK, Write { key, value, stamp: Stamp::default() });
        }
        self.settle(&mut step)?;
        let rate = bytes as f64 / seconds.max(1e-9) / 1e6;
        step.measured("catch_up_mb_per_second", rate);
        let size = human_bytes(bytes as u64);
        let found = format!("{size} behind, level again {seconds:.2} s after its start");
        report.end(step, format_args!("{found}: {rate:.0} MB/s, opening and linking included"))
    }

    /// Deletes while c is away, forgets the deletes, and lets c come back with what they deleted.
    pub(super) fn forget_deletes(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("c is away while deletes are forgotten");
        let [_, _, c] = &mut self.nodes;
        step.check(c.stop()?, "c did not end well");
        let deletes = self.delete_some()?;
        self.note(KEYSPACE, &deletes);
        let (count, expected) = (deletes.len() as u64, self.ledger.digest());
        let [a, b, c] = &self.nodes;
        until("a and b agree", || Ok(a.digest()? == expected && b.digest()? == expected))?;
        let live = self.ledger.len();
        for node in [a, b] {
            let kept = settled_entries(node)?.saturating_sub(live);
            step.check(kept >= count, "a delete was forgotten before c had it");
        }
        // What an operator does about a node that may never come back.
        a.change(c, PeerChange::Untrack)?;
        for node in [a, b] {
            until("deletes are forgotten once nobody waits for c", || {
                Ok(settled_entries(node)? < live + count / 2)
            })?;
        }
        self.come_back(report, step, count)
    }

    /// Starts c after deletes were forgotten that it never saw.
    fn come_back(
        &mut self,
        report: &mut Report<'_>,
        mut step: super::Step,
        deleted: u64,
    ) -> Outcome {
        let [a, b, c] = &mut self.nodes;
        // A node that starts again has no log of before, so c can not simply read on in it.
        for node in [&mut *a, b] {
            step.check(node.stop()?, "a node did not end well");
            node.start()?;
        }
        let started = report.seconds(&step);
        c.start()?;
        self.settle(&mut step)?;
        let ms = (report.seconds(&step) - started) * 1000.0;
        let [a, b, c] = &self.nodes;
        let at_c = c.data()?;
        for (first, last) in DELETED {
            for key in (first..=last).map(ucd::key_of) {
                step.check(!has(&at_c, KEYSPACE, &key)?, "a deleted record came back");
            }
        }
        a.change(c, PeerChange::Track)?;
        until("all wait for c again", || {
            let classes = [a.peer(c)?.class, b.peer(c)?.class];
            Ok(classes == [PeerClass::Tracked; 2])
        })?;
        step.measured("come_back_ms", ms);
        let found =
            format!("{deleted} deletes kept while c was tracked, forgotten when it was not");
        report.end(step, format_args!("{found}; c came back without them, equal in {ms:.0} ms"))
    }

    /// Deletes known characters on a and b, half on each.
    fn delete_some(&self) -> Outcome<Vec<Write>> {
        let [a, b, _] = &self.nodes;
        let (at_a, at_b) = (a.data()?, b.data()?);
        let mut writes = Vec::new();
        for (first, last) in DELETED {
            for key in (first..=last).map(ucd::key_of) {
                if has(&at_a, KEYSPACE, &key)? {
                    let (data, node): (&Remote, &Node<'_>) =
                        if writes.len() % 2 == 0 { (&at_a, a) } else { (&at_b, b) };
                    writes.push(write(data, &node.id, KEYSPACE, &key, None)?);
                }
            }
        }
        Ok(writes)
    }
}

/// Texts to be written, each with its key, in order.
fn texts() -> Outcome<Vec<(String, String)>> {
    let all: String = ucd::records()?.map(|(key, value)| key + value).collect();
    let text = |number: usize| {
        let from = number * 211 % (all.len() - BULK_VALUE_LEN);
        // The table is ASCII, so no character is cut.
        let text = all.get(from..from + BULK_VALUE_LEN).unwrap_or_default();
        (format!("text {number:06}"), text.to_owned())
    };
    Ok((0..BULK_RECORDS).map(text).collect())
}

/// Flushes and compacts a node; returns the entries that its tables then hold, deletes included.
fn settled_entries(node: &Node<'_>) -> Outcome<u64> {
    let data = node.data()?;
    data.flush()?;
    data.compact(None, &engine::Progress::default())?;
    let stats = data.stats()?;
    let runs = stats.get("runs").and_then(Value::as_array).into_iter().flatten();
    Ok(runs.filter_map(|run| run.get("entries").and_then(Value::as_u64)).sum())
}
