//! Rebuilds a damaged database from what still verifies, after a copy.
//!
//! ```text
//! check ─ facts ─ copy ─ tables, log ─ identity ─ switch ─ sweep ─ check
//!  reads   reads   beside  new files     renamed    root     removes
//! ```
//!
//! Nothing is mended in place. Tables that verify stay; new tables, a new manifest and a new root are
//! made and committed as an open does it. Until the root is renamed the damaged database is as it
//! was, but for a new incarnation; so a repair that dies can be run again.
//!
//! Invariants:
//! - The whole directory has been copied and compared before the first change.
//! - What is used verifies. A table that a whole manifest does not name is not used.
//! - Commits behind the first damage of the log are not applied.
//! - Whatever may be missing afterwards is in the report, and before the root counts also beside the
//!   copy; its scopes are marked in the manifest.

mod commits;
mod copy;
mod facts;
mod merge;
mod report;
mod tables;

pub use report::{Loss, RepairReport};

use crate::attempt::Attempt;
use crate::check::{Severity, examine};
use crate::claim::{Claim, claim};
use crate::identity::{self, generate_identity};
use crate::log::LogPlan;
use crate::plan::{Create, FlushTarget, Plan, ReplaySink, Verify};
use crate::progress::Progress;
use crate::report::Report;
use crate::switch::{self, Before, Life, Switched};
use crate::{replay, sweep};
use base::fs::{Fs, full_path};
use base::{Error, FileName, Identity, Result, ScopeId, Tick};
use commits::Commits;
use facts::Facts;
use sstable::manifest::{Added, Closed, Edit, Root, State, Version};
use sstable::{Cache, Table, TableOwner};
use std::collections::BTreeSet;
use std::sync::Arc;
use tables::Workshop;

/// Bytes of blocks kept while tables are merged: each block is read once.
const CACHE_BYTES: usize = 1 << 20;

/// Repairs the closed database of `plan`, after copying it to `copy_to`, which must be missing or
/// empty. Commits that are only in the log go through `sink`. If nothing is wrong, nothing is changed,
/// not even copied.
///
/// # Errors
/// `Locked`, `NotADatabase` (also if nothing in it verifies), `AlreadyExists` for the copy,
/// `FormatUnsupported` and `KeyUnavailable` for what is no damage, and those of the operating system.
/// After an error the database is as damaged as it was, and can be repaired again.
///
/// Meanwhile other threads may ask `progress` how far the part of the work is that goes on: looking,
/// copying, making tables, replaying.
pub fn repair(
    plan: &Plan,
    copy_to: &dyn Fs,
    sink: &mut dyn ReplaySink,
    progress: &Progress,
) -> Result<RepairReport> {
    let fs = plan.fs.as_ref();
    let Claim { lock: _lock, .. } = claim(fs, Create::Never)?;
    let findings = examine(fs, Verify::Paranoid, progress)?;
    let mut report = RepairReport { findings, ..RepairReport::default() };
    if report.findings.iter().all(|finding| finding.severity == Severity::Note) {
        return Ok(report);
    }
    let facts = Facts::gather(fs)?;
    report.notes = copy::copy_directory(fs, copy_to, progress)?;
    report.copy = Some(copy_to.root().to_path_buf());
    let mut attempt = Attempt::default();
    let before = facts.root.unwrap_or_else(|| stand_in(&facts));
    let mut told = Told { report: &mut report, progress };
    let rebuilt = rebuild(plan, &facts, copy_to, sink, &mut told, &mut attempt);
    rebuilt.inspect_err(|_| attempt.fail(fs, &before))?;
    report.remaining = examine(fs, Verify::Full, &Progress::default())?;
    report.remaining.retain(|finding| finding.severity > Severity::Note);
    tracing::warn!(losses = report.losses.len(), "repaired a damaged database");
    Ok(report)
}

/// What a repair tells: at its end, and while it works.
struct Told<'a> {
    report: &'a mut RepairReport,
    progress: &'a Progress,
}

/// What the new root follows: nothing in the directory is of a newer generation.
fn stand_in(facts: &Facts) -> Root {
    let last_manifest = facts.inventory.manifests.last_key_value().map_or(0, |(number, _)| *number);
    Root {
        required_features: 0,
        optional_features: 0,
        database: facts.database,
        generation: facts.generation,
        manifest: last_manifest,
        prefix_len: 0,
        prefix_digest: [0; 32],
    }
}

/// Makes the new tables and the new state, and commits them.
fn rebuild(
    plan: &Plan,
    facts: &Facts,
    copy_to: &dyn Fs,
    sink: &mut dyn ReplaySink,
    told: &mut Told<'_>,
    attempt: &mut Attempt,
) -> Result<()> {
    let fs = plan.fs.as_ref();
    let identity = new_identity(plan, facts, told.report)?;
    let mut state = facts.catalog.state.clone();
    let listed = facts.inventory.tables.last_key_value().map_or(0, |(number, _)| *number);
    state.next_table = state.next_table.max(listed.saturating_add(1));
    let first = state.next_table;
    let commits = commits::choose(fs, facts, &mut state)?;
    // Where commits may be missing, segments lead on from no backup.
    (state.archiving, state.ingests) = (None, Vec::new());
    // What is repaired is of the life before.
    let origin = facts.identity.as_ref().unwrap_or(&identity).origin();
    let database = identity.database;
    let owner = TableOwner { database, origin, generation: facts.generation.saturating_add(1) };
    let target = FlushTarget::new(plan.fs.clone(), owner, &state);
    let made = make_tables(plan, facts, commits, &target, sink, told, &mut state);
    (first..target.upcoming()).for_each(|number| attempt.will_make(FileName::Table(number)));
    made?;
    let Told { report, .. } = told;
    copy::write_losses(copy_to, &report.losses)?;
    identity::replace_identity(fs, &identity)?;
    let root = stand_in(facts);
    let before = Before {
        identity: &identity,
        life: Life::Same,
        root: &root,
        inventory: &facts.inventory,
        log: &LogPlan::Closed(None),
        torn_manifest: None,
    };
    let switched = switch::switch(plan, &before, &mut state, attempt)?;
    let number = switched.manifest.number();
    close(switched, &state)?;
    let mut swept = Report::default();
    sweep::sweep(fs, &facts.inventory, &state, number, &[], &mut swept);
    let live: BTreeSet<u64> = state.version.tables().map(|table| table.id).collect();
    let unused = (first..target.upcoming()).filter(|number| !live.contains(number));
    sweep::remove(fs, unused.map(FileName::Table), &mut swept);
    report.notes.extend(swept.warnings);
    Ok(())
}

/// The database in a new life: what was replicated of the old one may be more than is left of it.
fn new_identity(plan: &Plan, facts: &Facts, report: &mut RepairReport) -> Result<Identity> {
    let random = |e| Error::io("draw random bytes for", plan.fs.root(), e);
    let known = match facts.identity {
        Some(identity) => identity,
        None => {
            let file = full_path(plan.fs.as_ref(), &FileName::Identity.path());
            report.losses.push(Loss::Identity { file });
            let fresh = generate_identity(plan.rng.as_ref()).map_err(random)?;
            Identity { database: facts.database, ..fresh }
        }
    };
    identity::new_life(&known, plan.rng.as_ref()).map_err(random)
}

/// Makes the tables of the new state, and notes what is lost.
fn make_tables(
    plan: &Plan,
    facts: &Facts,
    commits: Commits,
    target: &FlushTarget,
    sink: &mut dyn ReplaySink,
    Told { report, progress }: &mut Told<'_>,
    state: &mut State,
) -> Result<()> {
    let fs = plan.fs.as_ref();
    let mut scopes: BTreeSet<ScopeId> = BTreeSet::new();
    let Commits { plan: log, last, losses } = commits;
    let is_cut = !losses.is_empty();
    report.losses.extend(losses);
    let memory = plan.memory_bytes;
    let source = replay::Source { log: &log, manifest: replay::ANY_MANIFEST };
    let mut replay =
        |state: &mut State| replay::replay(fs, &source, state, sink, target, memory, progress);
    let (inventory, database) = (&facts.inventory, facts.database);
    let edit = match &facts.catalog.lost {
        None => {
            progress.expect(state.version.bytes());
            let mut workshop =
                Workshop { fs, database, inventory, target, report, scopes, progress };
            let mended = workshop.mend(state)?;
            scopes = workshop.scopes;
            apply(state, &mended, fs)?;
            let replayed = replay(state)?;
            report.commits_replayed = replayed.commits;
            report.tables_written += replayed.tables;
            Edit::default()
        }
        Some(lost) => {
            // Before the merge: what tables hold may be newer than what the log still has.
            let replayed = replay(state)?;
            report.commits_replayed = replayed.commits;
            let (file, offset) = (lost.file.clone(), lost.offset);
            report.losses.push(Loss::History { file, offset });
            progress.expect(inventory.tables.values().sum());
            let mut workshop =
                Workshop { fs, database, inventory, target, report, scopes, progress };
            let tables = workshop.collect(lost, state)?;
            scopes = workshop.scopes;
            merge_all(state, tables, target, report, fs, database)?
        }
    };
    apply(state, &edit, fs)?;
    note_names(facts, state, report);
    if is_cut || facts.catalog.lost.is_some() {
        scopes.extend(state.keyspaces.values().map(|keyspace| keyspace.scope));
    }
    let newest = state.version.tables().map(|table| table.newest()).max();
    let last = last.max(state.last_tick).max(newest.unwrap_or(Tick::ZERO));
    let incomplete = scopes.into_iter().map(|scope| (scope, last)).collect();
    let horizon = Some(last).filter(|_| !report.losses.is_empty());
    let marks = Edit { last_tick: Some(last), horizon, incomplete, ..Edit::default() };
    apply(state, &marks, fs)
}

/// The edit that makes one run of `tables` and of those that the replay has made.
fn merge_all(
    state: &mut State,
    mut tables: Vec<Arc<Table>>,
    target: &FlushTarget,
    report: &mut RepairReport,
    fs: &dyn Fs,
    database: [u8; 16],
) -> Result<Edit> {
    let cache = Cache::new(CACHE_BYTES);
    for meta in state.version.tables() {
        tables.push(Arc::new(Table::open(fs, meta.clone(), database, cache.clone())?));
    }
    commits::add_keyspaces(state, merge::spaces_of(&tables));
    state.version = Version::default();
    let merged = merge::merge(&tables, target)?;
    report.tables_written += merged.len();
    let added = merged.into_iter().map(|meta| Added { order: 1, level: 0, meta: Arc::new(meta) });
    let next_table = Some(target.upcoming());
    Ok(Edit { added: added.collect(), next_table, ..Edit::default() })
}

/// Notes the keyspaces that had to be given a name.
fn note_names(facts: &Facts, state: &State, report: &mut RepairReport) {
    let known = &facts.catalog.state.keyspaces;
    let new = state.keyspaces.values().filter(|keyspace| !known.contains_key(&keyspace.id));
    report.losses.extend(new.map(|keyspace| Loss::Name { keyspace: keyspace.name.clone() }));
}

fn apply(state: &mut State, edit: &Edit, fs: &dyn Fs) -> Result<()> {
    state.apply(edit).map_err(|_| {
        let path = fs.root().to_path_buf();
        Error::CommitFailed { path, rule: "what was rebuilt fits together" }
    })
}

/// Leaves the repaired database as one that was closed.
fn close(switched: Switched, state: &State) -> Result<()> {
    let Switched { mut manifest, log } = switched;
    let log_end = log.finish()?;
    let (flushed, last_tick) = (Some(state.last_tick), Some(state.last_tick));
    let closed = Some(Closed { log_end });
    let log_end = Some(log_end);
    manifest.append(&Edit { flushed, last_tick, log_end, closed, ..Edit::default() })?;
    manifest.finish()
}
