//! The twelve stages, in order.

use crate::attempt::Attempt;
use crate::claim::{Claim, Found, claim};
use crate::identity::{self, generate_identity};
use crate::inventory::Inventory;
use crate::log::{self, LogPlan};
use crate::plan::{FlushTarget, Plan, Recovered, ReplaySink};
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::Stage;
use crate::switch::{self, Before, Life, Switched};
use crate::{archive, birth, keys, replay, resources, root, sweep, tables};
use base::{Clock, Error, FileName, Identity, Position, Result, Tick};
use sstable::TableOwner;
use sstable::manifest::{self, Root, State};
use std::time::Duration;

/// Opens the database of `plan`: verifies it, takes what is only in the log into tables by way of
/// `sink`, and starts a new generation.
///
/// If it fails, the directory is as it was, except that a creation may be left unfinished.
pub fn recover(plan: Plan, sink: &mut dyn ReplaySink, progress: &Progress) -> Result<Recovered> {
    let mut steps = Steps { clock: plan.clock.as_ref(), progress, report: Report::default() };
    let fs = plan.fs.as_ref();
    let Claim { lock, found } = steps.run(Stage::Claim, |_| claim(fs, plan.create))?;
    if found != Found::Database {
        create(&plan, found)?;
        steps.report.created = true;
    }
    let facts = read(&plan, &mut steps)?;
    let mut attempt = Attempt::default();
    let done = write(&plan, &facts, sink, &mut steps, &mut attempt);
    let (state, identity, Switched { manifest, log }) = match done {
        Ok(done) => done,
        Err(error) => {
            attempt.fail(fs, &facts.root);
            return Err(error);
        }
    };
    steps.run(Stage::Retire, |report| {
        let (database, inventory) = (facts.identity.database, &facts.inventory);
        let (archiving, log, bytes_max) = (facts.state.archiving, &facts.log, plan.archive_bytes);
        let held = archive::keep(fs, database, inventory, archiving, log, bytes_max, report);
        sweep::sweep(fs, inventory, &state, manifest.number(), &held, report);
        Ok(())
    })?;
    let report = steps.report;
    tell(&report);
    Ok(Recovered {
        lock,
        identity,
        generation: facts.root.next_generation(),
        manifest,
        last_tick: last_tick(&state),
        state,
        log,
        report,
    })
}

/// Runs stages one by one, and times them.
struct Steps<'a> {
    clock: &'a dyn Clock,
    progress: &'a Progress,
    report: Report,
}

impl Steps<'_> {
    fn run<T>(&mut self, stage: Stage, work: impl FnOnce(&mut Report) -> Result<T>) -> Result<T> {
        self.progress.enter(stage)?;
        let started = self.clock.monotonic();
        let result = work(&mut self.report);
        let took = self.clock.monotonic().saturating_sub(started);
        self.report.stages.push((stage, took));
        self.note_if_slow(stage, took);
        result
    }

    fn note_if_slow(&mut self, stage: Stage, took: Duration) {
        let limit = self.progress.limits().of(stage);
        if took > limit {
            let number = stage as u8;
            tracing::warn!(stage = number, ?limit, ?took, "an open is slow to {stage}");
            let warning = format!("slow to {stage}: stage {number} took {took:?}, over {limit:?}");
            self.report.warnings.push(warning);
        }
    }
}

/// What the directory holds, as far as reading tells.
struct Facts {
    identity: Identity,
    inventory: Inventory,
    root: Root,
    state: State,
    torn_manifest: Option<u64>,
    /// Where the manifest ends, its number as the segment.
    manifest: Position,
    log: LogPlan,
    /// Whether the disk is so full that the reserve is needed.
    needs_reserve: bool,
}

fn create(plan: &Plan, found: Found) -> Result<()> {
    let fs = plan.fs.as_ref();
    if found == Found::Unfinished {
        birth::clear(fs)?;
    }
    let identity = generate_identity(plan.rng.as_ref())
        .map_err(|e| Error::io("draw random bytes for", fs.root(), e))?;
    birth::create_database(fs, plan.rng.as_ref(), &identity, &State::default())
}

/// Stages 2 to 9: only reads.
fn read(plan: &Plan, steps: &mut Steps<'_>) -> Result<Facts> {
    let fs = plan.fs.as_ref();
    let progress = steps.progress;
    let file = steps.run(Stage::Identity, |_| identity::read(fs))?;
    let database = file.identity.database;
    steps.run(Stage::Keys, |_| keys::check(fs, &file))?;
    let segment_bytes = plan.log.segment_bytes;
    steps.run(Stage::Resources, |_| resources::check(fs, segment_bytes, plan.memory_bytes))?;
    let inventory = steps.run(Stage::Inventory, |report| {
        let listed = Inventory::take(fs).map_err(|e| Error::io("list", fs.root(), e))?;
        let inventory = listed?;
        report.strangers.clone_from(&inventory.strangers);
        Ok(inventory)
    })?;
    let roots = steps.run(Stage::Root, |report| {
        let roots = root::choose(fs, database, &inventory)?;
        report.warnings.extend(roots.other.as_ref().map(ToString::to_string));
        Ok(roots)
    })?;
    let root = roots.root;
    let replayed = steps.run(Stage::Manifest, |_| manifest::replay(fs, &root))?;
    let manifest = Position { segment: root.manifest, offset: replayed.end };
    let state = replayed.state;
    let incomplete = state.incomplete.keys().map(|scope| scope.0);
    steps.report.warnings.extend(incomplete.map(|scope| {
        format!("scope {scope} has lost content: see what the repair of this database reported")
    }));
    steps.run(Stage::Tables, |_| {
        tables::verify(fs, database, &state.version, &inventory, plan.verify, progress)
    })?;
    let (log, needs_reserve) = steps.run(Stage::Log, |_| {
        let level = plan.verify;
        let log = log::validate(fs, database, root.generation, &state, &inventory, level)?;
        let needs_reserve = resources::check_replay(fs, segment_bytes, log.bytes())?;
        Ok((log, needs_reserve))
    })?;
    let (identity, torn_manifest) = (file.identity, replayed.torn);
    Ok(Facts { identity, inventory, root, state, torn_manifest, manifest, log, needs_reserve })
}

/// Stages 10 and 11: only creates, until the root is renamed.
fn write(
    plan: &Plan,
    facts: &Facts,
    sink: &mut dyn ReplaySink,
    steps: &mut Steps<'_>,
    attempt: &mut Attempt,
) -> Result<(State, Identity, Switched)> {
    let Facts { inventory, root, torn_manifest, log, .. } = facts;
    let torn_manifest = *torn_manifest;
    let (identity, life) = next_life(plan, facts)?;
    let before = Before { identity: &identity, life, root, inventory, log, torn_manifest };
    if facts.needs_reserve {
        sweep::release_reserve(plan.fs.as_ref());
    }
    let mut state = facts.state.clone();
    let progress = steps.progress;
    steps.run(Stage::Replay, |report| {
        report.torn_manifest = torn_manifest;
        report.was_closed = matches!(log, LogPlan::Closed(_));
        report.log_bytes = log.bytes();
        if let LogPlan::Scanned(scan) = log {
            report.torn_log = scan.torn.as_ref().map(|torn| torn.at);
        }
        report.new_life = (life == Life::New).then_some(identity.incarnation);
        switch::set_aside(plan, &before, attempt, report);
        let generation = root.next_generation();
        // What is replayed is of whoever wrote the log.
        let origin = log.author().unwrap_or(identity.origin());
        let owner = TableOwner { database: identity.database, origin, generation };
        let listed = inventory.tables.last_key_value().map_or(0, |(number, _)| *number);
        // Never the number of a file that someone left.
        state.next_table = state.next_table.max(listed.saturating_add(1));
        let first = state.next_table;
        let target = FlushTarget::new(plan.fs.clone(), owner, &state);
        let fs = plan.fs.as_ref();
        let source = replay::Source { log, manifest: facts.manifest };
        let result =
            replay::replay(fs, &source, &mut state, sink, &target, plan.memory_bytes, progress);
        for number in first..target.upcoming() {
            attempt.will_make(FileName::Table(number));
        }
        let replayed = result?;
        report.commits_replayed = replayed.commits;
        report.tables_written = replayed.tables;
        Ok(())
    })?;
    let switched =
        steps.run(Stage::Switch, |_| switch::switch(plan, &before, &mut state, attempt))?;
    Ok((state, identity, switched))
}

/// Who the database is from now on. Where a crash has cut the log of a node that replicates, others may
/// have what is lost: its ticks must not be used once more, so it goes on as another incarnation.
fn next_life(plan: &Plan, facts: &Facts) -> Result<(Identity, Life)> {
    let is_torn = matches!(&facts.log, LogPlan::Scanned(scan) if scan.torn.is_some());
    if !is_torn || facts.state.clock_bound == Tick::ZERO {
        return Ok((facts.identity, Life::Same));
    }
    let new = identity::new_life(&facts.identity, plan.rng.as_ref())
        .map_err(|e| Error::io("draw random bytes for", plan.fs.root(), e))?;
    Ok((new, Life::New))
}

/// No tick up to this one was not possibly used.
fn last_tick(state: &State) -> Tick {
    let tables = state.version.tables().map(|table| table.newest());
    tables.fold(state.last_tick.max(state.flushed), Tick::max)
}

fn tell(report: &Report) {
    if let Some(at) = report.torn_log {
        tracing::warn!(%at, "a crash had cut the log; what was cut off is in quarantine");
    }
    if let Some(incarnation) = report.new_life {
        tracing::warn!(%incarnation, "others may have what is lost: this is another incarnation");
    }
    if report.commits_replayed > 0 {
        tracing::info!(commits = report.commits_replayed, "replayed the log");
    }
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
}
