//! Makes a database of a backup and the segments behind it.
//!
//! Everything that will be read is verified first. The new database is an incarnation of its own, so
//! that no stamp is used twice, and its clock goes on behind all that the store knows of. Its root comes
//! last: before that, the directory is no database.

use super::courier::Courier;
use super::record::{BackupRecord, StoredTable};
use super::store::{Shelf, Store, segment_path, table_path};
use super::timeline::{RestorePoint, Stretch};
use crate::birth::{create_database, undo_creation};
use crate::identity::new_life;
use crate::lone::LoneFile;
use crate::plan::{FlushTarget, ReplaySink};
use crate::replay::{ANY_MANIFEST, Checker, Content};
use base::dir::TABLES_DIR;
use base::error::FileKind;
use base::fs::{Fs, full_path};
use base::{
    Corruption, Error, FileName, Identity, KeyspaceId, Moment, Position, RelPath, Result, Rng, Tick,
};
use sstable::manifest::{Added, Edit, KeyspaceRecord, State};
use sstable::{TableMeta, TableOwner};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What [`Store::restore`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup it started from.
    pub backup: u64,
    /// Every commit up to this one is in it, and none behind.
    pub tick: Tick,
    /// The moment of that tick.
    pub moment: Moment,
    /// Commits taken from archived segments.
    pub commits_replayed: u64,
    /// Bytes of the tables.
    pub table_bytes: u64,
    /// Who the new database is.
    pub identity: Identity,
}

/// What a restore writes with.
pub struct Restoring<'a> {
    /// The directory of the new database, which must not exist.
    pub target: Arc<dyn Fs>,
    /// Ids and nonces come from here.
    pub rng: &'a dyn Rng,
    /// Makes tables of the commits that are only in segments.
    pub sink: &'a mut dyn ReplaySink,
    /// Bytes that the sink may hold in memory.
    pub memory_bytes: u64,
}

impl Store {
    /// Makes the database of the moment `point`.
    ///
    /// If it fails, the files that it made are removed again.
    pub fn restore(
        &self,
        point: RestorePoint,
        mut restoring: Restoring<'_>,
        courier: &mut Courier<'_>,
    ) -> Result<Restored> {
        let _lock = self.lock_to_read()?;
        let shelf = self.shelf()?;
        let (stretch, last) = shelf.choose(point)?;
        refuse_existing(&*restoring.target)?;
        let bytes = |stretch: &Stretch<'_>| {
            let segments = stretch.segments.iter().map(|segment| segment.len).sum::<u64>();
            stretch.base.state.version.bytes().saturating_add(segments)
        };
        let stretch = trim(stretch, last);
        courier.progress().expect(bytes(&stretch).saturating_mul(2));
        self.verify_stretch(&stretch, courier)?;
        let result = self.build(&shelf, &stretch, last, &mut restoring, courier);
        if result.is_err() {
            undo_creation(&*restoring.target);
            let _ = restoring.target.remove_dir(&RelPath::root()); // the first error counts
        }
        result
    }

    fn build(
        &self,
        shelf: &Shelf,
        stretch: &Stretch<'_>,
        last: Tick,
        restoring: &mut Restoring<'_>,
        courier: &mut Courier<'_>,
    ) -> Result<Restored> {
        let base = stretch.base;
        let target = restoring.target.clone();
        let fs = &*target;
        for folder in [RelPath::root(), RelPath::folder(TABLES_DIR)] {
            fs.create_dir(&folder).map_err(|e| Error::io("create", full_path(fs, &folder), e))?;
        }
        let identity = new_life(&base.identity, restoring.rng)
            .map_err(|e| Error::io("draw random bytes for", fs.root(), e))?;
        let mut state = state_at(shelf, base, last);
        for (meta, table) in base.tables() {
            self.copy_table(fs, meta, table, courier)?;
        }
        let commits_replayed =
            self.replay(stretch, last, &identity, &mut state, restoring, courier)?;
        let tables = RelPath::folder(TABLES_DIR);
        fs.sync_dir(&tables).map_err(|e| Error::io("sync", full_path(fs, &tables), e))?;
        let table_bytes = state.version.bytes();
        create_database(fs, restoring.rng, &identity, &state)?;
        let (backup, moment) = (base.number, Moment { ms: last.ms() });
        Ok(Restored { backup, tick: last, moment, commits_replayed, table_bytes, identity })
    }

    fn copy_table(
        &self,
        target: &dyn Fs,
        meta: &TableMeta,
        table: &StoredTable,
        courier: &mut Courier<'_>,
    ) -> Result<()> {
        let name = table_path(table);
        let path = full_path(&*self.fs, &name);
        let file = self.open(&name)?;
        let to = FileName::Table(meta.id).path();
        if courier.copy(&*file, &path, meta.len, target, &to)? != table.digest {
            // It was whole a moment ago.
            return Err(Error::corrupt(FileKind::Backup, path, 0, Corruption::DigestMismatch));
        }
        Ok(())
    }

    /// Takes the commits behind the base and up to `last` from the segments. Returns how many.
    fn replay(
        &self,
        stretch: &Stretch<'_>,
        last: Tick,
        identity: &Identity,
        state: &mut State,
        restoring: &mut Restoring<'_>,
        courier: &mut Courier<'_>,
    ) -> Result<u64> {
        let flushed = stretch.base.state.flushed;
        // The commits are of the life that was backed up, whoever the copy will be.
        let origin = stretch.base.identity.origin();
        let owner = TableOwner { database: identity.database, origin, generation: 1 };
        restoring.sink.begin(origin);
        let target = FlushTarget::new(restoring.target.clone(), owner, state);
        let catalog = state.clone();
        // The log speaks of the manifest of another directory.
        let mut checker = Checker::new(&catalog, ANY_MANIFEST);
        let (mut commits, mut newest) = (0, flushed);
        for segment in &stretch.segments {
            let name = segment_path(stretch.base.identity.incarnation, segment.number);
            let path = full_path(&*self.fs, &name);
            let lone = LoneFile(self.open(&name)?);
            let number = segment.number;
            let mut reader = wal::read_segment(&lone, number, identity.database, None)?;
            while let Some(commit) = reader.next()? {
                if commit.seqno <= flushed || commit.seqno > last {
                    continue;
                }
                courier.progress().refuse_if_cancelled()?;
                let (seqno, end) = (commit.seqno, commit.end);
                let content = checker.check(&lone, origin, seqno, end, commit.payload)?;
                if content == Content::Nothing {
                    continue;
                }
                restoring.sink.insert(commit.seqno, commit.payload)?;
                (commits, newest) = (commits + 1, commit.seqno);
                if restoring.sink.memory() > restoring.memory_bytes {
                    flush(state, restoring.sink, &target)?;
                }
            }
            let end = reader.ending().end;
            let expected = Position { segment: number, offset: segment.len };
            if (Position { segment: number, offset: end.end }) != expected {
                let found = Corruption::MissingPromised;
                return Err(Error::corrupt(FileKind::Backup, path, end.end, found));
            }
            courier.progress().advance(segment.len);
        }
        flush(state, restoring.sink, &target)?;
        let edit = Edit { vectors: checker.vectors(), ..Edit::default() };
        apply(state, &edit, &target)?;
        if commits > 0 {
            // Versions that were overwritten may not have been written again.
            state.horizon = state.horizon.max(newest);
        }
        Ok(commits)
    }
}

/// Without the segments that hold nothing up to `last`.
fn trim(stretch: Stretch<'_>, last: Tick) -> Stretch<'_> {
    let flushed = stretch.base.state.flushed;
    let is_wanted = |first: Tick, end: Tick| end > flushed && first <= last;
    let segments = stretch.segments.into_iter();
    let segments = segments.filter(|segment| is_wanted(segment.first, segment.last)).collect();
    Stretch { segments, ..stretch }
}

/// The state of the base, with the keyspaces as they were at `last`, and a clock behind everything that
/// the store knows of.
fn state_at(shelf: &Shelf, base: &BackupRecord, last: Tick) -> State {
    let mut state = base.state.clone();
    let mut keyspaces: BTreeMap<KeyspaceId, Arc<KeyspaceRecord>> = BTreeMap::new();
    for record in &shelf.records {
        let known = &record.state;
        let newest = record.covered.max(known.last_tick).max(known.flushed);
        let segments = record.segments.iter().map(|segment| segment.last);
        state.last_tick = segments.fold(state.last_tick.max(newest), Tick::max);
        if record.identity.incarnation == base.identity.incarnation {
            state.next_keyspace = state.next_keyspace.max(known.next_keyspace);
            // Segments behind the base may name authors that joined later.
            if known.origins.len() > state.origins.len() {
                state.origins = known.origins.clone();
            }
            // Later records know of drops that earlier ones do not.
            keyspaces.extend(known.keyspaces.iter().map(|(id, known)| (*id, known.clone())));
        }
    }
    keyspaces.retain(|_, keyspace| keyspace.created <= last);
    for keyspace in keyspaces.values_mut() {
        if keyspace.dropped.is_some_and(|dropped| dropped > last) {
            *keyspace = Arc::new(KeyspaceRecord { dropped: None, ..(**keyspace).clone() });
        }
    }
    state.keyspaces = keyspaces;
    // What the copy has of a log, and of backups, is its own.
    (state.log_start, state.log_end, state.closed) = (1, Position::ZERO, None);
    (state.archiving, state.ingests) = (None, Vec::new());
    state
}

fn flush(state: &mut State, sink: &mut dyn ReplaySink, target: &FlushTarget) -> Result<()> {
    let order = state.version.next_order();
    let tables = sink.flush(target)?.into_iter();
    let added = tables.map(|meta| Added { order, level: 0, meta: Arc::new(meta) });
    let edit =
        Edit { added: added.collect(), next_table: Some(target.upcoming()), ..Edit::default() };
    apply(state, &edit, target)
}

fn apply(state: &mut State, edit: &Edit, target: &FlushTarget) -> Result<()> {
    state.apply(edit).map_err(|_| {
        let path = target.fs.root().to_path_buf();
        Error::CommitFailed { path, rule: "the replayed tables fit the backup" }
    })
}

/// Refuses to make a directory where something is.
pub fn refuse_existing(fs: &dyn Fs) -> Result<()> {
    let path = fs.root().to_path_buf();
    match fs.list(&RelPath::root()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(Error::AlreadyExists { path }),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Error::AlreadyExists { path })
        }
        Err(error) => Err(Error::io("list", path, error)),
    }
}
