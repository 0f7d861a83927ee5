//! Counts what goes into a table, and once more what is found in it.

use base::foreign::{decode_erase, split_foreign};
use base::{EntryKind, OriginNumber, Tick, Trailer};

/// What the entries of a table add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) entries: u64,
    pub(crate) tombstones: u64,
    pub(crate) expiring: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) seqno_min: Tick,
    pub(crate) seqno_max: Tick,
    pub(crate) tombstone_stamp_max: Tick,
    pub(crate) expires_at_max_ms: u64,
    /// The largest tick of a local entry.
    pub(crate) local_latest: Option<Tick>,
    /// The largest tick of each other author, by number; an erase counts by its carrier.
    pub(crate) latest: Vec<(OriginNumber, Tick)>,
}

/// Why an entry has no place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// Its kind is unknown, or is stored elsewhere.
    Kind,
    /// It expires, but its value is too short to say when.
    NoExpiry,
    /// Its author's stamp, or what it erases, does not decode.
    NoStamp,
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
        local_latest: None,
        latest: Vec::new(),
    };

    /// Counts an entry.
    #[inline]
    pub(crate) fn count(
        &mut self,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
    ) -> Result<(), Misfit> {
        if trailer.is_plain_put() {
            self.see_local(trailer.seqno());
        } else {
            self.count_unusual(trailer, value)?;
        }
        self.entries += 1;
        self.raw_bytes += (key.len() + value.len()) as u64;
        self.see_seqno(trailer.seqno());
        Ok(())
    }

    /// Counts what is not just a local put.
    fn count_unusual(&mut self, trailer: Trailer, stored: &[u8]) -> Result<(), Misfit> {
        let seqno = trailer.seqno();
        let (stamp_tick, value) = match trailer.is_foreign() {
            true => {
                let (stamp, value) = split_foreign(trailer, stored).map_err(|_| Misfit::NoStamp)?;
                if trailer.kind() == Some(EntryKind::Erase) {
                    return Err(Misfit::Kind);
                }
                self.see(stamp.origin, stamp.tick);
                (stamp.tick, value)
            }
            false if trailer.kind() == Some(EntryKind::Erase) => {
                let erased = decode_erase(trailer, stored).map_err(|_| Misfit::NoStamp)?;
                self.see(erased.carrier.origin, erased.carrier.tick);
                (erased.victim.tick, stored)
            }
            false => {
                self.see_local(seqno);
                (seqno, stored)
            }
        };
        match trailer.kind() {
            Some(EntryKind::Put | EntryKind::Merge | EntryKind::BlobReference) => {}
            Some(EntryKind::Delete | EntryKind::Erase) => {
                self.tombstones += 1;
                self.tombstone_stamp_max = self.tombstone_stamp_max.max(stamp_tick);
            }
            Some(EntryKind::PutExpiring) => {
                let expires_at_ms = value.first_chunk().ok_or(Misfit::NoExpiry)?;
                self.expiring += 1;
                self.expires_at_max_ms =
                    self.expires_at_max_ms.max(u64::from_le_bytes(*expires_at_ms));
            }
            Some(EntryKind::RangeDelete) | None => return Err(Misfit::Kind),
        }
        Ok(())
    }

    /// Counts a range delete of the author with this number.
    pub(crate) fn count_range(&mut self, seqno: Tick, stamp: Tick, author: OriginNumber) {
        self.tombstone_stamp_max = self.tombstone_stamp_max.max(stamp);
        self.see(author, stamp);
        self.see_seqno(seqno);
    }

    /// The largest tick of each author, by number.
    pub(crate) fn authors(&self) -> Vec<(OriginNumber, Tick)> {
        let local = self.local_latest.map(|tick| (OriginNumber::LOCAL, tick));
        local.into_iter().chain(self.latest.iter().copied()).collect()
    }

    #[inline]
    fn see_local(&mut self, tick: Tick) {
        self.local_latest = self.local_latest.max(Some(tick));
    }

    fn see(&mut self, author: OriginNumber, tick: Tick) {
        if author == OriginNumber::LOCAL {
            return self.see_local(tick);
        }
        match self.latest.binary_search_by_key(&author, |(number, _)| *number) {
            Ok(place) => {
                if let Some((_, latest)) = self.latest.get_mut(place) {
                    *latest = tick.max(*latest);
                }
            }
            Err(place) => self.latest.insert(place, (author, tick)),
        }
    }

    #[inline]
    fn see_seqno(&mut self, seqno: Tick) {
        self.seqno_min = self.seqno_min.min(seqno);
        self.seqno_max = self.seqno_max.max(seqno);
    }
}
