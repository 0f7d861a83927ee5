//! What the protocol sees of a database: all it may ask and all it may change.
//!
//! Calls may wait for the disk; the protocol itself never waits. Everything here is about one node's
//! copy: a vector that covers a write means that the write was here, or was superseded here.

use base::state::StateEntry;
use base::{Error, KeyRanges, Origin, Result, ScopeId, Stamp, Tick, Vector};

/// A database, as replication needs it. Shared by all sessions of a node.
pub trait Store: Send + Sync {
    /// Who writes here: node and incarnation.
    fn origin(&self) -> Origin;

    /// The wall clock, in milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;

    /// What is admitted here, this node's own writes included.
    fn applied(&self, scope: ScopeId) -> Vector;

    /// As [`Store::applied`], and what was written but is not visible yet, because something before
    /// it is not: peers may have it already.
    fn written(&self, scope: ScopeId) -> Vector;

    /// As [`Store::applied`], of that what survives a power loss: only this may be confirmed.
    fn durable(&self, scope: ScopeId) -> Vector;

    /// How many commits this node has made in the scope since the database was opened; a few more may
    /// be counted.
    fn commits(&self, scope: ScopeId) -> u64;

    /// Starts a new life as an author, so that no stamp is used twice: later writes have a new
    /// incarnation, and what the old one wrote counts as that of any other author.
    fn renew(&self) -> Result<Origin>;

    /// Says whether this node may answer late writes by commits of its own. One that may not takes
    /// nothing that holds any, until an author has answered them.
    fn set_answers(&self, scope: ScopeId, answers: Answers) -> Result<()>;

    /// Refuses writes of users, and shipments with [`Admission::Closed`], until [`Store::reopen`]:
    /// what is here stays as it is. Nothing of this survives the process.
    fn close(&self, scope: ScopeId) -> Result<()>;

    /// Takes writes again.
    fn reopen(&self, scope: ScopeId) -> Result<()>;

    /// Lets everything applied become durable soon; the bell rings when it is.
    fn request_sync(&self);

    /// What every author has confirmed: tombstones up to it may be gone. Only rises.
    fn floor(&self, scope: ScopeId) -> Vector;

    /// Raises the floor, durably, before any tombstone is dropped for it.
    fn raise_floor(&self, scope: ScopeId, floor: &Vector) -> Result<()>;

    /// The highest tick of any tombstone ever dropped here.
    fn dropped(&self, scope: ScopeId) -> Tick;

    /// Whether absences here count: not while content is lost or a bootstrap is unfinished.
    fn is_whole(&self, scope: ScopeId) -> bool;

    /// How far what a peer brings may be ahead of the wall clock.
    fn max_drift_ms(&self) -> u64 {
        10_000
    }

    /// The ranges of keys outside of which nothing is missing; none if anything may be.
    fn missing(&self, _scope: ScopeId) -> Result<Option<KeyRanges>> {
        Ok(None)
    }

    /// Whether nothing was ever stored in the scope, so that it may be bootstrapped.
    fn is_empty(&self, scope: ScopeId) -> Result<bool>;

    /// The log behind `after`: T0 and T1.
    ///
    /// # Errors
    /// `HistoryGone` if the log no longer reaches back that far: then a delta is needed.
    fn tail(&self, scope: ScopeId, after: &Vector) -> Result<Box<dyn Tail>>;

    /// Whether what `after` lacks is so much that a delta gives it faster than the log.
    fn prefers_delta(&self, _scope: ScopeId, _after: &Vector) -> Result<bool> {
        Ok(false)
    }

    /// Takes over what a shipment holds that is new here: one commit, visible as a whole.
    ///
    /// # Errors
    /// `InvalidInput` or `TooLarge` if it is no shipment of this scope; `Poisoned`, `DiskFull`, ...
    fn admit(&self, shipment: &[u8]) -> Result<Admission>;

    /// As [`Store::admit`], of shipments in their order: of each what became of it, up to the first that
    /// was neither known nor taken.
    fn admit_all(&self, shipments: &[&[u8]]) -> Result<Vec<Admission>> {
        let mut admitted = Vec::with_capacity(shipments.len());
        for shipment in shipments {
            let admission = self.admit(shipment)?;
            let goes_on = matches!(admission, Admission::Known | Admission::Taken { .. });
            admitted.push(admission);
            if !goes_on {
                break;
            }
        }
        Ok(admitted)
    }

    /// The entries that `after` does not cover, as of now: T2. With an empty vector all there are: T3.
    /// What it holds is durable here.
    fn delta(&self, scope: ScopeId, after: &Vector) -> Result<Box<dyn Delta>>;

    /// As [`Store::delta`], and all entries of keys in `missing`. More does no harm.
    fn delta_besides(
        &self,
        scope: ScopeId,
        _after: &Vector,
        _missing: &KeyRanges,
    ) -> Result<Box<dyn Delta>> {
        self.delta(scope, &Vector::default())
    }

    /// Takes in what [`Store::delta_besides`] of another gives for `missing`: there as for a
    /// [`Purpose::Rejoin`], elsewhere as for a [`Purpose::CatchUp`]. Only where [`Store::missing`] says
    /// what is.
    ///
    /// # Errors
    /// `InvalidInput` if the giver has not received all that was received here.
    fn stage_besides(
        &self,
        _scope: ScopeId,
        _head: &DeltaHead,
        _missing: &KeyRanges,
    ) -> Result<Box<dyn Stage>> {
        Err(Error::invalid("what is missing here is not known"))
    }

    /// Takes a delta in. Nothing of it counts before it is installed. For [`Purpose::Mend`] and
    /// [`Purpose::Disown`] the head is the default one.
    fn stage(&self, scope: ScopeId, head: &DeltaHead, purpose: Purpose) -> Result<Box<dyn Stage>>;

    /// The tables of a scope as they are now, for an empty node; `None` if it must be a delta.
    fn export(&self, scope: ScopeId) -> Result<Option<Box<dyn Export>>>;

    /// Takes exported tables in. What an earlier import of the same tables had received is kept.
    fn import(&self, scope: ScopeId, head: &ExportHead) -> Result<Box<dyn Import>>;

    /// Room outside of memory, for payloads on their way.
    fn spool(&self) -> Result<Box<dyn Spool>>;

    /// What is newest of each key as of now, for a comparison with a peer.
    fn elements(&self, scope: ScopeId) -> Result<Box<dyn Moment>>;

    /// The value of `key` in a keyspace, if there is one.
    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Calls `each` with key, value and stamp of all live entries of a keyspace, by key, until it returns
    /// false; not at all if there is no such keyspace. Few of them are in memory at a time, however many
    /// there are.
    fn each_entry(&self, keyspace: &str, each: &mut EachEntry<'_>) -> Result<()>;

    /// All that [`Store::each_entry`] gives, in memory: not for what peers write to.
    fn entries(&self, keyspace: &str) -> Result<Vec<Held>> {
        let mut entries = Vec::new();
        self.each_entry(keyspace, &mut |key, value, stamp| {
            entries.push(Held { key: key.to_vec(), value: value.to_vec(), stamp });
            true
        })?;
        Ok(entries)
    }

    /// Writes `key` as any user would, durably; in scope main it is replicated.
    fn put(&self, scope: ScopeId, keyspace: &str, key: &[u8], value: &[u8]) -> Result<Tick>;
}

/// What became of a shipment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its new part was admitted; `late` puts were erased and are in the quarantine keyspace.
    Taken {
        /// Ops that were stored.
        won: u64,
        /// Ops that something newer had overtaken.
        lost: u64,
        /// Puts that came after their deletion was forgotten.
        late: u64,
    },
    /// All of it was here already.
    Known,
    /// It does not follow what is here: ask again from `have`.
    Gap {
        /// The author's last tick here.
        have: Tick,
    },
    /// It says something else than what is here about the same author: a copy of a node is at work.
    Fork {
        /// The author.
        origin: Origin,
        /// Where the two differ.
        at: Tick,
    },
    /// Its clock is ahead of ours by more than is allowed: nothing was merged.
    ClockAhead {
        /// By how much.
        by_ms: u64,
    },
    /// Nothing of it was taken: puts in it are late, and this node may not answer them.
    Unanswered {
        /// Puts that came after their deletion was forgotten.
        late: u64,
    },
    /// Its author is not known here, and there are as many as there may be: nothing of it was taken, which
    /// is no fault of who passed it on. What others wrote goes on.
    TooManyAuthors,
    /// The scope takes nothing now: a bootstrap or a rejoin is unfinished.
    Closed,
}

/// Whether a node answers late writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// By an erase, and a copy in quarantine.
    Author,
    /// It may not write.
    Reader,
}

/// What is called with key, value and stamp of an entry, and says whether it wants more.
pub type EachEntry<'e> = dyn FnMut(&[u8], &[u8], Stamp) -> bool + 'e;

/// A live entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Who wrote it, and when.
    pub stamp: Stamp,
}

/// Reads shipments from the log.
pub trait Tail: Send {
    /// The next shipment of durable commits that `known` does not cover, of about `len_max` bytes (one
    /// commit may be longer), or `None` if there is none now. Ask again when the bell has rung.
    ///
    /// # Errors
    /// `HistoryGone` if what follows `known` never was in the log, because a delta brought it.
    fn next(&mut self, known: &Vector, len_max: usize) -> Result<Option<Outbound>>;
}

/// A shipment on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The author.
    pub origin: Origin,
    /// The tick of its first commit.
    pub first: Tick,
    /// The tick of its last commit: what a vector must cover for all of it to be known.
    pub last: Tick,
    /// Its bytes, see [`base::shipment`].
    pub bytes: Vec<u8>,
}

/// What a delta brings besides entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeltaHead {
    /// What the giver had received at that moment: the taker's vector rises to it.
    pub vector: Vector,
    /// The giver's floor.
    pub floor: Vector,
    /// The highest tick of any tombstone the giver ever dropped.
    pub dropped: Tick,
}

/// Entries of a moment.
pub trait Delta: Send {
    /// What comes with them.
    fn head(&self) -> &DeltaHead;

    /// The next chunk (see [`base::state`]) of about `len_max` bytes; `None` at the end, no bytes if
    /// there was nothing for long.
    fn next(&mut self, len_max: usize) -> Result<Option<Vec<u8>>>;
}

/// Why a delta is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// T2: what is here stays unless something newer comes.
    CatchUp,
    /// T3: besides, what the giver has received but does not hold any more goes here too, and the
    /// scope is whole afterwards. While it is not whole, its vector excuses no entry. Who only reads
    /// takes what would be late from a giver that has received all that was forgotten here.
    Rejoin,
    /// After an audit: entries that were received before and are missing, or older, are stored again.
    /// What was never received is left to the tail.
    Mend,
    /// After an audit: entries as they are here are erased, with copies in quarantine, as late puts
    /// are. What is not here in exactly that version stays.
    Disown,
}

/// What is newest of each key of a scope, at one moment.
///
/// The name of an element is its keyspace's name, a zero byte, and its key; names are in order.
pub trait Moment: Send {
    /// What had been received and forgotten.
    fn head(&self) -> &DeltaHead;

    /// Whether absences count.
    fn is_whole(&self) -> bool;

    /// Calls `each` with every name from `from` up to, not including, `to`, until it returns false;
    /// with no element where what is there is hidden by a range delete, or stands for nothing.
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<Element>) -> bool,
    ) -> Result<()>;

    /// Calls `found` with what is known of the key called `name`, if anything is: a range delete that
    /// hides it counts as a deletion of the key.
    fn look_up(&self, name: &[u8], found: &mut dyn FnMut(&StateEntry<'_>)) -> Result<()>;
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The author's stamp; of an erase, the stamp of its victim.
    pub stamp: Stamp,
    /// The commit that brought it.
    pub carrier: Stamp,
    /// Whether it is an erase: then it is just above its victim.
    pub is_erase: bool,
    /// Until when it is a value, in milliseconds since the Unix epoch; 0 if it is none. Then it goes
    /// once the floor has passed it.
    pub lasts_until_ms: u64,
}

/// A delta on its way in.
pub trait Stage: Send {
    /// Adds a chunk.
    ///
    /// # Errors
    /// `DiskFull` if users' writes need the space.
    fn add(&mut self, chunk: &[u8]) -> Result<()>;

    /// Looks whether it may stay although nothing more comes.
    ///
    /// # Errors
    /// `DiskFull` if users' writes need the space that it holds.
    fn check_space(&self) -> Result<()> {
        Ok(())
    }

    /// Makes all of it count at once, together with the vector, durably.
    fn install(self: Box<Self>) -> Result<Installed>;
}

/// How an installation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// All of it counts.
    All,
    /// Nothing was changed: puts in it are late, and this node may not answer them.
    Unanswered {
        /// How many.
        late: u64,
    },
    /// Nothing was changed: more is missing here than the giver was asked for.
    TooLittle,
}

/// Bytes that wait outside of memory. They go when this is dropped.
pub trait Spool: Send {
    /// Adds bytes behind those that are there.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Replaces `bytes` by as many of the spool from `offset` on.
    fn read(&mut self, bytes: &mut [u8], offset: u64) -> Result<()>;
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// Its number at the giver.
    pub id: u64,
    /// Its bytes.
    pub len: u64,
    /// What all of them are verified by.
    pub root: [u8; 32],
}

/// What an export brings besides files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportHead {
    /// As of a delta.
    pub state: DeltaHead,
    /// The giver's clock.
    pub clock: Tick,
    /// Keyspaces, origins and what the manifest says of the tables, as the engine encodes them.
    pub catalog: Vec<u8>,
    /// The files, by number.
    pub files: Vec<ExportFile>,
}

/// Tables of a moment, held until this is dropped.
pub trait Export: Send {
    /// What comes with them.
    fn head(&self) -> &ExportHead;

    /// Bytes of the file `id` from `offset`, `len` at the most; empty at its end.
    fn read(&mut self, id: u64, offset: u64, len: usize) -> Result<Vec<u8>>;
}

/// Tables on their way in.
pub trait Import: Send {
    /// How many bytes of each file are here already.
    fn received(&self) -> Vec<(u64, u64)>;

    /// Adds bytes of the file `id` at `offset`, which must be where it ends so far.
    fn add(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Looks how far it is: complete files are verified while more comes. Does not wait for that.
    ///
    /// # Errors
    /// `Corrupt` if a file is not the one that was announced: it has to be sent again; `DiskFull` if users'
    /// writes need the space.
    fn settle(&mut self) -> Result<Settled>;

    /// Makes all files the content of the scope, durably, once it is settled.
    fn install(self: Box<Self>) -> Result<()>;
}

/// Whether all files are here, and what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// They are.
    Yes,
    /// Bytes are missing, or files are still being verified.
    NotYet,
}

/// Keyspaces that replication keeps its own things in.
pub mod keyspaces {
    /// What the names of all of them begin with.
    pub const RESERVED: &str = "esker.";
    /// Members, by node id; replicated.
    pub const ROSTER: &str = "esker.roster";
    /// Late writes, so that nothing is lost; replicated.
    pub const QUARANTINE: &str = "esker.quarantine";
    /// What only this node needs to know.
    pub const NODE: &str = "esker.node";
}
