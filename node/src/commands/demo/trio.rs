//! Three nodes of this very program keep each other equal over QUIC.
//!
//! Each is a process of its own, on loopback. A ledger of all acknowledged writes says what they must
//! hold: their digests are compared with its digest, so all three being wrong alike is noticed, too.
//!
//! ```text
//! here      they meet, data comes to one and is on all, single writes are timed
//! apart     one is cut off while all write, one is killed and started again, all meet again
//! absence   one is away while much is written, and while deletes are made and forgotten
//! ```

mod absence;
mod apart;

use super::brood::Brood;
use super::ledger::{Fate, Ledger, Stamp, Write};
use super::node::{Node, until};
use super::report::{Report, Step};
use crate::args::Durability;
use crate::error::Outcome;
use crate::output::human_bytes;
use crate::place::{Place, Remote};
use crate::record::Record;
use crate::ucd;
use base::{Clock, SystemClock};

const KEYSPACE: &str = "characters";
/// Writes that are timed one by one.
const TIMED: usize = 300;
const BATCH_RECORDS: usize = 1000;

/// The nodes, and what they must hold.
pub(super) struct Trio<'b> {
    nodes: [Node<'b>; 3],
    ledger: Ledger,
    /// What c has acknowledged while it was cut off.
    alone: Vec<Write>,
}

impl<'b> Trio<'b> {
    /// Three empty databases that know of each other.
    pub(super) fn new(brood: &'b Brood) -> Outcome<Trio<'b>> {
        let mut nodes = [Node::new(brood, "a")?, Node::new(brood, "b")?, Node::new(brood, "c")?];
        let addresses = [0, 1, 2].map(|number: usize| nodes.get(number).map(Node::address));
        for (number, node) in nodes.iter_mut().enumerate() {
            let others = addresses.iter().enumerate().filter(|(other, _)| *other != number);
            node.set_peers(others.filter_map(|(_, address)| address.clone()).collect());
        }
        Ok(Trio { nodes, ledger: Ledger::default(), alone: Vec::new() })
    }

    /// All that they show.
    pub(super) fn run(mut self, report: &mut Report<'_>) -> Outcome {
        self.meet(report)?;
        self.load(report)?;
        self.time_single_writes(report)?;
        self.cut_off(report)?;
        self.kill(report)?;
        self.heal(report)?;
        self.catch_up(report)?;
        self.forget_deletes(report)?;
        self.stop(report)
    }

    /// Starts all three and waits until each sees both others.
    fn meet(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("start three nodes");
        for node in &mut self.nodes {
            node.start()?;
        }
        let nodes = &self.nodes;
        until("each node sees both others", || {
            let mut all = true;
            for node in nodes {
                all &= node.status()?.sync.peers.iter().filter(|peer| peer.online).count() == 2;
            }
            Ok(all)
        })?;
        step.check(nodes.iter().all(|node| node.id.len() == 32), "a node has no name");
        let mut told = Vec::new();
        for node in nodes {
            told.push(format!("{} {}", node.name, node.url()?));
        }
        let seconds = report.seconds(&step);
        let told = told.join(", ");
        report.end(step, format_args!("{told}; linked over QUIC in {seconds:.1} s"))
    }

    /// Loads the characters into one; they come to the others.
    fn load(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("load into a, read from b and c");
        let [a, b, c] = &self.nodes;
        let received = || -> Outcome<u64> {
            Ok(b.status()?.sync.totals.bytes_received + c.status()?.sync.totals.bytes_received)
        };
        let before = received()?;
        let mut bytes = 0;
        let mut sink = a.data()?.sink(KEYSPACE, Durability::Sync)?;
        for (number, (key, value)) in ucd::records()?.enumerate() {
            bytes += key.len() + value.len();
            let record = Record { keyspace: None, key: key.clone().into(), value: value.into() };
            sink.add(&record)?;
            if (number + 1) % BATCH_RECORDS == 0 {
                sink.commit()?;
            }
            let value = Some(value.to_owned());
            self.ledger.note(KEYSPACE, Write { key, value, stamp: Stamp::default() });
        }
        sink.commit()?;
        let keys = self.ledger.keys(KEYSPACE);
        let last = keys.last().map_or("", String::as_str);
        let (at_b, at_c) = (b.data()?, c.data()?);
        until("b and c have the last record", || {
            Ok(has(&at_b, KEYSPACE, last)? && has(&at_c, KEYSPACE, last)?)
        })?;
        let seconds = report.seconds(&step);
        let rate = keys.len() as f64 / seconds.max(1e-9);
        let received = received()?.saturating_sub(before) / 2;
        self.check_equal(&mut step)?;
        step.measured("ops_per_second", rate);
        step.measured("wire_bytes_per_op", received as f64 / keys.len().max(1) as f64);
        let (count, size) = (keys.len(), human_bytes(bytes as u64));
        let received = human_bytes(received);
        let found = format!("{count} characters, {size}: {rate:.0} ops/s to both");
        report.end(step, format_args!("{found}; {received} received by each; equal digests"))
    }

    /// Writes to one, and looks at another until it is there.
    fn time_single_writes(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("write to a, watch b");
        let clock = SystemClock::default();
        let [a, b, _] = &self.nodes;
        let (at_a, at_b) = (a.data()?, b.data()?);
        let mut waits = Vec::new();
        for number in 0..TIMED {
            let (key, value) = (format!("timed {number:04}"), format!("write {number}"));
            let write = super::node::write(&at_a, &a.id, KEYSPACE, &key, Some(&value))?;
            let acknowledged = clock.monotonic();
            until("b has what a acknowledged", || has(&at_b, KEYSPACE, &key))?;
            waits.push((clock.monotonic() - acknowledged).as_secs_f64() * 1000.0);
            self.ledger.note(KEYSPACE, write);
        }
        waits.sort_by(f64::total_cmp);
        let at = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default();
        let (p50, p99) = (at(50), at(99));
        self.settle(&mut step)?;
        step.measured("lag_p50_ms", p50);
        step.measured("lag_p99_ms", p99);
        let found =
            format!("{TIMED} synced writes, readable on b after their acknowledgement by a");
        report.end(step, format_args!("{found}: p50 {p50:.1} ms, p99 {p99:.1} ms"))
    }

    /// Stops all three.
    fn stop(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("stop");
        for node in &mut self.nodes {
            step.check(node.stop()?, "a node did not end well");
        }
        report.end(step, "all three closed their databases")
    }

    /// Waits until all hold what the ledger says.
    fn settle(&self, step: &mut Step) -> Outcome {
        let expected = self.ledger.digest();
        until("all three hold every acknowledged write", || {
            let mut all = true;
            for node in &self.nodes {
                all = all && node.digest()? == expected;
            }
            Ok(all)
        })?;
        self.check_equal(step)
    }

    /// Checks that all hold what the ledger says, now.
    fn check_equal(&self, step: &mut Step) -> Outcome {
        let expected = self.ledger.digest();
        for node in &self.nodes {
            step.check(node.digest()? == expected, &format!("{} holds something else", node.name));
        }
        Ok(())
    }

    fn note(&mut self, keyspace: &str, writes: &[Write]) -> usize {
        let fates = writes.iter().map(|write| self.ledger.note(keyspace, write.clone()));
        fates.filter(|fate| *fate == Fate::Lost).count()
    }
}

/// Whether `key` has a value.
fn has(data: &Remote, keyspace: &str, key: &str) -> Outcome<bool> {
    match data.get(keyspace, key.as_bytes()) {
        Ok(value) => Ok(value.is_some()),
        Err(failure) if failure.code() == "KeyspaceNotFound" => Ok(false),
        Err(failure) => Err(failure),
    }
}
