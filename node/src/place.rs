//! Where the data of a command is: in a directory, or behind the URL of a running node.
//!
//! Commands ask a [`Place`] and print what it says, so their output and exit codes do not depend on
//! which one it is. The node itself answers from the same [`Directory`] that a command with `--path`
//! opens.

mod conditional;
mod directory;
mod numbers;
mod remote;
mod walk;

pub(crate) use self::conditional::{Change, Condition, Operation, no_such_key, not_as_wanted};
pub(crate) use self::directory::Directory;
pub(crate) use self::remote::Remote;
pub(crate) use self::walk::{Direction, Entry, KeyRange, Part, Selection, Walk, Which};

use crate::args::{Durability, PlaceArgs};
use crate::error::{Failure, Outcome};
use crate::output::Output;
use crate::progress::watch;
use crate::record::Record;
use engine::{Create, Progress};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// A database that a command works on.
pub(crate) trait Place {
    /// The value of `key`, if it has one.
    fn get(&self, keyspace: &str, key: &[u8]) -> Outcome<Option<Vec<u8>>>;

    /// Sets the value of `key`. Returns the commit's seqno.
    fn put(&self, keyspace: &str, key: &[u8], value: &[u8]) -> Outcome<u64>;

    /// Deletes `key`. Returns the commit's seqno; none if nothing was ever stored there.
    fn delete(&self, keyspace: &str, key: &[u8]) -> Outcome<Option<u64>>;

    /// The selected records in order, as of one moment.
    fn walk(&self, selection: &Selection) -> Outcome<Box<dyn Entries>>;

    /// The digest of one keyspace or of all. `watch` hears of every record that is read here, and
    /// may end it.
    fn digest(
        &self,
        keyspace: Option<&str>,
        watch: &mut dyn FnMut() -> Outcome,
    ) -> Outcome<DigestLine>;

    /// Counts each keyspace, by name. `watch` as above.
    fn keyspaces(&self, watch: &mut dyn FnMut() -> Outcome) -> Outcome<Vec<KeyspaceLine>>;

    /// Writes everything in memory to tables.
    fn flush(&self) -> Outcome;

    /// Merges tables until nothing superfluous is left; `keyspace` must exist if it is named. A
    /// directory tells `progress` how far it is.
    fn compact(&self, keyspace: Option<&str>, progress: &Progress) -> Outcome;

    /// The numbers of this moment by name.
    fn stats(&self) -> Outcome<Map<String, Value>>;

    /// Somewhere to store batches whose records name no keyspace in `keyspace`.
    fn sink(&self, keyspace: &str, durability: Durability) -> Outcome<Box<dyn Sink>>;

    /// Ends the work. A directory tells whether it could be closed.
    fn close(self: Box<Self>) -> Outcome;
}

/// Records one after the other.
pub(crate) trait Entries {
    /// The next record; `None` at the end. After an error it is spent.
    fn next(&mut self) -> Outcome<Option<Entry<'_>>>;
}

/// Takes records and commits them in batches.
pub(crate) trait Sink {
    /// Adds `record` to the batch.
    fn add(&mut self, record: &Record) -> Outcome;

    /// Commits the batch: all of it or nothing.
    fn commit(&mut self) -> Outcome;
}

/// The digest of content, as programs read it.
#[derive(Deserialize, Serialize)]
pub(crate) struct DigestLine {
    /// Blake3 in hexadecimal.
    pub(crate) digest: String,
    /// Records in it.
    pub(crate) records: u64,
    /// Bytes of their keys and values.
    pub(crate) bytes: u64,
}

/// A keyspace and what is in it, as programs read it.
#[derive(Deserialize, Serialize)]
pub(crate) struct KeyspaceLine {
    /// Its name.
    pub(crate) keyspace: String,
    /// Its records.
    pub(crate) records: u64,
    /// Bytes of their keys and values.
    pub(crate) bytes: u64,
}

/// Opens the place that `args` name; a directory is created if `create` says so.
pub(crate) fn open(args: &PlaceArgs, create: Create) -> Outcome<Box<dyn Place>> {
    open_with(args, create, Durability::Sync)
}

/// As [`open`], of what is there; how far a directory's recovery is is shown meanwhile.
pub(crate) fn open_watched(args: &PlaceArgs, output: &Output) -> Outcome<Box<dyn Place>> {
    let Some(path) = args.path.as_deref().filter(|_| args.url.is_none()) else {
        return open(args, Create::Never);
    };
    let progress = Progress::default();
    let opened = watch(output, "opening", &progress, || {
        Directory::open_watched(path, Create::Never, Durability::Sync, &progress)
    });
    Ok(Box::new(opened?))
}

/// As [`open`], with when the directory acknowledges commits.
pub(crate) fn open_with(
    args: &PlaceArgs,
    create: Create,
    durability: Durability,
) -> Outcome<Box<dyn Place>> {
    match (&args.url, &args.path) {
        (Some(url), _) => Ok(Box::new(Remote::new(url)?)),
        (None, Some(path)) => Ok(Box::new(Directory::open(path, create, durability)?)),
        (None, None) => Err(Failure::input("neither --path nor --url is given")),
    }
}

/// How messages name the place.
pub(crate) fn name(args: &PlaceArgs) -> &Path {
    args.path.as_deref().or(args.url.as_deref().map(Path::new)).unwrap_or(Path::new(""))
}
