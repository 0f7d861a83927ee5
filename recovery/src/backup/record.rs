//! What one `.backup` file says.
//!
//! ```text
//! offset  size  field
//!      0     8  magic              "ESKBAK\0\x01"; the last byte is the format version
//!      8     1  digest             1 = Blake3
//!      9     1  compression        0 = none
//!     10     1  cipher suite       0 = plain
//!     11     1  reserved           0
//!     12     4  key id             0 while files are plain
//!     16     8  required features  an unknown bit refuses to read
//!     24     8  optional features  unknown bits are ignored
//!     32     *  body
//!    end    32  digest             keyed Blake3 of everything before
//!
//! body     field
//!   16     database
//!   16     node
//!    8     incarnation
//!   32     secret         of the node: a restored database is the same node
//!    v     number         as in the file name
//!    1     kind           1 = full, 2 = incremental, 3 = log
//!    v     parent         the backup before it; 0 = none
//!    8     made           milliseconds since the epoch
//!    8     covered        tick: all commits up to it are in tables here or in archived segments
//!    v     start          commits behind the tables are in segments from this one on
//!    v     log            the segment in which commits behind `covered` begin ..
//!    v     log previous   .. and the one before it; 0 = none
//!    v+*   state          byte string: one edit of a manifest, as in crate sstable; of kind log
//!                         without tables
//!    v     tables         count, then for each table of the state, in its order
//!   32       root         of the table
//!    v       copy         number of the backup that made the file
//!   32       digest       Blake3 of the file
//!    v     segments       count, then for each segment that came with this backup
//!    v       number
//!    v       previous     the segment before it; 0 = none
//!    8       first, last  ticks of its commits; 0 if it has none
//!    v       length       bytes
//!   32       digest       Blake3 of the file
//!    v     ingests        count, then 8 bytes each: ticks of bulk loads that no segment holds
//! ```

use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, Identity, Incarnation, NodeId, Tick};
use sstable::TableMeta;
use sstable::manifest::{Edit, State};
use std::sync::Arc;

const MAGIC: [u8; 7] = *b"ESKBAK\0";
const VERSION: u8 = 1;
const ALGORITHMS: [u8; 4] = [1, 0, 0, 0]; // Blake3, not compressed, plain, reserved
const HEADER_LEN: usize = 32;
const DIGEST_LEN: usize = 32;
/// Features of the format that this version understands.
const REQUIRED_FEATURES: u64 = 0;

/// What a backup brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupKind {
    /// All tables, copied anew.
    Full,
    /// All tables; those that earlier backups had copied are shared with them.
    ///
    /// A shared file is trusted: it has the root digest in its name and the right length, and is not
    /// read again. Whether its bytes are still good is known after `verify`, which reads them all.
    Incremental,
    /// Segments of the log, to go on from the backup before.
    Log,
}

/// A table of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredTable {
    /// The root digest of the table.
    pub root: [u8; 32],
    /// The number of the backup that made the file.
    pub copy: u64,
    /// The Blake3 of the file.
    pub digest: [u8; 32],
}

/// A finished segment of the log in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// Its number.
    pub number: u64,
    /// The segment before it; 0 if there is none.
    pub previous: u64,
    /// Its first commit; zero if it has none.
    pub first: Tick,
    /// Its last commit; zero if it has none.
    pub last: Tick,
    /// Bytes of the file.
    pub len: u64,
    /// The Blake3 of the file.
    pub digest: [u8; 32],
}

/// A place between two segments of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPlace {
    /// The segment behind it.
    pub number: u64,
    /// The segment before it; 0 if there is none.
    pub previous: u64,
}

/// What one `.backup` file says.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupRecord {
    /// Whose backup it is.
    pub identity: Identity,
    /// Its number, as in the file name.
    pub number: u64,
    /// What it brings.
    pub kind: BackupKind,
    /// The backup before it; 0 if there is none.
    pub parent: u64,
    /// When it was made, in milliseconds since the epoch.
    pub made_ms: u64,
    /// Every commit up to this one is in its tables or in segments that were archived by then.
    pub covered: Tick,
    /// The segment in which, or behind which, the commits behind its tables begin.
    pub start: u64,
    /// Where the commits behind `covered` begin.
    pub log: LogPlace,
    /// The state of the database. Of kind log without tables.
    pub state: State,
    /// The tables of the state, in the order of its version.
    pub tables: Vec<StoredTable>,
    /// The segments that came with it, oldest first.
    pub segments: Vec<StoredSegment>,
    /// Bulk loads since the backup before, which no segment holds.
    pub ingests: Vec<Tick>,
}

/// Why a `.backup` file can not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what was written.
    Corrupt(Corruption),
    /// A newer version wrote it.
    Format {
        /// What it says.
        found: u64,
        /// What this version reads.
        supported: u64,
    },
    /// It needs a key of the key ring.
    Key(u32),
}

impl From<Corruption> for Refusal {
    fn from(found: Corruption) -> Refusal {
        Refusal::Corrupt(found)
    }
}

impl BackupRecord {
    /// The earliest tick that it can be restored to: its tables are of that moment. A keyspace that was
    /// dropped may have lost entries already.
    pub fn base(&self) -> Tick {
        let drops = self.state.keyspaces.values().filter_map(|keyspace| keyspace.dropped);
        drops.fold(self.state.flushed, Tick::max)
    }

    /// Whether a database can be restored from its tables.
    pub fn has_tables(&self) -> bool {
        self.kind != BackupKind::Log
    }

    /// Its tables: what is known of each, and where it is stored.
    pub fn tables(&self) -> impl Iterator<Item = (&Arc<TableMeta>, &StoredTable)> {
        self.state.version.tables().zip(&self.tables)
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&ALGORITHMS);
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&REQUIRED_FEATURES.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        self.encode_body(&mut out);
        let digest = digest(&out);
        out.extend_from_slice(&digest);
        out
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.identity.database);
        out.extend_from_slice(&self.identity.node.0);
        out.extend_from_slice(&self.identity.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.identity.secret);
        put_varint(out, self.number);
        out.push(self.kind.number());
        put_varint(out, self.parent);
        out.extend_from_slice(&self.made_ms.to_le_bytes());
        put_tick(out, self.covered);
        put_varint(out, self.start);
        put_varint(out, self.log.number);
        put_varint(out, self.log.previous);
        let mut state = Vec::new();
        self.state.to_edit().encode(&mut state);
        put_bytes(out, &state);
        put_varint(out, self.tables.len() as u64);
        for table in &self.tables {
            out.extend_from_slice(&table.root);
            put_varint(out, table.copy);
            out.extend_from_slice(&table.digest);
        }
        put_varint(out, self.segments.len() as u64);
        for segment in &self.segments {
            put_varint(out, segment.number);
            put_varint(out, segment.previous);
            put_tick(out, segment.first);
            put_tick(out, segment.last);
            put_varint(out, segment.len);
            out.extend_from_slice(&segment.digest);
        }
        put_varint(out, self.ingests.len() as u64);
        self.ingests.iter().for_each(|ingest| put_tick(out, *ingest));
    }

    /// The record in `bytes`, a whole file.
    pub fn decode(bytes: &[u8]) -> Result<BackupRecord, Refusal> {
        let at = bytes.len().checked_sub(DIGEST_LEN).ok_or(Corruption::Truncated)?;
        let (fields, stored) = bytes.split_at(at);
        let rest = fields.strip_prefix(&MAGIC).ok_or(Corruption::BadMagic)?;
        if fields.len() < HEADER_LEN {
            return Err(Corruption::Truncated.into());
        }
        if digest(fields) != stored {
            return Err(Corruption::DigestMismatch.into());
        }
        let mut reader = Reader::new(rest);
        let version = reader.u8()?;
        if version != VERSION {
            let (found, supported) = (u64::from(version), u64::from(VERSION));
            return Err(Refusal::Format { found, supported });
        }
        let algorithms: [u8; 4] = reader.array()?;
        let key_id = reader.u32()?;
        let (required, _optional) = (reader.u64()?, reader.u64()?);
        if required & !REQUIRED_FEATURES != 0 {
            return Err(Refusal::Format { found: required, supported: REQUIRED_FEATURES });
        }
        if key_id != 0 {
            return Err(Refusal::Key(key_id));
        }
        if algorithms != ALGORITHMS {
            return Err(Corruption::UnknownAlgorithm.into());
        }
        let record = decode_body(&mut reader)?;
        if !reader.is_empty() {
            return Err(Corruption::TrailingBytes.into());
        }
        record.validate()?;
        Ok(record)
    }

    /// What has a good digest was written so; what contradicts itself was not written by us.
    fn validate(&self) -> Decoded<()> {
        let roots = self.state.version.tables().map(|meta| &meta.root);
        let is_same = roots.eq(self.tables.iter().map(|table| &table.root));
        let is_log = self.state.version.table_count() == 0 && self.tables.is_empty();
        let ascends = self.segments.is_sorted_by(|a, b| a.number < b.number);
        let precedes = self
            .segments
            .iter()
            .all(|segment| segment.previous < segment.number && segment.number < self.log.number);
        let log_precedes = self.log.previous < self.log.number && self.start <= self.log.number;
        if is_same && (self.has_tables() || is_log) && ascends && precedes && log_precedes {
            Ok(())
        } else {
            Err(Corruption::BadVersion)
        }
    }
}

fn decode_body(reader: &mut Reader<'_>) -> Decoded<BackupRecord> {
    let identity = Identity {
        database: reader.array()?,
        node: NodeId(reader.array()?),
        incarnation: Incarnation(reader.u64()?),
        secret: reader.array()?,
    };
    let number = reader.varint()?;
    let kind = BackupKind::from_number(reader.u8()?).ok_or(Corruption::UnknownKind)?;
    let (parent, made_ms, covered) = (reader.varint()?, reader.u64()?, tick(reader)?);
    let start = reader.varint()?;
    let log = LogPlace { number: reader.varint()?, previous: reader.varint()? };
    let mut state = State::default();
    state.apply(&Edit::decode(reader.bytes()?)?)?;
    let tables = repeated(reader, |reader| {
        Ok(StoredTable { root: reader.array()?, copy: reader.varint()?, digest: reader.array()? })
    })?;
    let segments = repeated(reader, |reader| {
        Ok(StoredSegment {
            number: reader.varint()?,
            previous: reader.varint()?,
            first: tick(reader)?,
            last: tick(reader)?,
            len: reader.varint()?,
            digest: reader.array()?,
        })
    })?;
    let ingests = repeated(reader, tick)?;
    Ok(BackupRecord {
        identity,
        number,
        kind,
        parent,
        made_ms,
        covered,
        start,
        log,
        state,
        tables,
        segments,
        ingests,
    })
}

/// A count and so many elements. Nothing is reserved for a count that the bytes can not hold.
fn repeated<T>(
    reader: &mut Reader<'_>,
    mut element: impl FnMut(&mut Reader<'_>) -> Decoded<T>,
) -> Decoded<Vec<T>> {
    let count = reader.len()?;
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.push(element(reader)?);
    }
    Ok(elements)
}

impl BackupKind {
    fn number(self) -> u8 {
        match self {
            BackupKind::Full => 1,
            BackupKind::Incremental => 2,
            BackupKind::Log => 3,
        }
    }

    fn from_number(number: u8) -> Option<BackupKind> {
        [BackupKind::Full, BackupKind::Incremental, BackupKind::Log]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

fn put_tick(out: &mut Vec<u8>, tick: Tick) {
    out.extend_from_slice(&tick.raw().to_le_bytes());
}

fn tick(reader: &mut Reader<'_>) -> Decoded<Tick> {
    Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)
}

fn digest(fields: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&blake3::derive_key("esker backup v1", b""), fields).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{KeyspaceId, ScopeId, SpaceId};
    use sstable::TableKey;
    use sstable::manifest::{Added, KeyspaceRecord, KeyspaceSettings};

    fn sample() -> BackupRecord {
        let space = SpaceId::new(ScopeId::MAIN, KeyspaceId(1));
        let meta = TableMeta {
            id: 7,
            len: 100,
            root: [7; 32],
            scope: ScopeId::MAIN,
            smallest: TableKey::new(space, b"a"),
            largest: TableKey::new(space, b"z"),
            entries: 3,
            tombstones: 0,
            expiring: 0,
            range_deletes: 0,
            raw_bytes: 50,
            seqno_min: Tick::from_ms(1),
            seqno_max: Tick::from_ms(2),
            tombstone_stamp_max: Tick::ZERO,
            expires_at_max_ms: 0,
            generation: 1,
            shadowed: 0,
            seqno_override: None,
            local: base::OriginNumber::LOCAL,
            origins: Box::default(),
            source: None,
        };
        let keyspace = KeyspaceRecord {
            id: KeyspaceId(1),
            scope: ScopeId::MAIN,
            name: "users".to_owned(),
            created: Tick::from_ms(1),
            dropped: Some(Tick::from_ms(9)),
            settings: KeyspaceSettings::default(),
        };
        let mut state = State::default();
        let edit = Edit {
            added: vec![Added { order: 1, level: 0, meta: Arc::new(meta) }],
            keyspaces: vec![keyspace],
            flushed: Some(Tick::from_ms(5)),
            ..Edit::default()
        };
        state.apply(&edit).unwrap();
        BackupRecord {
            identity: Identity {
                database: [1; 16],
                node: NodeId([2; 16]),
                incarnation: Incarnation(3),
                secret: [4; 32],
            },
            number: 12,
            kind: BackupKind::Incremental,
            parent: 11,
            made_ms: 1_700_000_000_000,
            covered: Tick::from_ms(10),
            start: 5,
            log: LogPlace { number: 6, previous: 5 },
            state,
            tables: vec![StoredTable { root: [7; 32], copy: 12, digest: [8; 32] }],
            segments: vec![StoredSegment {
                number: 5,
                previous: 3,
                first: Tick::from_ms(4),
                last: Tick::from_ms(5),
                len: 5000,
                digest: [9; 32],
            }],
            ingests: vec![Tick::from_ms(3)],
        }
    }

    #[test]
    fn a_record_comes_back() {
        let record = sample();
        assert_eq!(BackupRecord::decode(&record.encode()), Ok(record.clone()));
        assert_eq!(record.base(), Tick::from_ms(9), "a drop may have taken entries already");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(BackupRecord::decode(&flipped).is_err(), "byte {at} bit {bit}");
            }
            assert!(BackupRecord::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    /// Whoever has the key of the digest, which is no secret, can still not make it panic.
    #[test]
    fn hostile_bytes_with_a_good_digest_never_panic() {
        let bytes = sample().encode();
        let front = bytes.len() - DIGEST_LEN;
        for at in 0..front {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut fields = bytes[..front].to_vec();
                fields[at] = value;
                let digest = digest(&fields);
                fields.extend_from_slice(&digest);
                let _ = BackupRecord::decode(&fields);
            }
        }
    }

    #[test]
    fn a_newer_version_an_unknown_feature_and_a_key_are_named() {
        let with = |at: usize, value: u8| {
            let bytes = sample().encode();
            let mut fields = bytes[..bytes.len() - DIGEST_LEN].to_vec();
            fields[at] = value;
            let digest = digest(&fields);
            fields.extend_from_slice(&digest);
            BackupRecord::decode(&fields).unwrap_err()
        };
        assert_eq!(with(7, 2), Refusal::Format { found: 2, supported: 1 });
        assert_eq!(with(16, 4), Refusal::Format { found: 4, supported: 0 });
        assert_eq!(with(12, 9), Refusal::Key(9));
        assert_eq!(with(9, 1), Refusal::Corrupt(Corruption::UnknownAlgorithm));
    }

    #[test]
    fn tables_other_than_those_of_the_state_are_refused() {
        let mut record = sample();
        record.tables[0].root = [1; 32];
        let refused = BackupRecord::decode(&record.encode());
        assert_eq!(refused, Err(Refusal::Corrupt(Corruption::BadVersion)));
        record.tables.clear();
        assert!(BackupRecord::decode(&record.encode()).is_err());
    }
}
