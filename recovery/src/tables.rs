//! Stage 8: the tables that the manifest names.
//!
//! Existence and length come from the listing, so a clean open reads no table. What is in a table
//! is verified when it is first opened, or here at the deeper levels.

use crate::inventory::Inventory;
use crate::plan::Verify;
use crate::progress::Progress;
use base::error::FileKind;
use base::fs::{Fs, full_path};
use base::{Corruption, Defect, Error, FileName, Result, planted};
use sstable::manifest::Version;
use sstable::{Cache, Table, TableMeta};
use std::sync::Arc;

/// Bytes of blocks kept while tables are verified: each block is read once.
const CACHE_BYTES: usize = 1 << 20;

pub(crate) fn verify(
    fs: &dyn Fs,
    database: [u8; 16],
    version: &Version,
    inventory: &Inventory,
    level: Verify,
    progress: &Progress,
) -> Result<()> {
    for table in version.tables().filter(|_| !planted(Defect::SkipTableListing)) {
        check_listed(fs, table, inventory)?;
    }
    if level == Verify::Quick {
        return Ok(());
    }
    progress.expect(version.bytes());
    let cache = Cache::new(CACHE_BYTES);
    for table in version.tables() {
        progress.refuse_if_cancelled()?;
        verify_table(fs, database, table, &cache, level)?;
        progress.advance(table.len);
    }
    Ok(())
}

/// Existence and length.
pub(crate) fn check_listed(fs: &dyn Fs, table: &TableMeta, inventory: &Inventory) -> Result<()> {
    let path = full_path(fs, &FileName::Table(table.id).path());
    match inventory.tables.get(&table.id) {
        None => Err(Error::Missing { file: FileKind::Table, path }),
        Some(&len) if len < table.len => {
            Err(Error::corrupt(FileKind::Table, path, len, Corruption::Truncated))
        }
        Some(&len) if len > table.len => {
            Err(Error::corrupt(FileKind::Table, path, table.len, Corruption::TrailingBytes))
        }
        Some(_) => Ok(()),
    }
}

/// The root digest, and at the paranoid level every block.
pub(crate) fn verify_table(
    fs: &dyn Fs,
    database: [u8; 16],
    table: &Arc<TableMeta>,
    cache: &Arc<Cache>,
    level: Verify,
) -> Result<()> {
    let open = Table::open(fs, table.clone(), database, cache.clone())?;
    if level == Verify::Paranoid {
        open.verify()?;
    }
    Ok(())
}
