//! Reads everything that backups need, and compares it with what they say.

use super::courier::Courier;
use super::record::{BackupRecord, StoredSegment, StoredTable};
use super::store::{Shelf, Store, record_path, segment_path, table_path};
use super::timeline::Stretch;
use crate::check::{Finding, Severity};
use base::error::FileKind;
use base::fs::full_path;
use base::{Corruption, Error, RelPath, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A file that is needed, and what it must be.
struct Expected {
    len: u64,
    digest: [u8; 32],
}

/// What [`Store::verify`] looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Backups, damaged ones included.
    pub backups: u64,
    /// Files that they need.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// What is damaged or missing.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Reads every byte that a backup needs. An error means that there is nothing to verify.
    pub fn verify(&self, courier: &mut Courier<'_>) -> Result<Verified> {
        let _lock = self.lock_to_read()?;
        let shelf = self.shelf()?;
        let mut verified = Verified {
            backups: (shelf.records.len() + shelf.damaged.len()) as u64,
            ..Verified::default()
        };
        for (number, error) in &shelf.damaged {
            let path = full_path(&*self.fs, &record_path(*number));
            verified.findings.push(finding(path, error));
        }
        let expected = expected(&shelf);
        courier.progress().expect(expected.values().map(|file| file.len).sum());
        for (name, file) in &expected {
            verified.files += 1;
            verified.bytes += file.len;
            match self.compare(name, file, courier) {
                Ok(()) => {}
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => {
                    verified.findings.push(finding(full_path(&*self.fs, name), &error));
                }
            }
        }
        Ok(verified)
    }

    /// Verifies all files that a restore will read.
    pub(super) fn verify_stretch(
        &self,
        stretch: &Stretch<'_>,
        courier: &mut Courier<'_>,
    ) -> Result<()> {
        let base = stretch.base;
        let life = base.identity.incarnation;
        let tables = base.tables().map(|(meta, table)| of_table(table, meta.len));
        let segments = stretch.segments.iter();
        let segments =
            segments.map(|segment| (segment_path(life, segment.number), of_segment(segment)));
        for (name, file) in tables.chain(segments) {
            self.compare(&name, &file, courier)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        name: &RelPath,
        expected: &Expected,
        courier: &mut Courier<'_>,
    ) -> Result<()> {
        let file = self.open(name)?;
        let path = full_path(&*self.fs, name);
        let corrupt = |at, found| Err(Error::corrupt(FileKind::Backup, &path, at, found));
        let len = file.len().map_err(|e| Error::io("measure", &path, e))?;
        if len < expected.len {
            return corrupt(len, Corruption::Truncated);
        }
        if len > expected.len {
            return corrupt(expected.len, Corruption::TrailingBytes);
        }
        if courier.digest(&*file, &path, len)? != expected.digest {
            return corrupt(0, Corruption::DigestMismatch);
        }
        Ok(())
    }
}

/// All that the records need. Of two that name one file, the later one counts: they agree.
fn expected(shelf: &Shelf) -> BTreeMap<RelPath, Expected> {
    let mut expected = BTreeMap::new();
    for record in &shelf.records {
        expected.extend(record.tables().map(|(meta, table)| of_table(table, meta.len)));
        expected.extend(needed_segments(shelf, record));
    }
    expected
}

fn needed_segments<'s>(
    shelf: &'s Shelf,
    record: &'s BackupRecord,
) -> impl Iterator<Item = (RelPath, Expected)> + 's {
    let life = record.identity.incarnation;
    let used = record.segments.iter().filter(move |segment| shelf.is_used(life, segment.number));
    used.map(move |segment| (segment_path(life, segment.number), of_segment(segment)))
}

fn of_table(table: &StoredTable, len: u64) -> (RelPath, Expected) {
    (table_path(table), Expected { len, digest: table.digest })
}

fn of_segment(segment: &StoredSegment) -> Expected {
    Expected { len: segment.len, digest: segment.digest }
}

fn finding(path: PathBuf, error: &Error) -> Finding {
    Finding {
        severity: Severity::Damage,
        code: error.code(),
        file: path,
        offset: error.offset(),
        what: error.to_string(),
    }
}
