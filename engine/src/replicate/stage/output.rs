//! What a delta leaves here, as tables: one run of what won, above it runs of copies of late puts, and of
//! what is parked for a resolver.

use super::super::late::{self, Late};
use super::super::parked::{self, Loser};
use crate::output::{IsFirst, Output, OutputPlan};
use crate::parts::Parts;
use base::error::FileKind;
use base::foreign::{Erased, NumberedStamp, put_erase, put_foreign};
use base::state::{StateEntry, StateKind};
use base::{
    Corruption, EntryKind, Error, Origin, OriginNumber, Result, SpaceId, Stamp, Tick, Trailer,
};
use sstable::{RangeDelete, TableMeta};
use std::collections::BTreeMap;

/// Bytes of copies that are collected before they are written.
const COPIES_LEN_MAX: usize = 4 << 20;

/// Writes entries of many authors as those of one commit.
pub(super) struct Tables<'a> {
    parts: &'a Parts,
    plan: OutputPlan,
    seqno: Tick,
    numbers: BTreeMap<Origin, OriginNumber>,
    main: Option<Output<'a>>,
    stored: Vec<u8>,
    /// Where copies of late puts go.
    quarantine: Option<SpaceId>,
    copies: BTreeMap<Vec<u8>, Vec<u8>>,
    copies_len: usize,
    /// Where losers are parked.
    parked_in: Option<SpaceId>,
    parked: BTreeMap<Vec<u8>, Vec<u8>>,
    parked_len: usize,
    /// Runs of copies, and of what is parked.
    finished: Vec<Vec<TableMeta>>,
}

impl<'a> Tables<'a> {
    /// Those of the commit `seqno`, with `ranges` among them.
    pub(super) fn new(
        parts: &'a Parts,
        seqno: Tick,
        ranges: Vec<RangeDelete>,
        quarantine: Option<SpaceId>,
    ) -> Tables<'a> {
        let plan = parts.output_plan(parts.options.table_bytes);
        let list = plan.authors.list.iter().enumerate();
        let numbers =
            list.filter_map(|(place, origin)| Some((*origin, OriginNumber::at(place)?))).collect();
        Tables {
            parts,
            seqno,
            numbers,
            main: Some(Output::new(plan.clone(), parts.fs.clone(), parts, ranges)),
            plan,
            stored: Vec::new(),
            quarantine,
            copies: BTreeMap::new(),
            copies_len: 0,
            parked_in: parts.resolvers.parked_in(),
            parked: BTreeMap::new(),
            parked_len: 0,
            finished: Vec::new(),
        }
    }

    /// Whether late puts can be answered.
    pub(super) fn answers(&self) -> bool {
        self.quarantine.is_some()
    }

    /// Stores an entry with its author's stamp.
    pub(super) fn add(&mut self, space: SpaceId, entry: &StateEntry<'_>) -> Result<()> {
        if let StateKind::Erase { carrier } = entry.kind {
            return self.add_erase(space, entry.key, entry.stamp, self.numbered(carrier)?);
        }
        let stamp = self.numbered(entry.stamp)?;
        self.stored.clear();
        put_foreign(&mut self.stored, self.seqno, stamp);
        let kind = match entry.kind {
            StateKind::Put(value) => {
                self.stored.extend_from_slice(value);
                EntryKind::Put
            }
            StateKind::PutExpiring { expires_at_ms, value } => {
                self.stored.extend_from_slice(&expires_at_ms.to_le_bytes());
                self.stored.extend_from_slice(value);
                EntryKind::PutExpiring
            }
            _ => EntryKind::Delete,
        };
        self.push(space, entry.key, Trailer::foreign(self.seqno, kind))
    }

    /// Lets go of what has the stamp `victim`.
    pub(super) fn erase(&mut self, space: SpaceId, key: &[u8], victim: Stamp) -> Result<()> {
        self.add_erase(space, key, victim, self.numbered(victim)?)
    }

    /// Erases a late put of the keyspace `name` by a commit of this node, and keeps a copy.
    pub(super) fn answer(
        &mut self,
        space: SpaceId,
        name: &str,
        entry: &StateEntry<'_>,
    ) -> Result<()> {
        let carrier = NumberedStamp { origin: OriginNumber::LOCAL, tick: self.seqno };
        self.add_erase(space, entry.key, entry.stamp, carrier)?;
        let (value, expires_at_ms) = match entry.kind {
            StateKind::Put(value) => (value, 0),
            StateKind::PutExpiring { expires_at_ms, value } => (value, expires_at_ms),
            _ => return Ok(()),
        };
        let put = Late { stamp: entry.stamp, keyspace: name, key: entry.key, value, expires_at_ms };
        late::each_copy(&put, |key, value| {
            self.copies_len += key.len() + value.len();
            self.copies.insert(key.to_vec(), value.to_vec());
        });
        if self.copies_len > COPIES_LEN_MAX { self.write_copies() } else { Ok(()) }
    }

    fn add_erase(
        &mut self,
        space: SpaceId,
        key: &[u8],
        victim: Stamp,
        carrier: NumberedStamp,
    ) -> Result<()> {
        self.stored.clear();
        put_erase(&mut self.stored, self.seqno, Erased { victim, carrier });
        self.push(space, key, Trailer::new(self.seqno, EntryKind::Erase))
    }

    fn push(&mut self, space: SpaceId, key: &[u8], trailer: Trailer) -> Result<()> {
        let output = self.main.as_mut().ok_or(Error::Closed)?;
        output.add(space, key, trailer, &self.stored, IsFirst::Yes)
    }

    fn numbered(&self, stamp: Stamp) -> Result<NumberedStamp> {
        let number = self.numbers.get(&stamp.origin).copied();
        let origin = number.ok_or_else(|| {
            Error::corrupt(FileKind::Table, base::dir::TABLES_DIR, 0, Corruption::OutOfRange)
        })?;
        Ok(NumberedStamp { origin, tick: stamp.tick })
    }

    fn write_copies(&mut self) -> Result<()> {
        self.copies_len = 0;
        let copies = std::mem::take(&mut self.copies);
        self.write_apart(self.quarantine, &copies)
    }

    /// Writes a run of puts of this node.
    fn write_apart(
        &mut self,
        space: Option<SpaceId>,
        puts: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<()> {
        let Some(space) = space.filter(|_| !puts.is_empty()) else { return Ok(()) };
        let (fs, plan) = (self.parts.fs.clone(), self.plan.clone());
        let mut output = Output::new(plan, fs, self.parts, Vec::new());
        let trailer = Trailer::new(self.seqno, EntryKind::Put);
        for (key, value) in puts {
            output.add(space, key, trailer, value, IsFirst::Yes)?;
        }
        self.finished.push(output.finish()?);
        Ok(())
    }

    /// Parks an entry for its resolver.
    pub(super) fn park(&mut self, loser: &Loser<'_>) -> Result<()> {
        parked::each_part(loser, |key, value| {
            self.parked_len += key.len() + value.len();
            self.parked.insert(key.to_vec(), value.to_vec());
        });
        if self.parked_len > COPIES_LEN_MAX { self.write_parked() } else { Ok(()) }
    }

    fn write_parked(&mut self) -> Result<()> {
        self.parked_len = 0;
        let parked = std::mem::take(&mut self.parked);
        self.write_apart(self.parked_in, &parked)
    }

    /// The runs, the oldest first, all durable.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<TableMeta>>> {
        self.write_copies()?;
        self.write_parked()?;
        let main = self.main.take().ok_or(Error::Closed)?.finish()?;
        let copies = std::mem::take(&mut self.finished);
        Ok([main].into_iter().chain(copies).filter(|run| !run.is_empty()).collect())
    }
}

impl Drop for Tables<'_> {
    /// Runs that were not handed over are leftovers.
    fn drop(&mut self) {
        discard(self.parts, &self.finished);
    }
}

/// Deletes tables that no edit names.
pub(super) fn discard(parts: &Parts, runs: &[Vec<TableMeta>]) {
    runs.iter().flatten().for_each(|meta| parts.obsolete.discard(parts, meta.id));
}
