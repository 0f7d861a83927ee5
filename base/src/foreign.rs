//! What stands before the value of an entry that came from another node: its author's stamp.
//!
//! A local entry's stamp is its seqno and the origin that "local" means where it is stored, so it
//! stores nothing. An entry whose kind byte has [`EntryKind::FOREIGN_BIT`] starts with:
//!
//! ```text
//! size    field
//!    v    origin          number of the author in the database's list, from 1
//!    v    age             seqno minus the tick of the stamp
//!    *    value           as a local entry of the same kind has it
//! ```
//!
//! An erase is a tombstone just above its victim. It never has the bit, and is always:
//!
//! ```text
//! size    field
//!   24    victim          origin: node, incarnation
//!    v    age             seqno minus the victim's tick
//!    v    carrier         number of the author of the commit that brought it; 0 = local
//!    v    carrier age     seqno minus that commit's tick
//! ```
//!
//! The victim is named in full: it may never have arrived here, so its author may have no number.
//!
//! Ages are never negative: a commit's seqno is above every tick that comes in it (the receive rule).
//!
//! With [`EntryKind::DATED_BIT`] each age is the tick itself: such an entry was written before its seqno was
//! known, into a table that gets one for all of its entries later.

use crate::codec::{Decoded, Reader, put_varint, varint_len};
use crate::error::Corruption;
use crate::key::{EntryKind, Trailer};
use crate::stamp::{Origin, Stamp};
use crate::tick::Tick;

/// An author's place in a database's list of origins, from 1. 0 stands for what "local" means where
/// the number is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginNumber(pub u32);

impl OriginNumber {
    /// What "local" means.
    pub const LOCAL: OriginNumber = OriginNumber(0);

    /// The number of the author at `place` in the list.
    pub fn at(place: usize) -> Option<OriginNumber> {
        u32::try_from(place).ok()?.checked_add(1).map(OriginNumber)
    }

    /// Its place in the list; none for [`OriginNumber::LOCAL`].
    pub fn place(self) -> Option<usize> {
        usize::try_from(self.0.checked_sub(1)?).ok()
    }

    /// Takes a number from the front of `reader`.
    pub fn decode(reader: &mut Reader<'_>) -> Decoded<OriginNumber> {
        u32::try_from(reader.varint()?).map(OriginNumber).map_err(|_| Corruption::OutOfRange)
    }
}

/// A stamp as entries store it: the tick, and the author's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberedStamp {
    /// Who.
    pub origin: OriginNumber,
    /// When.
    pub tick: Tick,
}

/// What an erase says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The stamp just below it: this version of the key and all older ones are erased.
    pub victim: Stamp,
    /// The commit that brought it.
    pub carrier: NumberedStamp,
}

/// The stamp of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryStamp {
    /// That of a write.
    Written(NumberedStamp),
    /// Just above that of its victim.
    Erase(Erased),
}

impl EntryStamp {
    /// The tick by which the entry is compared with others.
    pub fn tick(&self) -> Tick {
        match self {
            EntryStamp::Written(stamp) => stamp.tick,
            EntryStamp::Erase(erased) => erased.victim.tick,
        }
    }

    /// The commit that brought the entry: what a vector must cover for it to be known.
    pub fn carrier(&self) -> NumberedStamp {
        match self {
            EntryStamp::Written(stamp) => *stamp,
            EntryStamp::Erase(erased) => erased.carrier,
        }
    }
}

/// The most bytes that an author's stamp takes before a value.
pub const FOREIGN_LEN_MAX: usize = 5 + 8;
/// The most bytes that an erase stores.
pub const ERASE_LEN_MAX: usize = Origin::LEN + 8 + 5 + 8;

/// Appends what stands before the value of a foreign entry of commit `seqno`. `stamp` is above no
/// tick that the receive rule lets in, so not above `seqno`.
pub fn put_foreign(out: &mut Vec<u8>, seqno: Tick, stamp: NumberedStamp) {
    put_varint(out, u64::from(stamp.origin.0));
    put_varint(out, age(seqno, stamp.tick));
}

/// As [`put_foreign`], for an entry that has [`EntryKind::DATED_BIT`].
pub fn put_dated(out: &mut Vec<u8>, stamp: NumberedStamp) {
    put_varint(out, u64::from(stamp.origin.0));
    put_varint(out, stamp.tick.raw());
}

/// Bytes that [`put_foreign`] appends.
pub fn foreign_len(seqno: Tick, stamp: NumberedStamp) -> usize {
    varint_len(u64::from(stamp.origin.0)) + varint_len(age(seqno, stamp.tick))
}

/// Appends what an erase in commit `seqno` stores.
pub fn put_erase(out: &mut Vec<u8>, seqno: Tick, erased: Erased) {
    erased.victim.origin.encode(out);
    put_varint(out, age(seqno, erased.victim.tick));
    put_foreign(out, seqno, erased.carrier);
}

/// As [`put_erase`], for an erase that has [`EntryKind::DATED_BIT`].
pub fn put_dated_erase(out: &mut Vec<u8>, erased: Erased) {
    erased.victim.origin.encode(out);
    put_varint(out, erased.victim.tick.raw());
    put_dated(out, erased.carrier);
}

fn age(seqno: Tick, tick: Tick) -> u64 {
    debug_assert!(tick <= seqno, "the receive rule puts a commit above every tick in it");
    seqno.raw().saturating_sub(tick.raw())
}

/// The author's stamp and the value behind it, of an entry that has [`EntryKind::FOREIGN_BIT`].
pub fn split_foreign(trailer: Trailer, stored: &[u8]) -> Decoded<(NumberedStamp, &[u8])> {
    let mut reader = Reader::new(stored);
    let stamp = decode_stamp(trailer, &mut reader)?;
    if stamp.origin == OriginNumber::LOCAL {
        return Err(Corruption::OutOfRange);
    }
    Ok((stamp, reader.rest()))
}

/// What an erase says.
pub fn decode_erase(trailer: Trailer, stored: &[u8]) -> Decoded<Erased> {
    let mut reader = Reader::new(stored);
    let origin = Origin::decode(&mut reader)?;
    let tick = decode_tick(trailer, &mut reader)?;
    let carrier = decode_stamp(trailer, &mut reader)?;
    match reader.is_empty() {
        true => Ok(Erased { victim: Stamp { tick, origin }, carrier }),
        false => Err(Corruption::TrailingBytes),
    }
}

fn decode_stamp(trailer: Trailer, reader: &mut Reader<'_>) -> Decoded<NumberedStamp> {
    let origin = OriginNumber::decode(reader)?;
    Ok(NumberedStamp { origin, tick: decode_tick(trailer, reader)? })
}

fn decode_tick(trailer: Trailer, reader: &mut Reader<'_>) -> Decoded<Tick> {
    let stored = reader.varint()?;
    let raw = match trailer.is_dated() {
        true => Some(stored),
        false => trailer.seqno().raw().checked_sub(stored),
    };
    raw.and_then(Tick::from_raw).ok_or(Corruption::OutOfRange)
}

/// The value of an entry without the author's stamp: what a local entry of its kind stores.
#[inline]
pub fn plain_value(trailer: Trailer, stored: &[u8]) -> Decoded<&[u8]> {
    match trailer.is_foreign() {
        false => Ok(stored),
        true => split_foreign(trailer, stored).map(|(_, value)| value),
    }
}

/// The stamp of any entry but a range delete.
pub fn stamp_of(trailer: Trailer, stored: &[u8]) -> Decoded<EntryStamp> {
    if trailer.kind() == Some(EntryKind::Erase) {
        return decode_erase(trailer, stored).map(EntryStamp::Erase);
    }
    let stamp = match trailer.is_foreign() {
        true => split_foreign(trailer, stored)?.0,
        false => NumberedStamp { origin: OriginNumber::LOCAL, tick: trailer.seqno() },
    };
    Ok(EntryStamp::Written(stamp))
}

/// Appends to `out` what is stored of an entry where "local" means another author than the one with
/// the number `local`, which it means where the entry comes from. Returns its trailer there.
pub fn as_foreign(
    trailer: Trailer,
    stored: &[u8],
    local: OriginNumber,
    out: &mut Vec<u8>,
) -> Decoded<Trailer> {
    let seqno = trailer.seqno();
    if trailer.kind() == Some(EntryKind::Erase) {
        let mut erased = decode_erase(trailer, stored)?;
        if erased.carrier.origin == OriginNumber::LOCAL {
            erased.carrier.origin = local;
        }
        match trailer.is_dated() {
            true => put_dated_erase(out, erased),
            false => put_erase(out, seqno, erased),
        }
        return Ok(trailer);
    }
    if !trailer.is_foreign() {
        put_foreign(out, seqno, NumberedStamp { origin: local, tick: seqno });
    }
    out.extend_from_slice(stored);
    Ok(Trailer(trailer.0 | u64::from(EntryKind::FOREIGN_BIT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Incarnation, NodeId};
    use proptest::prelude::*;

    fn tick(raw: u64) -> Tick {
        Tick::from_raw(raw).unwrap()
    }

    fn numbered(origin: u32, raw: u64) -> NumberedStamp {
        NumberedStamp { origin: OriginNumber(origin), tick: tick(raw) }
    }

    proptest! {
        #[test]
        fn a_foreign_stamp_comes_back_with_the_value_behind_it(
            ticks in (0u64..1 << 56, 0u64..1 << 56), origin in 1u32.., value: Vec<u8>
        ) {
            let (seqno, at) = (tick(ticks.0.max(ticks.1)), ticks.0.min(ticks.1));
            let stamp = numbered(origin, at);
            let mut stored = Vec::new();
            put_foreign(&mut stored, seqno, stamp);
            prop_assert_eq!(stored.len(), foreign_len(seqno, stamp));
            prop_assert!(stored.len() <= FOREIGN_LEN_MAX);
            stored.extend_from_slice(&value);
            let trailer = Trailer::foreign(seqno, EntryKind::Put);
            prop_assert_eq!(split_foreign(trailer, &stored), Ok((stamp, &value[..])));
            prop_assert!(trailer.is_foreign() && trailer.kind() == Some(EntryKind::Put));
            prop_assert_eq!(plain_value(trailer, &stored), Ok(&value[..]));
            prop_assert_eq!(stamp_of(trailer, &stored), Ok(EntryStamp::Written(stamp)));
        }

        #[test]
        fn an_erase_comes_back_and_never_from_a_part_of_it(
            ticks in (0u64..1 << 56, 0u64..1 << 56, 0u64..1 << 56), node: [u8; 16], carrier: u32,
            cut: prop::sample::Index
        ) {
            let seqno = tick(ticks.0.max(ticks.1).max(ticks.2));
            let origin = Origin { node: NodeId(node), incarnation: Incarnation(ticks.0) };
            let victim = Stamp { tick: tick(ticks.1), origin };
            let erased = Erased { victim, carrier: numbered(carrier, ticks.2) };
            let mut stored = Vec::new();
            put_erase(&mut stored, seqno, erased);
            prop_assert!(stored.len() <= ERASE_LEN_MAX);
            let stamp = stamp_of(Trailer::new(seqno, EntryKind::Erase), &stored).unwrap();
            prop_assert_eq!(stamp, EntryStamp::Erase(erased));
            prop_assert_eq!((stamp.tick(), stamp.carrier()), (victim.tick, erased.carrier));
            let trailer = Trailer::new(seqno, EntryKind::Erase);
            prop_assert!(decode_erase(trailer, &stored[..cut.index(stored.len())]).is_err());
            stored.push(0);
            prop_assert_eq!(decode_erase(trailer, &stored), Err(Corruption::TrailingBytes));
        }

        #[test]
        fn a_dated_entry_keeps_its_stamp_whatever_seqno_it_gets(
            ticks in (0u64..1 << 56, 0u64..1 << 56, 0u64..1 << 56), origin in 1u32.., value: Vec<u8>,
            node: [u8; 16]
        ) {
            let (seqno, stamp) = (tick(ticks.0), numbered(origin, ticks.1));
            let raised = |trailer: Trailer| Trailer(trailer.0 | seqno.raw() << 8);
            let mut stored = Vec::new();
            put_dated(&mut stored, stamp);
            prop_assert!(stored.len() <= FOREIGN_LEN_MAX);
            stored.extend_from_slice(&value);
            let trailer = raised(Trailer::dated(EntryKind::Put));
            prop_assert_eq!((trailer.seqno(), trailer.kind()), (seqno, Some(EntryKind::Put)));
            prop_assert_eq!(stamp_of(trailer, &stored), Ok(EntryStamp::Written(stamp)));
            prop_assert_eq!(plain_value(trailer, &stored), Ok(&value[..]));
            let gone = trailer.with_kind(EntryKind::Delete);
            prop_assert_eq!(stamp_of(gone, &stored), Ok(EntryStamp::Written(stamp)));
            let of = Origin { node: NodeId(node), incarnation: Incarnation(1) };
            let erased = Erased { victim: Stamp { tick: tick(ticks.2), origin: of }, carrier: stamp };
            let mut stored = Vec::new();
            put_dated_erase(&mut stored, erased);
            prop_assert!(stored.len() <= ERASE_LEN_MAX);
            let trailer = raised(Trailer::dated(EntryKind::Erase));
            let mut moved = Vec::new();
            let after = as_foreign(trailer, &stored, OriginNumber(7), &mut moved);
            prop_assert_eq!((after, &moved), (Ok(trailer), &stored));
            prop_assert_eq!(stamp_of(trailer, &stored), Ok(EntryStamp::Erase(erased)));
        }

        #[test]
        fn hostile_bytes_never_panic(
            seqno in prop_oneof![0u64..64, 0u64..1 << 56], kind: u8, stored: Vec<u8>
        ) {
            let trailer = Trailer(seqno << 8 | u64::from(kind));
            let _ = stamp_of(trailer, &stored);
            let _ = plain_value(trailer, &stored);
            let _ = as_foreign(trailer, &stored, OriginNumber(7), &mut Vec::new());
        }
    }

    #[test]
    fn a_local_entry_stores_nothing_of_its_stamp() {
        let trailer = Trailer::new(tick(9), EntryKind::Delete);
        let stamp = stamp_of(trailer, b"").unwrap();
        assert_eq!(stamp, EntryStamp::Written(numbered(0, 9)));
        assert_eq!(plain_value(trailer, b"value"), Ok(&b"value"[..]));
    }

    #[test]
    fn an_entry_keeps_its_stamp_where_local_means_somebody_else() {
        let moved = |trailer, stored: &[u8]| {
            let mut out = Vec::new();
            let trailer = as_foreign(trailer, stored, OriginNumber(7), &mut out).unwrap();
            (stamp_of(trailer, &out).unwrap(), plain_value(trailer, &out).unwrap().to_vec())
        };
        let local = Trailer::new(tick(9), EntryKind::Put);
        assert_eq!(moved(local, b"v"), (EntryStamp::Written(numbered(7, 9)), b"v".to_vec()));
        let mut stored = Vec::new();
        put_foreign(&mut stored, tick(9), numbered(3, 4));
        let foreign = Trailer::foreign(tick(9), EntryKind::Delete);
        assert_eq!(moved(foreign, &stored), (EntryStamp::Written(numbered(3, 4)), vec![]));
        for (carrier, after) in [(0, 7), (3, 3)] {
            let victim = Stamp { tick: tick(2), origin: Origin::default() };
            let mut erased = Erased { victim, carrier: numbered(carrier, 8) };
            let mut stored = Vec::new();
            put_erase(&mut stored, tick(9), erased);
            erased.carrier.origin = OriginNumber(after);
            let (stamp, _) = moved(Trailer::new(tick(9), EntryKind::Erase), &stored);
            assert_eq!(stamp, EntryStamp::Erase(erased));
        }
    }

    #[test]
    fn a_tick_from_before_the_beginning_and_a_nameless_author_are_refused() {
        let trailer = Trailer::foreign(tick(5), EntryKind::Put);
        assert_eq!(split_foreign(trailer, &[1, 6]), Err(Corruption::OutOfRange));
        assert_eq!(split_foreign(trailer, &[0, 1]), Err(Corruption::OutOfRange));
    }

    #[test]
    fn numbers_count_from_one() {
        assert_eq!(OriginNumber::at(0), Some(OriginNumber(1)));
        assert_eq!(OriginNumber(1).place(), Some(0));
        assert_eq!(OriginNumber::LOCAL.place(), None);
    }
}
