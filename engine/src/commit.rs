//! The one door for writes: order, log, memtable, visibility.
//!
//! A writer takes the queue lock for its turn: it gets the next tick, appends to the log, and joins
//! the line of pending commits. Then, without the lock, it inserts into the memtable; a Sync commit
//! then waits until a sync covers it. Commits become visible strictly in the order of their ticks,
//! a Sync commit not before it is durable.
//!
//! Group commit: one thread at a time syncs the log; whatever was appended meanwhile is covered by
//! the next sync, which one of the waiting writers leads. See `wal::SyncGate`.
//!
//! Two watermarks: `visible`, what new reads see; `durable`, what survives a power loss.

mod admit;
mod barrier;
mod life;
mod pending;
mod queue;
mod room;
mod ticket;
mod upkeep;

pub(crate) use admit::Admitted;
pub(crate) use barrier::Barrier;
pub(crate) use queue::{Queue, Write};
pub use ticket::CommitTicket;

use crate::bell::Bell;
use crate::damage::Damage;
use crate::memtable::Arenas;
use crate::options::SyncMode;
use crate::pressure::Pressure;
use crate::replicate::{ClockWatch, Listener, Moved, Progress, Vectors};
use crate::space::Space;
use crate::stats::Histogram;
use crate::view::Views;
use base::lock::{Condvar, Mutex, Rank};
use base::{Clock, Error, Position, Result, Tick};
use crossbeam_utils::CachePadded;
use pending::Pending;
use recovery::backup::LogPlace;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use wal::SyncGate;

/// See the module.
pub(crate) struct Commits {
    queue: Mutex<Queue>,
    gate: SyncGate,
    pending: Mutex<Pending>,
    visible: CachePadded<AtomicU64>,
    durable: CachePadded<AtomicU64>,
    is_poisoned: AtomicBool,
    /// Set and rung when the log worker has something to sync.
    wants_sync: AtomicBool,
    /// Whether the log worker sleeps until the next commit.
    is_log_asleep: AtomicBool,
    /// Rung when a frozen memtable was flushed.
    flushed: Condvar,
    views: Arc<Views>,
    clock: Arc<dyn Clock>,
    pressure: Arc<Pressure>,
    space: Arc<Space>,
    damage: Arc<Damage>,
    clock_watch: Arc<ClockWatch>,
    arenas: Arenas,
    memtable_bytes: usize,
    bells: Bells,
    /// Told when commits became visible or durable.
    listener: Listener,
    /// How many read the log as it grows.
    tails: AtomicUsize,
    /// Time of each sync of the log that has ended.
    pub(crate) sync_latency: Histogram,
    /// When the running sync of the log began, in nanoseconds of the monotonic clock; zero if none runs.
    sync_began: AtomicU64,
}

/// What slows or refuses commits.
pub(crate) struct Brakes {
    /// Work that is owed.
    pub(crate) pressure: Arc<Pressure>,
    /// The space on the disk.
    pub(crate) space: Arc<Space>,
    /// Damaged files.
    pub(crate) damage: Arc<Damage>,
    /// A clock that jumps.
    pub(crate) clock_watch: Arc<ClockWatch>,
}

/// Whom commits notify.
pub(crate) struct Bells {
    /// A memtable was frozen.
    pub(crate) frozen: Arc<Bell>,
    /// The log needs a sync, a spare segment or a close of its run.
    pub(crate) log: Arc<Bell>,
    /// Whether there are threads that wait for them.
    pub(crate) are_heard: bool,
}

/// A commit in the log and in the memtable, perhaps not yet durable or visible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    /// Its tick.
    pub(crate) seqno: Tick,
    /// Where it ends in the log.
    position: Position,
    /// Whether a sync must cover it before it is acknowledged.
    sync: bool,
}

/// A place in the order of commits at which the log goes on in another segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The commit before it.
    pub(crate) last: Tick,
    /// All commits up to this tick are before it, all later ones behind. It ends a millisecond.
    pub(crate) covered: Tick,
    /// Where the log goes on.
    pub(crate) log: LogPlace,
}

impl Committed {
    /// Nothing was to be committed: acknowledged like what is visible at `seqno`.
    pub(crate) fn nothing(seqno: Tick) -> Committed {
        Committed { seqno, position: Position::ZERO, sync: false }
    }
}

impl Commits {
    /// The door of a database whose last commit was `last`.
    pub(crate) fn new(
        mut queue: Queue,
        last: Tick,
        views: Arc<Views>,
        clock: Arc<dyn Clock>,
        Brakes { pressure, space, damage, clock_watch }: Brakes,
        memtable_bytes: usize,
        bells: Bells,
    ) -> Commits {
        let gate = SyncGate::new(queue.durable());
        let pending = Pending::new(queue.vectors().clone());
        Commits {
            queue: Mutex::new(Rank::WriteQueue, queue),
            gate,
            pending: Mutex::new(Rank::Visibility, pending),
            visible: CachePadded::new(AtomicU64::new(last.raw())),
            durable: CachePadded::new(AtomicU64::new(last.raw())),
            is_poisoned: AtomicBool::new(false),
            wants_sync: AtomicBool::new(false),
            is_log_asleep: AtomicBool::new(true),
            flushed: Condvar::new(),
            views,
            clock,
            pressure,
            space,
            damage,
            clock_watch,
            arenas: Arenas::default(),
            memtable_bytes,
            bells,
            listener: Listener::default(),
            tails: AtomicUsize::new(0),
            sync_latency: Histogram::default(),
            sync_began: AtomicU64::new(0),
        }
    }

    /// The last commit that new reads see.
    #[inline]
    pub(crate) fn visible(&self) -> Tick {
        tick(self.visible.load(Ordering::Acquire))
    }

    /// The last commit that survives a power loss.
    pub(crate) fn durable(&self) -> Tick {
        tick(self.durable.load(Ordering::Acquire))
    }

    /// Commits `write` and waits until it is acknowledged.
    #[inline]
    pub(crate) fn write(&self, write: Write<'_>, sync: SyncMode) -> Result<Tick> {
        let committed = self.start(write, sync)?;
        self.wait(&committed)?;
        Ok(committed.seqno)
    }

    /// Commits `write` as far as it goes without waiting: it is in the log and in the memtable.
    #[inline]
    pub(crate) fn start(&self, write: Write<'_>, sync: SyncMode) -> Result<Committed> {
        let sync = sync == SyncMode::Sync;
        self.clock_watch.check(&*self.clock)?;
        let (seqno, position, memtable, wants_spare) = {
            let need = write.reservation();
            let mut queue = self.queue_with_room(need, write.weight())?;
            let seqno = queue.next_tick(self.clock.wall_ms());
            let appended =
                write.check(&queue).and_then(|()| self.append(&mut queue, seqno, &write));
            let position = appended.inspect_err(|error| {
                queue.give_back(need);
                self.note(error);
                // A disk that is full where space was reserved: the write may be in the log.
                if queue.is_log_poisoned() {
                    self.poison();
                }
            })?;
            let waits_for = if sync { position } else { Position::ZERO };
            self.pending.lock().push(seqno, waits_for, write.moved());
            (seqno, position, queue.active().clone(), queue.wants_spare())
        };
        if let Err(error) = memtable.insert(seqno, write.ops()) {
            // In the log but not readable: only a reopen can make the two agree.
            self.poison();
            return Err(error);
        }
        self.publish(|pending| pending.inserted(seqno));
        if self.is_log_asleep.load(Ordering::Relaxed) {
            self.wake_log();
        } else if wants_spare {
            self.bells.log.ring();
        }
        Ok(Committed { seqno, position, sync })
    }

    /// Waits until `committed` is durable if it must be, and visible.
    #[inline]
    pub(crate) fn wait(&self, committed: &Committed) -> Result<()> {
        if committed.sync {
            self.sync_to(committed.position)?;
        }
        if self.visible() >= committed.seqno {
            return Ok(());
        }
        self.wait_visible(committed.seqno)
    }

    /// Calls `f` with the queue locked: no commit gets a tick meanwhile.
    pub(crate) fn with_queue<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> R {
        f(&mut self.queue.lock())
    }

    /// Lets the log go on in another segment, and calls `f` with its number before any commit follows.
    pub(crate) fn roll_log(&self, f: impl FnOnce(u64)) -> Result<u64> {
        let mut queue = self.queue.lock();
        let LogPlace { number, .. } = self.cut_log(&mut queue)?;
        f(number);
        Ok(number)
    }

    /// Lets the log go on in another segment, and ends the millisecond.
    pub(crate) fn cut(&self) -> Result<Cut> {
        let mut queue = self.queue.lock();
        let log = self.cut_log(&mut queue)?;
        let covered = queue.mark_end_of_ms(self.clock.wall_ms());
        Ok(Cut { last: queue.last(), covered, log })
    }

    fn cut_log(&self, queue: &mut Queue) -> Result<LogPlace> {
        if self.is_poisoned() {
            return Err(Error::Poisoned);
        }
        queue.check_open()?;
        let cut = queue.appender()?.cut().inspect_err(|error| self.note(error));
        cut.map(|(number, previous)| LogPlace { number, previous })
    }

    /// A tick between the commits so far and all later ones; calls `f` before any follows.
    pub(crate) fn mark(&self, f: impl FnOnce()) -> Tick {
        let mut queue = self.queue.lock();
        f();
        queue.mark(self.clock.wall_ms())
    }

    /// Notes in the log what of the manifest is durable, so that a manifest which loses the edits that
    /// only it knows contradicts the log. Nothing waits for it, and nothing depends on it: if there is
    /// no space for it, it is left out. `place` is that of the edit in the order of commits, if it took
    /// one without being in the log, else zero.
    pub(crate) fn bear_witness(&self, durable: Position, place: Tick) {
        let new = {
            let mut queue = self.queue.lock();
            let last = queue.last();
            let seqno = match queue.append_witness(durable, place, self.clock.wall_ms()) {
                Ok(seqno) => seqno,
                Err(error) => return self.note(&error),
            };
            let new = (seqno > last).then_some(seqno);
            new.inspect(|seqno| self.pending.lock().push(*seqno, Position::ZERO, Moved::Nothing))
        };
        if let Some(seqno) = new {
            self.publish(|pending| pending.inserted(seqno));
        }
        if self.is_log_asleep.load(Ordering::Relaxed) {
            self.wake_log();
        }
    }

    /// Notes that a frozen memtable was flushed.
    pub(crate) fn note_flushed(&self) {
        self.flushed.notify_all();
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let end = self.queue.lock().log_end()?;
        self.sync_to(end)
    }

    /// Waits until the log is durable up to `position`; leads a sync if nobody does.
    fn sync_to(&self, position: Position) -> Result<()> {
        let covered = RefCell::new((Tick::ZERO, Vectors::default()));
        let started = Cell::new(Duration::ZERO);
        let prepare = || {
            started.set(self.clock.monotonic());
            self.sync_began.store(nanos(started.get()).max(1), Ordering::Release);
            let mut queue = self.queue.lock();
            covered.replace((queue.last(), queue.vectors().clone()));
            queue.prepare_sync()
        };
        let result = self.gate.wait_durable(position, prepare, |target| {
            self.sync_latency.record(self.clock.monotonic().saturating_sub(started.get()));
            self.sync_began.store(0, Ordering::Release);
            let (last, vectors) = covered.take();
            self.synced(target, last, vectors);
        });
        result.inspect_err(|_| {
            self.sync_began.store(0, Ordering::Release); // the last one
            self.poison();
        })
    }

    /// How long the running sync of the log has gone on; zero if none runs.
    pub(crate) fn sync_running(&self) -> Duration {
        match self.sync_began.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            began => self.clock.monotonic().saturating_sub(Duration::from_nanos(began)),
        }
    }

    /// Notes what a sync has secured.
    fn synced(&self, target: &wal::SyncTarget, last: Tick, vectors: Vectors) {
        self.queue.lock().synced(target);
        self.durable.fetch_max(last.raw(), Ordering::AcqRel);
        self.show(|pending| {
            pending.note_durable(last, vectors);
            pending.durable_to(target.position())
        });
        self.listener.notify(Progress::Durable);
    }

    /// As [`Commits::show`], and tells of it.
    #[inline]
    fn publish(&self, change: impl FnOnce(&mut Pending) -> Option<Tick>) {
        if self.show(change) {
            self.listener.notify(self.shown());
        }
    }

    /// Applies `change` to the line of pending commits and shows what thereby becomes visible. Returns
    /// whether anything did.
    #[inline]
    fn show(&self, change: impl FnOnce(&mut Pending) -> Option<Tick>) -> bool {
        let woken = {
            let mut pending = self.pending.lock();
            let Some(visible) = change(&mut pending) else { return false };
            self.visible.store(visible.raw(), Ordering::Release);
            pending.take_waiters(visible)
        };
        woken.into_iter().for_each(pending::Waiter::wake);
        true
    }

    /// Waits until `seqno` is visible.
    pub(crate) fn wait_visible(&self, seqno: Tick) -> Result<()> {
        loop {
            if self.visible() >= seqno {
                return Ok(());
            }
            if self.is_poisoned.load(Ordering::Acquire) {
                return Err(Error::Poisoned);
            }
            let is_waiting = {
                let mut pending = self.pending.lock();
                let is_waiting = self.visible() < seqno;
                if is_waiting {
                    pending.wait(seqno, pending::Waiter::this_thread());
                }
                is_waiting
            };
            if is_waiting && !self.is_poisoned.load(Ordering::Acquire) {
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
    }

    /// As [`Commits::wait_visible`], and syncs what `seqno` may be waiting for.
    pub(crate) fn secure(&self, seqno: Tick) -> Result<()> {
        if self.visible() < seqno {
            self.sync()?;
        }
        self.wait_visible(seqno)
    }

    /// Refuses writes from now on; reads go on.
    pub(crate) fn poison(&self) {
        if !self.is_poisoned.swap(true, Ordering::AcqRel) {
            tracing::error!(target: "esker::engine", code = "Poisoned", "a write or sync failed; writes are refused until reopen");
        }
        let woken = self.pending.lock().take_waiters(Tick::MAX);
        woken.into_iter().for_each(pending::Waiter::wake);
    }

    /// Bytes appended to the log since the database was opened.
    pub(crate) fn bytes_logged(&self) -> u64 {
        self.queue.lock().bytes_logged()
    }

    /// Refuses if writes are refused.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.is_poisoned() { Err(Error::Poisoned) } else { self.queue.lock().check_open() }
    }

    /// Whether writes are refused.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::Acquire)
    }

    /// A full disk passes, and so does a refused write; a failure of the log poisons.
    #[cold]
    fn note(&self, error: &Error) {
        let is_harmless = matches!(
            error,
            Error::DiskFull { .. }
                | Error::TooLarge { .. }
                | Error::Conflict
                | Error::ScopeClosed
                | Error::KeyspaceDropped { .. }
                | Error::Closed
                | Error::Halted { .. }
        );
        if !is_harmless {
            self.poison();
        }
    }

    /// Waits for at most `timeout` until a commit after `seqno` is visible. Returns whether one is.
    pub(crate) fn wait_for_more(&self, seqno: Tick, timeout: Duration) -> bool {
        {
            let mut pending = self.pending.lock();
            if self.visible() > seqno || self.is_poisoned() {
                return true;
            }
            pending.wait(seqno.next(), pending::Waiter::this_thread());
        }
        std::thread::park_timeout(timeout);
        self.pending.lock().forget_this_thread();
        self.visible() > seqno
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A watermark as a tick; watermarks are only ever set from ticks.
#[inline]
fn tick(raw: u64) -> Tick {
    Tick::from_raw(raw).unwrap_or(Tick::MAX)
}
