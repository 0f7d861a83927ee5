//! The database: each method is a few lines that call a part.

use crate::backup::{self, BackupGuard, BackupInfo, BackupOptions, BackupSchedule};
use crate::batch::Batch;
use crate::changes::Changes;
use crate::checkpoint::checkpoint;
use crate::commit::CommitTicket;
use crate::creation;
use crate::damage::LostRange;
use crate::drops;
use crate::health::Health;
use crate::jobs;
use crate::keyspace::{Keyspace, KeyspaceState};
use crate::open::{self, Platform};
use crate::options::{Background, Compression, KeyspaceOptions, Options, Scope, WriteOptions};
use crate::parts::Parts;
use crate::read_only;
use crate::remedies::{self, Permission, Remedy};
use crate::replicate::{self, Replication};
use crate::resolver::{Parked, Resolved, Resolver};
use crate::running::Running;
use crate::scrub::{ScrubReport, Speed, scrub};
use crate::snapshot::Snapshot;
use crate::stats::{KeyspaceStats, Stats};
use crate::transaction::Transaction;
use crate::vitals;
use base::limits::check_keyspace_name;
use base::{Error, Identity, Result, ScopeId, Tick};
use recovery::{Progress, Report};
use sstable::manifest::KeyspaceSettings;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An open database. Cheap to clone; any number of threads may use it. The directory is held until
/// the last clone is closed or dropped; keyspaces, snapshots and iterators do not keep it open.
#[derive(Clone)]
pub struct Db {
    running: Arc<Running>,
}

impl Db {
    /// Opens the database in the directory `path`; creates it if [`Options::create`] allows.
    ///
    /// After a clean close this reads no table, whatever the size; after a crash it replays the log.
    ///
    /// # Errors
    /// `Locked` if another process holds the directory; `NotADatabase`; the errors of recovery, each
    /// with file, offset and what to do; `InvalidInput` for options out of range.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Db> {
        Db::open_on(Platform::at(path), options)
    }

    /// As [`Db::open`], on a given disk and clock.
    pub fn open_on(platform: Platform, options: Options) -> Result<Db> {
        Db::open_with_progress(platform, options, &Progress::default())
    }

    /// As [`Db::open_on`]; meanwhile other threads may ask `progress` how far it has come, or cancel
    /// it. Up to [`Stage::Switch`](crate::Stage::Switch) a cancelled open leaves the directory as it
    /// was and ends with `Cancelled`. [`Platform::at`] names a directory on this machine.
    pub fn open_with_progress(
        platform: Platform,
        options: Options,
        progress: &Progress,
    ) -> Result<Db> {
        let (parts, report) = open::open(platform, options, progress)?;
        Db::run(parts, report)
    }

    /// Opens the database in the directory `path` for reading, as it is now, beside the process that has it
    /// open, or without one. Takes no lock and writes nothing, so a medium that can not be written does.
    ///
    /// It sees every commit that was synced before the call, perhaps later ones, and of all of them a
    /// prefix. Open it again to see newer ones. What writes is refused with `ReadOnly`.
    ///
    /// # Errors
    /// As [`Db::open`]; `ResourceShort` if what is only in the log takes more memory than half of
    /// [`Options::memory_bytes`], or four memtables if that is more.
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<Db> {
        Db::open_read_only_on(Platform::at(path), options)
    }

    /// As [`Db::open_read_only`], on a given disk and clock.
    pub fn open_read_only_on(platform: Platform, options: Options) -> Result<Db> {
        let (parts, report) = read_only::open(platform, options)?;
        Db::run(parts, report)
    }

    fn run(parts: Parts, report: Report) -> Result<Db> {
        Ok(Db { running: Arc::new(Running::start(parts, report)?) })
    }

    pub(crate) fn parts(&self) -> &Arc<Parts> {
        self.running.parts()
    }

    /// Opens the keyspace `name`, creating it if there is none. A created keyspace is durable when
    /// this returns.
    ///
    /// On a node that replicates, opening one that was dropped creates it again on all nodes, unless this one
    /// only reads, which is known once its replica runs; [`Db::existing_keyspace`] creates nothing.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is empty, longer than 255 bytes, holds control characters or starts
    /// with `esker.`; `ConfigMismatch` if it exists in another scope.
    pub fn keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        check_keyspace_name(name)?;
        creation::refuse_reserved(name)?;
        self.check_open()?;
        let scope = match options.scope {
            Scope::Main => ScopeId::MAIN,
            Scope::Local => ScopeId::LOCAL,
        };
        if let Some(state) = self.parts().catalog.find(name) {
            check_scope(&state, scope)?;
            drops::create_again(self.parts(), &state)?;
            return Ok(Keyspace::new(state, self.parts().clone()));
        }
        let settings = KeyspaceSettings {
            compression: u8::from(options.compression == Compression::Zstd),
            filter_bits: options.filter_bits_per_key,
            ..KeyspaceSettings::default()
        };
        let state = creation::create(self.parts(), name, scope, settings)?;
        check_scope(&state, scope)?;
        Ok(Keyspace::new(state, self.parts().clone()))
    }

    /// The keyspace `name`, if there is one.
    pub fn existing_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.check_open()?;
        let not_found = || Error::KeyspaceNotFound { name: name.to_owned() };
        let state = self.parts().catalog.find(name).ok_or_else(not_found)?;
        match drops::is_hidden(self.parts(), &state)? {
            true => Err(not_found()),
            false => Ok(Keyspace::new(state, self.parts().clone())),
        }
    }

    /// All keyspaces, by name, without those whose names start with `esker.`: replication keeps its own
    /// things in them.
    pub fn keyspaces(&self) -> Vec<Keyspace> {
        let mut live = self.parts().catalog.live();
        // What can not be read is shown: whoever reads it is told why.
        let is_hidden =
            |state: &Arc<KeyspaceState>| drops::is_hidden(self.parts(), state).unwrap_or(false);
        live.retain(|state| !creation::is_reserved(&state.name) && !is_hidden(state));
        live.into_iter().map(|state| Keyspace::new(state, self.parts().clone())).collect()
    }

    /// Drops a keyspace with all it holds. Durable when this returns; the space is reclaimed by
    /// compactions. A keyspace created later under the same name is another one.
    ///
    /// If it replicates, it is dropped on all nodes, and handles of it end on each as the drop comes: whatever
    /// was written before the drop is gone, and does not come back. What others have written since, before
    /// they heard of it, stays, and the keyspace with it. Its name stays with its scope and its options.
    ///
    /// # Errors
    /// `KeyspaceDropped` if it was dropped before, and those of a put, `DiskFull` too. If one of them comes
    /// halfway, handles have ended and the keyspace is still there: open it again.
    pub fn drop_keyspace(&self, keyspace: Keyspace) -> Result<()> {
        self.check_open()?;
        self.parts().refuse_if_read_only()?;
        keyspace.state().check_live()?;
        creation::refuse_reserved(keyspace.name())?;
        drops::drop_keyspace(self.parts(), keyspace.state())
    }

    /// Commits a batch: all of it or nothing.
    pub fn write(&self, batch: Batch) -> Result<Tick> {
        self.parts().write(batch, WriteOptions::default())
    }

    /// As [`Db::write`], with options for this batch.
    pub fn write_with(&self, batch: Batch, options: WriteOptions) -> Result<Tick> {
        self.parts().write(batch, options)
    }

    /// Starts to commit a batch: its place in the order is fixed, and the ticket says when it is
    /// acknowledged.
    pub fn submit(&self, batch: Batch) -> Result<CommitTicket> {
        self.parts().submit(batch, WriteOptions::default())
    }

    /// As [`Db::submit`], with options for this batch.
    pub fn submit_with(&self, batch: Batch, options: WriteOptions) -> Result<CommitTicket> {
        self.parts().submit(batch, options)
    }

    /// The database as it is now, for as long as the snapshot lives.
    pub fn snapshot(&self) -> Snapshot {
        let held = self.parts().snapshots.hold(|| self.parts().commits.visible());
        Snapshot::new(self.parts().clone(), held)
    }

    /// The database as it was at the end of a millisecond, given since the Unix epoch, while
    /// [`Options::history`] keeps it.
    ///
    /// # Errors
    /// `HistoryGone` if the moment is older than what is kept.
    pub fn snapshot_at(&self, wall_ms: u64) -> Result<Snapshot> {
        let parts = self.parts();
        let asked = Tick::last_of_ms(wall_ms);
        let held = parts.snapshots.hold(|| asked.min(parts.commits.visible()));
        let oldest = parts.horizon().max(parts.installer.with_state(|state| state.horizon));
        if held.at() < oldest {
            return Err(Error::HistoryGone { asked: asked.raw(), oldest: oldest.raw() });
        }
        Ok(Snapshot::new(parts.clone(), held))
    }

    /// Begins a serializable transaction.
    ///
    /// # Errors
    /// `TooManyTransactions` past [`Options::transactions_max`].
    pub fn transaction(&self) -> Result<Transaction> {
        Transaction::begin(self.parts())
    }

    /// Lets `resolver` decide about conflicts in the keyspace `name`, which need not exist yet; an earlier
    /// resolver of it goes. A conflict is two writes of one key by two nodes, neither of which had seen
    /// the other. The greater stamp wins everywhere; the node that wrote the winner parks the loser as it
    /// comes in, and resolves it on a thread of its own. What the resolver makes of both is an ordinary
    /// write of this node. Every node that writes to the keyspace should have the same resolver.
    ///
    /// What is parked stays if the resolver fails, and over restarts. A conflict that is met while there is
    /// no resolver is the last writer's. So are range deletes and, for a node so far behind
    /// that it gets state in the place of history, what the other side has let go of.
    ///
    /// ```
    /// use esker::{Conflict, Db, Options, Resolution};
    ///
    /// # fn main() -> esker::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Db::open(dir.path().join("data"), Options::default())?;
    /// let larger = |conflict: &Conflict<'_>| Ok(match (conflict.winner, conflict.loser) {
    ///     (Some(winner), Some(loser)) if loser > winner => Resolution::Put(loser.to_vec()),
    ///     _ => Resolution::KeepWinner,
    /// });
    /// db.set_resolver("high-scores", larger)?;
    /// assert!(db.parked_conflicts(10)?.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a name that no keyspace of users has.
    pub fn set_resolver(&self, name: &str, resolver: impl Resolver + 'static) -> Result<()> {
        check_keyspace_name(name)?;
        creation::refuse_reserved(name)?;
        self.check_open()?;
        let parts = self.parts();
        parts.refuse_if_read_only()?;
        let parking = replicate::parking(parts)?;
        parts.resolvers.set(name, Arc::new(resolver), parking);
        self.running.resolve()
    }

    /// Resolves on this thread what is parked, losers whose resolver has failed before as well.
    pub fn resolve_conflicts(&self) -> Result<Resolved> {
        self.check_open()?;
        let parts = self.parts();
        parts.resolvers.ask_again();
        replicate::resolve_all(parts, &|| parts.is_closed.load(Ordering::Acquire))
    }

    /// Writes that lost and wait to be resolved, `limit` at the most.
    pub fn parked_conflicts(&self, limit: usize) -> Result<Vec<Parked>> {
        self.check_open()?;
        replicate::parked_now(self.parts(), limit)
    }

    /// Durable commits after `after`, in order: the change feed. [`Tick::ZERO`] asks for all.
    ///
    /// # Errors
    /// `HistoryGone` if the log no longer holds them; see [`Options::log_retention_bytes`].
    pub fn changes(&self, after: Tick) -> Result<Changes> {
        Changes::after(self.parts(), after)
    }

    /// What replication does with this database: see [`crate::replicate`].
    pub fn replication(&self) -> Replication {
        Replication::new(self.parts().clone())
    }

    /// Makes every commit so far durable.
    pub fn sync(&self) -> Result<()> {
        self.parts().commits.sync()
    }

    /// Writes everything committed so far into tables.
    pub fn flush(&self) -> Result<()> {
        let parts = self.parts();
        parts.refuse_if_read_only()?;
        jobs::flush_all(parts)?;
        parts.obsolete.settle(parts);
        Ok(())
    }

    /// Flushes, and does all compactions and clean-up that are due now or would be once the database
    /// falls idle. Afterwards nothing runs in the background until the next write.
    pub fn settle(&self) -> Result<()> {
        self.flush()?;
        jobs::settle(self.parts())
    }

    /// Flushes, and merges everything into one sorted run: the fewest bytes on disk, the fastest
    /// reads. Works on the whole database, because keyspaces share tables.
    pub fn compact(&self, keyspace: &Keyspace) -> Result<()> {
        keyspace.state().check_live()?;
        self.compact_all()
    }

    /// As [`Db::compact`].
    pub fn compact_all(&self) -> Result<()> {
        self.compact_with_progress(&Progress::default())
    }

    /// As [`Db::compact`]; meanwhile others may ask `progress` how far the merge is, or cancel it.
    pub fn compact_with_progress(&self, progress: &Progress) -> Result<()> {
        self.flush()?;
        jobs::compact_everything(self.parts(), progress)?;
        self.parts().obsolete.settle(self.parts());
        Ok(())
    }

    /// Makes the missing or empty directory `target` a database with everything committed so far.
    /// Tables are hard-linked where the disk allows, so it costs next to nothing; writers go on. The
    /// copy is another incarnation: both may be opened and written.
    pub fn checkpoint(&self, target: impl AsRef<Path>) -> Result<Tick> {
        self.check_open()?;
        self.parts().refuse_if_read_only()?;
        checkpoint(self.parts(), target.as_ref())
    }

    /// Makes a backup in the directory `store`, which is created if it is missing; writers go on. The
    /// backup is a copy, verified, with no part in common with this directory. Segments of the log
    /// that were finished since the backup before come with it, so that every moment between the two
    /// can be restored: see [`crate::Backups::restore`].
    ///
    /// Segments are kept for one store: back up to one directory, or moments between two backups may
    /// be missing.
    ///
    /// # Errors
    /// `Locked` if another process changes the store; `InvalidInput` if it holds something else. If it
    /// fails, earlier backups are what they were.
    pub fn backup(&self, store: impl AsRef<Path>, options: &BackupOptions) -> Result<BackupInfo> {
        self.check_open()?;
        self.parts().refuse_if_read_only()?;
        backup::backup(self.parts(), store.as_ref(), options)
    }

    /// Changes which backups the database makes by itself ([`Options::backup`]) while it is open; none ends them.
    /// One that is under way ends as it was begun.
    ///
    /// # Errors
    /// `InvalidInput` for a schedule out of range.
    pub fn schedule_backups(&self, schedule: Option<BackupSchedule>) -> Result<()> {
        self.check_open()?;
        self.parts().refuse_if_read_only()?;
        schedule.as_ref().map_or(Ok(()), BackupSchedule::check)?;
        self.running.schedule_backups(schedule)
    }

    /// Lets `guard` decide about each backup that the schedule makes from now on. Set it before there is a
    /// schedule, if no backup is to be made without it.
    pub fn guard_backups(&self, guard: impl BackupGuard + 'static) {
        self.parts().backing.plan.lock().guard = Some(Arc::new(guard));
    }

    /// Reads and verifies everything now, as fast as the disk allows: each table, the finished part of the
    /// log, the manifest. What is damaged is in the report, and dealt with as
    /// [`Options::on_corruption`] says. If nothing is, damage that was found before is forgotten. A
    /// database that is only read is only reported on.
    pub fn scrub(&self) -> Result<ScrubReport> {
        self.scrub_until(&|| false)
    }

    /// As [`Db::scrub`], called off once `is_over`, which is asked after each few blocks.
    ///
    /// # Errors
    /// `Cancelled` if it was over before the end.
    pub fn scrub_until(&self, is_over: &dyn Fn() -> bool) -> Result<ScrubReport> {
        self.check_open()?;
        let parts = self.parts();
        let is_cancelled = || is_over() || parts.is_closed.load(Ordering::Acquire);
        let report = scrub(parts, Speed::Full, &is_cancelled)?;
        if parts.options.background == Background::Off && !parts.is_read_only {
            crate::quarantine::replace_damaged(parts)?;
        }
        Ok(report)
    }

    /// Keys that went with damaged parts of tables since the database was opened, under
    /// [`CorruptionAction::Quarantine`](crate::CorruptionAction::Quarantine).
    pub fn lost_ranges(&self) -> Vec<LostRange> {
        self.parts().damage.lost()
    }

    /// Loads index and filter of every table into memory, so that first reads are fast.
    pub fn warm_up(&self) -> Result<()> {
        let view = self.parts().views.current();
        view.runs.tables().try_for_each(|handle| handle.table().map(|_| ()))
    }

    /// What opening found and did.
    pub fn recovery_report(&self) -> &Report {
        self.running.report()
    }

    /// Who this database is. The incarnation changes if it begins another life while it runs, see
    /// [`crate::replicate::Replication::renew`].
    pub fn identity(&self) -> Identity {
        self.parts().identity()
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        vitals::stats(self.parts())
    }

    /// What each keyspace holds in tables, by name.
    pub fn keyspace_stats(&self) -> Result<Vec<KeyspaceStats>> {
        vitals::keyspace_stats(self.parts())
    }

    /// What the disk and the process have left.
    ///
    /// # Errors
    /// `Io` if the system does not say.
    pub fn space(&self) -> Result<base::fs::Space> {
        let parts = self.parts();
        let left = parts.fs.space();
        left.map_err(|e| Error::io("ask for the space left of", parts.fs.root(), e))
    }

    /// Says whether the database may do `remedy` by itself. All are granted when it is opened; how often
    /// each was done is in the [`Stats`].
    pub fn permit(&self, remedy: Remedy, permission: Permission) {
        remedies::permit(self.parts(), remedy, permission);
    }

    /// Whether everything works, and if not, why.
    pub fn health(&self) -> Health {
        vitals::health(self.parts())
    }

    /// Flushes what is in memory, marks the clean close and lets the directory go. All clones and
    /// everything made from them refuse from now on. Dropping the last clone does the same, without
    /// telling how it went.
    pub fn close(self) -> Result<()> {
        self.running.close()
    }

    fn check_open(&self) -> Result<()> {
        match self.parts().is_closed.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db({})", self.parts().fs.root().display())
    }
}

fn check_scope(state: &KeyspaceState, scope: ScopeId) -> Result<()> {
    let stored = state.space.scope();
    if stored != scope {
        return Err(Error::ConfigMismatch {
            what: "the keyspace's scope",
            stored: format!("{}", stored.0),
            given: format!("{}", scope.0),
        });
    }
    Ok(())
}
