//! Counts what goes into a table, and once more what is found in it.

use base::{EntryKind, Tick, Trailer};

/// What the entries of a table add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) entries: u64,
    pub(crate) tombstones: u64,
    pub(crate) expiring: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) seqno_min: Tick,
    pub(crate) seqno_max: Tick,
    pub(crate) tombstone_stamp_max: Tick,
    pub(crate) expires_at_max_ms: u64,
}

/// Why an entry has no place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// Its kind is unknown, or is stored elsewhere.
    Kind,
    /// It expires, but its value is too short to say when.
    NoExpiry,
}

impl Tally {
    /// Of no entries.
    pub(crate) const EMPTY: Tally = Tally {
        entries: 0,
        tombstones: 0,
        expiring: 0,
        raw_bytes: 0,
        seqno_min: Tick::MAX,
        seqno_max: Tick::ZERO,
        tombstone_stamp_max: Tick::ZERO,
        expires_at_max_ms: 0,
    };

    /// Counts an entry.
    #[inline]
    pub(crate) fn count(
        &mut self,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
    ) -> Result<(), Misfit> {
        match trailer.kind() {
            Some(EntryKind::Put | EntryKind::Merge | EntryKind::BlobReference) => {}
            Some(EntryKind::Delete | EntryKind::Erase) => {
                // The stamp of a foreign tombstone is at most its seqno: the clock has seen it.
                self.tombstones += 1;
                self.tombstone_stamp_max = self.tombstone_stamp_max.max(trailer.seqno());
            }
            Some(EntryKind::PutExpiring) => {
                let expires_at_ms = value.first_chunk().ok_or(Misfit::NoExpiry)?;
                self.expiring += 1;
                self.expires_at_max_ms =
                    self.expires_at_max_ms.max(u64::from_le_bytes(*expires_at_ms));
            }
            Some(EntryKind::RangeDelete) | None => return Err(Misfit::Kind),
        }
        self.entries += 1;
        self.raw_bytes += (key.len() + value.len()) as u64;
        self.see_seqno(trailer.seqno());
        Ok(())
    }

    /// Counts a range delete.
    pub(crate) fn count_range(&mut self, seqno: Tick, stamp: Tick) {
        self.tombstone_stamp_max = self.tombstone_stamp_max.max(stamp);
        self.see_seqno(seqno);
    }

    #[inline]
    fn see_seqno(&mut self, seqno: Tick) {
        self.seqno_min = self.seqno_min.min(seqno);
        self.seqno_max = self.seqno_max.max(seqno);
    }
}
