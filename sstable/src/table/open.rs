//! Opens a table: everything but its blocks is read, and compared with what is expected.

use super::file::TableFile;
use crate::filter::Filter;
use crate::footer::{FOOTER_LEN, Footer, Refusal, SectionRef, digest_of};
use crate::index::Index;
use crate::meta::TableMeta;
use crate::properties::{Properties, SpaceUsage};
use crate::range_delete::{self, RangeDelete};
use crate::writer::TableOwner;
use base::codec::Decoded;
use base::fs::Fs;
use base::{Corruption, Defect, Error, Origin, OriginNumber, Result, SpaceId, planted};

/// What a table keeps in memory besides blocks.
pub(super) struct Parts {
    pub(super) file: TableFile,
    pub(super) filter: Filter,
    pub(super) index: Index,
    pub(super) range_deletes: Box<[RangeDelete]>,
    pub(super) spaces: Box<[(SpaceId, SpaceUsage)]>,
    /// What "local" means in it.
    pub(super) local: Origin,
    /// The other authors, by number.
    pub(super) authors: Box<[(OriginNumber, Origin)]>,
}

/// Reads the parts of the table that `meta` speaks of; any other file is refused.
pub(super) fn open(fs: &dyn Fs, meta: &TableMeta, database: [u8; 16]) -> Result<Parts> {
    let file = TableFile::open(fs, meta.id)?;
    if file.len() != meta.len {
        return Err(file.corrupt(file.len().min(meta.len), Corruption::Truncated));
    }
    let (footer, root) = read_footer(&file)?;
    let footer_at = file.len() - FOOTER_LEN as u64;
    if root != meta.root && !planted(Defect::SkipTableRoot) {
        return Err(file.corrupt(footer_at, Corruption::DigestMismatch));
    }
    if footer.database != meta.written_in(database) {
        return Err(file.corrupt(footer_at, Corruption::Foreign));
    }
    let sections = Sections::read(&file, &footer)?;
    let properties = sections.decode(footer.properties, Properties::decode)?;
    if footer.table != meta.written_as() || !properties.agree_with(meta) {
        return Err(file.corrupt(footer.properties.position, Corruption::BadVersion));
    }
    let data_len = footer.filter.position;
    let index = sections
        .decode(footer.index, |bytes| Index::decode(bytes, data_len, meta.seqno_override))?;
    let mut range_deletes = sections.decode(footer.range_deletes, range_delete::decode)?;
    if let Some(seqno) = meta.seqno_override {
        range_deletes.iter_mut().for_each(|range| range.seqno = seqno);
    }
    let filter = sections.decode(footer.filter, Filter::decode)?;
    Ok(Parts {
        filter,
        index,
        range_deletes,
        spaces: properties.spaces.into(),
        local: properties.owner.origin,
        authors: properties.authors.into(),
        file,
    })
}

/// What the table `id` says about itself, when no manifest speaks of it: for repair.
///
/// Footer and properties are verified against each other; blocks are not read.
pub fn inspect(fs: &dyn Fs, id: u64) -> Result<(TableMeta, TableOwner)> {
    let file = TableFile::open(fs, id)?;
    let (footer, root) = read_footer(&file)?;
    let sections = Sections::read(&file, &footer)?;
    let properties = sections.decode(footer.properties, Properties::decode)?;
    let is_own = footer.table == properties.meta.id && footer.database == properties.owner.database;
    if !is_own || footer.table != id {
        return Err(file.corrupt(footer.properties.position, Corruption::Foreign));
    }
    Ok((TableMeta { len: file.len(), root, ..properties.meta }, properties.owner))
}

/// The keyspaces that the table has entries of, and what they take, by its properties alone: for those who
/// count, and will not have its filter and index in memory.
pub fn usage(fs: &dyn Fs, meta: &TableMeta) -> Result<Box<[(SpaceId, SpaceUsage)]>> {
    let file = TableFile::open(fs, meta.id)?;
    let (footer, root) = read_footer(&file)?;
    if root != meta.root {
        let footer_at = file.len() - FOOTER_LEN as u64;
        return Err(file.corrupt(footer_at, Corruption::DigestMismatch));
    }
    let SectionRef { position, len, .. } = footer.properties;
    let sections = Sections { file: &file, position, bytes: file.read(position, len)? };
    Ok(sections.decode(footer.properties, Properties::decode)?.spaces.into())
}

pub(super) fn read_footer(file: &TableFile) -> Result<(Footer, [u8; 32])> {
    let Some(footer_at) = file.len().checked_sub(FOOTER_LEN as u64) else {
        return Err(file.corrupt(0, Corruption::Truncated));
    };
    let bytes = file.read(footer_at, FOOTER_LEN as u64)?;
    let bytes =
        bytes.first_chunk().ok_or_else(|| file.corrupt(footer_at, Corruption::Truncated))?;
    Footer::decode(bytes, file.len()).map_err(|refusal| match refusal {
        Refusal::Corrupt(found) => file.corrupt(footer_at, found),
        Refusal::Key(key_id) => Error::KeyUnavailable { path: file.path().into(), key_id },
        Refusal::Format { found, supported } => {
            Error::FormatUnsupported { path: file.path().into(), found, supported }
        }
    })
}

/// All sections of a file; the footer has made sure that they are back to back.
pub(super) struct Sections<'a> {
    file: &'a TableFile,
    position: u64,
    bytes: Vec<u8>,
}

impl<'a> Sections<'a> {
    pub(super) fn read(file: &'a TableFile, footer: &Footer) -> Result<Sections<'a>> {
        let position = footer.filter.position;
        let end = footer.properties.end().unwrap_or(position);
        let bytes = file.read(position, end.saturating_sub(position))?;
        Ok(Sections { file, position, bytes })
    }

    /// Verifies a section and decodes it.
    pub(super) fn decode<T>(
        &self,
        section: SectionRef,
        decode: impl FnOnce(&[u8]) -> Decoded<T>,
    ) -> Result<T> {
        let decoded = self.verified(section).and_then(decode);
        decoded.map_err(|found| self.file.corrupt(section.position, found))
    }

    pub(super) fn verified(&self, section: SectionRef) -> Decoded<&[u8]> {
        let start = section.position.checked_sub(self.position).ok_or(Corruption::Misplaced)?;
        let (start, len) = (usize::try_from(start), usize::try_from(section.len));
        let (Ok(start), Ok(len)) = (start, len) else { return Err(Corruption::OutOfRange) };
        let (_, tail) = self.bytes.split_at_checked(start).ok_or(Corruption::Truncated)?;
        let (bytes, _) = tail.split_at_checked(len).ok_or(Corruption::Truncated)?;
        if digest_of(bytes) != section.digest {
            return Err(Corruption::DigestMismatch);
        }
        Ok(bytes)
    }
}
