//! Reading everything again, before someone needs it and finds it damaged.
//!
//! Every byte of every table is read from the disk, past the cache, and verified; then the finished
//! segments of the log and the manifest. In the background at a rate that leaves the disk to others.

use crate::parts::Parts;
use crate::tables::TableHandle;
use crate::workers::Worker;
use base::{Error, FileName, Result};
use sstable::{Cache, Table};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of blocks kept while tables are verified: each block is read once.
const CACHE_BYTES: usize = 1 << 20;
/// Bytes after which a pace is kept.
const STEP_BYTES: u64 = 256 << 10;
/// The longest sleep before a look whether to stop.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// What a scrub has read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Tables looked at; what is wrong with one is among the findings.
    pub tables: u64,
    /// Finished log segments looked at, likewise.
    pub segments: u64,
    /// Bytes read of both.
    pub bytes: u64,
    /// What is damaged or could not be read; empty if all is whole.
    pub findings: Vec<ScrubFinding>,
}

/// A file that is damaged or could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubFinding {
    /// The file.
    pub path: PathBuf,
    /// The byte it is about, if there is one.
    pub offset: Option<u64>,
    /// What is wrong, as a sentence.
    pub what: String,
}

/// How fast a scrub reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// As fast as it can.
    Full,
    /// So many bytes a second.
    BytesPerSecond(u64),
}

/// Reads everything once. Damage is in the report and noted. A file that can not be read is in the
/// report, and trouble until a later pass reads all; the pass goes on with the next file.
pub(crate) fn scrub(
    parts: &Parts,
    speed: Speed,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<ScrubReport> {
    let mut pass =
        Pass { parts, speed, is_cancelled, owed: 0, unread: None, report: ScrubReport::default() };
    let result = pass.run();
    parts.meters.scrub_bytes_total.store(0, Ordering::Relaxed);
    result?;
    let Pass { report, unread, .. } = pass;
    let mut trouble = parts.trouble.lock();
    match unread {
        Some(why) => trouble.insert(Worker::Scrub, why),
        None => trouble.remove(&Worker::Scrub),
    };
    drop(trouble);
    parts.meters.scrubs.fetch_add(1, Ordering::Relaxed);
    parts.meters.scrub_findings.store(report.findings.len() as u64, Ordering::Relaxed);
    if report.findings.is_empty() {
        parts.damage.forget_all();
    }
    Ok(report)
}

struct Pass<'a> {
    parts: &'a Parts,
    speed: Speed,
    is_cancelled: &'a dyn Fn() -> bool,
    /// Bytes read that no sleep has paid for.
    owed: u64,
    /// The first file that could not be read, as a sentence.
    unread: Option<String>,
    report: ScrubReport,
}

impl Pass<'_> {
    fn run(&mut self) -> Result<()> {
        let parts = self.parts;
        let version = parts.installer.version();
        parts.meters.scrub_bytes_done.store(0, Ordering::Relaxed);
        parts.meters.scrub_bytes_total.store(version.bytes(), Ordering::Relaxed);
        let ids: Vec<u64> = version.tables().map(|meta| meta.id).collect();
        for id in ids {
            // Only this one is kept from being removed; one that was merged away needs no look.
            let Some(handle) = live(parts, id) else { continue };
            let verified = self.table(&handle);
            if verified.is_err() && handle.is_retired() {
                continue; // Merged away meanwhile.
            }
            self.judge(verified)?;
            self.report.tables += 1;
        }
        if parts.is_read_only {
            return Ok(()); // Log and manifest are somebody's who writes.
        }
        self.log()?;
        let manifest = parts.installer.verify();
        self.judge(manifest)
    }

    /// Opens the table anew, so that nothing of it is taken from memory, and reads all of it.
    fn table(&mut self, handle: &TableHandle) -> Result<()> {
        let (parts, cache) = (self.parts, Cache::new(CACHE_BYTES));
        let database = parts.identity().database;
        let table = Table::open(parts.fs.as_ref(), handle.meta().clone(), database, cache)?;
        let blocks = table.verify_paced(&mut |bytes| self.pace(bytes));
        blocks.map(|_| ())
    }

    /// The finished segments, up to where each ended.
    fn log(&mut self) -> Result<()> {
        let parts = self.parts;
        let spans = parts.commits.with_queue(|queue| queue.appender().map(|log| log.segments()))?;
        let Some((_, finished)) = spans.split_last() else { return Ok(()) };
        for span in finished {
            let verified = self.segment(span.number, span.end);
            let is_kept = || {
                parts.commits.with_queue(|queue| {
                    let spans = queue.appender().map(|log| log.segments()).unwrap_or_default();
                    spans.iter().any(|kept| kept.number == span.number)
                })
            };
            if verified.is_err() && !is_kept() {
                continue; // Released meanwhile.
            }
            self.judge(verified)?;
            self.report.segments += 1;
        }
        Ok(())
    }

    fn segment(&mut self, number: u64, end: u64) -> Result<()> {
        let parts = self.parts;
        let fs = parts.fs.as_ref();
        let mut reader = wal::read_segment(fs, number, parts.identity().database, None)?;
        let mut at = 0;
        while let Some(commit) = reader.next()? {
            let here = commit.end.offset;
            self.pace(here.saturating_sub(at))?;
            at = here;
        }
        let ending = reader.ending();
        if ending.end.end == end {
            return Ok(());
        }
        let path = base::fs::full_path(fs, &FileName::Segment(number).path());
        let found = ending.found.unwrap_or(base::Corruption::MissingPromised);
        Err(Error::corrupt(base::error::FileKind::Log, path, ending.end.end, found))
    }

    /// Takes what is wrong with one file into the report; passes on what ends the pass.
    fn judge(&mut self, verified: Result<()>) -> Result<()> {
        let Err(error) = verified else { return Ok(()) };
        match &error {
            Error::Cancelled | Error::Closed | Error::Poisoned => return Err(error),
            Error::Corrupt { .. } | Error::Missing { .. } => self.parts.damage.note(&error),
            error => {
                tracing::warn!(target: "esker::engine", code = error.code(), %error, "a scrub could not read a file");
                self.unread
                    .get_or_insert_with(|| format!("a scrub could not read a file: {error}"));
            }
        }
        self.report.findings.push(ScrubFinding {
            path: error.path().unwrap_or(self.parts.fs.root()).to_path_buf(),
            offset: error.offset(),
            what: error.to_string(),
        });
        Ok(())
    }

    /// Counts bytes, and sleeps for them if a speed is set.
    fn pace(&mut self, bytes: u64) -> Result<()> {
        self.report.bytes += bytes;
        self.parts.meters.scrub_bytes_done.store(self.report.bytes, Ordering::Relaxed);
        self.owed += bytes;
        if self.owed < STEP_BYTES {
            return Ok(());
        }
        let owed = std::mem::take(&mut self.owed);
        let mut left = match self.speed {
            Speed::Full => Duration::ZERO,
            Speed::BytesPerSecond(rate) => Duration::from_secs_f64(owed as f64 / rate as f64),
        };
        loop {
            if (self.is_cancelled)() {
                return Err(Error::Cancelled);
            }
            if left.is_zero() {
                return Ok(());
            }
            let nap = left.min(SLEEP_MAX);
            std::thread::sleep(nap);
            left -= nap;
        }
    }
}

/// The table `id`, if it is still in use.
pub(crate) fn live(parts: &Parts, id: u64) -> Option<Arc<TableHandle>> {
    let view = parts.views.current();
    view.runs.tables().find(|handle| handle.meta().id == id).cloned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Background, Db, KeyspaceOptions, Options, Platform};
    use base::clock::ManualClock;
    use base::fs::{Fault, FaultPlan, SimFs, SimOp};
    use base::rng::SeededRng;
    use std::cell::Cell;

    #[test]
    fn what_is_wrong_with_a_table_that_was_merged_away_meanwhile_is_no_finding() {
        let fs = SimFs::new(1);
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let rng = Arc::new(SeededRng::new(1));
        let platform = Platform { fs: Arc::new(fs.clone()), clock, rng };
        let options = Options { background: Background::Off, ..Options::default() };
        let db = Db::open_on(platform, options).unwrap();
        let k = db.keyspace("k", KeyspaceOptions::default()).unwrap();
        for round in 0..2u8 {
            for number in 0..4000u32 {
                k.put(number.to_be_bytes(), [round; 200]).unwrap();
            }
            db.flush().unwrap();
        }
        let is_merged = Cell::new(false);
        let merge_once = || {
            if !is_merged.replace(true) {
                let names = fs.files().into_iter().map(|path| path.as_str().to_owned());
                let tables: Vec<String> = names.filter(|name| name.ends_with(".sst")).collect();
                db.compact_all().unwrap();
                let fault = Fault::BitFlip(5);
                tables.iter().for_each(|table| {
                    fs.inject(FaultPlan::new(SimOp::Read, fault).on(table).sticky());
                });
            }
            false
        };
        let report = scrub(db.parts(), Speed::Full, &merge_once).unwrap();
        assert!(is_merged.get() && !fs.struck().is_empty());
        assert!(report.findings.is_empty(), "{report:?}");
        assert!(!db.parts().damage.is_known());
    }
}
