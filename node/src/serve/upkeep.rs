//! Work on the database that operators ask for: checkpoints, backups, scrubs.
//!
//! ```text
//! POST  /v1/checkpoint   {"name":..} below `checkpoint.to`
//! POST  /v1/backup       kind=full | incremental, into `backup.to`
//! GET   /v1/backups      what is there, damaged ones told apart
//! POST  /v1/scrub        reads and verifies everything
//! ```
//!
//! Requests name no paths: where a node writes is for its configuration to say. How a backup is tried again, and
//! left alone when it fails again and again, is in `backups`.

use super::admin::body_of;
use super::disk::on_disk;
use super::ending::Interest;
use super::node::Node;
use super::query::Query;
use super::refusal::Refusal;
use super::routes::json;
use crate::error::{Exit, Failure, Outcome};
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{Response, Uri};
use base::panics;
use engine::{BackupInfo, BackupKind, BackupOptions, Backups, Error, Progress, ScrubFinding};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Bytes of the name of a checkpoint at most.
const NAME_LEN_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointBody {
    name: String,
}

/// Makes a database of its own that holds everything committed so far.
pub(super) async fn checkpoint(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let CheckpointBody { name } = body_of(&node, request, "{\"name\":\"before-upgrade\"}").await?;
    let folder = configured(&node, "checkpoint.to")?;
    let parts = Path::new(&name).components().collect::<Vec<_>>();
    let is_one = matches!(parts.as_slice(), [Component::Normal(only)] if *only == name.as_str());
    let is_plain = is_one && !name.starts_with('.') && name.len() <= NAME_LEN_MAX;
    if !is_plain {
        return Err(Failure::input("a checkpoint has a plain name, without slashes").into());
    }
    let turn = node.shares().load().await?;
    let path = folder.join(&name);
    let target = path.clone();
    let making =
        node.holding(turn, move |node| on_disk(node, || node.directory().db().checkpoint(&target)));
    let seqno = making.await?;
    Ok(json(&json!({ "path": path.display().to_string(), "seqno": seqno.raw() })))
}

/// Makes a backup.
pub(super) async fn backup(
    State(node): State<Arc<Node>>,
    uri: Uri,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    if !body.is_end_stream() {
        let message = "a body, where the kind of a backup is a parameter: /v1/backup?kind=full";
        return Err(Failure::input(message).into());
    }
    let kind = match Query::of(&uri, &["kind"])?.text("kind")?.as_deref() {
        None | Some("incremental") => BackupKind::Incremental,
        Some("full") => BackupKind::Full,
        Some(_) => {
            return Err(Failure::input("the parameter `kind` is full or incremental").into());
        }
    };
    let store = configured(&node, "backup.to")?;
    let turn = node.shares().load().await?;
    let progress = Arc::new(Progress::default());
    let _wanted = Wanted(progress.clone());
    let bytes_per_second = node.number("backup.bytes_per_second");
    let options = BackupOptions { kind, bytes_per_second, progress };
    let info = node.holding(turn, move |node| {
        // A thread that only copies has left nothing half-done that anybody else would meet.
        let db = node.directory().db();
        let made = panics::catch(|| node.backups().asked(db, &store, &options));
        made.unwrap_or_else(|caught| {
            Err(Failure::new(Exit::Bug, "Bug", format!("the thread of a backup {caught}")))
        })
    });
    Ok(json(&line_of(&info.await?)))
}

/// The backups that are there, oldest first, and why others can not be read.
pub(super) async fn backups(State(node): State<Arc<Node>>) -> Result<Response<Body>, Refusal> {
    let store = configured(&node, "backup.to")?;
    let listing = node.blocking(move |_| {
        let opened = Backups::open(&store).map_err(|error| match error {
            // The first backup makes the directory.
            Error::Missing { .. } => none_yet(&store),
            error => error.into(),
        });
        Ok(opened?.list()?)
    });
    let listing = listing.await?;
    let backups: Vec<Value> = listing.backups.iter().map(line_of).collect();
    let damaged: Vec<Failure> =
        listing.damaged.into_iter().map(|(_, error)| error.into()).collect();
    Ok(json(&json!({ "backups": backups, "damaged": damaged })))
}

fn none_yet(store: &Path) -> Failure {
    let message = "no backup was made there yet, or the disk of the backups is away";
    Failure::new(Exit::NotFound, "NoBackups", message)
        .at(store)
        .action("see whether the directory should be there, then make a backup")
}

fn line_of(info: &BackupInfo) -> Value {
    json!({
        "number": info.number,
        "kind": name_of(info.kind),
        "parent": info.parent,
        "madeMs": info.made.ms,
        "tables": info.tables,
        "tableBytes": info.table_bytes,
        "segments": info.segments,
        "segmentBytes": info.segment_bytes,
    })
}

/// Reads and verifies everything, as long as somebody waits for it.
pub(super) async fn scrub(
    State(node): State<Arc<Node>>,
    uri: Uri,
) -> Result<Response<Body>, Refusal> {
    Query::of(&uri, &[])?;
    let turn = node.shares().load().await?;
    let (_interest, lost) = Interest::new();
    let ending = node.ending();
    let report = node.holding(turn, move |node| {
        let is_over = || lost.check().and_then(|()| ending.check()).is_err();
        on_disk(node, || node.directory().db().scrub_until(&is_over))
    });
    let report = report.await?;
    let finding = |finding: &ScrubFinding| {
        let path = finding.path.display().to_string();
        json!({ "path": path, "offset": finding.offset, "what": finding.what })
    };
    Ok(json(&json!({
        "tables": report.tables,
        "segments": report.segments,
        "bytes": report.bytes,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })))
}

/// Calls a backup off when nobody waits for it any more.
struct Wanted(Arc<Progress>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn name_of(kind: BackupKind) -> &'static str {
    match kind {
        BackupKind::Full => "full",
        BackupKind::Incremental => "incremental",
        BackupKind::Log => "log",
    }
}

/// The directory that the setting `key` names.
fn configured(node: &Node, key: &str) -> Outcome<PathBuf> {
    node.path(key).ok_or_else(|| {
        let message = format!("the configuration of the node names no directory `{key}`");
        Failure::new(Exit::Input, "NotConfigured", message).action(
            "set it, then start the node again; it takes over `backup.to` by `esker node reload`",
        )
    })
}
