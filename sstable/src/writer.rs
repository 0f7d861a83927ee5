//! Writes a table: entries in, one file and what the manifest must know of it out.
//!
//! ```text
//! data blocks | filter | index | range deletes | graveyard (reserved) | properties | footer
//! ```
//!
//! Invariants:
//! - Entries are added in the order of the table, so everything is written once, front to back.
//! - A block holds entries of one keyspace and ends before it would exceed its size, so only a
//!   block of a single entry is larger.

use crate::block::{BlockBuilder, Repeat};
use crate::compression::{Compression, Compressor};
use crate::filter::Filter;
use crate::footer::{FOOTER_LEN, Footer, SectionRef, digest_of};
use crate::index::{BlockRef, IndexBuilder};
use crate::meta::{TableKey, TableMeta};
use crate::properties::{Properties, SpaceUsage};
use crate::range_delete::{self, RangeDelete};
use crate::tally::{Misfit, Tally};
use base::fs::{AppendFile, Fs, full_path};
use base::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use base::{Error, FileName, Origin, OriginNumber, Result, ScopeId, SpaceId, Trailer, key_hash};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are collected before they are appended to the file.
const APPEND_LEN: usize = 256 << 10;
/// What a stored value may have in front of the user's: expiry, stamp.
const VALUE_PREFIX_LEN_MAX: usize = 64;
/// Blocks beyond this make reads of one entry slow and would not fit their limit.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Who writes a table; recorded in its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOwner {
    /// The database.
    pub database: [u8; 16],
    /// The author that "local" means in it.
    pub origin: Origin,
    /// The generation of the database.
    pub generation: u64,
}

/// The authors that entries name by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authors {
    /// The number of what "local" means; [`OriginNumber::LOCAL`] if it has none.
    pub local: OriginNumber,
    /// All of them: the first has number 1.
    pub list: Arc<Vec<Origin>>,
}

impl Authors {
    /// The author with this number, other than the local one.
    pub fn origin(&self, number: OriginNumber) -> Option<Origin> {
        self.list.get(number.place()?).copied()
    }

    /// The same authors, of whom `local` is the local one.
    pub fn as_seen_by(&self, local: Origin) -> Authors {
        let number = self.number_of(local).unwrap_or_default();
        Authors { local: number, list: self.list.clone() }
    }

    /// The number of an author.
    pub fn number_of(&self, origin: Origin) -> Option<OriginNumber> {
        OriginNumber::at(self.list.iter().position(|known| *known == origin)?)
    }
}

/// How a table is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Bytes of a block before compression. Default 8 KiB.
    ///
    /// Larger means a smaller index and denser compression; a read of one entry costs more.
    pub block_bytes: usize,
    /// Bits of filter for each key. Default 10: one absent key in a hundred costs a block read.
    pub filter_bits_per_key: u32,
    /// How blocks are compressed. Default: not at all.
    pub compression: Compression,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions {
            block_bytes: 8 << 10,
            filter_bits_per_key: 10,
            compression: Compression::None,
        }
    }
}

/// Writes one table.
#[derive(Debug)]
pub struct TableWriter {
    file: Box<dyn AppendFile>,
    path: PathBuf,
    id: u64,
    owner: TableOwner,
    authors: Authors,
    options: WriterOptions,
    /// Those of the next block.
    next_options: WriterOptions,

    /// Bytes of the file that are not appended yet.
    pending: Vec<u8>,
    /// Bytes of the file, with the pending ones.
    position: u64,
    block: BlockBuilder,
    compressor: Compressor,
    index: IndexBuilder,
    /// One for each key.
    hashes: Vec<u64>,
    filter_bits: u64,
    ranges: Vec<RangeDelete>,

    tally: Tally,
    smallest: TableKey,
    spaces: Vec<(SpaceId, SpaceUsage)>,
    /// What the table had before the last of `spaces`.
    before_space: SpaceUsage,
    /// The entry added last; nothing while there is none.
    last_space: SpaceId,
    last_key: Vec<u8>,
    last_trailer: Trailer,
}

impl TableWriter {
    /// Creates the file of the table `id`, which must not exist.
    pub fn create(
        fs: Arc<dyn Fs>,
        id: u64,
        owner: TableOwner,
        options: WriterOptions,
    ) -> Result<TableWriter> {
        let name = FileName::Table(id).path();
        let path = full_path(&*fs, &name);
        let file = fs.create(&name, 0).map_err(|e| Error::io("create", &path, e))?;
        Ok(TableWriter {
            file,
            path,
            id,
            owner,
            authors: Authors::default(),
            options,
            next_options: options,
            pending: Vec::with_capacity(APPEND_LEN + 2 * options.block_bytes.min(BLOCK_BYTES_MAX)),
            position: 0,
            block: BlockBuilder::default(),
            compressor: Compressor::default(),
            index: IndexBuilder::default(),
            hashes: Vec::new(),
            filter_bits: 0,
            ranges: Vec::new(),
            tally: Tally::EMPTY,
            smallest: TableKey::default(),
            spaces: Vec::new(),
            before_space: SpaceUsage::default(),
            last_space: SpaceId::default(),
            last_key: Vec::new(),
            last_trailer: Trailer::MIN,
        })
    }

    /// Adds an entry, which must come after all before it, in the same scope. `value` is stored as
    /// it is, so it has in front what its kind asks for.
    #[inline]
    pub fn add(
        &mut self,
        space: SpaceId,
        key: &[u8],
        trailer: Trailer,
        value: &[u8],
    ) -> Result<()> {
        let repeat = self.check_order(space, key, trailer)?;
        check_lens(key, value)?;
        if space != self.last_space || self.tally.entries == 0 {
            self.begin_space(space, key)?;
        } else if self.block.len() + key.len() + value.len() > self.block_bytes() {
            self.finish_block()?;
        }
        self.tally.count(key, trailer, value).map_err(|misfit| refuse(misfit, trailer))?;
        if repeat == Repeat::NewKey {
            self.hashes.push(key_hash(space, key));
            self.filter_bits += u64::from(self.options.filter_bits_per_key);
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        self.last_trailer = trailer;
        self.block.push(key, trailer, value, repeat);
        Ok(())
    }

    /// Says who the authors are that entries and range deletes name. Without it there are none but
    /// the local one.
    pub fn set_authors(&mut self, authors: Authors) {
        self.authors = authors;
    }

    /// Adds a range delete, in any order.
    ///
    /// # Errors
    /// `InvalidInput` if its author has no number.
    pub fn add_range_delete(&mut self, range: RangeDelete) -> Result<()> {
        let author = match range.origin {
            None => OriginNumber::LOCAL,
            Some(origin) => self.authors.number_of(origin).ok_or_else(nameless)?,
        };
        self.tally.count_range(range.seqno, range.stamp, author);
        self.ranges.push(range);
        Ok(())
    }

    /// Changes the layout from the next block on.
    pub fn set_options(&mut self, options: WriterOptions) {
        self.next_options = options;
        if self.block.is_empty() {
            self.options = options;
        }
    }

    /// Bytes the file would have if it were finished now, before the open block is compressed.
    pub fn estimated_len(&self) -> u64 {
        let waiting = self.block.len() + self.index.len() + FOOTER_LEN;
        self.position + waiting as u64 + self.filter_bits / 8
    }

    /// Entries added so far.
    pub fn entries(&self) -> u64 {
        self.tally.entries
    }

    /// Writes what is left and syncs the file. The name becomes durable when the caller syncs the
    /// folder.
    pub fn finish(mut self) -> Result<TableMeta> {
        self.finish_block()?;
        self.account_space();
        range_delete::sort(&mut self.ranges);
        let mut meta = self.meta()?;
        let footer = self.append_sections(&meta)?;
        let root = footer.encode(&mut self.pending);
        self.position += FOOTER_LEN as u64;
        self.append_pending()?;
        let len = self.file.finish().map_err(|e| Error::io("sync", &self.path, e))?;
        if len != self.position {
            let short = std::io::Error::other("the file has another length than was written");
            return Err(Error::io("finish", &self.path, short));
        }
        (meta.len, meta.root) = (len, root);
        Ok(meta)
    }

    /// Stops. The caller removes the file.
    pub fn abandon(self) {
        tracing::debug!(table = self.id, "abandoned a table");
    }

    #[inline]
    fn check_order(&self, space: SpaceId, key: &[u8], trailer: Trailer) -> Result<Repeat> {
        if self.tally.entries == 0 {
            return Ok(Repeat::NewKey);
        }
        match (self.last_space, &*self.last_key).cmp(&(space, key)) {
            std::cmp::Ordering::Less => Ok(Repeat::NewKey),
            std::cmp::Ordering::Equal if self.last_trailer > trailer => Ok(Repeat::OlderVersion),
            _ => Err(Error::invalid("entries of a table must be added in order, each once")),
        }
    }

    fn block_bytes(&self) -> usize {
        self.options.block_bytes.min(BLOCK_BYTES_MAX)
    }

    /// Ends the block and the keyspace of the entries so far; `key` of `space` comes next.
    #[cold]
    fn begin_space(&mut self, space: SpaceId, key: &[u8]) -> Result<()> {
        if self.tally.entries == 0 {
            self.smallest = TableKey::new(space, key);
        } else if self.last_space.scope() != space.scope() {
            return Err(Error::invalid("a table holds entries of one scope only"));
        }
        self.finish_block()?;
        self.account_space();
        self.spaces.push((space, SpaceUsage::default()));
        self.last_space = space;
        Ok(())
    }

    /// Notes what the last keyspace has, now that it is complete.
    fn account_space(&mut self) {
        let Tally { entries, raw_bytes, .. } = self.tally;
        let total = SpaceUsage { entries, raw_bytes, stored_bytes: self.position };
        if let Some((_, usage)) = self.spaces.last_mut() {
            *usage = total.since(self.before_space);
        }
        self.before_space = total;
    }

    /// Ends the open block, if there is one.
    fn finish_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let start = self.pending.len();
        self.block.finish(self.last_space, &mut self.pending);
        let raw_len = self.pending.len() - start;
        let compression =
            self.compressor.compress(self.options.compression, &mut self.pending, start);
        let stored = self.pending.get(start..).unwrap_or_default();
        let block = BlockRef {
            position: self.position,
            stored_len: stored.len() as u32,
            raw_len: raw_len as u32,
            compression,
            digest: digest_of(stored),
        };
        self.index.add(self.last_space, &self.last_key, self.last_trailer, &block);
        self.position += u64::from(block.stored_len);
        self.options = self.next_options;
        if self.pending.len() >= APPEND_LEN {
            self.append_pending()?;
        }
        Ok(())
    }

    fn append_pending(&mut self) -> Result<()> {
        self.file.append(&self.pending).map_err(|e| Error::io("append to", &self.path, e))?;
        self.pending.clear();
        Ok(())
    }

    /// What the manifest must know; length and root are not known yet.
    fn meta(&self) -> Result<TableMeta> {
        let range_key = |range: &RangeDelete| TableKey::new(range.space, &range.start);
        let (smallest, largest) = match (self.ranges.first(), self.ranges.last()) {
            _ if self.tally.entries > 0 => {
                (self.smallest.clone(), TableKey::new(self.last_space, &self.last_key))
            }
            (Some(first), Some(last)) => (range_key(first), range_key(last)),
            _ => return Err(Error::invalid("a table holds at least one entry or range delete")),
        };
        let scope = smallest.space.scope();
        self.check_ranges(scope)?;
        Ok(TableMeta {
            id: self.id,
            len: 0,
            root: [0; 32],
            scope,
            smallest,
            largest,
            entries: self.tally.entries,
            tombstones: self.tally.tombstones,
            expiring: self.tally.expiring,
            range_deletes: self.ranges.len() as u64,
            raw_bytes: self.tally.raw_bytes,
            seqno_min: self.tally.seqno_min,
            seqno_max: self.tally.seqno_max,
            tombstone_stamp_max: self.tally.tombstone_stamp_max,
            expires_at_max_ms: self.tally.expires_at_max_ms,
            generation: self.owner.generation,
            shadowed: 0,
            seqno_override: None,
            local: self.authors.local,
            origins: self.tally.authors().into(),
            source: None,
        })
    }

    fn check_ranges(&self, scope: ScopeId) -> Result<()> {
        let fits = |range: &RangeDelete| range.space.scope() == scope && range.is_sound();
        if self.ranges.iter().all(fits) {
            return Ok(());
        }
        Err(Error::invalid("a range delete of a table ends after its start, in the table's scope"))
    }

    fn append_sections(&mut self, meta: &TableMeta) -> Result<Footer> {
        let mut section = Vec::new();
        Filter::build(&self.hashes, self.filter_bits).encode(&mut section);
        let filter = self.append_section(&mut section)?;
        self.index.encode(&mut section);
        let index = self.append_section(&mut section)?;
        range_delete::encode(&self.ranges, &mut section);
        let range_deletes = self.append_section(&mut section)?;
        let graveyard = self.append_section(&mut section)?;
        let (owner, authors) = (self.owner, self.named_authors()?);
        let spaces = std::mem::take(&mut self.spaces);
        Properties { owner, meta: meta.clone(), authors, spaces }.encode(&mut section);
        let properties = self.append_section(&mut section)?;
        let (table, database) = (self.id, self.owner.database);
        Ok(Footer { table, database, filter, index, range_deletes, graveyard, properties })
    }

    /// The authors other than the local one that the table names.
    fn named_authors(&self) -> Result<Vec<(OriginNumber, Origin)>> {
        let named = self.tally.latest.iter();
        let full = |number: OriginNumber| Some((number, self.authors.origin(number)?));
        named.map(|(number, _)| full(*number).ok_or_else(nameless)).collect()
    }

    /// Appends the section and leaves `section` empty.
    fn append_section(&mut self, section: &mut Vec<u8>) -> Result<SectionRef> {
        let len = section.len() as u64;
        let place = SectionRef { position: self.position, len, digest: digest_of(section) };
        self.position += len;
        self.pending.append(section);
        if self.pending.len() >= APPEND_LEN {
            self.append_pending()?;
        }
        Ok(place)
    }
}

#[inline]
fn check_lens(key: &[u8], value: &[u8]) -> Result<()> {
    const STORED_LEN_MAX: usize = VALUE_LEN_MAX + VALUE_PREFIX_LEN_MAX;
    if key.len() > KEY_LEN_MAX {
        return Err(Error::too_large("key", KEY_LEN_MAX as u64, key.len() as u64));
    }
    if value.len() > STORED_LEN_MAX {
        return Err(Error::too_large("value", STORED_LEN_MAX as u64, value.len() as u64));
    }
    Ok(())
}

#[cold]
fn nameless() -> Error {
    Error::invalid("an author of an entry has no number in the database's list")
}

#[cold]
fn refuse(misfit: Misfit, trailer: Trailer) -> Error {
    Error::invalid(match misfit {
        Misfit::Kind => format!("a table has no place for an entry of kind {}", trailer.0 as u8),
        Misfit::NoExpiry => "an expiring entry starts with 8 bytes of expiry".to_owned(),
        Misfit::NoStamp => "a foreign entry starts with its author's stamp".to_owned(),
    })
}
