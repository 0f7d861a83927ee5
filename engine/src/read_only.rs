//! A database that another process may have open for writing, as of one moment.
//!
//! Nothing is locked and nothing is written. The tables are all opened at once, so that it does not
//! matter when the writer removes them; commits that are only in the log are kept in memory. What
//! changed while it was read is read again.

use crate::damage::Damage;
use crate::install::table_ranges;
use crate::memtable::Memtable;
use crate::open::{Ingredients, Platform, assemble};
use crate::options::{Background, Options};
use crate::parts::Parts;
use crate::range_map::RangeMap;
use crate::replay::Replay;
use crate::tables::{LiveRuns, Tables};
use base::fs::Fs;
use base::{Error, Result, Tick};
use recovery::{Onlooker, ReplaySink, Report, Seen, look};
use sstable::Cache;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Looks at a database that keeps changing.
const LOOKS_MAX: u32 = 200;
/// The same error in a row is not the writer's doing.
const SAME_ERRORS_MAX: u32 = 8;
/// Between two looks: the writer may be in the middle of something.
const PAUSE: Duration = Duration::from_millis(3);

/// Opens what stands in the directory now, for reading.
pub(crate) fn open(platform: Platform, options: Options) -> Result<(Parts, Report)> {
    options.check()?;
    let options = Options { background: Background::Off, reserve_bytes: 0, ..options };
    let (seen, onlooker) = look_until_quiet(&platform, &options)?;
    let report =
        Report { was_closed: seen.was_closed, commits_replayed: seen.commits, ..Report::default() };
    let Some(opened) = onlooker.opened else { return Err(Error::Closed) };
    let mut memtables = onlooker.replay.into_memtables()?;
    if memtables.is_empty() {
        memtables.push(Arc::new(Memtable::new(
            options.memtable_bytes,
            0,
            seen.last_tick,
            seen.identity.origin(),
        )?));
    }
    let ingredients = Ingredients {
        identity: seen.identity,
        generation: seen.generation,
        state: seen.state,
        last_tick: seen.last_tick,
        clock_floor: Tick::ZERO,
        memtables,
        tables: opened.tables,
        runs: opened.runs,
        ranges: opened.ranges,
        writing: None,
    };
    Ok((assemble(ingredients, options, platform)?, report))
}

/// Looks again as long as something has changed, or an error may come from a change.
fn look_until_quiet(platform: &Platform, options: &Options) -> Result<(Seen, View)> {
    // A writer may have one memtable more in its log than it keeps: one that was just flushed.
    let memtables = (Options::MEMTABLES_MAX + 1) * options.memtable_bytes;
    let memory_bytes = memtables.max(options.memory_bytes / 2) as u64;
    let mut last_error = String::new();
    let mut same_errors = 0;
    for _ in 0..LOOKS_MAX {
        let mut view = View {
            fs: platform.fs.clone(),
            cache_bytes: options.cache_bytes(),
            damage: Arc::new(Damage::new(options.on_corruption, Arc::default())),
            opened: None,
            replay: Replay::new(options, platform.clock.wall_ms()),
        };
        match look(platform.fs.as_ref(), memory_bytes, &mut view) {
            Ok(Some(seen)) => return Ok((seen, view)),
            Ok(None) => same_errors = 0,
            Err(error) => {
                let text = error.to_string();
                same_errors = if text == last_error { same_errors + 1 } else { 0 };
                if is_final(&error) || same_errors >= SAME_ERRORS_MAX {
                    return Err(error);
                }
                last_error = text;
            }
        }
        std::thread::sleep(PAUSE);
    }
    let busy = io::Error::new(io::ErrorKind::TimedOut, "it changes faster than it can be read");
    Err(Error::io("read", platform.fs.root(), busy))
}

/// Whether no writer can cause the error.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::NotADatabase { .. }
            | Error::Permission { .. }
            | Error::ResourceShort { .. }
            | Error::FormatUnsupported { .. }
            | Error::KeyUnavailable { .. }
    )
}

/// What one look takes.
struct View {
    fs: Arc<dyn Fs>,
    cache_bytes: usize,
    damage: Arc<Damage>,
    opened: Option<Opened>,
    replay: Replay,
}

struct Opened {
    tables: Arc<Tables>,
    runs: LiveRuns,
    ranges: RangeMap,
}

impl Onlooker for View {
    fn open_tables(&mut self, seen: &Seen) -> Result<()> {
        self.replay.begin(seen.identity.origin());
        let cache = Cache::new(self.cache_bytes);
        let tables = Arc::new(Tables::new(
            self.fs.clone(),
            seen.identity.database,
            cache,
            self.damage.clone(),
        ));
        let runs = LiveRuns::of(&seen.state.version, &tables);
        runs.tables().try_for_each(|handle| handle.table().map(|_| ()))?;
        let ranges = table_ranges(&runs)?;
        self.opened = Some(Opened { tables, runs, ranges });
        Ok(())
    }

    fn insert(&mut self, seqno: Tick, payload: &[u8]) -> Result<()> {
        self.replay.insert(seqno, payload)
    }

    fn memory(&self) -> u64 {
        self.replay.memory()
    }
}
