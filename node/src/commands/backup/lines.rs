//! What the commands about backups print.

use crate::output::human_bytes;
use base::Moment;
use engine::{BackupInfo, BackupKind, NewWrites, Pruned, Restored, Verified};
use serde::Serialize;
use std::fmt;

/// A backup.
#[derive(Serialize)]
pub(super) struct BackupLine {
    #[serde(rename = "backup")]
    pub(super) number: u64,
    pub(super) kind: &'static str,
    parent: Option<u64>,
    made: String,
    made_ms: u64,
    pub(super) covered: String,
    covered_ms: u64,
    /// The moments that can be restored from here on.
    restores_from: Option<String>,
    restores_from_ms: Option<u64>,
    restores_until: Option<String>,
    restores_until_ms: Option<u64>,
    incarnation: String,
    pub(super) tables: u64,
    pub(super) table_bytes: u64,
    pub(super) copied_bytes: u64,
    segments: u64,
    segment_bytes: u64,
}

impl BackupLine {
    pub(super) fn of(info: &BackupInfo) -> BackupLine {
        let moment = |ms| Moment { ms }.to_string();
        let (from_ms, until_ms) =
            (info.span.map(|span| span.from_ms), info.span.map(|span| span.until_ms));
        BackupLine {
            number: info.number,
            kind: match info.kind {
                BackupKind::Full => "full",
                BackupKind::Incremental => "incremental",
                BackupKind::Log => "log",
            },
            parent: Some(info.parent).filter(|parent| *parent != 0),
            made: info.made.to_string(),
            made_ms: info.made.ms,
            covered: info.covered.to_string(),
            covered_ms: info.covered.ms,
            restores_from: from_ms.map(moment),
            restores_from_ms: from_ms,
            restores_until: until_ms.map(moment),
            restores_until_ms: until_ms,
            incarnation: info.incarnation.clone(),
            tables: info.tables,
            table_bytes: info.table_bytes,
            copied_bytes: info.copied_bytes,
            segments: info.segments,
            segment_bytes: info.segment_bytes,
        }
    }
}

impl fmt::Display for BackupLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\tmade {}\t", self.number, self.kind, self.made)?;
        match (&self.restores_from, &self.restores_until) {
            (Some(from), Some(until)) => write!(f, "restores {from} to {until}\t")?,
            _ => write!(f, "restores nothing by itself\t")?,
        }
        let (tables, bytes) = (self.tables, human_bytes(self.table_bytes));
        let (segments, log) = (self.segments, human_bytes(self.segment_bytes));
        write!(f, "{tables} tables {bytes}\t{segments} segments {log}")
    }
}

/// What a verification found.
#[derive(Serialize)]
pub(super) struct VerifiedLine {
    backups: u64,
    files: u64,
    bytes: u64,
    findings: usize,
}

impl VerifiedLine {
    pub(super) fn of(verified: &Verified) -> VerifiedLine {
        let Verified { backups, files, bytes, .. } = *verified;
        VerifiedLine { backups, files, bytes, findings: verified.findings.len() }
    }
}

impl fmt::Display for VerifiedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = human_bytes(self.bytes);
        let VerifiedLine { backups, files, findings, .. } = self;
        write!(f, "verified {backups} backups, {files} files, {bytes}: {findings} findings")
    }
}

/// What pruning removed.
#[derive(Serialize)]
pub(super) struct PrunedLine {
    removed: Vec<u64>,
    files: u64,
}

impl PrunedLine {
    pub(super) fn of(Pruned { backups: removed, files }: Pruned) -> PrunedLine {
        PrunedLine { removed, files }
    }
}

impl fmt::Display for PrunedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "removed {} backups, {} files", self.removed.len(), self.files)
    }
}

/// What a restore made.
#[derive(Serialize)]
pub(in crate::commands) struct RestoredLine {
    backup: u64,
    tick: u64,
    moment: String,
    moment_ms: u64,
    commits_replayed: u64,
    table_bytes: u64,
    node: String,
    incarnation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_writes: Option<NewWritesLine>,
}

/// What was written anew.
#[derive(Serialize)]
pub(in crate::commands) struct NewWritesLine {
    keyspaces: u64,
    entries: u64,
    bytes: u64,
    commits: u64,
    /// What is written later than this stays.
    last: String,
    last_ms: u64,
}

impl NewWritesLine {
    pub(in crate::commands) fn of(written: &NewWrites) -> NewWritesLine {
        let NewWrites { keyspaces, entries, bytes, commits, last, .. } = *written;
        let last_ms = last.ms();
        let last = Moment { ms: last_ms }.to_string();
        NewWritesLine { keyspaces, entries, bytes, commits, last, last_ms }
    }
}

impl fmt::Display for NewWritesLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NewWritesLine { keyspaces, entries, commits, last, .. } = self;
        write!(
            f,
            "; {entries} entries of {keyspaces} keyspaces are new writes of {last}, in {commits} commits"
        )
    }
}

impl RestoredLine {
    pub(in crate::commands) fn of(restored: &Restored) -> RestoredLine {
        RestoredLine {
            backup: restored.backup,
            tick: restored.tick.raw(),
            moment: restored.moment.to_string(),
            moment_ms: restored.moment.ms,
            commits_replayed: restored.commits_replayed,
            table_bytes: restored.table_bytes,
            node: restored.identity.node.to_string(),
            incarnation: restored.identity.incarnation.to_string(),
            new_writes: None,
        }
    }

    pub(in crate::commands) fn with(self, written: NewWritesLine) -> RestoredLine {
        RestoredLine { new_writes: Some(written), ..self }
    }
}

impl fmt::Display for RestoredLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RestoredLine { backup, moment, commits_replayed, .. } = self;
        write!(
            f,
            "restored {moment} from backup {backup} and {commits_replayed} commits of the log"
        )?;
        self.new_writes.as_ref().map_or(Ok(()), |written| written.fmt(f))
    }
}
