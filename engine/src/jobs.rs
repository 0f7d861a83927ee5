//! What background threads do, one step at a time; also callable by hand.

use crate::archive;
use crate::compaction::picker::{self, Action, Job, Limits, Load};
use crate::compaction::{self, Outcome, Overlap, Workshop, forgettable};
use crate::floors::Floors;
use crate::flush::write_memtables;
use crate::memtable::Memtable;
use crate::options::Background;
use crate::output::Output;
use crate::parts::Parts;
use crate::range_map::RangeMap;
use crate::replicate::Vectors;
use crate::resolve::{Bottom, Policy};
use crate::view::View;
use base::{Defect, Error, FileName, Result, SpaceId, Tick, planted};
use recovery::Progress;
use sstable::manifest::{Added, Edit, State};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Flushes the frozen memtables whose commits are all visible into one run of level 0. Returns
/// whether there were any. Where a merge has the space that is needed, it gives way.
pub(crate) fn flush(parts: &Parts) -> Result<bool> {
    match flush_frozen(parts) {
        Err(Error::DiskFull { .. }) => {
            let _waiting = parts.space.wait_for_merges();
            drop(parts.compacting.lock());
            flush_frozen(parts)
        }
        flushed => flushed,
    }
}

fn flush_frozen(parts: &Parts) -> Result<bool> {
    let flushed = {
        let _flushing = parts.flushing.lock();
        let view = parts.views.current();
        let (all, end) = flushable(&view, parts.commits.visible());
        if all.is_empty() {
            return wait_until_flushable(parts, &view);
        }
        let horizon = parts.horizon();
        let written = parts.space.with_reserve(|| {
            // On a full disk one by one: each that is written gives back its part of the log.
            let (frozen, boundary) = match parts.space.is_full() {
                true => oldest(all, end),
                false => (all, end),
            };
            Ok((write_frozen(parts, &view, frozen, horizon)?, frozen, boundary))
        });
        let (added, frozen, boundary) = count_failures(parts, written)?;
        install_flush(parts, added, frozen, Flushed { boundary, horizon })?;
        boundary
    };
    parts.commits.note_flushed();
    parts.update_pressure();
    parts.meters.flushes.fetch_add(1, Ordering::Relaxed);
    release_log(parts, flushed);
    give_back_if_full(parts);
    parts.space.keep_reserve(parts.demand());
    parts.compaction_bell.ring();
    Ok(true)
}

/// Deletes at once what need not stay, if the disk is full: whoever comes next needs the space.
pub(crate) fn give_back_if_full(parts: &Parts) {
    if parts.space.is_full() {
        parts.views.sweep();
        parts.obsolete.settle(parts);
    }
}

/// Flushes everything committed so far. Returns the last commit of it.
pub(crate) fn flush_all(parts: &Parts) -> Result<Tick> {
    let last = parts.commits.freeze_active()?;
    parts.commits.sync()?;
    parts.commits.wait_visible(last)?;
    flush_up_to(parts, last)?;
    Ok(last)
}

/// What a full disk asks for: empties memory, lets the log go on in a small segment, and lets go of
/// all others. What fails is asked for again.
pub(crate) fn make_room(parts: &Parts) -> Result<()> {
    if !parts.space.take_wish_for_room() {
        return Ok(());
    }
    empty_memory(parts).inspect_err(|_| parts.space.ask_for_room())
}

fn empty_memory(parts: &Parts) -> Result<()> {
    let spares =
        parts.commits.with_queue(|queue| queue.appender().map(|log| log.give_up_spare()))?;
    spares.into_iter().for_each(|spare| parts.installer.free(FileName::Segment(spare)));
    parts.admissions.discard_received(parts);
    give_back_if_full(parts);
    // First what waits: as long as it can not be flushed, no more is frozen.
    while flush(parts)? {}
    flush_all(parts)?;
    parts.space.try_with_reserve(|| parts.commits.with_queue(|queue| queue.appender()?.rest()))?;
    // What came meanwhile, before the log went on elsewhere.
    let last = flush_all(parts)?;
    release_log(parts, last);
    give_back_if_full(parts);
    Ok(())
}

/// Flushes in a row that may fail before writes are refused: what can not be written to tables for so
/// long should not grow.
const FLUSH_FAILURES_MAX: u32 = 8;

/// Notes how a flush went. The disk failing time and again poisons; a full one does not.
fn count_failures<T>(parts: &Parts, written: Result<T>) -> Result<T> {
    match &written {
        Ok(_) => parts.flush_failures.store(0, Ordering::Relaxed),
        Err(Error::Io { .. }) => {
            if parts.flush_failures.fetch_add(1, Ordering::Relaxed) + 1 >= FLUSH_FAILURES_MAX {
                parts.commits.poison();
            }
        }
        Err(_) => {}
    }
    written
}

/// The oldest frozen memtables that hold no commit above `visible`, newest first, and the last
/// commit that they may hold.
fn flushable(view: &View, visible: Tick) -> (&[Arc<Memtable>], Tick) {
    // What a memtable holds ends where the next newer one begins.
    let mut end = view.active.after();
    for (index, memtable) in view.frozen.iter().enumerate() {
        if end <= visible {
            return (view.frozen.get(index..).unwrap_or_default(), end);
        }
        end = memtable.after();
    }
    (&[], Tick::ZERO)
}

/// The oldest of the memtables `frozen` and the last commit that it may hold; that of all is `end`.
fn oldest(frozen: &[Arc<Memtable>], end: Tick) -> (&[Arc<Memtable>], Tick) {
    match frozen {
        [.., newer, _] => (frozen.get(frozen.len() - 1..).unwrap_or_default(), newer.after()),
        _ => (frozen, end),
    }
}

/// Gives the commits that still hold a frozen memtable back a moment to become visible. Returns
/// whether there is any such memtable.
fn wait_until_flushable(parts: &Parts, view: &View) -> Result<bool> {
    if view.frozen.is_empty() {
        return Ok(false);
    }
    parts.commits.check_writable()?;
    match parts.options.background {
        Background::On => parts.commits.request_sync(),
        Background::Off => parts.commits.sync()?,
    }
    parts.commits.wait_for_more(parts.commits.visible(), Duration::from_millis(10));
    Ok(true)
}

/// Flushes everything up to and including `seqno`, which is visible and no longer in the active
/// memtable.
pub(crate) fn flush_up_to(parts: &Parts, seqno: Tick) -> Result<()> {
    while parts.views.current().frozen.iter().any(|memtable| memtable.after() < seqno) {
        flush(parts)?;
    }
    Ok(())
}

/// How far a flush has come.
struct Flushed {
    /// Every commit up to it is in tables.
    boundary: Tick,
    /// Overwritten versions up to it may be gone.
    horizon: Tick,
}

fn write_frozen(
    parts: &Parts,
    view: &View,
    frozen: &[Arc<Memtable>],
    horizon: Tick,
) -> Result<Vec<sstable::TableMeta>> {
    let held = parts.snapshots.points();
    let ranges: Vec<_> =
        frozen.iter().flat_map(|memtable| memtable.range_deletes().to_vec()).collect();
    let map = RangeMap::of(ranges.clone(), parts.identity().origin());
    let (now_ms, origins) = (parts.clock.wall_ms(), parts.origins.clone());
    let policy = Policy::new(&held, horizon, now_ms, Bottom::Below, map, origins);
    let output = Output::new(parts.output_plan(u64::MAX), parts.fs.clone(), parts, ranges);
    // The view keeps its tables from being deleted meanwhile.
    let older: Vec<_> = view.runs.tables().map(|handle| handle.meta().clone()).collect();
    let mut overlap = Overlap::over(&older, &parts.tables)?;
    write_memtables(frozen, &policy, output, &mut overlap)
}

fn install_flush(
    parts: &Parts,
    written: Vec<sstable::TableMeta>,
    frozen: &[Arc<Memtable>],
    Flushed { boundary, horizon }: Flushed,
) -> Result<()> {
    let bytes: u64 = written.iter().map(|meta| meta.len).sum();
    let (log_start, log_end, vectors) = parts.commits.with_queue(|queue| {
        let vectors = queue.vectors_at(boundary).map(Vectors::replicated).unwrap_or_default();
        queue.appender().map(|log| {
            let needed = log.segments().into_iter().find(|span| span.last_seqno > boundary);
            (needed.map_or(log.end().segment, |span| span.number), log.durable(), vectors)
        })
    })?;
    let edit = |state: &State| {
        let order = state.version.next_order();
        let added = written.into_iter().map(|meta| Added { order, level: 0, meta: Arc::new(meta) });
        let boundary = match planted(Defect::FlushMarksTooMuch) {
            true => parts.commits.visible(),
            false => boundary,
        };
        Edit {
            added: added.collect(),
            flushed: Some(boundary),
            last_tick: Some(boundary),
            log_start: Some(log_start),
            log_end: Some(log_end),
            horizon: Some(horizon),
            vectors,
            ..Edit::default()
        }
    };
    parts.install(edit, |next| {
        next.frozen.retain(|memtable| !frozen.iter().any(|done| Arc::ptr_eq(done, memtable)));
    })?;
    parts.meters.bytes_flushed.fetch_add(bytes, Ordering::Relaxed);
    Ok(())
}

/// Lets the log go on in a small segment if all of it is flushed, and lets go of what it had.
fn rest_log(parts: &Parts) -> Result<()> {
    let view = parts.views.current();
    if !view.active.is_empty() || !view.frozen.is_empty() {
        return Ok(());
    }
    let flushed = view.active.after();
    parts.commits.with_queue(|queue| match queue.active().is_empty() {
        true => queue.appender()?.rest(),
        false => Ok(()),
    })?;
    parts.commits.sync()?;
    release_log(parts, flushed);
    Ok(())
}

/// Makes the log durable and promises its end, as is due when nothing is written for a while.
pub(crate) fn seal_log(parts: &Parts) -> Result<()> {
    parts.commits.sync()?;
    let has_sealed = parts.commits.with_queue(|queue| queue.appender()?.seal())?;
    if has_sealed { parts.commits.sync() } else { Ok(()) }
}

/// Does everything that is due, tidying up included: afterwards nothing runs until the next write.
pub(crate) fn settle(parts: &Parts) -> Result<()> {
    let is_closed = || parts.is_closed.load(Ordering::Acquire);
    while compact_once(parts, Load::Idle, &is_closed).map_err(cancelled_by_close)? {}
    tidy(parts)?;
    seal_log(parts)?;
    // A thread that was just reading or flushing may hold an old view for a moment longer; what a
    // snapshot's iterator holds is not waited for.
    for _ in 0..LINGER_LOOKS {
        if !parts.tables.has_lingering() && !parts.installer.has_freed() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        tidy(parts)?;
    }
    Ok(())
}

/// How often settling looks again for files that are about to become free.
const LINGER_LOOKS: u32 = 40;

/// Gives back what an idle database does not need: space of the log, files nobody can reach.
pub(crate) fn tidy(parts: &Parts) -> Result<()> {
    // Where there is no space for another segment, the rest is needed all the more.
    let rested = rest_log(parts);
    parts.views.sweep();
    parts.obsolete.settle(parts);
    rested
}

/// Bytes of flushed segments that a database keeps at least while it replicates: a peer that was away for a
/// moment goes on in the log. One that was away for longer gets the state.
const REPLICATED_LOG_BYTES: u64 = 64 << 20;

/// Lets go of the log segments that are wholly flushed and that no one wants to keep.
fn release_log(parts: &Parts, flushed: Tick) {
    let mut retention = parts.options.log_retention_bytes;
    if parts.clock_watch.is_on() {
        retention = retention.max(REPLICATED_LOG_BYTES);
    }
    if archive::wants_any(parts, flushed) && parts.commits.sync().is_err() {
        return; // What is archived must be durable. Whoever writes next learns of the failure.
    }
    let (released, segments) = parts.commits.with_queue(|queue| {
        let Ok(log) = queue.appender() else { return (Vec::new(), Vec::new()) };
        let mut kept = 0;
        let mut keep_from = parts.pins.oldest();
        for span in log.segments().iter().rev() {
            kept += span.end;
            if kept > retention {
                break;
            }
            keep_from = Some(keep_from.map_or(span.number, |from: u64| from.min(span.number)));
        }
        let before: Vec<_> = log.segments();
        let released = log.release(flushed, keep_from);
        let first = log.segments().first().map_or(0, |span| span.number);
        let gone = before.iter().filter(|span| released.contains(&span.number));
        if let Some(last) = gone.clone().map(|span| span.last_seqno).max() {
            parts.pins.note_released(last);
        }
        let segments: Vec<u64> = gone.map(|span| span.number).collect();
        queue.index().release(first);
        (released, segments)
    });
    let held = archive::take_over(parts, &segments);
    let released = released.into_iter().filter(|segment| !held.contains(segment));
    released.for_each(|segment| parts.installer.free(FileName::Segment(segment)));
    parts.obsolete.delete(parts);
}

/// Runs the next compaction that is due. Returns whether there was one.
pub(crate) fn compact_once(
    parts: &Parts,
    load: Load,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<bool> {
    let (now_ms, horizon) = (parts.clock.wall_ms(), parts.horizon());
    let limits = Limits { now_ms, horizon, ..Limits::default() };
    let is_plain = |space: SpaceId| {
        parts.catalog.of_space(space).is_some_and(|state| state.settings.compression == 0)
    };
    let mut stubborn = parts.compacting.lock();
    refuse_if_closed(parts)?;
    if let Some(job) = picker::pick(&parts.installer.version(), &limits, load, &is_plain) {
        run(parts, &job, is_cancelled, &Progress::default())?;
        return Ok(true);
    }
    if load == Load::Busy {
        return Ok(false);
    }
    let Some(forgettable) = forgettable::pick(parts, &stubborn)? else { return Ok(false) };
    let written = run(parts, &forgettable.job, is_cancelled, &Progress::default())?;
    stubborn.note(parts, &forgettable, &written);
    Ok(true)
}

/// Merges everything into the last level, and tells `progress` how far it is.
pub(crate) fn compact_everything(parts: &Parts, progress: &Progress) -> Result<()> {
    {
        let _compacting = parts.compacting.lock();
        refuse_if_closed(parts)?;
        let Some(job) = picker::everything(&parts.installer.version()) else { return Ok(()) };
        progress.expect(job.inputs.iter().flatten().map(|meta| meta.raw_bytes).sum());
        let is_closed = || parts.is_closed.load(Ordering::Acquire);
        let is_cancelled = || is_closed() || progress.is_cancelled();
        run(parts, &job, &is_cancelled, progress).map_err(|error| match is_closed() {
            true => cancelled_by_close(error),
            false => error,
        })?;
    }
    parts.obsolete.delete(parts);
    Ok(())
}

/// The error of a merge that only a close cancels.
fn cancelled_by_close(error: Error) -> Error {
    if matches!(error, Error::Cancelled) { Error::Closed } else { error }
}

fn refuse_if_closed(parts: &Parts) -> Result<()> {
    if parts.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
}

/// Does the job. Returns the numbers of the tables that it has written.
fn run(
    parts: &Parts,
    job: &Job,
    is_cancelled: &dyn Fn() -> bool,
    progress: &Progress,
) -> Result<Vec<u64>> {
    let mut written = Vec::new();
    if job.action == Action::Move {
        let removed = job.inputs.iter().flatten().map(|meta| meta.id).collect();
        let added = job.inputs.iter().flatten().map(|meta| Added {
            order: job.order,
            level: job.level,
            meta: meta.clone(),
        });
        let edit = Edit { added: added.collect(), removed, ..Edit::default() };
        parts.install(|_| edit, |_| {})?;
        parts.meters.moves.fetch_add(1, Ordering::Relaxed);
    } else {
        let horizon = parts.horizon();
        // Entries of tables from another life keep their author.
        for meta in job.inputs.iter().flatten() {
            parts.number_of(parts.tables.handle(meta).table()?.local())?;
        }
        let gives_way = |bytes| {
            progress.advance(bytes);
            is_cancelled() || parts.space.is_awaited()
        };
        let workshop = Workshop {
            fs: parts.fs.clone(),
            tables: &parts.tables,
            host: parts,
            plan: parts.output_plan(parts.options.table_bytes),
            horizon,
            held: parts.snapshots.points(),
            now_ms: parts.clock.wall_ms(),
            origins: parts.origins.clone(),
            floors: parts.installer.with_state(Floors::of),
            is_dropped: &|space| parts.catalog.is_dropped(space),
            is_cancelled: &gives_way,
        };
        if parts.space.is_awaited() {
            return Err(parts.space.error());
        }
        // It frees space in the end, but may need more than a full disk's reserve meanwhile.
        let merged = parts.space.try_with_reserve(|| compaction::run(job, &workshop));
        let merged = merged.map_err(|error| match error {
            Error::Cancelled if !is_cancelled() => parts.space.error(),
            error => error,
        });
        let Outcome { edit, bytes_written } = merged?;
        let edit = Edit { horizon: Some(horizon), ..edit };
        written.extend(edit.added.iter().map(|added| added.meta.id));
        parts.install_written(&written, |_| edit, |_| {})?;
        parts.meters.compactions.fetch_add(1, Ordering::Relaxed);
        parts.meters.bytes_compacted.fetch_add(bytes_written, Ordering::Relaxed);
    }
    parts.update_pressure();
    parts.obsolete.delete(parts);
    give_back_if_full(parts);
    Ok(written)
}
