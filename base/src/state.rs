//! State: entries as they are, rather than the commits that made them so.
//!
//! A node that is too far behind the log gets state, in chunks that need nothing beside themselves:
//! each entry with its author's stamp. Entries come in the order of keyspace name and key; range
//! deletes come in chunks before all others.
//!
//! ```text
//! size    field
//!    1    version         1
//!    v    scope
//!    v    keyspaces       how many; no more than entries may be
//!   per keyspace:
//!    v+*    name          UTF-8, 1..=255 bytes
//!    v    origins         how many; no more than entries may be
//!   per origin:
//!   24      origin        node, incarnation
//!    v    entries         how many, at least one; at most 1 << 18
//!   per entry:
//!    1      kind          StateKind: 1 put, 2 delete, 3 put expiring, 4 range delete, 5 erase
//!    v      keyspace      place in the list above
//!    v+*    key           a range delete's start
//!    v      origin        place in the list above: with the tick, the stamp; of an erase, its victim
//!    v      tick
//!   put:
//!    v+*    value
//!   put expiring:
//!    8      expires at    milliseconds since the Unix epoch
//!    v+*    value
//!   range delete:
//!    v+*    end           exclusive; empty = to the end of the keyspace
//!   erase:
//!    v      carrier       place of the origin of the commit that brought it ..
//!    v      carried at    .. and that commit's tick
//!   32    digest          Blake3 of all bytes before it
//! ```

use crate::codec::{Decoded, Reader, put_bytes, put_varint};
use crate::error::Corruption;
use crate::key::ScopeId;
use crate::limits::{KEY_LEN_MAX, KEYSPACE_NAME_LEN_MAX, VALUE_LEN_MAX};
use crate::stamp::{Origin, Stamp};
use crate::tick::Tick;

const VERSION: u8 = 1;
const DIGEST_LEN: usize = 32;
/// Bytes of an encoded entry, keyspace and origin at least.
const ENTRY_LEN_MIN: usize = 5;
const KEYSPACE_LEN_MIN: usize = 2;
/// Entries of a chunk at most, and names and authors: decoded, each is far more than its bytes. A giver's
/// chunk of 512 KiB holds less than half as many, however short they are.
pub const CHUNK_ENTRIES_MAX: usize = 1 << 18;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const PUT_EXPIRING: u8 = 3;
const RANGE_DELETE: u8 = 4;
const ERASE: u8 = 5;

/// What an entry of a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind<'a> {
    /// The key has the value.
    Put(&'a [u8]),
    /// The key is deleted.
    Delete,
    /// The key has the value until a moment.
    PutExpiring {
        /// When the entry ends, in milliseconds since the Unix epoch.
        expires_at_ms: u64,
        /// The value until then.
        value: &'a [u8],
    },
    /// All keys from the entry's key to `end`, exclusive, with a smaller stamp are deleted.
    RangeDelete {
        /// The first key that stays; empty means to the last key.
        end: &'a [u8],
    },
    /// The version with the entry's stamp, and all older ones, are erased.
    Erase {
        /// The commit that brought the erase.
        carrier: Stamp,
    },
}

/// One entry of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateEntry<'a> {
    /// The keyspace's name.
    pub keyspace: &'a str,
    /// The key, or a range's start.
    pub key: &'a [u8],
    /// Its author's stamp; of an erase, the stamp of its victim.
    pub stamp: Stamp,
    /// What it is.
    pub kind: StateKind<'a>,
}

const _: () = assert!(
    CHUNK_ENTRIES_MAX * size_of::<StateEntry<'_>>() <= 32 << 20,
    "five bytes become so many"
);

impl StateEntry<'_> {
    /// The commit that brought it: what a vector must cover for it to be known.
    pub fn carrier(&self) -> Stamp {
        match self.kind {
            StateKind::Erase { carrier } => carrier,
            _ => self.stamp,
        }
    }
}

/// A decoded chunk: every entry was checked, and so was the digest.
#[derive(Clone, Debug)]
pub struct StateChunk<'a> {
    /// The dataset.
    pub scope: ScopeId,
    /// The entries, at least one.
    pub entries: Vec<StateEntry<'a>>,
}

impl<'a> StateChunk<'a> {
    /// The chunk that is `bytes`, all of them.
    pub fn decode(bytes: &'a [u8]) -> Decoded<StateChunk<'a>> {
        let len = bytes.len().checked_sub(DIGEST_LEN).ok_or(Corruption::Truncated)?;
        let (body, digest) = bytes.split_at_checked(len).ok_or(Corruption::Truncated)?;
        if blake3::hash(body).as_bytes() != digest {
            return Err(Corruption::DigestMismatch);
        }
        let mut reader = Reader::new(body);
        if reader.u8()? != VERSION {
            return Err(Corruption::UnknownKind);
        }
        let scope = u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?;
        let names = decode_list(&mut reader, KEYSPACE_LEN_MIN, decode_name)?;
        let origins = decode_list(&mut reader, Origin::LEN, Origin::decode)?;
        let entries = decode_list(&mut reader, ENTRY_LEN_MIN, |reader| {
            decode_entry(reader, &names, &origins)
        })?;
        match (reader.is_empty(), entries.is_empty()) {
            (false, _) => Err(Corruption::TrailingBytes),
            (true, true) => Err(Corruption::Truncated),
            (true, false) => Ok(StateChunk { scope: ScopeId(scope), entries }),
        }
    }
}

fn decode_list<'a, T>(
    reader: &mut Reader<'a>,
    item_len_min: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Decoded<T>,
) -> Decoded<Vec<T>> {
    let count = reader.len()?;
    if count > CHUNK_ENTRIES_MAX {
        return Err(Corruption::OutOfRange);
    }
    if reader.rest().len() / item_len_min < count {
        return Err(Corruption::Truncated);
    }
    (0..count).map(|_| item(reader)).collect()
}

fn decode_name<'a>(reader: &mut Reader<'a>) -> Decoded<&'a str> {
    let name = reader.bytes()?;
    if name.is_empty() || name.len() > KEYSPACE_NAME_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    std::str::from_utf8(name).map_err(|_| Corruption::OutOfRange)
}

fn decode_entry<'a>(
    reader: &mut Reader<'a>,
    names: &[&'a str],
    origins: &[Origin],
) -> Decoded<StateEntry<'a>> {
    let kind = reader.u8()?;
    let keyspace = *names.get(reader.len()?).ok_or(Corruption::OutOfRange)?;
    let key = reader.bytes()?;
    if key.len() > KEY_LEN_MAX || (key.is_empty() && kind != RANGE_DELETE) {
        return Err(Corruption::OutOfRange);
    }
    let stamp = decode_stamp(reader, origins)?;
    let kind = match kind {
        PUT => StateKind::Put(decode_value(reader)?),
        DELETE => StateKind::Delete,
        PUT_EXPIRING => {
            let expires_at_ms = reader.u64()?;
            StateKind::PutExpiring { expires_at_ms, value: decode_value(reader)? }
        }
        RANGE_DELETE => {
            let end = reader.bytes()?;
            if end.len() > KEY_LEN_MAX + 1 {
                return Err(Corruption::OutOfRange);
            }
            StateKind::RangeDelete { end }
        }
        ERASE => StateKind::Erase { carrier: decode_stamp(reader, origins)? },
        _ => return Err(Corruption::UnknownKind),
    };
    Ok(StateEntry { keyspace, key, stamp, kind })
}

fn decode_stamp(reader: &mut Reader<'_>, origins: &[Origin]) -> Decoded<Stamp> {
    let origin = *origins.get(reader.len()?).ok_or(Corruption::OutOfRange)?;
    let tick = Tick::from_raw(reader.varint()?).ok_or(Corruption::OutOfRange)?;
    Ok(Stamp { tick, origin })
}

fn decode_value<'a>(reader: &mut Reader<'a>) -> Decoded<&'a [u8]> {
    let value = reader.bytes()?;
    if value.len() > VALUE_LEN_MAX { Err(Corruption::OutOfRange) } else { Ok(value) }
}

/// Puts entries together to a chunk.
#[derive(Clone, Debug)]
pub struct StateWriter {
    scope: ScopeId,
    names: Vec<String>,
    origins: Vec<Origin>,
    entries: Vec<u8>,
    count: u64,
}

impl StateWriter {
    /// An empty chunk of `scope`.
    pub fn new(scope: ScopeId) -> StateWriter {
        StateWriter::with_room(scope, 0)
    }

    /// As [`StateWriter::new`], with memory for entries of so many bytes: to grow costs as much as to write.
    pub fn with_room(scope: ScopeId, len: usize) -> StateWriter {
        let (names, origins, entries) = (Vec::new(), Vec::new(), Vec::with_capacity(len));
        StateWriter { scope, names, origins, entries, count: 0 }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &StateEntry<'_>) {
        let (kind, carrier) = match entry.kind {
            StateKind::Put(_) => (PUT, None),
            StateKind::Delete => (DELETE, None),
            StateKind::PutExpiring { .. } => (PUT_EXPIRING, None),
            StateKind::RangeDelete { .. } => (RANGE_DELETE, None),
            StateKind::Erase { carrier } => (ERASE, Some(carrier)),
        };
        let name = self.place_of_name(entry.keyspace);
        let origin = self.place_of_origin(entry.stamp.origin);
        let carrier = carrier.map(|stamp| (self.place_of_origin(stamp.origin), stamp.tick));
        let out = &mut self.entries;
        out.push(kind);
        put_varint(out, name);
        put_bytes(out, entry.key);
        put_varint(out, origin);
        put_varint(out, entry.stamp.tick.raw());
        match entry.kind {
            StateKind::Put(value) => put_bytes(out, value),
            StateKind::PutExpiring { expires_at_ms, value } => {
                out.extend_from_slice(&expires_at_ms.to_le_bytes());
                put_bytes(out, value);
            }
            StateKind::RangeDelete { end } => put_bytes(out, end),
            StateKind::Delete | StateKind::Erase { .. } => {}
        }
        if let Some((place, tick)) = carrier {
            put_varint(out, place);
            put_varint(out, tick.raw());
        }
        self.count += 1;
    }

    fn place_of_name(&mut self, name: &str) -> u64 {
        // The last one is the likeliest: entries come by keyspace.
        let place = self.names.iter().rposition(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        place as u64
    }

    fn place_of_origin(&mut self, origin: Origin) -> u64 {
        let place = self.origins.iter().position(|known| *known == origin).unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        place as u64
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it has as many entries as a chunk may have: one more, and it would be refused.
    pub fn is_full(&self) -> bool {
        self.count >= CHUNK_ENTRIES_MAX as u64
    }

    /// Bytes of the entries added.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The encoded chunk.
    pub fn finish(self) -> Vec<u8> {
        let lists = self.names.iter().map(|name| name.len() + 4).sum::<usize>()
            + self.origins.len() * Origin::LEN;
        let mut out = Vec::with_capacity(self.entries.len() + lists + DIGEST_LEN + 32);
        out.push(VERSION);
        put_varint(&mut out, u64::from(self.scope.0));
        put_varint(&mut out, self.names.len() as u64);
        self.names.iter().for_each(|name| put_bytes(&mut out, name.as_bytes()));
        put_varint(&mut out, self.origins.len() as u64);
        self.origins.iter().for_each(|origin| origin.encode(&mut out));
        put_varint(&mut out, self.count);
        out.extend_from_slice(&self.entries);
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Incarnation, NodeId};
    use proptest::prelude::*;

    type Parts = (u8, u8, Vec<u8>, (u8, u64), (u8, u64), Vec<u8>);

    fn any_parts() -> impl Strategy<Value = Parts> {
        let stamp = || (0u8..3, 0u64..1 << 56);
        let bytes = |len| proptest::collection::vec(any::<u8>(), len);
        (0u8..5, 0u8..3, bytes(1..20), stamp(), stamp(), bytes(0..20))
    }

    fn stamp((node, tick): (u8, u64)) -> Stamp {
        let origin = Origin { node: NodeId([node; 16]), incarnation: Incarnation(3) };
        Stamp { tick: Tick::from_raw(tick).unwrap(), origin }
    }

    fn entry((kind, keyspace, key, of, carrier, value): &Parts) -> StateEntry<'_> {
        let kind = match kind {
            0 => StateKind::Put(value),
            1 => StateKind::Delete,
            2 => StateKind::PutExpiring { expires_at_ms: 77, value },
            3 => StateKind::RangeDelete { end: value },
            _ => StateKind::Erase { carrier: stamp(*carrier) },
        };
        let keyspace = ["a", "bb", "keyspace"][usize::from(*keyspace)];
        StateEntry { keyspace, key, stamp: stamp(*of), kind }
    }

    fn written(parts: &[Parts]) -> Vec<u8> {
        let mut writer = StateWriter::new(ScopeId::MAIN);
        parts.iter().for_each(|parts| writer.push(&entry(parts)));
        writer.finish()
    }

    proptest! {
        #[test]
        fn a_chunk_comes_back(parts in proptest::collection::vec(any_parts(), 1..20)) {
            let bytes = written(&parts);
            let chunk = StateChunk::decode(&bytes).unwrap();
            prop_assert_eq!(chunk.entries, parts.iter().map(entry).collect::<Vec<_>>());
        }

        #[test]
        fn any_change_to_its_bytes_is_refused(
            parts in proptest::collection::vec(any_parts(), 1..5), at: prop::sample::Index, bit in 0u8..8
        ) {
            let mut bytes = written(&parts);
            let at = at.index(bytes.len());
            prop_assert!(StateChunk::decode(&bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            prop_assert!(StateChunk::decode(&bytes).is_err());
        }

        /// Also behind a digest that is right.
        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>, starts_well: bool) {
            if starts_well {
                bytes.splice(0..0, [VERSION, 1, 1, 1, b'k', 0]);
            }
            let digest = blake3::hash(&bytes);
            bytes.extend_from_slice(digest.as_bytes());
            let _ = StateChunk::decode(&bytes);
        }
    }

    #[test]
    fn a_chunk_of_too_many_entries_is_refused() {
        let stamp = Stamp { tick: Tick::from_raw(1).unwrap(), origin: Origin::default() };
        let entry = StateEntry { keyspace: "k", key: b"k", stamp, kind: StateKind::Delete };
        let mut writer = StateWriter::new(ScopeId::MAIN);
        while !writer.is_full() {
            writer.push(&entry);
        }
        let bytes = writer.clone().finish();
        assert_eq!(StateChunk::decode(&bytes).unwrap().entries.len(), CHUNK_ENTRIES_MAX);
        writer.push(&entry);
        let refused = StateChunk::decode(&writer.finish()).map(drop);
        assert_eq!(refused, Err(Corruption::OutOfRange));
    }

    /// As many names as fit, of one byte each: decoded they are eight times as long.
    #[test]
    fn a_chunk_of_too_many_names_is_refused() {
        let mut bytes = vec![VERSION, 1];
        put_varint(&mut bytes, CHUNK_ENTRIES_MAX as u64 + 1);
        (0..=CHUNK_ENTRIES_MAX).for_each(|_| put_bytes(&mut bytes, b"k"));
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        assert_eq!(StateChunk::decode(&bytes).map(drop), Err(Corruption::OutOfRange));
    }
}
