//! The stages of opening a database.

use std::fmt;
use std::time::Duration;

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

    /// The codes of the errors with which an open can end here, beside those of the operating
    /// system (`Io`, `DiskFull`) and `Cancelled`.
    pub fn errors(self) -> &'static [&'static str] {
        match self {
            Stage::Claim => &["Locked", "NotADatabase", "AlreadyExists", "Permission"],
            Stage::Identity => &["FormatUnsupported", "IdentityCorrupt", "IdentityMissing"],
            Stage::Keys => &["KeyUnavailable"],
            Stage::Resources => &["ResourceShort"],
            Stage::Inventory => &["Inventory"],
            Stage::Root => &["RootCorrupt", "RootMissing", "StaleManifest"],
            Stage::Manifest => &["ManifestCorrupt", "ManifestMissing", "VersionInvalid"],
            Stage::Tables => &["TableMissing", "TableCorrupt"],
            Stage::Log => &["WalCorrupt", "WalMissing", "WalForeign"],
            Stage::Replay => &["ReplayInvariant"],
            Stage::Switch => &["CommitFailed"],
            Stage::Retire => &[],
        }
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

/// How long each stage may take before that is reported. The default is far above what a sound disk
/// needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLimits([Duration; 12]);

impl StageLimits {
    /// The same limit for every stage.
    pub fn all(limit: Duration) -> StageLimits {
        StageLimits([limit; 12])
    }

    /// With another limit for `stage`.
    pub fn with(mut self, stage: Stage, limit: Duration) -> StageLimits {
        if let Some(slot) = self.0.get_mut(stage as usize - 1) {
            *slot = limit;
        }
        self
    }

    /// The limit of `stage`.
    pub fn of(&self, stage: Stage) -> Duration {
        self.0.get(stage as usize - 1).copied().unwrap_or(Duration::MAX)
    }
}

impl Default for StageLimits {
    fn default() -> StageLimits {
        const READS_ALL: Duration = Duration::from_secs(300);
        StageLimits::all(Duration::from_secs(10))
            .with(Stage::Tables, READS_ALL)
            .with(Stage::Log, READS_ALL)
            .with(Stage::Replay, READS_ALL)
    }
}
