//! The steps on one database: load, read, scan, change, snapshot, transaction, compaction, reopen.
//!
//! A plain ordered map in memory goes through the same changes; the database must equal it.

use super::report::{Report, Step};
use crate::args::Durability;
use crate::database;
use crate::digest::ContentDigest;
use crate::error::{Exit, Failure, Outcome};
use crate::output::human_bytes;
use crate::ucd;
use engine::{Batch, Create, Db, Error, Keyspace, Snapshot};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const KEYSPACE: &str = "characters";
const BATCH_RECORDS: usize = 1000;

/// The database being worked on, and what it must hold.
pub(super) struct Workshop {
    path: PathBuf,
    db: Db,
    characters: Keyspace,
    model: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Workshop {
    /// A new database in the folder `main` of `directory`.
    pub(super) fn open(directory: &Path) -> Outcome<Workshop> {
        let path = directory.join("main");
        let db = database::open_with(&path, Create::New, Durability::Sync)?;
        let characters = database::keyspace_to_write(&db, KEYSPACE)?;
        Ok(Workshop { path, db, characters, model: BTreeMap::new() })
    }

    /// Stores every character, a batch at a time.
    pub(super) fn load(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("load");
        let mut batch = Batch::new();
        let mut bytes = 0;
        for (key, value) in ucd::records()? {
            bytes += key.len() + value.len();
            batch.put(&self.characters, &key, value);
            self.model.insert(key.into_bytes(), value.as_bytes().to_vec());
            if batch.len() == BATCH_RECORDS {
                self.db.write(std::mem::take(&mut batch))?;
            }
        }
        self.db.write(batch)?;
        let (records, seconds) = (self.model.len(), report.seconds(&step));
        step.check(self.characters.count(..)? == records as u64, "a record is missing");
        let (size, rate) = (human_bytes(bytes as u64), per_second(records, seconds));
        let what = format!("{records} characters, {size}, in synced batches of {BATCH_RECORDS}");
        report.end(step, format_args!("{what}: {rate}/s"))
    }

    /// Reads every character by its key, and as many keys that are not there.
    pub(super) fn read_back(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("read back");
        self.compare_gets(&mut step)?;
        for key in self.model.keys() {
            let missing = [key.as_slice(), b"?"].concat();
            step.check(
                self.characters.get(missing)?.is_none(),
                "a key that is not there was found",
            );
        }
        let gets = self.model.len() * 2;
        let rate = per_second(gets, report.seconds(&step));
        report.end(step, format_args!("{gets} gets, half of them of missing keys: {rate}/s"))
    }

    /// Scans known blocks of characters, forward and backward, and everything once.
    pub(super) fn scan_blocks(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("scan");
        let mut entries = 0;
        for (name, first, last) in ucd::BLOCKS {
            let (first, last) = (ucd::key_of(first).into_bytes(), ucd::key_of(last).into_bytes());
            let expected: Vec<_> = self.model.range(first.clone()..=last.clone()).collect();
            let forward = collect(self.characters.range(first.clone()..=last.clone()))?;
            let mut backward = collect(self.characters.range(first..=last).rev())?;
            backward.reverse();
            step.check(equal(&forward, &expected), &format!("{name} differs"));
            step.check(equal(&backward, &expected), &format!("{name} backward differs"));
            entries += forward.len() + backward.len();
        }
        let latin = collect(self.characters.prefix("U+0000"))?;
        let expected: Vec<_> = self.model.range(b"U+0000".to_vec()..b"U+0001".to_vec()).collect();
        step.check(equal(&latin, &expected), "the prefix U+0000 differs");
        step.check(self.digest()? == self.model_digest(), "the whole content differs");
        entries += latin.len() + self.model.len();
        let rate = per_second(entries, report.seconds(&step));
        let blocks = ucd::BLOCKS.len();
        report.end(step, format_args!("{blocks} blocks both ways, then all: {rate} entries/s"))
    }

    /// Overwrites some characters, deletes others, and compares.
    pub(super) fn change(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("overwrite and delete");
        let keys: Vec<Vec<u8>> = self.model.keys().cloned().collect();
        let (mut overwritten, mut deleted) = (0, 0);
        for chunk in keys.chunks(BATCH_RECORDS) {
            let mut batch = Batch::new();
            for (number, key) in chunk.iter().enumerate() {
                if number % 7 == 0 {
                    let value = [b"overwritten: ".as_slice(), key].concat();
                    batch.put(&self.characters, key, &value);
                    self.model.insert(key.clone(), value);
                    overwritten += 1;
                } else if number % 11 == 0 {
                    batch.delete(&self.characters, key);
                    self.model.remove(key);
                    deleted += 1;
                }
            }
            self.db.write(batch)?;
        }
        self.compare_gets(&mut step)?;
        for key in keys.iter().filter(|key| !self.model.contains_key(*key)) {
            step.check(self.characters.get(key)?.is_none(), "a deleted key is still there");
        }
        step.check(self.digest()? == self.model_digest(), "the whole content differs");
        report.end(step, format_args!("{overwritten} overwritten, {deleted} deleted"))
    }

    /// Holds a snapshot while everything under it changes.
    pub(super) fn hold_a_snapshot(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("snapshot");
        let before = self.model_digest();
        let snapshot = self.db.snapshot();
        let keys: Vec<Vec<u8>> = self.model.keys().take(5 * BATCH_RECORDS).cloned().collect();
        for chunk in keys.chunks(BATCH_RECORDS) {
            let mut batch = Batch::new();
            for key in chunk {
                batch.put(&self.characters, key, b"changed behind a snapshot");
                self.model.insert(key.clone(), b"changed behind a snapshot".to_vec());
            }
            self.db.write(batch)?;
        }
        self.db.flush()?;
        step.check(self.digest_at(&snapshot)? == before, "the snapshot moved");
        step.check(self.digest()? == self.model_digest(), "the present does not see the changes");
        for key in keys.iter().take(100) {
            let (then, now) = (snapshot.get(&self.characters, key)?, self.characters.get(key)?);
            step.check(then != now, "the snapshot sees a later value");
        }
        let changed = keys.len();
        report
            .end(step, format_args!("stood still while {changed} values changed and were flushed"))
    }

    /// Lets two writers meet on one key: the one that read before the other wrote must not commit.
    pub(super) fn conflict(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("transaction");
        let key = ucd::key_of(0x41).into_bytes();
        let mut first = self.db.transaction()?;
        let seen = first.get(&self.characters, &key)?;
        step.check(seen.as_deref() == self.model.get(&key).map(Vec::as_slice), "a read is wrong");
        self.characters.put(&key, b"written by the other")?;
        first.put(&self.characters, &key, b"written by the late one")?;
        let outcome = first.commit();
        step.check(matches!(outcome, Err(Error::Conflict)), "a lost update was committed");
        let kept = self.characters.get(&key)?;
        step.check(
            kept.as_deref() == Some(b"written by the other"),
            "a refused commit left a trace",
        );

        let mut again = self.db.transaction()?;
        let seen = again.get(&self.characters, &key)?;
        let value = [seen.as_deref().unwrap_or_default(), b", then by the second"].concat();
        again.put(&self.characters, &key, &value)?;
        step.check(again.commit().is_ok(), "the second try was refused");
        self.model.insert(key.clone(), value.clone());
        step.check(self.characters.get(&key)?.as_deref() == Some(&*value), "a commit is not there");
        report.end(step, "a lost update was refused, and succeeded when run again")
    }

    /// Flushes and compacts; the content must stay what it was.
    pub(super) fn flush_and_compact(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("flush and compact");
        let before = self.digest()?;
        self.db.flush()?;
        step.check(self.digest()? == before, "flushing changed the content");
        let bytes_before = self.db.stats().table_bytes;
        self.db.compact(&self.characters)?;
        step.check(self.digest()? == before, "compacting changed the content");
        step.check(before == self.model_digest(), "the content is not what was written");
        self.compare_gets(&mut step)?;
        let stats = self.db.stats();
        let (before, after) = (human_bytes(bytes_before), human_bytes(stats.table_bytes));
        let amplification = stats.write_amplification().unwrap_or_default();
        report.end(
            step,
            format_args!("tables {before} -> {after}, write amplification {amplification:.2}"),
        )
    }

    /// Closes and opens again; the content must stay what it was.
    pub(super) fn reopen(self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("close and reopen");
        let Workshop { path, db, characters, model } = self;
        drop(characters);
        db.close()?;
        let db = database::open_with(&path, Create::Never, Durability::Sync)?;
        let opened = report.seconds(&step);
        let Some(characters) = database::keyspace_to_read(&db, KEYSPACE)? else {
            return Err(Failure::new(Exit::CheckFailed, "CheckFailed", "a keyspace is gone"));
        };
        let again = Workshop { path, db, characters, model };
        let digest = again.digest()?;
        step.check(digest == again.model_digest(), "the content is not what it was");
        again.db.close()?;
        let short: String = digest.chars().take(16).collect();
        report.end(step, format_args!("in {:.1} ms, digest {short}.. unchanged", opened * 1000.0))
    }

    /// Compares every get with the map.
    fn compare_gets(&self, step: &mut Step) -> Outcome {
        for (key, value) in &self.model {
            let found = self.characters.get(key)?;
            step.check(
                found.as_deref() == Some(value.as_slice()),
                "a value is not what was written",
            );
        }
        Ok(())
    }

    fn digest(&self) -> Outcome<String> {
        self.digest_at(&self.db.snapshot())
    }

    fn digest_at(&self, snapshot: &Snapshot) -> Outcome<String> {
        let mut digest = ContentDigest::default();
        database::for_each(snapshot, &self.characters, |key, value| {
            digest.add(KEYSPACE, key, value);
            Ok(())
        })?;
        Ok(digest.to_hex())
    }

    fn model_digest(&self) -> String {
        let mut digest = ContentDigest::default();
        for (key, value) in &self.model {
            digest.add(KEYSPACE, key, value);
        }
        digest.to_hex()
    }
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// The entries of a scan.
fn collect<V: AsRef<[u8]>>(
    entries: impl Iterator<Item = engine::Result<(V, V)>>,
) -> Outcome<Entries> {
    let mut all = Vec::new();
    for entry in entries {
        let (key, value) = entry?;
        all.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
    }
    Ok(all)
}

/// Whether a scan found exactly what the map has.
fn equal(found: &Entries, expected: &[(&Vec<u8>, &Vec<u8>)]) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|((fk, fv), (ek, ev))| fk == *ek && fv == *ev)
}

/// A rate, rounded.
fn per_second(count: usize, seconds: f64) -> u64 {
    (count as f64 / seconds.max(1e-9)) as u64
}
