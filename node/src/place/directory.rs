//! The place that is a directory, opened by this process.

use super::numbers::numbers_of;
use super::{DigestLine, Entries, Entry, KeyspaceLine, Place, Selection, Sink, Walk, Which};
use crate::args::Durability;
use crate::database;
use crate::digest::ContentDigest;
use crate::error::{Exit, Failure, Outcome};
use crate::files;
use crate::record::Record;
use engine::{Batch, Create, Db, Keyspace, Options, Platform, Progress, Scope, WriteOptions};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// An open database and where it is. Clones share it.
#[derive(Clone)]
pub(crate) struct Directory {
    db: Db,
    path: PathBuf,
}

impl Directory {
    /// Opens the database at `path`.
    pub(crate) fn open(path: &Path, create: Create, durability: Durability) -> Outcome<Directory> {
        Directory::open_watched(path, create, durability, &Progress::default())
    }

    /// As [`Directory::open`]; tells `progress` how far it is.
    pub(crate) fn open_watched(
        path: &Path,
        create: Create,
        durability: Durability,
        progress: &Progress,
    ) -> Outcome<Directory> {
        let db = database::open_watched(path, create, durability, progress)?;
        Ok(Directory { db, path: path.to_path_buf() })
    }

    /// Opens the database at `path` as `options` say, and tells `progress` how far it is.
    pub(crate) fn open_with(
        path: &Path,
        options: Options,
        progress: &Progress,
    ) -> Outcome<Directory> {
        let db = Db::open_with_progress(Platform::at(path), options, progress)?;
        Ok(Directory { db, path: path.to_path_buf() })
    }

    /// The database `db`, which is open at `path`.
    #[cfg(test)]
    pub(crate) fn of(db: Db, path: &Path) -> Directory {
        Directory { db, path: path.to_path_buf() }
    }

    /// The open database.
    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// As [`Place::walk`], for those who keep it across threads.
    pub(crate) fn start_walk(&self, selection: &Selection) -> Outcome<Walk> {
        Walk::new(&self.db, selection)
    }

    /// The scope of the keyspace `name`; that of users, where it would be made by its first record.
    pub(crate) fn scope_of(&self, name: &str) -> Scope {
        self.db.existing_keyspace(name).map_or(Scope::Main, |keyspace| keyspace.scope())
    }

    /// As [`Place::sink`], where `gate` is asked before anything is written.
    pub(crate) fn gated_sink(
        &self,
        keyspace: &str,
        durability: Durability,
        gate: Gate,
    ) -> Outcome<Box<dyn Sink>> {
        gate(self.scope_of(keyspace))?;
        Ok(Box::new(BatchSink {
            directory: self.clone(),
            options: WriteOptions { sync: Some(durability.mode()) },
            gate,
            unnamed: database::keyspace_to_write(&self.db, keyspace)?,
            named: HashMap::new(),
            batch: Batch::new(),
            scopes: Vec::new(),
        }))
    }
}

/// Says whether writes to a scope are taken now. Whoever has opened a directory for itself asks nobody.
pub(crate) type Gate = Box<dyn Fn(Scope) -> Outcome>;

impl Place for Directory {
    fn get(&self, keyspace: &str, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        match database::keyspace_to_read(&self.db, keyspace)? {
            Some(keyspace) => Ok(keyspace.get(key)?.map(Vec::from)),
            None => Ok(None),
        }
    }

    fn put(&self, keyspace: &str, key: &[u8], value: &[u8]) -> Outcome<u64> {
        let keyspace = database::keyspace_to_write(&self.db, keyspace)?;
        Ok(keyspace.put(key, value)?.raw())
    }

    fn delete(&self, keyspace: &str, key: &[u8]) -> Outcome<Option<u64>> {
        database::check_changeable(keyspace)?;
        match database::keyspace_to_read(&self.db, keyspace)? {
            Some(keyspace) => Ok(Some(keyspace.delete(key)?.raw())),
            None => Ok(None),
        }
    }

    fn walk(&self, selection: &Selection) -> Outcome<Box<dyn Entries>> {
        Ok(Box::new(self.start_walk(selection)?))
    }

    fn digest(
        &self,
        keyspace: Option<&str>,
        watch: &mut dyn FnMut() -> Outcome,
    ) -> Outcome<DigestLine> {
        let which = keyspace.map_or(Which::All, |name| Which::One(name.to_owned()));
        let mut walk = self.start_walk(&Selection::all_of(which))?;
        let mut digest = ContentDigest::default();
        while let Some(Entry { keyspace, key, value }) = walk.next()? {
            digest.add(keyspace, key, value);
            watch()?;
        }
        let (records, bytes) = (digest.records(), digest.bytes());
        Ok(DigestLine { digest: digest.to_hex(), records, bytes })
    }

    fn keyspaces(&self, watch: &mut dyn FnMut() -> Outcome) -> Outcome<Vec<KeyspaceLine>> {
        let snapshot = self.db.snapshot();
        let mut lines = Vec::new();
        for keyspace in &database::keyspaces_of_users(&self.db) {
            let (mut records, mut bytes) = (0, 0);
            database::for_each(&snapshot, keyspace, |key, value| {
                records += 1;
                bytes += key.len() as u64 + value.len() as u64;
                watch()
            })?;
            lines.push(KeyspaceLine { keyspace: keyspace.name().to_owned(), records, bytes });
        }
        Ok(lines)
    }

    fn flush(&self) -> Outcome {
        Ok(self.db.flush()?)
    }

    fn compact(&self, keyspace: Option<&str>, progress: &Progress) -> Outcome {
        if let Some(name) = keyspace {
            database::keyspace_to_read(&self.db, name)?;
        }
        Ok(self.db.compact_with_progress(progress)?)
    }

    fn stats(&self) -> Outcome<Map<String, Value>> {
        // Where a table can not be read, nobody knows; the health says what is wrong.
        let keyspaces = self.db.keyspace_stats().ok();
        let mut object = numbers_of(&self.db.stats(), keyspaces);
        object.insert("keyspaces".into(), json!(database::keyspaces_of_users(&self.db).len()));
        object.insert("disk_bytes".into(), json!(files::disk_usage(&self.path)));
        Ok(object)
    }

    fn sink(&self, keyspace: &str, durability: Durability) -> Outcome<Box<dyn Sink>> {
        self.gated_sink(keyspace, durability, Box::new(|_| Ok(())))
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(self.db.close()?)
    }
}

impl Entries for Walk {
    fn next(&mut self) -> Outcome<Option<Entry<'_>>> {
        Walk::next(self)
    }
}

/// Collects records into batches of the engine.
struct BatchSink {
    directory: Directory,
    options: WriteOptions,
    gate: Gate,
    /// Where records go that name no keyspace.
    unnamed: Keyspace,
    named: HashMap<String, Keyspace>,
    batch: Batch,
    /// All that the batch writes to.
    scopes: Vec<Scope>,
}

impl Sink for BatchSink {
    fn add(&mut self, record: &Record) -> Outcome {
        let keyspace = match &record.keyspace {
            None => &self.unnamed,
            Some(name) => named(&mut self.named, &self.directory, &self.gate, name)?,
        };
        if !self.scopes.contains(&keyspace.scope()) {
            self.scopes.push(keyspace.scope());
        }
        self.batch.put(keyspace, &record.key, &record.value);
        Ok(())
    }

    /// A load may last: what was allowed when it began may not be now.
    fn commit(&mut self) -> Outcome {
        self.scopes.drain(..).try_for_each(&self.gate)?;
        self.directory.db.write_with(std::mem::take(&mut self.batch), self.options)?;
        Ok(())
    }
}

/// The keyspace `name`, created on its first record if `gate` lets that happen.
fn named<'m>(
    known: &'m mut HashMap<String, Keyspace>,
    directory: &Directory,
    gate: &Gate,
    name: &str,
) -> Outcome<&'m Keyspace> {
    if !known.contains_key(name) {
        gate(directory.scope_of(name))?;
        known.insert(name.to_owned(), database::keyspace_to_write(&directory.db, name)?);
    }
    known.get(name).ok_or_else(|| Failure::new(Exit::Bug, "Bug", "a keyspace vanished"))
}
