//! A backup that comes back as new writes: what an operator means by going back in time among replicas.
//!
//! ```text
//! backup ─> DIR.anew, restored, in a life of its own
//!        ─> of each keyspace that replicates, range by range: a range delete, and what the range held
//!        ─> checkpoint DIR, the same content in the life that goes on; its root comes last
//!        ─> DIR.anew is removed, its root first
//! ```
//!
//! What is written so has stamps of now. So it wins over what other nodes hold of the same keyspaces,
//! wherever and in whatever order they meet, and what they have written since the backup is gone. A commit
//! replaces a range of keys as a whole: who takes it never sees a key missing that is in the backup.
//!
//! The life that writes ends with the checkpoint. So the first commit of the life that goes on can tell of
//! that life, as after any restore; and nothing that comes from others is a conflict with a write of its own.

use crate::backups::Backups;
use crate::batch::Batch;
use crate::checkpoint::checkpoint;
use crate::creation::is_reserved;
use crate::drops;
use crate::iter::Cursor;
use crate::keyspace::Keyspace;
use crate::open::{self, Platform};
use crate::options::{Create, Options, SyncMode, WriteOptions};
use crate::parts::Parts;
use crate::replicate::Replication;
use crate::snapshot::Snapshot;
use crate::workers::Workers;
use base::limits::BATCH_OPS_MAX;
use base::{Error, Result, ScopeId, Tick, Vector};
use recovery::Progress;
use recovery::backup::{RestorePoint, Restored};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the directory is called while it is made, behind its name.
const UNFINISHED: &str = ".anew";

/// Bytes of keys and values from which on a commit is made. One entry may go beyond it.
const COMMIT_BYTES: usize = 16 << 20;
/// Entries from which on a commit is made: a few range deletes go with them.
const ENTRIES_MAX: usize = (BATCH_OPS_MAX / 2) as usize;

/// What [`Backups::restore_as_new_writes`] has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewWrites {
    /// Keyspaces that replicate, those included that had been dropped.
    pub keyspaces: u64,
    /// Entries that were written again.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Commits. If it was one, other nodes take all of it or nothing.
    pub commits: u64,
    /// The last of them: what others write later than that wins.
    pub last: Tick,
}

impl Backups {
    /// As [`Backups::restore`], and all that replicates is written anew: once the node has met its peers, they
    /// hold of every keyspace that is in the backup what the backup holds, and nothing else, as far as
    /// nobody has written later than [`NewWrites::last`]. Local keyspaces are as in any restore.
    ///
    /// `judge` sees the restored database before anything is written, and may refuse. Until it is complete
    /// the database stands in `target` with `.anew` behind its name, and takes twice the space of what
    /// replicates. A crash leaves that directory, which is to be removed.
    ///
    /// # Errors
    /// As [`Backups::restore`], and those of writing; `InvalidInput` if the database had lost content
    /// at that moment: what it lacks would be deleted on all nodes.
    pub fn restore_as_new_writes(
        &self,
        target: impl AsRef<Path>,
        point: RestorePoint,
        progress: &Progress,
        judge: impl FnOnce(&Replication) -> Result<()>,
    ) -> Result<(Restored, NewWrites)> {
        let target = target.as_ref();
        let platform = self.platform();
        recovery::backup::refuse_existing(&*platform.fs.at(target))?;
        let unfinished = unfinished(target)?;
        let restored = self.restore(&unfinished, point, progress)?;
        let place = Platform { fs: platform.fs.at(&unfinished), ..platform.clone() };
        let written = write_anew(place.clone(), target, judge);
        let removed = recovery::remove_database(&*place.fs);
        let written = written?;
        removed?;
        let identity = recovery::read_identity(&*platform.fs.at(target))?;
        Ok((Restored { identity, ..restored }, written))
    }
}

/// Where the directory `target` is made.
fn unfinished(target: &Path) -> Result<PathBuf> {
    let Some(name) = target.file_name() else {
        return Err(Error::invalid(format!("{} names no new directory", target.display())));
    };
    let mut name = OsString::from(name);
    name.push(UNFINISHED);
    Ok(target.with_file_name(name))
}

/// Writes anew what replicates in the restored database of `place`, and makes `target` of it.
fn write_anew(
    place: Platform,
    target: &Path,
    judge: impl FnOnce(&Replication) -> Result<()>,
) -> Result<NewWrites> {
    let options = Options { create: Create::Never, ..Options::default() };
    let (parts, _) = open::open(place, options, &Progress::default())?;
    let parts = Arc::new(parts);
    let mut workers = Workers::start(&parts)?;
    let written = judge_and_write(&parts, judge).and_then(|written| {
        checkpoint(&parts, target)?;
        Ok(written)
    });
    parts.is_closed.store(true, Ordering::Release);
    workers.stop();
    let closed = open::close(&parts);
    let written = written?;
    closed.map(|()| written)
}

fn judge_and_write(
    parts: &Arc<Parts>,
    judge: impl FnOnce(&Replication) -> Result<()>,
) -> Result<NewWrites> {
    let replication = Replication::new(parts.clone());
    if !replication.is_whole(ScopeId::MAIN) {
        let what = "at that moment the database had lost content and not got it back, and as new writes \
                    that would be deleted on all nodes; choose another moment, or restore without new \
                    writes";
        return Err(Error::invalid(what));
    }
    judge(&replication)?;
    // From now on range deletes stay until others have them, also if nobody was there at that moment.
    replication.raise_floor(ScopeId::MAIN, &Vector::default())?;
    Writing::new(parts, COMMIT_BYTES).run()
}

/// The writes under way: what was collected since the last commit.
struct Writing<'p> {
    parts: &'p Arc<Parts>,
    batch: Batch,
    batch_bytes: usize,
    /// Bytes from which on a commit is made.
    commit_bytes: usize,
    written: NewWrites,
}

/// An entry of the backup.
struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
    /// Until when it lasts; 0 = for ever.
    expires_at_ms: u64,
}

impl<'p> Writing<'p> {
    fn new(parts: &'p Arc<Parts>, commit_bytes: usize) -> Writing<'p> {
        let (batch, written) = (Batch::new(), NewWrites::default());
        Writing { parts, batch, batch_bytes: 0, commit_bytes, written }
    }

    fn run(mut self) -> Result<NewWrites> {
        let held = self.parts.snapshots.hold(|| self.parts.commits.visible());
        let snapshot = Snapshot::new(self.parts.clone(), held);
        for state in self.parts.catalog.live() {
            if !state.space.scope().is_replicated() || is_reserved(&state.name) {
                continue;
            }
            self.written.keyspaces += 1;
            // In case it was dropped since, or created again. One that was dropped shows no entries.
            drops::tell_again(self.parts, &state, &mut self.batch)?;
            let keyspace = Keyspace::new(state, self.parts.clone());
            let mut entries = snapshot.cursor(&keyspace)?;
            entries.seek_first()?;
            self.replace(&keyspace, entries)?;
        }
        self.commit()?;
        self.parts.commits.sync()?;
        Ok(self.written)
    }

    /// Puts `entries` in the place of whatever others have in the keyspace, range by range.
    fn replace(&mut self, keyspace: &Keyspace, mut entries: Cursor) -> Result<()> {
        let mut start = Vec::new();
        loop {
            let held = self.collect(&mut entries)?;
            // What comes next is where this range ends; behind the last one it is open.
            let end = entries.entry().map_or_else(Vec::new, |(key, _)| key.to_vec());
            self.batch.delete_range(keyspace, &start, &end);
            for Entry { key, value, expires_at_ms } in &held {
                match expires_at_ms {
                    0 => self.batch.put(keyspace, key, value),
                    until => self.batch.put_until(keyspace, key, value, *until),
                }
            }
            if end.is_empty() {
                return Ok(());
            }
            self.commit()?;
            start = end;
        }
    }

    /// Takes entries until a commit is worth it, or there are no more.
    fn collect(&mut self, entries: &mut Cursor) -> Result<Vec<Entry>> {
        let mut held = Vec::new();
        while let Some((key, value)) = entries.entry() {
            let bytes = key.len() + value.len();
            let count = self.batch.len() + held.len();
            let is_enough = self.batch_bytes + bytes > self.commit_bytes || count >= ENTRIES_MAX;
            if is_enough && (!held.is_empty() || !self.batch.is_empty()) {
                break;
            }
            self.batch_bytes += bytes;
            self.written.entries += 1;
            self.written.bytes += bytes as u64;
            let expires_at_ms = entries.expires_at_ms();
            held.push(Entry { key: key.to_vec(), value: value.to_vec(), expires_at_ms });
            entries.advance()?;
        }
        Ok(held)
    }

    fn commit(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        // All of it is synced at the end: before, nobody can see it.
        let options = WriteOptions { sync: Some(SyncMode::Async) };
        self.written.last = self.parts.write(batch, options)?;
        self.written.commits += 1;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Background, Db, KeyspaceOptions, Scope};
    use base::clock::ManualClock;
    use base::fs::SimFs;
    use base::rng::SeededRng;
    use std::collections::BTreeMap;

    type Content = BTreeMap<Vec<u8>, Vec<u8>>;

    fn open(seed: u64, clock: &Arc<ManualClock>) -> Db {
        let (fs, rng) = (Arc::new(SimFs::new(seed)), Arc::new(SeededRng::new(seed)));
        let options = Options { background: Background::Off, ..Options::default() };
        Db::open_on(Platform { fs, clock: clock.clone(), rng }, options).unwrap()
    }

    fn keyspace(db: &Db, name: &str) -> Keyspace {
        db.keyspace(name, KeyspaceOptions::default()).unwrap()
    }

    fn content(db: &Db) -> Content {
        let own = |entry: Result<(crate::Value, crate::Value)>| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), value.to_vec())
        };
        keyspace(db, "k").iter().map(own).collect()
    }

    /// What `from` has and `to` lacks, commit by commit.
    fn ship(from: &Db, to: &Db, mut look: impl FnMut(&Db)) {
        let (from, at) = (from.replication(), to.replication());
        let mut tail = from.tail(ScopeId::MAIN, &at.applied(ScopeId::MAIN)).unwrap();
        // A shipment a commit.
        while let Some(shipment) = tail.next(&at.applied(ScopeId::MAIN), 1).unwrap() {
            let taken = at.admit(&shipment.bytes).unwrap();
            assert!(
                matches!(taken, crate::replicate::Admission::Taken { late: 0, .. }),
                "{taken:?}"
            );
            look(to);
        }
    }

    /// A reader at another node sees of each key the old value or the new one, never neither; in the end it
    /// sees the backup, however many commits it took.
    #[test]
    fn however_many_commits_it_takes_no_key_of_the_backup_is_ever_missing_elsewhere() {
        for (commit_bytes, commits) in [(1, 51), (100, 51), (700, 9), (1 << 20, 1)] {
            let clock = Arc::new(ManualClock::at(1_700_000_000_000));
            let (ours, theirs) = (open(1, &clock), open(2, &clock));
            let k = keyspace(&ours, "k");
            for number in 0..50u8 {
                k.put([number, 1], [number; 100]).unwrap();
            }
            keyspace(&ours, "empty");
            let local = KeyspaceOptions { scope: Scope::Local, ..KeyspaceOptions::default() };
            ours.keyspace("local", local).unwrap().put(b"x", b"1").unwrap();
            ship(&ours, &theirs, |_| {});
            let backup = content(&ours);
            clock.set(1_700_000_001_000);
            let other = keyspace(&theirs, "k");
            for number in 0..50u8 {
                other.put([number, 0], b"since").unwrap();
                other.put([number, 1], b"since").unwrap();
                other.put([number, 2], b"since").unwrap();
            }
            keyspace(&theirs, "empty").put(b"x", b"since").unwrap();
            clock.set(1_700_000_002_000);
            let written = Writing::new(ours.parts(), commit_bytes).run().unwrap();
            assert_eq!((written.keyspaces, written.entries, written.bytes), (2, 50, 50 * 102));
            assert_eq!(written.commits, commits, "{commit_bytes}");
            assert_eq!(written.last.ms(), 1_700_000_002_000);
            let mut looks = 0;
            ship(&ours, &theirs, |theirs| {
                looks += 1;
                let found = content(theirs);
                assert!(backup.keys().all(|key| found.contains_key(key)), "{commit_bytes}");
            });
            assert_eq!(looks, commits);
            assert_eq!(content(&theirs), backup, "{commit_bytes}");
            assert_eq!(keyspace(&theirs, "empty").count(..).unwrap(), 0);
            ship(&theirs, &ours, |_| {});
            assert_eq!(content(&ours), backup, "what was written since comes too late");
        }
    }

    #[test]
    fn the_unfinished_directory_stands_beside_the_one_that_was_asked_for() {
        assert_eq!(unfinished(Path::new("/a/data/")).unwrap(), Path::new("/a/data.anew"));
        assert_eq!(unfinished(Path::new("data")).unwrap(), Path::new("data.anew"));
        assert_eq!(unfinished(Path::new("..")).unwrap_err().code(), "InvalidInput");
    }
}
