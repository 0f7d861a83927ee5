//! Makes a backup, from files that a running database keeps still.
//!
//! Files first, the record last: until it is renamed, there is no backup, and what was written is a
//! leftover.

use super::courier::Courier;
use super::record::{BackupKind, BackupRecord, LogPlace, StoredSegment, StoredTable};
use super::segments::{Finished, finished_segments};
use super::store::{FOLDERS, Shelf, Store, record_path, segment_path, table_path, temp_of};
use crate::lone::LoneFile;
use base::error::FileKind;
use base::fs::{Fs, LockGuard, full_path};
use base::{Corruption, Error, FileName, Identity, RelPath, Result, Tick};
use sstable::{Cache, Table, TableMeta};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of blocks kept while a copy is verified: each block is read once.
const CACHE_BYTES: usize = 1 << 20;

/// A backup in the making.
#[derive(Debug)]
pub struct BackupWriter<'a> {
    store: &'a Store,
    _lock: LockGuard,
    shelf: Shelf,
    identity: Identity,
    number: u64,
}

/// Whether tables of earlier backups may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every table is copied.
    Nothing,
    /// A table that is there is not copied again.
    Tables,
}

impl Store {
    /// Begins the next backup of the database `identity`: creates the store if there is none, and
    /// clears away what earlier ones left half made.
    pub fn begin(&self, identity: &Identity) -> Result<BackupWriter<'_>> {
        for folder in [RelPath::root()].into_iter().chain(FOLDERS.map(RelPath::folder)) {
            if folder != RelPath::root() {
                self.refuse_strangers()?;
            }
            let path = full_path(&*self.fs, &folder);
            self.fs.create_dir(&folder).map_err(|e| Error::io("create", path, e))?;
        }
        self.sync_dir(&RelPath::root())?;
        let lock = self.lock()?;
        let shelf = self.shelf()?;
        let mut owners = shelf.records.iter().map(|record| record.identity.database);
        if owners.any(|database| database != identity.database) {
            let root = self.fs.root().display();
            let message =
                format!("{root} holds backups of another database; name another directory");
            return Err(Error::invalid(message));
        }
        self.sweep(&shelf)?;
        let damaged = shelf.damaged.iter().map(|(number, _)| *number);
        let numbers = shelf.records.iter().map(|record| record.number).chain(damaged);
        let number = numbers.max().unwrap_or(0).saturating_add(1);
        Ok(BackupWriter { store: self, _lock: lock, shelf, identity: *identity, number })
    }
}

impl BackupWriter<'_> {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the backup before it; 0 if there is none.
    pub fn parent(&self) -> u64 {
        self.shelf.records.last().map_or(0, |record| record.number)
    }

    /// Whether a backup of this life of the database is there.
    pub fn continues(&self) -> bool {
        let life = self.identity.incarnation;
        let mut bases = self.shelf.records.iter().filter(|record| record.has_tables());
        bases.any(|record| record.identity.incarnation == life)
    }

    /// Takes the table `meta` of the database in `source`: copies and verifies it, unless an earlier
    /// backup has.
    pub fn table(
        &self,
        source: &dyn Fs,
        meta: &Arc<TableMeta>,
        sharing: Sharing,
        courier: &mut Courier<'_>,
    ) -> Result<StoredTable> {
        if sharing == Sharing::Tables
            && let Some(known) = self.known(meta)
        {
            courier.progress().advance(meta.len);
            return Ok(known);
        }
        let name = FileName::Table(meta.id).path();
        let path = full_path(source, &name);
        let file = source.open(&name).map_err(|e| Error::io("open", &path, e))?;
        let mut stored = StoredTable { root: meta.root, copy: self.number, digest: [0; 32] };
        let to = table_path(&stored);
        let temp = temp_of(&to);
        stored.digest = courier.copy(&*file, &path, meta.len, &*self.store.fs, &temp)?;
        let started = courier.now();
        self.verify_copy(&temp, meta)?;
        // Reading it once more is work too.
        courier.pace(0, started)?;
        self.rename(&temp, &to)?;
        Ok(stored)
    }

    /// The table as an earlier backup has it, if its file is there in full length.
    fn known(&self, meta: &TableMeta) -> Option<StoredTable> {
        let records = self.shelf.records.iter().rev();
        let mut tables = records.flat_map(BackupRecord::tables);
        let (_, known) =
            tables.find(|(other, _)| other.root == meta.root && other.len == meta.len)?;
        let file = self.store.fs.open(&table_path(known)).ok()?;
        let is_whole = file.len().is_ok_and(|len| len == meta.len);
        is_whole.then_some(*known)
    }

    fn verify_copy(&self, name: &RelPath, meta: &Arc<TableMeta>) -> Result<()> {
        let file = LoneFile(self.store.open(name)?);
        let database = self.identity.database;
        let table = Table::open(&file, meta.clone(), database, Cache::new(CACHE_BYTES));
        table.and_then(|table| table.verify()).map(|_| ())
    }

    /// Takes the finished segments of the log in `source` from number `from` up to `log`, oldest
    /// first, as far as one leads on to the next.
    pub fn segments(
        &self,
        source: &dyn Fs,
        from: u64,
        log: LogPlace,
        courier: &mut Courier<'_>,
    ) -> Result<Vec<StoredSegment>> {
        let finished = finished_segments(source, &self.identity, from, log)?;
        finished.iter().map(|segment| self.segment(segment, courier)).collect()
    }

    fn segment(&self, segment: &Finished, courier: &mut Courier<'_>) -> Result<StoredSegment> {
        let life = self.identity.incarnation;
        let to = segment_path(life, segment.number);
        let temp = temp_of(&to);
        let (path, fs) = (&segment.path, &*self.store.fs);
        let digest = courier.copy(&*segment.file, path, segment.len, fs, &temp)?;
        let stored = StoredSegment {
            number: segment.number,
            previous: segment.previous,
            first: segment.first,
            last: segment.last,
            len: segment.len,
            digest,
        };
        if self.shelf.segment(life, segment.number).is_some_and(|known| *known != stored) {
            return Err(Error::invalid(format!(
                "the store holds another segment {} of this database: its directory was copied, and \
                 both copies are in use; name another directory for the backups of one of them",
                segment.number
            )));
        }
        self.rename(&temp, &to)?;
        Ok(stored)
    }

    /// The backup before, if it only brought segments of this life: one that brings more of them takes
    /// its place.
    fn superseded(&self) -> Option<&BackupRecord> {
        let is_log = |record: &&BackupRecord| {
            record.kind == BackupKind::Log
                && record.identity.incarnation == self.identity.incarnation
        };
        self.shelf.records.last().filter(is_log)
    }

    /// Makes the backup count. Its files are durable before.
    pub fn commit(self, mut record: BackupRecord) -> Result<BackupRecord> {
        let superseded = self.superseded().filter(|_| record.kind == BackupKind::Log);
        if let Some(before) = superseded {
            // One that died right behind its rename brought some of them too.
            let segments = before.segments.iter().chain(&record.segments);
            let by_number: BTreeMap<u64, StoredSegment> =
                segments.map(|segment| (segment.number, *segment)).collect();
            record.segments = by_number.into_values().collect();
            let ingests: BTreeSet<Tick> =
                before.ingests.iter().chain(&record.ingests).copied().collect();
            record.ingests = ingests.into_iter().collect();
            record.parent = before.parent;
        }
        self.write(&record)?;
        if let Some(before) = superseded {
            self.store.remove(&record_path(before.number))?;
        }
        Ok(record)
    }

    fn write(&self, record: &BackupRecord) -> Result<()> {
        FOLDERS.map(RelPath::folder).iter().try_for_each(|folder| self.store.sync_dir(folder))?;
        let fs = &self.store.fs;
        let name = record_path(record.number);
        let temp = temp_of(&name);
        let path = full_path(&**fs, &temp);
        let bytes = record.encode();
        // What could not be read again would take the place of one that can.
        self.store.parse(&path, &bytes)?;
        let mut file = fs.create(&temp, 0).map_err(|e| Error::io("create", &path, e))?;
        file.append(&bytes).map_err(|e| Error::io("write", &path, e))?;
        let len = file.finish().map_err(|e| Error::io("sync", &path, e))?;
        let written = self.store.open(&temp)?.len().map_err(|e| Error::io("measure", &path, e))?;
        if written != len || len != bytes.len() as u64 {
            return Err(Error::corrupt(FileKind::Backup, path, written, Corruption::Truncated));
        }
        self.rename(&temp, &name)?;
        self.store.sync_dir(&RelPath::root())
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<()> {
        let path = full_path(&*self.store.fs, to);
        self.store.fs.rename(from, to).map_err(|e| Error::io("rename", path, e))
    }
}
