//! Stage 11: the new state becomes the one that counts.
//!
//! Everything new is durable and read back from the disk before the root is renamed. Up to then a
//! failure removes what was made; from then on there is only forward.

use crate::attempt::Attempt;
use crate::identity::replace_identity;
use crate::inventory::{FOLDERS, Inventory};
use crate::log::LogPlan;
use crate::plan::Plan;
use crate::quarantine::Quarantine;
use crate::report::Report;
use base::dir::TABLES_DIR;
use base::error::Category;
use base::fs::{Fs, full_path};
use base::{Defect, Error, FileName, Identity, Position, RelPath, Result, planted};
use sstable::manifest::{self, Edit, ManifestLog, Root, State, write_root};
use std::path::PathBuf;
use wal::{Appender, HeaderState, SegmentOwner};

/// What counts now.
pub(crate) struct Switched {
    pub(crate) manifest: ManifestLog,
    pub(crate) log: Appender,
}

/// Whether the database goes on as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// In the same incarnation, or in one that is written already.
    Same,
    /// In another one: its identity is written just before the root.
    New,
}

/// What the new state is built from.
pub(crate) struct Before<'a> {
    pub(crate) identity: &'a Identity,
    /// Whether that is another one than before.
    pub(crate) life: Life,
    pub(crate) root: &'a Root,
    pub(crate) inventory: &'a Inventory,
    pub(crate) log: &'a LogPlan,
    /// Where the old manifest was torn.
    pub(crate) torn_manifest: Option<u64>,
}

/// Sets torn tails aside. Comes first: once a newer segment exists, nobody looks for them again.
///
/// A failure keeps nothing from opening: it is a warning, and this open removes no old file of log
/// and manifest.
pub(crate) fn set_aside(
    plan: &Plan,
    before: &Before<'_>,
    attempt: &mut Attempt,
    report: &mut Report,
) {
    let mut quarantine = Quarantine::new(&plan.fs, before.root.next_generation());
    if planted(Defect::SkipQuarantine) {
        return;
    }
    let result = fill(&mut quarantine, before).and_then(|()| quarantine.sync());
    attempt.has_made(&quarantine.files);
    match result {
        Ok(()) => report.quarantined = quarantine.files.iter().map(ToString::to_string).collect(),
        Err(error) => {
            report.quarantine_failed = true;
            report.warnings.push(format!("QuarantineFailed: a torn tail stays in place: {error}"));
        }
    }
}

fn fill(quarantine: &mut Quarantine<'_>, before: &Before<'_>) -> Result<()> {
    if let Some(offset) = before.torn_manifest {
        let number = before.root.manifest;
        let from = FileName::Manifest(number).path();
        quarantine.copy_tail(&from, offset, &format!("manifest-{number}-{offset}"))?;
    }
    let LogPlan::Scanned(scan) = before.log else { return Ok(()) };
    let Some(torn) = &scan.torn else { return Ok(()) };
    let Position { segment, offset } = torn.at;
    let from = FileName::Segment(segment).path();
    quarantine.copy_tail(&from, offset, &format!("wal-{segment}-{offset}"))?;
    for later in &torn.later {
        let from = FileName::Segment(*later).path();
        quarantine.link(&from, &format!("wal-{later}"))?;
    }
    Ok(())
}

/// Creates segment and manifest, and makes them count.
pub(crate) fn switch(
    plan: &Plan,
    before: &Before<'_>,
    state: &mut State,
    attempt: &mut Attempt,
) -> Result<Switched> {
    let fs = plan.fs.as_ref();
    for folder in FOLDERS.map(RelPath::folder) {
        let path = full_path(fs, &folder);
        fs.create_dir(&folder).map_err(|e| Error::io("create", path, e))?;
    }
    sync_tables(fs, before, state)?;
    let log = start_log(plan, before, state, attempt)?;
    let (start, end) = (log.durable().segment, log.durable());
    let edit = Edit { log_start: Some(start), log_end: Some(end), ..Edit::default() };
    state.apply(&edit).map_err(|_| failed(fs.root().into(), "the new state is consistent"))?;
    let manifest = start_manifest(plan, before, state, attempt)?;
    read_back(fs, before, &manifest, state)?;
    if before.life == Life::New {
        replace_identity(fs, before.identity)?;
    }
    attempt.will_commit();
    write_root(fs, manifest.root())?;
    Ok(Switched { manifest, log })
}

/// Makes the names of new tables durable, if there are any.
fn sync_tables(fs: &dyn Fs, before: &Before<'_>, state: &State) -> Result<()> {
    let generation = before.root.next_generation();
    if state.version.tables().all(|table| table.generation != generation) {
        return Ok(());
    }
    let tables = RelPath::folder(TABLES_DIR);
    fs.sync_dir(&tables).map_err(|e| Error::io("sync", full_path(fs, &tables), e))
}

fn start_log(
    plan: &Plan,
    before: &Before<'_>,
    state: &State,
    attempt: &mut Attempt,
) -> Result<Appender> {
    let last = before.inventory.segments.last_key_value().map_or(0, |(number, _)| *number);
    let number = last.max(state.log_end.segment).saturating_add(1).max(state.log_start);
    let owner = SegmentOwner {
        database: before.identity.database,
        origin: before.identity.origin(),
        generation: before.root.next_generation(),
    };
    attempt.will_make(FileName::Segment(number));
    let previous = before.log.end();
    Appender::create(plan.fs.clone(), plan.rng.as_ref(), owner, number, previous, plan.log)
}

fn start_manifest(
    plan: &Plan,
    before: &Before<'_>,
    state: &State,
    attempt: &mut Attempt,
) -> Result<ManifestLog> {
    let last = before.inventory.manifests.last_key_value().map_or(0, |(number, _)| *number);
    let number = last.max(before.root.manifest).saturating_add(1);
    attempt.will_make(FileName::Manifest(number));
    let generation = before.root.next_generation();
    let (fs, rng) = (plan.fs.as_ref(), plan.rng.as_ref());
    ManifestLog::create(fs, rng, before.identity.database, generation, number, state)
}

/// Reads the new files from the disk: they say what they should.
fn read_back(
    fs: &dyn Fs,
    before: &Before<'_>,
    manifest: &ManifestLog,
    state: &State,
) -> Result<()> {
    let database = before.identity.database;
    let segment = read(wal::read_header(fs, state.log_start, database))?;
    if !matches!(segment, Some(HeaderState::Good(_))) {
        let path = full_path(fs, &FileName::Segment(state.log_start).path());
        return Err(failed(path, "the new segment reads back"));
    }
    let replayed = read(manifest::replay(fs, manifest.root()))?;
    if replayed.is_none_or(|replayed| replayed.state != *state) {
        let path = full_path(fs, &FileName::Manifest(manifest.number()).path());
        return Err(failed(path, "the new manifest reads back"));
    }
    Ok(())
}

/// What was read, or none if that is damaged: it is no damage of the database.
fn read<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.category() == Category::Critical => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(path: PathBuf, rule: &'static str) -> Error {
    Error::CommitFailed { path, rule }
}
