//! The list of workloads.

use std::str::FromStr;

/// What is done to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Puts in ascending key order into an empty store.
    FillSeq,
    /// Puts in random key order into an empty store, one by one.
    FillRandom,
    /// The same in atomic batches of 100.
    Batch100,
    /// Fills ten times the records: does the rate hold?
    Fill10x,
    /// Gets of present keys, each as likely.
    ReadRandom,
    /// Gets of present keys, few of them popular.
    ReadZipf,
    /// Gets of keys that are not there.
    ReadMissing,
    /// Seeks to a random key and reads some records from there.
    Seek(u64),
    /// Reads every record in order.
    FullScan,
    /// The core workloads of YCSB.
    Ycsb(Mix),
    /// Puts over present records, in random order.
    Overwrite,
    /// Deletes half of the records, in random order.
    Delete,
    /// Opens after a clean close, until the first get is answered.
    Reopen,
    /// Opens after a kill in the middle of writing, until the first get is answered.
    ReopenKilled,
    /// Synced commits of one record by so many writers.
    Sync(u64),
}

/// Which YCSB workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Half gets, half updates.
    A,
    /// 95 % gets, 5 % updates.
    B,
    /// Gets only.
    C,
    /// 95 % gets of the latest records, 5 % inserts.
    D,
    /// 95 % scans of up to 100 records, 5 % inserts.
    E,
    /// Half gets, half read-modify-writes.
    F,
}

/// What a workload finds when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// An empty store of its own.
    Empty,
    /// An empty store of its own whose commits are synced.
    EmptySynced,
    /// The store with all records, shared with the workloads before and after.
    Loaded,
    /// No store: it makes and opens stores itself.
    Own,
}

impl Workload {
    /// All that run unless others are asked for, in an order in which none spoils the next.
    pub const USUAL: &[Workload] = &[
        Workload::FillSeq,
        Workload::Batch100,
        Workload::FillRandom,
        Workload::ReadRandom,
        Workload::ReadZipf,
        Workload::ReadMissing,
        Workload::Seek(10),
        Workload::Seek(100),
        Workload::FullScan,
        Workload::Ycsb(Mix::C),
        Workload::Ycsb(Mix::B),
        Workload::Ycsb(Mix::A),
        Workload::Ycsb(Mix::F),
        Workload::Ycsb(Mix::D),
        Workload::Ycsb(Mix::E),
        Workload::Overwrite,
        Workload::Reopen,
        Workload::Delete,
        Workload::ReopenKilled,
        Workload::Sync(1),
        Workload::Sync(8),
        Workload::Sync(32),
    ];

    /// Those that only run when asked for.
    pub const SPECIAL: &[Workload] = &[Workload::Fill10x];

    /// The name in flags and reports.
    pub fn name(self) -> String {
        let fixed = match self {
            Workload::FillSeq => "fillseq",
            Workload::FillRandom => "fillrandom",
            Workload::Batch100 => "batch100",
            Workload::Fill10x => "fill10x",
            Workload::ReadRandom => "readrandom",
            Workload::ReadZipf => "readzipf",
            Workload::ReadMissing => "readmissing",
            Workload::Seek(count) => return format!("seek+{count}"),
            Workload::FullScan => "fullscan",
            Workload::Ycsb(Mix::A) => "ycsb-a",
            Workload::Ycsb(Mix::B) => "ycsb-b",
            Workload::Ycsb(Mix::C) => "ycsb-c",
            Workload::Ycsb(Mix::D) => "ycsb-d",
            Workload::Ycsb(Mix::E) => "ycsb-e",
            Workload::Ycsb(Mix::F) => "ycsb-f",
            Workload::Overwrite => "overwrite",
            Workload::Delete => "delete",
            Workload::Reopen => "reopen",
            Workload::ReopenKilled => "reopen-killed",
            Workload::Sync(writers) => return format!("sync-{writers}"),
        };
        fixed.to_owned()
    }

    /// What it finds when it starts.
    pub fn ground(self) -> Ground {
        match self {
            Workload::FillSeq | Workload::Batch100 | Workload::Fill10x => Ground::Empty,
            Workload::FillRandom => Ground::Empty,
            Workload::Sync(_) => Ground::EmptySynced,
            Workload::ReopenKilled => Ground::Own,
            _ => Ground::Loaded,
        }
    }

    /// Whether the records are incomplete or more afterwards, so that the next needs a new store.
    pub fn spoils(self) -> bool {
        matches!(self, Workload::Delete)
    }

    /// Whether it writes, so that settling and bytes written are of interest.
    pub fn writes(self) -> bool {
        let reads = matches!(
            self,
            Workload::ReadRandom
                | Workload::ReadZipf
                | Workload::ReadMissing
                | Workload::Seek(_)
                | Workload::FullScan
                | Workload::Ycsb(Mix::C)
        );
        !reads && !matches!(self, Workload::Reopen | Workload::ReopenKilled)
    }

    /// Operations for a store of `keys` records: fewer where one costs much.
    pub fn ops(self, keys: u64) -> u64 {
        let ops = match self {
            Workload::Fill10x => keys * 10,
            Workload::Batch100 => keys / 100,
            Workload::Seek(count) => keys / count.clamp(5, 50),
            Workload::Ycsb(Mix::E) => keys / 50,
            Workload::Ycsb(_) | Workload::Delete => keys / 2,
            Workload::Reopen => 5,
            Workload::ReopenKilled => 1,
            _ => keys,
        };
        ops.max(1)
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Workload, String> {
        let mut all = Workload::USUAL.iter().chain(Workload::SPECIAL);
        all.find(|workload| workload.name() == name).copied().ok_or_else(|| {
            let names: Vec<String> = Workload::USUAL.iter().map(|known| known.name()).collect();
            format!("no workload `{name}`; there are {}, fill10x", names.join(", "))
        })
    }
}
