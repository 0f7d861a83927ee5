//! The commits in the order in which they came, as shipments.

use crate::store::Outbound;
use base::shipment::ShipmentWriter;
use base::{Error, Origin, Result, Shipment, Tick, Vector};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Some commits of one author.
#[derive(Debug)]
struct Entry {
    origin: Origin,
    previous: Tick,
    first: Tick,
    last: Tick,
    bytes: Vec<u8>,
}

/// The log: everything that `start` does not cover.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    start: Vector,
    entries: BTreeMap<u64, Arc<Entry>>,
    next: u64,
}

impl Log {
    pub(crate) fn push(
        &mut self,
        origin: Origin,
        previous: Tick,
        first: Tick,
        last: Tick,
        bytes: &[u8],
    ) {
        let entry = Entry { origin, previous, first, last, bytes: bytes.to_vec() };
        self.entries.insert(self.next, Arc::new(entry));
        self.next += 1;
    }

    /// A delta or tables brought all this: it never was in the log.
    pub(crate) fn jump(&mut self, to: &Vector) {
        self.start.raise_all(to);
    }

    /// Forgets all but the newest entries.
    pub(crate) fn trim(&mut self, keep: usize) {
        while self.entries.len() > keep {
            let Some((_, entry)) = self.entries.pop_first() else { return };
            self.start.raise(entry.origin, entry.last);
        }
    }

    /// How many entries `after` lacks.
    pub(crate) fn count_behind(&self, after: &Vector) -> usize {
        self.entries.values().filter(|entry| !after.covers(entry.origin, entry.last)).count()
    }

    pub(crate) fn check_reaches(&self, after: &Vector) -> Result<()> {
        match self.start.iter().find(|(origin, tick)| !after.covers(*origin, *tick)) {
            Some((origin, tick)) => {
                Err(Error::HistoryGone { asked: after.get(origin).raw(), oldest: tick.raw() })
            }
            None => Ok(()),
        }
    }

    /// The first shipment from `at` on that `known` does not cover. Consecutive single commits of
    /// `own` go together.
    pub(crate) fn next(
        &self,
        at: &mut u64,
        known: &Vector,
        own: Origin,
        len_max: usize,
    ) -> Result<Option<Outbound>> {
        self.check_reaches(known)?;
        for (number, entry) in self.entries.range(*at..) {
            if entry.last <= known.get(entry.origin) {
                continue;
            }
            *at = *number;
            if known.get(entry.origin) < entry.previous {
                let (asked, oldest) = (known.get(entry.origin).raw(), entry.previous.raw());
                return Err(Error::HistoryGone { asked, oldest });
            }
            if entry.origin == own {
                return self.packed(*number, own, len_max).map(Some);
            }
            return Ok(Some(outbound(entry)));
        }
        *at = self.next;
        Ok(None)
    }

    fn packed(&self, from: u64, own: Origin, len_max: usize) -> Result<Outbound> {
        let broken = |found: base::Corruption| Error::invalid(found.to_string());
        let entries = self.entries.range(from..).map(|(_, entry)| entry);
        let mut run = entries.take_while(|entry| entry.origin == own).peekable();
        let Some(head) = run.peek().cloned() else {
            return Err(Error::invalid("the log has no such entry"));
        };
        let previous = Some(head.previous).filter(|tick| *tick > Tick::ZERO);
        let mut writer = ShipmentWriter::new(base::ScopeId::MAIN, own, previous);
        for entry in run {
            let shipment = Shipment::decode(&entry.bytes).map_err(broken)?;
            let ops: u64 = shipment.commits.iter().map(|commit| commit.op_count).sum();
            if writer.last() != shipment.previous.unwrap_or(Tick::ZERO)
                || !writer.has_room(ops)
                || !writer.is_empty() && writer.len() + entry.bytes.len() > len_max
            {
                break;
            }
            for commit in &shipment.commits {
                let name_of = |number| shipment.name_of(number).map(str::to_owned);
                writer.push(commit.tick, commit.op_count, &commit.ops, name_of).map_err(broken)?;
            }
        }
        let (origin, first, last) = (own, head.first, writer.last());
        Ok(Outbound { origin, first, last, bytes: writer.finish() })
    }
}

fn outbound(entry: &Entry) -> Outbound {
    let Entry { origin, first, last, bytes, .. } = entry;
    Outbound { origin: *origin, first: *first, last: *last, bytes: bytes.clone() }
}
