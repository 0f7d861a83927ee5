//! The flags of `--bench replication`.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// What replication costs, and how fast it is, on this machine.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// A tenth of everything: whether it works, not how fast it is.
    #[arg(long)]
    pub quick: bool,
    /// What to measure, separated by commas; all by default.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// How often the live tail is measured; medians are printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Where the databases are made. Should be on the disk in question, not in memory.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/replication"))]
    pub dir: PathBuf,
    /// Runs the node of this directory: what the parent starts.
    #[arg(long, hide = true)]
    pub node: Option<PathBuf>,
    /// The node's memtable, in MiB.
    #[arg(long, hide = true, default_value_t = 64)]
    pub memtable_mb: usize,
    /// What the node keeps of its log, in MiB.
    #[arg(long, hide = true, default_value_t = 0)]
    pub retention_mb: u64,
    /// Cargo says so to every benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One writer, one replica, as fast as they go; and the bytes between them.
    Tail,
    /// How long a put takes to be seen on the other node.
    Visible,
    /// A node that was away.
    CatchUp,
    /// A node that has nothing.
    Bootstrap,
    /// A peer that does not read.
    Stalled,
    /// Two nodes that compare all they hold.
    Reconcile,
    /// What reads cost beside all that.
    Readers,
}

impl Args {
    /// The parts to measure.
    pub fn parts(&self) -> &[Part] {
        if self.only.is_empty() { Part::value_variants() } else { &self.only }
    }

    /// `full`, or a tenth of it.
    pub fn scaled(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }
}
