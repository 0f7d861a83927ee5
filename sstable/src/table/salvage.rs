//! What can still be read of a damaged table.
//!
//! The footer leads to the index, and the index to each block with its digest: a block either
//! verifies or is lost as a whole. Without footer or index nothing is: blocks do not say where they
//! start, so whatever looked like one could be part of a value.
//!
//! Filter and properties can be built anew and are never a loss; lost range deletes are.

use super::file::TableFile;
use super::open::{Sections, read_footer};
use super::{Stored, decode_block, fits_index};
use crate::footer::Footer;
use crate::index::Index;
use crate::meta::TableMeta;
use crate::properties::Properties;
use crate::range_delete::{self, RangeDelete};
use base::fs::Fs;
use base::{Corruption, Error, Origin, Result, SpaceId, Trailer};

/// A damaged table, as far as it can be read.
#[derive(Debug)]
pub struct Salvage {
    file: TableFile,
    meta: TableMeta,
    index: Index,
    range_deletes: Result<Box<[RangeDelete]>, Corruption>,
    range_deletes_at: u64,
    local: Option<Origin>,
}

/// A block that does not verify.
#[derive(Debug)]
pub struct LostBlock {
    /// The keyspace of its entries.
    pub space: SpaceId,
    /// The first key that an entry in it can have: the last one of the block before.
    pub first: Box<[u8]>,
    /// The key of its last entry.
    pub last: Box<[u8]>,
    /// What is wrong with it, and where.
    pub error: Error,
}

/// Opens what is left of the table that `meta` speaks of. Bytes behind its end are ignored.
///
/// # Errors
/// `TableMissing`, or `TableCorrupt` if footer or index are lost or the file is another one.
pub fn salvage(fs: &dyn Fs, meta: &TableMeta, database: [u8; 16]) -> Result<Salvage> {
    let file = TableFile::open(fs, meta.id)?.ending_at(meta.len);
    let (footer, root) = read_footer(&file)?;
    if root != meta.root || footer.database != meta.written_in(database) {
        return Err(file.corrupt(file.len(), Corruption::Foreign));
    }
    let sections = Sections::read(&file, &footer)?;
    let data_len = footer.filter.position;
    let decode = |bytes: &[u8]| Index::decode(bytes, data_len, meta.seqno_override);
    let index = sections.decode(footer.index, decode)?;
    let range_deletes = range_deletes_of(&sections, &footer, meta);
    let range_deletes_at = footer.range_deletes.position;
    let properties = sections.decode(footer.properties, Properties::decode).ok();
    let local = properties.map(|properties| properties.owner.origin);
    Ok(Salvage { file, meta: meta.clone(), index, range_deletes, range_deletes_at, local })
}

fn range_deletes_of(
    sections: &Sections<'_>,
    footer: &Footer,
    meta: &TableMeta,
) -> Result<Box<[RangeDelete]>, Corruption> {
    let mut ranges = sections.verified(footer.range_deletes).and_then(range_delete::decode)?;
    if let Some(seqno) = meta.seqno_override {
        ranges.iter_mut().for_each(|range| range.seqno = seqno);
    }
    Ok(ranges)
}

impl Salvage {
    /// The author that "local" means in it, if it can still say so.
    pub fn local(&self) -> Option<Origin> {
        self.local
    }

    /// Its range deletes.
    ///
    /// # Errors
    /// `TableCorrupt` if they are lost: what they deleted may show again.
    pub fn range_deletes(&self) -> Result<&[RangeDelete]> {
        match &self.range_deletes {
            Ok(ranges) => Ok(ranges),
            Err(found) => Err(self.file.corrupt(self.range_deletes_at, *found)),
        }
    }

    /// Hands every entry of every block that verifies to `take`, in order, and returns the other
    /// blocks.
    pub fn read(
        &self,
        mut take: impl FnMut(SpaceId, &[u8], Trailer, &[u8]) -> Result<()>,
    ) -> Result<Vec<LostBlock>> {
        let mut lost = Vec::new();
        let (mut stored, mut key) = (Vec::new(), Vec::new());
        for number in 0..self.index.len() {
            let Some(place) = self.index.block(number).copied() else { break };
            let found = match self.file.has(place.position, u64::from(place.stored_len)) {
                false => Err(Corruption::Truncated),
                true => {
                    let len = u64::from(place.stored_len);
                    self.file.read_into(&mut stored, place.position, len)?;
                    decode_block(&place, Stored::Borrowed(&stored), self.meta.seqno_override)
                        .and_then(|block| fits_index(&self.index, number, &block).map(|()| block))
                }
            };
            let block = match found {
                Ok(block) => block,
                Err(found) => {
                    lost.push(self.lost_block(number, place.position, found));
                    continue;
                }
            };
            key.clear();
            key.extend_from_slice(block.common_prefix());
            for entry in 0..block.count() {
                key.truncate(block.common_prefix().len());
                let (trailer, value) = block.read(entry, &mut key);
                let value = block.bytes().get(value).unwrap_or_default();
                take(block.space(), &key, trailer, value)?;
            }
        }
        Ok(lost)
    }

    fn lost_block(&self, number: usize, position: u64, found: Corruption) -> LostBlock {
        let space = self.index.space_of(number).unwrap_or(self.meta.smallest.space);
        let is_first = self.index.blocks_of(space).start == number;
        let first = match number.checked_sub(1) {
            Some(before) if !is_first => self.index.last(before).0.into(),
            Some(_) => Box::default(),
            None => self.meta.smallest.key.clone(),
        };
        let last = self.index.last(number).0.into();
        LostBlock { space, first, last, error: self.file.corrupt(position, found) }
    }
}
