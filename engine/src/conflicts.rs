//! Which keys were written since the oldest open transaction began.
//!
//! Lives under the queue lock, so it knows every commit that has a tick, whether or not it is
//! inserted or visible yet. Costs nothing while no transaction is open.

use base::{Defect, Error, Op, OpKind, Result, SpaceId, Tick, planted};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Keys remembered at the most; beyond, the oldest transactions conflict for safety.
const KEYS_MAX: usize = 1 << 20;

/// What a transaction read, and when.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    /// It saw everything up to this commit.
    pub(crate) at: Tick,
    /// Keys it looked up.
    pub(crate) keys: Vec<(SpaceId, Box<[u8]>)>,
    /// Ranges it scanned.
    pub(crate) ranges: Vec<KeyRange>,
}

/// Keys of a keyspace: from, and to (exclusive; empty means to the last key).
pub(crate) type KeyRange = (SpaceId, Box<[u8]>, Box<[u8]>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    /// Open transactions by the commit they began after.
    open: BTreeMap<Tick, usize>,
    /// The last write of each key.
    writes: BTreeMap<(SpaceId, Box<[u8]>), Tick>,
    /// Ranges that were deleted or ingested into.
    range_writes: Vec<(KeyRange, Tick)>,
    /// Writes up to here may be forgotten.
    forgotten: Tick,
    begun: u64,
    refused: Cell<u64>,
}

/// How many transactions there are and were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TransactionCounts {
    /// Open now.
    pub(crate) open: u64,
    /// Begun since the database was opened.
    pub(crate) begun: u64,
    /// Refused for a conflict.
    pub(crate) refused: u64,
}

impl Conflicts {
    /// Whether writes must be noted.
    #[inline]
    pub(crate) fn is_watching(&self) -> bool {
        !self.open.is_empty()
    }

    /// How many transactions there are and were.
    pub(crate) fn counts(&self) -> TransactionCounts {
        let open = self.open.values().sum::<usize>() as u64;
        TransactionCounts { open, begun: self.begun, refused: self.refused.get() }
    }

    /// A transaction begins that sees everything up to `at`, the last commit so far.
    pub(crate) fn begin(&mut self, at: Tick) {
        if self.open.is_empty() {
            self.forgotten = at;
        }
        self.begun += 1;
        *self.open.entry(at).or_default() += 1;
    }

    /// A transaction that began at `at` is over.
    pub(crate) fn end(&mut self, at: Tick) {
        if let Some(count) = self.open.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&at);
            }
        }
        match self.open.keys().next() {
            None => {
                self.writes.clear();
                self.range_writes.clear();
            }
            Some(&oldest) if self.writes.len() > KEYS_MAX / 2 => self.forget(oldest),
            Some(_) => {}
        }
    }

    fn forget(&mut self, up_to: Tick) {
        self.forgotten = self.forgotten.max(up_to);
        self.writes.retain(|_, seqno| *seqno > up_to);
        self.range_writes.retain(|(_, seqno)| *seqno > up_to);
    }

    /// Notes a write of commit `seqno`.
    pub(crate) fn note(&mut self, seqno: Tick, space: SpaceId, op: &Op<'_>) {
        if self.writes.len() >= KEYS_MAX {
            // Whoever began before this commit can no longer be told that it did not conflict.
            self.forget(seqno.previous());
        }
        match op.kind {
            OpKind::RangeDelete { end } => {
                self.range_writes.push(((space, op.key.into(), end.into()), seqno));
            }
            _ => {
                self.writes.insert((space, op.key.into()), seqno);
            }
        }
    }

    /// Notes that commit `seqno` may have written any key of `range`.
    pub(crate) fn note_range(&mut self, seqno: Tick, range: KeyRange) {
        if self.is_watching() {
            self.range_writes.push((range, seqno));
        }
    }

    /// Refuses a transaction if anything it read was written since.
    pub(crate) fn check(&self, reads: &ReadSet) -> Result<()> {
        let checked = self.find(reads);
        self.refused.set(self.refused.get() + u64::from(checked.is_err()));
        checked
    }

    fn find(&self, reads: &ReadSet) -> Result<()> {
        let is_newer = |seqno: &Tick| *seqno > reads.at && !planted(Defect::SkipConflictCheck);
        if self.forgotten > reads.at && !(reads.keys.is_empty() && reads.ranges.is_empty()) {
            return Err(Error::Conflict);
        }
        let key_conflict = reads.keys.iter().any(|key| self.writes.get(key).is_some_and(is_newer));
        let range_conflict = reads.ranges.iter().any(|(space, start, end)| {
            let upper = match &**end {
                [] => Bound::Excluded((SpaceId(space.0.saturating_add(1)), Box::default())),
                _ => Bound::Excluded((*space, end.clone())),
            };
            let lower = Bound::Included((*space, start.clone()));
            self.writes.range((lower, upper)).any(|(_, seqno)| is_newer(seqno))
        });
        let deleted = self.range_writes.iter().filter(|(_, seqno)| is_newer(seqno));
        let delete_conflict = deleted.map(|(range, _)| range).any(|(of, start, end)| {
            reads.keys.iter().any(|(space, key)| space == of && is_in(key, start, end))
                || reads.ranges.iter().any(|(space, from, to)| {
                    space == of && (end.is_empty() || from < end) && (to.is_empty() || start < to)
                })
        });
        if key_conflict || range_conflict || delete_conflict {
            Err(Error::Conflict)
        } else {
            Ok(())
        }
    }
}

fn is_in(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    key >= start && (end.is_empty() || key < end)
}
