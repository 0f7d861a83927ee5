//! The stages of opening a database.

use std::fmt;

/// A stage of [`crate::recover`], in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// The directory is there, is ours, and nobody else has it.
    Claim = 1,
    /// Who the database is.
    Identity = 2,
    /// The keys that its files need.
    Keys = 3,
    /// Disk, memory and file handles suffice.
    Resources = 4,
    /// Every entry of the directory has a known name.
    Inventory = 5,
    /// Which manifest counts.
    Root = 6,
    /// What the manifest says.
    Manifest = 7,
    /// The tables are there and as long as they should be.
    Tables = 8,
    /// The log is whole, or torn where it may be.
    Log = 9,
    /// What is only in the log goes to tables.
    Replay = 10,
    /// New manifest, new segment, then the root: from here on the new state counts.
    Switch = 11,
    /// What is no longer needed goes.
    Retire = 12,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 12] = [
        Stage::Claim,
        Stage::Identity,
        Stage::Keys,
        Stage::Resources,
        Stage::Inventory,
        Stage::Root,
        Stage::Manifest,
        Stage::Tables,
        Stage::Log,
        Stage::Replay,
        Stage::Switch,
        Stage::Retire,
    ];

    /// The stage numbered `number`, from 1 to 12.
    pub fn from_number(number: u8) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| *stage as u8 == number)
    }

    /// Whether a caller can still call it off here.
    pub fn is_cancellable(self) -> bool {
        self < Stage::Switch
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Claim => "claim the directory",
            Stage::Identity => "read the identity",
            Stage::Keys => "find the keys",
            Stage::Resources => "check resources",
            Stage::Inventory => "list the files",
            Stage::Root => "choose the root",
            Stage::Manifest => "replay the manifest",
            Stage::Tables => "verify the tables",
            Stage::Log => "validate the log",
            Stage::Replay => "replay the log",
            Stage::Switch => "switch the root",
            Stage::Retire => "retire old files",
        })
    }
}
