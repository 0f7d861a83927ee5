//! The properties of a table: what it says about itself, without the manifest.
//!
//! ```text
//! version       u8      1
//! database      16
//! node          16      with the incarnation: the origin that "local" means in this table
//! incarnation   u64
//! meta          bytes   crate::meta, with length and root 0: they are not known yet
//! origins       varint  the authors that its entries name by number
//! per author, ascending:
//!   number      varint  from 1
//!   origin      24      node, incarnation
//! spaces        varint
//! per keyspace, ascending:
//!   space       varint
//!   entries     varint
//!   raw bytes   varint  of keys and values
//!   stored      varint  bytes of its blocks in the file
//! ```

use crate::meta::TableMeta;
use crate::writer::TableOwner;
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, Origin, OriginNumber, SpaceId};

const VERSION: u8 = 1;
/// Bytes of an encoded keyspace at least.
const SPACE_LEN_MIN: usize = 4;
/// Bytes of an encoded author at least.
const AUTHOR_LEN_MIN: usize = 1 + Origin::LEN;

/// What a keyspace has in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceUsage {
    /// Entries, all versions and tombstones included.
    pub entries: u64,
    /// Bytes of keys and values.
    pub raw_bytes: u64,
    /// Bytes of its blocks in the file.
    pub stored_bytes: u64,
}

impl SpaceUsage {
    /// What came on top of `before`.
    pub(crate) fn since(self, before: SpaceUsage) -> SpaceUsage {
        SpaceUsage {
            entries: self.entries - before.entries,
            raw_bytes: self.raw_bytes - before.raw_bytes,
            stored_bytes: self.stored_bytes - before.stored_bytes,
        }
    }
}

/// What a table says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) owner: TableOwner,
    pub(crate) meta: TableMeta,
    pub(crate) authors: Vec<(OriginNumber, Origin)>,
    pub(crate) spaces: Vec<(SpaceId, SpaceUsage)>,
}

impl Properties {
    /// Appends the section in the diagram above.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.owner.database);
        self.owner.origin.encode(out);
        let mut meta = Vec::new();
        self.meta.encode(&mut meta);
        put_bytes(out, &meta);
        put_varint(out, self.authors.len() as u64);
        for (number, origin) in &self.authors {
            put_varint(out, u64::from(number.0));
            origin.encode(out);
        }
        put_varint(out, self.spaces.len() as u64);
        for (space, usage) in &self.spaces {
            put_varint(out, space.0);
            put_varint(out, usage.entries);
            put_varint(out, usage.raw_bytes);
            put_varint(out, usage.stored_bytes);
        }
    }

    /// The properties in the section `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Decoded<Properties> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Corruption::UnknownKind);
        }
        let database = reader.array()?;
        let origin = Origin::decode(&mut reader)?;
        let mut meta_reader = Reader::new(reader.bytes()?);
        let meta = TableMeta::decode(&mut meta_reader)?;
        let authors = decode_authors(&mut reader)?;
        let spaces = decode_spaces(&mut reader)?;
        if !meta_reader.is_empty() || !reader.is_empty() {
            return Err(Corruption::TrailingBytes);
        }
        let owner = TableOwner { database, origin, generation: meta.generation };
        Ok(Properties { owner, meta, authors, spaces })
    }

    /// Whether the manifest speaks of this table: what it says of the content is the same. The
    /// rest is not the table's to say.
    pub(crate) fn agree_with(&self, meta: &TableMeta) -> bool {
        if self.meta.id != meta.written_as() {
            return false;
        }
        let own = TableMeta {
            id: meta.id,
            len: meta.len,
            root: meta.root,
            shadowed: meta.shadowed,
            seqno_override: meta.seqno_override,
            local: meta.local,
            source: meta.source,
            ..self.meta.clone()
        };
        own == *meta
    }
}

fn decode_authors(reader: &mut Reader<'_>) -> Decoded<Vec<(OriginNumber, Origin)>> {
    let count = reader.len()?;
    let room = count.min(reader.rest().len() / AUTHOR_LEN_MIN);
    let mut authors: Vec<(OriginNumber, Origin)> = Vec::with_capacity(room);
    let mut before = OriginNumber::LOCAL;
    for _ in 0..count {
        let number = OriginNumber::decode(reader)?;
        if number <= before {
            return Err(Corruption::OutOfOrder);
        }
        before = number;
        authors.push((number, Origin::decode(reader)?));
    }
    Ok(authors)
}

fn decode_spaces(reader: &mut Reader<'_>) -> Decoded<Vec<(SpaceId, SpaceUsage)>> {
    let count = reader.len()?;
    let mut spaces = Vec::with_capacity(count.min(reader.rest().len() / SPACE_LEN_MIN));
    for _ in 0..count {
        let space = SpaceId(reader.varint()?);
        let usage = SpaceUsage {
            entries: reader.varint()?,
            raw_bytes: reader.varint()?,
            stored_bytes: reader.varint()?,
        };
        if spaces.last().is_some_and(|(last, _)| *last >= space) {
            return Err(Corruption::OutOfOrder);
        }
        spaces.push((space, usage));
    }
    Ok(spaces)
}
