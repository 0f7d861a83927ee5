//! Rebuilding a damaged database: recovery does it, with memtables of this crate for the commits that
//! are only in the log.

use crate::open::Platform;
use crate::options::Options;
use crate::replay::Replay;
use base::fs::Fs;
use base::{Error, RelPath, Result};
use recovery::{Create, Plan, Progress, RepairReport, Verify};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Copies beside one database at most.
const COPIES_MAX: u32 = 10_000;

/// How a database is repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Where the directory is copied to first: missing or empty. None means beside it, as
    /// `<directory>.before-repair-<number>`.
    pub copy_to: Option<PathBuf>,
}

/// Repairs the closed database in the directory `path`, after copying all of it. What verifies is
/// kept, the rest is in the report: files, places, ranges of keys, commits. The database has a new
/// incarnation afterwards. If nothing is wrong, nothing is changed, not even copied.
///
/// Of the log, commits are taken up to the first damage; later ones are counted and not applied. In
/// a lost range of keys an earlier value may show, also one that was deleted.
///
/// # Errors
/// `NotADatabase` if nothing in it verifies; `AlreadyExists` if the copy's place is taken;
/// `ResourceShort` if the copy does not fit. The database is then as damaged as it was.
pub fn repair(path: impl AsRef<Path>, options: &RepairOptions) -> Result<RepairReport> {
    repair_on(Platform::at(path), options)
}

/// As [`repair`], on a given disk and clock.
pub fn repair_on(platform: Platform, options: &RepairOptions) -> Result<RepairReport> {
    repair_with_progress(platform, options, &Progress::default())
}

/// As [`repair_on`]; meanwhile other threads may ask `progress` how far the part of the work is that
/// goes on, or cancel it. A cancelled repair ends with `Cancelled`: the database is as damaged as it
/// was, and what was made of the copy stays.
pub fn repair_with_progress(
    platform: Platform,
    options: &RepairOptions,
    progress: &Progress,
) -> Result<RepairReport> {
    let Platform { fs, clock, rng } = platform;
    let copy_to = match &options.copy_to {
        Some(path) => fs.at(path),
        None => free_place(fs.as_ref())?,
    };
    let defaults = Options::default();
    let mut replay = Replay::new(&defaults, clock.wall_ms());
    let plan = Plan {
        fs,
        clock,
        rng,
        create: Create::Never,
        verify: Verify::Paranoid,
        memory_bytes: defaults.memtable_bytes as u64 * 2,
        log: wal::LogOptions { segment_bytes: defaults.segment_bytes },
        archive_bytes: 0,
    };
    recovery::repair(&plan, copy_to.as_ref(), &mut replay, progress)
}

/// A directory beside the database that does not exist yet.
fn free_place(fs: &dyn Fs) -> Result<Arc<dyn Fs>> {
    for number in 1..=COPIES_MAX {
        let mut name = OsString::from(fs.root());
        name.push(format!(".before-repair-{number}"));
        let place = fs.at(Path::new(&name));
        match place.list(&RelPath::root()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(place),
            Err(error) => return Err(Error::io("list", place.root(), error)),
        }
    }
    Err(Error::AlreadyExists { path: fs.root().to_path_buf() })
}
