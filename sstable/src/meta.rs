//! What the manifest knows about a table.
//!
//! ```text
//! version             u8       2; in version 1 the last three fields are missing
//! id                  varint   as in the file name
//! len                 varint   bytes of the file
//! root                32       the digest in its footer
//! scope               varint
//! smallest            varint space, bytes key
//! largest             varint space, bytes key
//! entries             varint
//! tombstones          varint
//! expiring            varint
//! range deletes       varint
//! raw bytes           varint
//! seqno min           varint
//! seqno max           varint
//! tombstone stamp max varint
//! expires at max      varint   milliseconds since the epoch
//! generation          varint
//! shadowed            varint
//! override            u8       0 = none; 1 = a varint follows: the seqno of every entry
//! local               varint   the author that "local" means in it, by number; 0 = see properties
//! origins             varint   how many; per author, ascending:
//!   number            varint   0 = local
//!   largest tick      varint   of the commits that brought its entries
//! source              u8       0 = this database; 1 = another one wrote it:
//!   database          16
//!   id                varint   its number there
//! ```
//!
//! Invariants:
//! - `smallest <= largest`, both in `scope`.
//! - Everything a reader needs before it opens the file is here, so opening a database reads no
//!   table.

use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, OriginNumber, ScopeId, SpaceId, Tick};

const VERSION: u8 = 2;
/// The version that knew no authors but the local one.
const VERSION_LOCAL: u8 = 1;
/// Bytes of an encoded author at least.
const ORIGIN_LEN_MIN: usize = 2;

/// A user key within its keyspace, ordered as tables are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableKey {
    /// The keyspace.
    pub space: SpaceId,
    /// The user key.
    pub key: Box<[u8]>,
}

impl TableKey {
    /// The key `key` of `space`.
    pub fn new(space: SpaceId, key: &[u8]) -> TableKey {
        TableKey { space, key: key.into() }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.space.0);
        put_bytes(out, &self.key);
    }

    fn decode(reader: &mut Reader<'_>) -> Decoded<TableKey> {
        let space = SpaceId(reader.varint()?);
        let key = reader.bytes()?;
        if key.len() > base::limits::KEY_LEN_MAX {
            return Err(Corruption::OutOfRange);
        }
        Ok(TableKey::new(space, key))
    }
}

/// What the manifest knows about a table: enough to choose it, and to refuse any other file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// Its number, as in the file name. Never reused.
    pub id: u64,
    /// Bytes of its file.
    pub len: u64,
    /// The root digest in its footer.
    pub root: [u8; 32],
    /// The scope of everything in it.
    pub scope: ScopeId,
    /// The first entry's key. Range deletes do not count; in a table of nothing else this is the
    /// first range's start.
    pub smallest: TableKey,
    /// The last entry's key. In a table of range deletes only, the last range's start.
    pub largest: TableKey,
    /// Entries, all versions and tombstones included; range deletes apart.
    pub entries: u64,
    /// Entries that delete a key.
    pub tombstones: u64,
    /// Entries that expire.
    pub expiring: u64,
    /// Range deletes.
    pub range_deletes: u64,
    /// Bytes of all keys and values, before prefixes are shared and blocks compressed.
    pub raw_bytes: u64,
    /// The smallest seqno in it, as stored: see `seqno_override`.
    pub seqno_min: Tick,
    /// The largest seqno in it, as stored.
    pub seqno_max: Tick,
    /// The largest stamp tick of a tombstone or range delete in it.
    pub tombstone_stamp_max: Tick,
    /// The last moment at which one of its expiring entries still has a value.
    pub expires_at_max_ms: u64,
    /// The generation of the database that wrote it.
    pub generation: u64,
    /// Entries that are thought to hide older ones below. An estimate of whoever wrote it.
    pub shadowed: u64,
    /// For a table ingested in bulk, which stores seqno 0: the seqno of all of its entries.
    pub seqno_override: Option<Tick>,
    /// The author that "local" means in it; [`OriginNumber::LOCAL`] if only its properties say.
    pub local: OriginNumber,
    /// Per author, ascending, the largest tick of the commits that brought its entries; an erase
    /// counts by its carrier. Empty in tables of before there were other authors.
    pub origins: Box<[(OriginNumber, Tick)]>,
    /// Who wrote it, if another database than the one it stands in.
    pub source: Option<TableSource>,
}

/// Where a table comes from: it still says so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSource {
    /// The database that wrote it.
    pub database: [u8; 16],
    /// Its number there.
    pub id: u64,
}

impl TableMeta {
    /// The database that the file names, where it stands in `database`.
    pub fn written_in(&self, database: [u8; 16]) -> [u8; 16] {
        self.source.map_or(database, |source| source.database)
    }

    /// The number that the file names.
    pub fn written_as(&self) -> u64 {
        self.source.map_or(self.id, |source| source.id)
    }

    /// Per author the largest tick of the commits that brought its entries, as a reader meets them.
    pub fn latest(&self) -> impl Iterator<Item = (OriginNumber, Tick)> + '_ {
        let of_old = self.origins.is_empty().then(|| (OriginNumber::LOCAL, self.newest()));
        let as_read = |(number, tick): (OriginNumber, Tick)| match self.seqno_override {
            Some(seqno) if number == OriginNumber::LOCAL => (number, seqno),
            _ => (number, tick),
        };
        self.origins.iter().copied().map(as_read).chain(of_old)
    }

    /// The largest seqno that a reader meets in the table.
    pub fn newest(&self) -> Tick {
        self.seqno_override.unwrap_or(self.seqno_max)
    }

    /// Whether an entry of (`space`, `key`) could be in it, by its key range alone.
    #[inline]
    pub fn covers(&self, space: SpaceId, key: &[u8]) -> bool {
        self.entries > 0
            && (self.smallest.space, &*self.smallest.key) <= (space, key)
            && (space, key) <= (self.largest.space, &*self.largest.key)
    }

    /// Appends the encoding in the diagram above.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, self.id);
        put_varint(out, self.len);
        out.extend_from_slice(&self.root);
        put_varint(out, u64::from(self.scope.0));
        self.smallest.encode(out);
        self.largest.encode(out);
        put_varint(out, self.entries);
        put_varint(out, self.tombstones);
        put_varint(out, self.expiring);
        put_varint(out, self.range_deletes);
        put_varint(out, self.raw_bytes);
        put_varint(out, self.seqno_min.raw());
        put_varint(out, self.seqno_max.raw());
        put_varint(out, self.tombstone_stamp_max.raw());
        put_varint(out, self.expires_at_max_ms);
        put_varint(out, self.generation);
        put_varint(out, self.shadowed);
        match self.seqno_override {
            None => out.push(0),
            Some(tick) => {
                out.push(1);
                put_varint(out, tick.raw());
            }
        }
        put_varint(out, u64::from(self.local.0));
        put_varint(out, self.origins.len() as u64);
        for (number, tick) in &self.origins {
            put_varint(out, u64::from(number.0));
            put_varint(out, tick.raw());
        }
        match &self.source {
            None => out.push(0),
            Some(source) => {
                out.push(1);
                out.extend_from_slice(&source.database);
                put_varint(out, source.id);
            }
        }
    }

    /// Reads what [`TableMeta::encode`] wrote and leaves `reader` behind it.
    pub fn decode(reader: &mut Reader<'_>) -> Decoded<TableMeta> {
        let version = reader.u8()?;
        if version != VERSION && version != VERSION_LOCAL {
            return Err(Corruption::UnknownKind);
        }
        let mut meta = TableMeta {
            id: reader.varint()?,
            len: reader.varint()?,
            root: reader.array()?,
            scope: ScopeId(u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?),
            smallest: TableKey::decode(reader)?,
            largest: TableKey::decode(reader)?,
            entries: reader.varint()?,
            tombstones: reader.varint()?,
            expiring: reader.varint()?,
            range_deletes: reader.varint()?,
            raw_bytes: reader.varint()?,
            seqno_min: decode_tick(reader)?,
            seqno_max: decode_tick(reader)?,
            tombstone_stamp_max: decode_tick(reader)?,
            expires_at_max_ms: reader.varint()?,
            generation: reader.varint()?,
            shadowed: reader.varint()?,
            seqno_override: match reader.u8()? {
                0 => None,
                1 => Some(decode_tick(reader)?),
                _ => return Err(Corruption::UnknownKind),
            },
            local: OriginNumber::LOCAL,
            origins: Box::default(),
            source: None,
        };
        if version == VERSION {
            meta.local = OriginNumber::decode(reader)?;
            meta.origins = decode_origins(reader)?;
            meta.source = match reader.u8()? {
                0 => None,
                1 => Some(TableSource { database: reader.array()?, id: reader.varint()? }),
                _ => return Err(Corruption::UnknownKind),
            };
        }
        meta.validate()?;
        Ok(meta)
    }

    fn validate(&self) -> Decoded<()> {
        if self.smallest > self.largest || self.seqno_min > self.seqno_max {
            return Err(Corruption::OutOfOrder);
        }
        let foreign = |key: &TableKey| key.space.scope() != self.scope;
        if foreign(&self.smallest) || foreign(&self.largest) {
            return Err(Corruption::OutOfRange);
        }
        if self.tombstones.checked_add(self.expiring).is_none_or(|part| part > self.entries) {
            return Err(Corruption::OutOfRange);
        }
        Ok(())
    }
}

fn decode_origins(reader: &mut Reader<'_>) -> Decoded<Box<[(OriginNumber, Tick)]>> {
    let count = reader.len()?;
    if reader.rest().len() / ORIGIN_LEN_MIN < count {
        return Err(Corruption::Truncated);
    }
    let mut origins: Vec<(OriginNumber, Tick)> = Vec::with_capacity(count);
    for _ in 0..count {
        let number = OriginNumber::decode(reader)?;
        if origins.last().is_some_and(|(before, _)| *before >= number) {
            return Err(Corruption::OutOfOrder);
        }
        origins.push((number, decode_tick(reader)?));
    }
    Ok(origins.into())
}

fn decode_tick(reader: &mut Reader<'_>) -> Decoded<Tick> {
    Tick::from_raw(reader.varint()?).ok_or(Corruption::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(numbers: [u64; 6], key: &[u8], seqno_override: Option<u64>) -> TableMeta {
        let scope = ScopeId(numbers[0] as u32);
        let space = SpaceId::new(scope, base::KeyspaceId(numbers[1] as u32));
        let tick = |raw: u64| Tick::from_raw(raw >> 8).unwrap();
        TableMeta {
            id: numbers[2],
            len: numbers[3],
            root: *blake3::hash(key).as_bytes(),
            scope,
            smallest: TableKey::new(space, b""),
            largest: TableKey::new(space, key),
            entries: numbers[4],
            tombstones: numbers[4] / 3,
            expiring: numbers[4] / 2,
            range_deletes: numbers[5],
            raw_bytes: numbers[0],
            seqno_min: tick(numbers[1].min(numbers[2])),
            seqno_max: tick(numbers[1].max(numbers[2])),
            tombstone_stamp_max: tick(numbers[3]),
            expires_at_max_ms: numbers[3],
            generation: numbers[1],
            shadowed: numbers[2],
            seqno_override: seqno_override.map(tick),
            local: OriginNumber(numbers[0] as u32),
            origins: [(OriginNumber(0), tick(numbers[4])), (OriginNumber(3), tick(numbers[5]))]
                .into(),
            source: numbers[5]
                .is_multiple_of(2)
                .then_some(TableSource { database: [numbers[0] as u8; 16], id: numbers[1] }),
        }
    }

    proptest! {
        #[test]
        fn a_meta_comes_back_and_never_from_half_its_bytes(
            numbers: [u64; 6], key: Vec<u8>, seqno_override: Option<u64>, cut: prop::sample::Index
        ) {
            let meta = sample(numbers, &key, seqno_override);
            let mut out = Vec::new();
            meta.encode(&mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(TableMeta::decode(&mut reader), Ok(meta));
            prop_assert!(reader.is_empty());
            prop_assert!(TableMeta::decode(&mut Reader::new(&out[..cut.index(out.len())])).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>) {
            let _ = TableMeta::decode(&mut Reader::new(&bytes));
            for version in [VERSION, VERSION_LOCAL] {
                bytes.insert(0, version);
                let _ = TableMeta::decode(&mut Reader::new(&bytes));
            }
        }
    }

    #[test]
    fn a_meta_of_version_1_says_nothing_of_authors() {
        let mut meta = sample([1, 1, 2, 3, 4, 5], b"m", None);
        (meta.local, meta.origins, meta.source) = (OriginNumber::LOCAL, Box::default(), None);
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        bytes.truncate(bytes.len() - 3);
        bytes[0] = VERSION_LOCAL;
        assert_eq!(TableMeta::decode(&mut Reader::new(&bytes)), Ok(meta.clone()));
        assert!(meta.latest().eq([(OriginNumber::LOCAL, meta.newest())]));
    }

    #[test]
    fn what_was_loaded_in_bulk_is_of_the_tick_it_is_read_with() {
        let meta = sample([1, 1, 2, 3, 5 << 8, 7 << 8], b"m", Some(99 << 8));
        let tick = |raw| Tick::from_raw(raw).unwrap();
        assert!(meta.latest().eq([(OriginNumber(0), tick(99)), (OriginNumber(3), tick(7))]));
    }

    #[test]
    fn a_table_covers_its_first_and_last_key_and_nothing_outside() {
        let mut meta = sample([1, 1, 2, 3, 4, 5], b"m", None);
        meta.smallest.key = b"c".as_slice().into();
        let space = meta.smallest.space;
        for (key, covered) in [("b", false), ("c", true), ("d", true), ("m", true), ("m0", false)] {
            assert_eq!(meta.covers(space, key.as_bytes()), covered, "{key}");
        }
        assert!(!meta.covers(SpaceId(space.0 + 1), b"d"));
    }
}
