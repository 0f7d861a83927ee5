//! What the workloads ask of an engine under test.

use crate::Result;
use crate::keys::Key;
use std::path::Path;
use std::str::FromStr;

/// What a write must survive before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process, as far as the engine offers it without a sync.
    Process,
    /// A power loss: every commit is synced.
    Sync,
}

/// How blocks are compressed, by the engines that can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Zstd at level 1; LZ4 in an engine that has nothing else.
    Zstd,
}

/// What every contender is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// When writes are acknowledged.
    pub durability: Durability,
    /// How blocks are compressed.
    pub compression: Compression,
    /// Bytes of block or page cache.
    pub cache_bytes: usize,
    /// Bytes of one memtable.
    pub buffer_bytes: usize,
    /// Bytes of user data the store will be given at most; a memory map must be that large.
    pub data_bytes_max: u64,
}

/// One record of a batch.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Vec<u8>,
}

/// An engine under test, open on one directory. Used from many threads at once.
pub trait Contender: Send + Sync {
    /// Writes one record.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;
    /// Writes all entries or none.
    fn put_batch(&self, entries: &[Entry]) -> Result<()>;
    /// Deletes one record.
    fn delete(&self, key: &[u8]) -> Result<()>;
    /// A view for many reads in a row by one thread. It sees at least what was written before.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;
    /// Returns once all that was written is where it stays: no flush or compaction is due.
    fn settle(&self) -> Result<()>;
    /// Closes in good order.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Reads of one thread.
pub trait Reader {
    /// Shows the value of `key` to `sink`; tells whether there is one.
    fn get(&mut self, key: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Shows up to `count` records from `from` on to `each`; tells how many.
    fn scan(&mut self, from: &[u8], count: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<u64>;
}

/// The engines that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// This project.
    Esker,
    /// An LSM tree in Rust.
    #[cfg(feature = "peers")]
    Fjall,
    /// The LSM tree most others are measured against, in C++.
    #[cfg(feature = "peers")]
    Rocksdb,
    /// A copy-on-write B-tree in a memory map, in C, through `heed`.
    #[cfg(feature = "peers")]
    Lmdb,
    /// A copy-on-write B-tree in Rust.
    #[cfg(feature = "peers")]
    Redb,
    /// A Bw-tree over a log, in Rust.
    #[cfg(feature = "peers")]
    Sled,
}

impl Name {
    /// All of this build, in the order of reports.
    pub const ALL: &[Name] = &[
        Name::Esker,
        #[cfg(feature = "peers")]
        Name::Fjall,
        #[cfg(feature = "peers")]
        Name::Rocksdb,
        #[cfg(feature = "peers")]
        Name::Lmdb,
        #[cfg(feature = "peers")]
        Name::Redb,
        #[cfg(feature = "peers")]
        Name::Sled,
    ];

    /// The name in flags and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Esker => "esker",
            #[cfg(feature = "peers")]
            Name::Fjall => "fjall",
            #[cfg(feature = "peers")]
            Name::Rocksdb => "rocksdb",
            #[cfg(feature = "peers")]
            Name::Lmdb => "lmdb",
            #[cfg(feature = "peers")]
            Name::Redb => "redb",
            #[cfg(feature = "peers")]
            Name::Sled => "sled",
        }
    }

    /// Opens the engine on `dir`, creating what is not there.
    pub fn open(self, dir: &Path, setup: &Setup) -> Result<Box<dyn Contender>> {
        match self {
            Name::Esker => crate::peers::esker::open(dir, setup),
            #[cfg(feature = "peers")]
            Name::Fjall => crate::peers::fjall::open(dir, setup),
            #[cfg(feature = "peers")]
            Name::Rocksdb => crate::peers::rocksdb::open(dir, setup),
            #[cfg(feature = "peers")]
            Name::Lmdb => crate::peers::lmdb::open(dir, setup),
            #[cfg(feature = "peers")]
            Name::Redb => crate::peers::redb::open(dir, setup),
            #[cfg(feature = "peers")]
            Name::Sled => crate::peers::sled::open(dir, setup),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Name, String> {
        let known = Name::ALL.iter().find(|known| known.as_str() == name);
        known.copied().ok_or_else(|| {
            let all: Vec<&str> = Name::ALL.iter().map(|name| name.as_str()).collect();
            format!("no engine `{name}` in this build; there are {}", all.join(", "))
        })
    }
}
