//! A look at a database that another process may be writing: takes no lock and changes nothing.
//!
//! What is read while it changes may not fit together. So the manifest is read before and after
//! everything else: if it is the same, no file that it names was let go in between, and tables and
//! log are one moment's state. Otherwise, and after any error that a change may have caused, the caller
//! looks again.

use crate::claim::{self, permit};
use crate::inventory::Inventory;
use crate::log::{self, LogPlan};
use crate::plan::{Create, Verify};
use crate::replay::{Checker, Content, Segments};
use crate::{identity, keys, root};
use base::error::Resource;
use base::fs::Fs;
use base::{Error, Identity, Position, Result, Tick};
use sstable::manifest::{self, Edit, Root, State};

/// What a look has found.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who the database is.
    pub identity: Identity,
    /// Counts the opens.
    pub generation: u64,
    /// The tables, keyspaces and numbers.
    pub state: State,
    /// The last commit.
    pub last_tick: Tick,
    /// Whether it was closed, so that the log has nothing to add.
    pub was_closed: bool,
    /// Commits that are only in the log.
    pub commits: u64,
}

/// Takes what a look finds.
pub trait Onlooker {
    /// Opens the tables of the state, all of them: they may be removed soon.
    fn open_tables(&mut self, seen: &Seen) -> Result<()>;
    /// Takes a commit that is only in the log, checked, in the order of seqnos.
    fn insert(&mut self, seqno: Tick, payload: &[u8]) -> Result<()>;
    /// Bytes of memory that the commits take.
    fn memory(&self) -> u64;
}

/// Looks at the database in `fs` once. `None` if it has changed meanwhile: what `onlooker` took is then
/// worthless.
///
/// # Errors
/// `ResourceShort` if the commits of the log need more than `memory_bytes`. Any other error may come from
/// a change, too, as long as there is someone who writes.
pub fn look(fs: &dyn Fs, memory_bytes: u64, onlooker: &mut dyn Onlooker) -> Result<Option<Seen>> {
    permit(fs, Create::Never, claim::look(fs)?)?;
    let file = identity::read(fs)?;
    keys::check(fs, &file)?;
    let database = file.identity.database;
    let inventory = Inventory::take(fs).map_err(|e| Error::io("list", fs.root(), e))??;
    let root = root::choose(fs, database, &inventory)?.root;
    let before = manifest::replay(fs, &root)?;
    let mut seen = Seen {
        identity: file.identity,
        generation: root.generation,
        last_tick: newest(&before.state),
        state: before.state,
        was_closed: true,
        commits: 0,
    };
    onlooker.open_tables(&seen)?;
    let level = Verify::Quick;
    let plan = log::validate(fs, database, root.generation, &seen.state, &inventory, level)?;
    if let LogPlan::Scanned(scan) = plan {
        let flushed = seen.state.flushed;
        let state = seen.state.clone();
        let manifest = Position { segment: root.manifest, offset: before.end };
        let mut checker = Checker::new(&state, manifest);
        let authors = Segments::of(&scan);
        scan.replay(fs, |seqno, end, payload| {
            if seqno <= flushed {
                return Ok(());
            }
            if checker.check(fs, authors.author_of(end), seqno, end, payload)? == Content::Nothing {
                return Ok(());
            }
            onlooker.insert(seqno, payload)?;
            seen.commits += 1;
            refuse_beyond(memory_bytes, onlooker.memory(), scan.bytes)
        })?;
        let vectors = Edit { vectors: checker.vectors(), ..Edit::default() };
        seen.state.apply(&vectors).map_err(|_| Error::Closed)?;
        seen.last_tick = seen.last_tick.max(scan.last_seqno);
        seen.was_closed = false;
    }
    let is_same = still(fs, &root, before.end)?;
    Ok(is_same.then_some(seen))
}

/// Whether the manifest of `root` still counts and still ends at `end`.
fn still(fs: &dyn Fs, root: &Root, end: u64) -> Result<bool> {
    Ok(manifest::read_root(fs)?.root == *root && manifest::replay(fs, root)?.end == end)
}

fn newest(state: &State) -> Tick {
    let tables = state.version.tables().map(|table| table.newest());
    tables.fold(state.last_tick.max(state.flushed), Tick::max)
}

fn refuse_beyond(memory_bytes: u64, used: u64, log_bytes: u64) -> Result<()> {
    if used <= memory_bytes {
        return Ok(());
    }
    let need = log_bytes.saturating_add(log_bytes / 2).max(used);
    Err(Error::ResourceShort { what: Resource::Memory, need, have: memory_bytes })
}
