//! The parts of an open database, and the short ways through them.

use crate::archive::Archive;
use crate::backup::Backing;
use crate::batch::Batch;
use crate::bell::Bell;
use crate::catalog::Catalog;
use crate::changes::ChangePins;
use crate::commit::{CommitTicket, Commits, Committed, Write};
use crate::compaction::forgettable::Stubborn;
use crate::damage::Damage;
use crate::install::Installer;
use crate::keyspace::KeyspaceState;
use crate::obsolete::Obsolete;
use crate::options::{Background, Options, SyncMode, WriteOptions};
use crate::origins::Origins;
use crate::output::{Depth, Ending, OutputHost, OutputPlan};
use crate::pressure::Pressure;
use crate::read::{self, ReadPoint};
use crate::replicate::{Admissions, ClockWatch};
use crate::resolver::Resolvers;
use crate::scan::{Scan, Stopwatch};
use crate::snapshot::{Held, Snapshots};
use crate::space::{Demand, Space};
use crate::stats::{Counter, Meters, SAMPLE_EVERY, Tally};
use crate::tables::Tables;
use crate::value::Value;
use crate::view::{NextView, View, Views};
use crate::workers::Worker;
use base::fs::{Fs, LockGuard};
use base::lock::Mutex;
use base::{Clock, Error, Identity, Op, Origin, OriginNumber, Result, Rng, SpaceId, Tick, Vector};
use sstable::TableOwner;
use sstable::manifest::{Edit, KeyspaceSettings, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// See the module. Everything here synchronises itself.
pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    /// Who it was when it was opened.
    pub(crate) opened_as: Identity,
    pub(crate) generation: u64,
    pub(crate) commits: Arc<Commits>,
    pub(crate) views: Arc<Views>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) catalog: Catalog,
    pub(crate) origins: Arc<Origins>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) installer: Installer,
    pub(crate) obsolete: Obsolete,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) space: Arc<Space>,
    pub(crate) damage: Arc<Damage>,
    pub(crate) meters: Meters,
    pub(crate) pins: ChangePins,
    pub(crate) archive: Archive,
    pub(crate) admissions: Admissions,
    pub(crate) resolvers: Resolvers,
    pub(crate) clock_watch: Arc<ClockWatch>,
    /// Who makes a backup, and which are made without being asked for.
    pub(crate) backing: Backing,
    /// Rung when the schedule of backups has something to look at.
    pub(crate) backup_bell: Arc<Bell>,
    /// Held by the one who flushes.
    pub(crate) flushing: Mutex<()>,
    /// Flushes that failed in a row.
    pub(crate) flush_failures: AtomicU32,
    /// Held by the one who compacts.
    pub(crate) compacting: Mutex<Stubborn>,
    /// Rung when a flush or an install may have made a compaction due.
    pub(crate) compaction_bell: Arc<Bell>,
    /// Rung when a scrub is to end or to begin.
    pub(crate) scrub_bell: Arc<Bell>,
    /// When it was opened, by the monotonic clock.
    pub(crate) opened_at: Duration,
    /// Whether a scrub is due whatever the time.
    pub(crate) wants_scrub: AtomicBool,
    /// Rung when a memtable was frozen.
    pub(crate) flush_bell: Arc<Bell>,
    /// Rung when the log has work.
    pub(crate) log_bell: Arc<Bell>,
    /// The last failure of each background thread that it has not yet got over.
    pub(crate) trouble: Mutex<BTreeMap<Worker, String>>,
    pub(crate) is_closed: AtomicBool,
    /// Whether the directory is only read: without a lock, and as of one moment.
    pub(crate) is_read_only: bool,
    /// The directory's lock; let go when the database is closed.
    pub(crate) lock: Mutex<Option<LockGuard>>,
}

impl Parts {
    /// Commits one op.
    #[inline]
    pub(crate) fn write_one(&self, keyspace: &Arc<KeyspaceState>, op: Op<'_>) -> Result<Tick> {
        let bytes = op.key.len() + op.value_len();
        self.commit(Write::One(keyspace, op), self.options.sync, bytes)
    }

    /// Commits a batch.
    pub(crate) fn write(&self, mut batch: Batch, options: WriteOptions) -> Result<Tick> {
        batch.check()?;
        if batch.is_empty() {
            return Ok(self.commits.visible());
        }
        let sync = options.sync.unwrap_or(self.options.sync);
        self.commit(Write::Batch(&batch), sync, batch.byte_len())
    }

    /// Commits a batch as far as it goes without waiting.
    pub(crate) fn submit(&self, mut batch: Batch, options: WriteOptions) -> Result<CommitTicket> {
        batch.check()?;
        let sync = options.sync.unwrap_or(self.options.sync);
        self.let_pass(batch.byte_len())?;
        let committed = match batch.is_empty() {
            true => Committed::nothing(self.commits.visible()),
            false => self.commits.start(Write::Batch(&batch), sync)?,
        };
        self.meters.count_commit(batch.tally(), batch.byte_len());
        if self.options.background == Background::Off {
            // Nobody else would sync for the ticket.
            self.commits.wait(&committed)?;
        }
        Ok(CommitTicket::new(self.commits.clone(), committed))
    }

    /// Commits `write`, which has `bytes` of keys and values.
    #[inline]
    pub(crate) fn commit(&self, write: Write<'_>, sync: SyncMode, bytes: usize) -> Result<Tick> {
        self.let_pass(bytes)?;
        let Some(timed) = self.meters.count_commit(Tally::of(&write), bytes) else {
            return self.commits.write(write, sync);
        };
        let started = self.clock.monotonic();
        let result = self.commits.write(write, sync);
        timed.record(self.clock.monotonic().saturating_sub(started));
        result
    }

    /// Who it is.
    #[inline]
    pub(crate) fn identity(&self) -> Identity {
        Identity { incarnation: self.origins.own().incarnation, ..self.opened_as }
    }

    /// Refuses what is asked of a closed database.
    pub(crate) fn refuse_if_closed(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Lets everything committed so far become durable soon; without a log thread, now.
    pub(crate) fn request_sync(&self) -> Result<()> {
        match self.options.background {
            Background::On => self.commits.request_sync(),
            Background::Off => self.commits.sync()?,
        }
        Ok(())
    }

    /// Lets a write pass, slower the more work is owed.
    #[inline]
    pub(crate) fn let_pass(&self, bytes: usize) -> Result<()> {
        if self.space.is_full() {
            self.probe_if_nobody_does();
        }
        if self.pressure.is_free() {
            return Ok(());
        }
        let fill = self.views.with(|view| view.active.fill());
        self.pressure.admit(bytes, fill);
        match self.options.background {
            Background::On => Ok(()),
            Background::Off => self.flush_in_the_foreground(),
        }
    }

    /// Refuses what would write, if the database is only read.
    pub(crate) fn refuse_if_read_only(&self) -> Result<()> {
        if self.is_read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Looks whether a full disk has space again, and makes some, because no thread does.
    #[cold]
    pub(crate) fn probe_if_nobody_does(&self) {
        if self.options.background == Background::On || self.space.probe(self.demand()) {
            return;
        }
        // What does not fit now is tried again by the next write.
        if self.space.wants_room() && crate::jobs::make_room(self).is_ok() {
            self.space.probe(self.demand());
        }
    }

    /// Refuses `bytes` that another node sends if they would not leave users' writes their space.
    pub(crate) fn admit_received(&self, bytes: u64) -> Result<()> {
        if self.space.is_full() {
            self.probe_if_nobody_does();
        }
        self.space.admit_received(bytes, self.views.current().unflushed_bytes())
    }

    /// Flushes because nobody else does. A failure counts once the memtables are used up.
    #[cold]
    fn flush_in_the_foreground(&self) -> Result<()> {
        let flushed = crate::jobs::flush(self);
        let is_used_up = self.views.current().frozen.len() + 1 >= Options::MEMTABLES_MAX;
        if is_used_up { flushed.map(|_| ()) } else { Ok(()) }
    }

    /// Waits until `seqno` is visible. Without a log thread nobody else might sync it.
    pub(crate) fn wait_visible(&self, seqno: Tick) -> Result<()> {
        match self.options.background {
            Background::On => self.commits.wait_visible(seqno),
            Background::Off => self.commits.secure(seqno),
        }
    }

    /// Installs what `edit` makes of the set of tables, see [`Installer::install`].
    pub(crate) fn install(
        &self,
        edit: impl FnOnce(&State) -> Edit,
        adjust: impl FnOnce(&mut NextView),
    ) -> Result<()> {
        self.installer.install(edit, adjust).inspect_err(|_| self.follow_manifest())
    }

    /// As [`Parts::install`], of an edit that adds the new tables `written`: if it is certain that the
    /// edit was not made, they are deleted.
    pub(crate) fn install_written(
        &self,
        written: &[u64],
        edit: impl FnOnce(&State) -> Edit,
        adjust: impl FnOnce(&mut NextView),
    ) -> Result<()> {
        self.install(edit, adjust).inspect_err(|_| {
            if !self.installer.is_poisoned() {
                written.iter().for_each(|table| self.obsolete.discard(self, *table));
            }
        })
    }

    /// Makes an edit durable, see [`Installer::record_then`].
    pub(crate) fn record_then(
        &self,
        edit: impl FnOnce(&State) -> Edit,
        then: impl FnOnce(&State),
    ) -> Result<()> {
        self.installer.record_then(edit, then).inspect_err(|_| self.follow_manifest())
    }

    /// The number of `origin`, which gets one if it has none: durable before it is used.
    pub(crate) fn number_of(&self, origin: Origin) -> Result<OriginNumber> {
        if let Some(number) = self.origins.number_of(origin) {
            return Ok(number);
        }
        self.record_then(|state| joining(state, origin), |state| self.origins.follow(state))?;
        let limit = Vector::LEN_MAX as u64;
        let full = || Error::too_large("number of authors", limit, limit + 1);
        self.origins.number_of(origin).ok_or_else(full)
    }

    /// As [`Parts::number_of`], of an author that a peer brings.
    pub(crate) fn number_of_other(&self, origin: Origin) -> Result<OriginNumber> {
        match self.origins.has_room_for(origin) {
            true => self.number_of(origin),
            false => Err(too_many_authors()),
        }
    }

    /// Once an edit failed, nothing can be flushed any more: writes are refused too.
    pub(crate) fn follow_manifest(&self) {
        if self.installer.is_poisoned() {
            self.commits.poison();
        }
    }

    /// The values of `keys`, all as of one moment.
    pub(crate) fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: &Arc<KeyspaceState>,
        keys: &[K],
        at: Option<Tick>,
    ) -> Result<Vec<Option<Value>>> {
        let reader = self.reader_at(keyspace, at);
        reader.check()?;
        self.meters.add(Counter::Gets, keys.len() as u64);
        let (view, point, space) = (&reader.view, reader.point, keyspace.space);
        let get = |key: &K| {
            read::get(view, space, key.as_ref(), point.at, || point.now_ms, None, Value::copy_of)
        };
        keys.iter().map(get).collect()
    }

    /// What reads the keyspace as of now, or of a held point.
    pub(crate) fn reader(&self, keyspace: &Arc<KeyspaceState>, held: Option<&Held>) -> Reader {
        let is_sample = self.meters.add(Counter::Scans, 1).is_multiple_of(SAMPLE_EVERY);
        let reader = self.reader_at(keyspace, held.map(Held::at));
        let stopwatch =
            || Stopwatch { clock: self.clock.clone(), histogram: self.meters.scan_latency.clone() };
        Reader { stopwatch: is_sample.then(stopwatch), ..reader }
    }

    fn reader_at(&self, keyspace: &Arc<KeyspaceState>, at: Option<Tick>) -> Reader {
        let refused = self.check_readable(keyspace).err();
        let now_ms = self.clock.wall_ms();
        let (view, at) = match at {
            // Everything up to a held point is in every later view.
            Some(at) => (self.views.current(), at),
            None => self.current_point(),
        };
        let (space, point) = (keyspace.space, ReadPoint { at, now_ms });
        Reader { view, space, point, stopwatch: None, refused }
    }

    /// A view, and the last commit that is visible and wholly in it.
    fn current_point(&self) -> (Arc<View>, Tick) {
        loop {
            let view = self.views.with(Arc::clone);
            let at = self.commits.visible();
            if self.views.is_current(&view) {
                return (view, at);
            }
        }
    }

    #[inline]
    pub(crate) fn check_readable(&self, keyspace: &KeyspaceState) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        keyspace.check_live()
    }

    /// The horizon: versions above it may be read at any later moment.
    pub(crate) fn horizon(&self) -> Tick {
        horizon(self.commits.visible(), self.options.history, self.clock.wall_ms())
    }

    /// How tables of upper levels are written.
    pub(crate) fn output_plan(&self, table_bytes: u64) -> OutputPlan {
        let owner = TableOwner {
            database: self.identity().database,
            origin: self.identity().origin(),
            generation: self.generation,
        };
        let block_bytes = self.options.block_bytes;
        let (authors, ending) = (self.origins.authors(), Ending::Here);
        OutputPlan { owner, authors, block_bytes, table_bytes, depth: Depth::Upper, ending }
    }

    /// What the database takes of the disk, and will.
    pub(crate) fn demand(&self) -> Demand {
        let log = self.commits.with_queue(|queue| {
            let spans = queue.appender().map(|log| log.segments()).unwrap_or_default();
            spans.iter().map(|span| span.end).sum::<u64>()
        });
        Demand {
            data_bytes: self.installer.version().bytes().saturating_add(log),
            unflushed_bytes: self.views.current().unflushed_bytes(),
        }
    }

    /// Whether a spare of `bytes` for the log leaves space to flush what is in memory.
    pub(crate) fn affords(&self, bytes: u64) -> bool {
        self.space.affords(bytes, self.views.current().unflushed_bytes())
    }

    /// Notes how much work is owed.
    pub(crate) fn update_pressure(&self) {
        let frozen = self.views.current().frozen.len();
        let version = self.installer.version();
        let is_upper = |level: u8| level < sstable::manifest::LAST_LEVEL;
        let upper = version.runs().iter().filter(|run| is_upper(run.level)).count();
        self.pressure.update(frozen, upper);
    }
}

/// Why no author is taken in that is not known.
pub(crate) fn too_many_authors() -> Error {
    let limit = Vector::OTHERS_MAX as u64;
    Error::too_large("number of authors", limit, limit + 1)
}

/// Lets `origin` join the list of authors, unless it is in it or the list is full.
fn joining(state: &State, origin: Origin) -> Edit {
    let number = state.next_origin().filter(|_| state.number_of(origin).is_none());
    Edit { origins: number.map(|number| (number, origin)).into_iter().collect(), ..Edit::default() }
}

/// The horizon when commits up to `last` are visible and `history` is kept.
pub(crate) fn horizon(last: Tick, history: Duration, now_ms: u64) -> Tick {
    if history.is_zero() {
        return last;
    }
    let history_ms = u64::try_from(history.as_millis()).unwrap_or(u64::MAX);
    last.min(Tick::from_ms(now_ms.saturating_sub(history_ms)))
}

impl OutputHost for Parts {
    fn next_table(&self) -> u64 {
        self.installer.next_table()
    }

    fn discard(&self, table: u64) {
        self.obsolete.discard(self, table);
    }

    fn settings(&self, space: SpaceId) -> Option<KeyspaceSettings> {
        self.catalog.of_space(space).map(|state| state.settings)
    }
}

/// One keyspace as of one moment; makes any number of scans that agree.
pub(crate) struct Reader {
    view: Arc<View>,
    space: SpaceId,
    point: ReadPoint,
    /// Takes the time of its scans.
    stopwatch: Option<Stopwatch>,
    /// Why it can not be read.
    refused: Option<Error>,
}

impl Reader {
    fn check(&self) -> Result<()> {
        match &self.refused {
            None => Ok(()),
            Some(Error::KeyspaceDropped { name }) => {
                Err(Error::KeyspaceDropped { name: name.clone() })
            }
            Some(_) => Err(Error::Closed),
        }
    }

    /// A scan that stands nowhere.
    pub(crate) fn scan(&self) -> Result<Scan> {
        self.check()?;
        let scan = Scan::new(self.view.clone(), self.space, self.point);
        Ok(scan.timed_by(self.stopwatch.clone()))
    }
}
