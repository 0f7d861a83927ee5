//! The flags of `--bench peers`.

use crate::contender::{Compression, Durability, Name, Setup};
use crate::keys::{KEY_LEN, KeyShape};
use crate::workload::Workload;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// The same workloads side by side on several engines.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Records of the loaded store.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    pub value_size: usize,
    /// How keys are made.
    #[arg(long, value_enum, default_value_t)]
    pub key_shape: KeyShape,
    /// Threads of every workload but the synced ones, which name theirs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub threads: u64,
    /// How often everything is repeated; reports show medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Engines, separated by commas; all of this build by default.
    #[arg(long, value_delimiter = ',')]
    pub engines: Vec<Name>,
    /// Workloads, separated by commas; all usual ones by default. There is also fill10x.
    #[arg(long, value_delimiter = ',')]
    pub workloads: Vec<Workload>,
    /// Where the stores are made. Should be on the disk in question, not in memory.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers/work"))]
    pub dir: PathBuf,
    /// Where the report goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers"))]
    pub out: PathBuf,
    /// Block compression.
    #[arg(long, value_enum, default_value_t)]
    pub compression: Compression,
    /// Block or page cache, in MiB.
    #[arg(long, default_value_t = 64)]
    pub cache_mb: usize,
    /// Memtable, in MiB.
    #[arg(long, default_value_t = 64)]
    pub buffer_mb: usize,
    /// Ends a workload after so many seconds; what is missing of a fill is loaded unmeasured.
    #[arg(long, default_value_t = 60)]
    pub seconds_max: u64,
    /// How long synced commits are made.
    #[arg(long, default_value_t = 3)]
    pub sync_seconds: u64,
    /// Measures this one engine and prints its lines: what the parent starts.
    #[arg(long, hide = true)]
    pub child: Option<Name>,
    /// Fills a store of the child's engine here and kills itself: what the child starts.
    #[arg(long, hide = true)]
    pub filler: Option<PathBuf>,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Args {
    /// What stores are opened with.
    pub fn setup(&self, durability: Durability) -> Setup {
        let fills_more = self.workloads.contains(&Workload::Fill10x);
        let records = self.keys * if fills_more { 10 } else { 1 };
        Setup {
            durability,
            compression: self.compression,
            cache_bytes: self.cache_mb * MIB,
            buffer_bytes: self.buffer_mb * MIB,
            data_bytes_max: records * self.record_bytes(),
        }
    }

    /// Bytes of key and value of a record.
    pub fn record_bytes(&self) -> u64 {
        (KEY_LEN + self.value_size) as u64
    }

    /// The engines to measure.
    pub fn engines(&self) -> &[Name] {
        if self.engines.is_empty() { Name::ALL } else { &self.engines }
    }

    /// The workloads to run.
    pub fn workloads(&self) -> &[Workload] {
        if self.workloads.is_empty() { Workload::USUAL } else { &self.workloads }
    }

    /// The longest that a workload may take.
    pub fn limit(&self, workload: Workload) -> Duration {
        match workload {
            Workload::Sync(_) => Duration::from_secs(self.sync_seconds),
            _ => Duration::from_secs(self.seconds_max),
        }
    }
}
