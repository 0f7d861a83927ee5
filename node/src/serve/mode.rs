//! What users may ask for now, as operators have decided. It is kept in the keyspace `esker.node` and lasts
//! until they decide otherwise, over restarts too; peers go on in all modes.
//!
//! ```text
//! normal        reads and writes
//! read-only     writes of users are refused
//! maintenance   reads as well, and the node is not ready; operators, probes and metrics go on
//!
//! key        "mode"
//! size       field
//!    1       version     1
//!    1       mode        0 normal, 1 read-only, 2 maintenance
//! ```

use crate::error::{Exit, Failure, Outcome};
use base::ScopeId;
use clap::ValueEnum;
use engine::{Batch, Db, Error, SyncMode, WriteOptions};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU8, Ordering};

const KEYSPACE: &str = "esker.node";
const KEY: &[u8] = b"mode";
const VERSION: u8 = 1;

/// What users may ask for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Everything
    #[default]
    Normal = 0,
    /// Reads
    ReadOnly = 1,
    /// Nothing
    Maintenance = 2,
}

impl Mode {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Normal => "normal",
            Mode::ReadOnly => "read-only",
            Mode::Maintenance => "maintenance",
        }
    }

    /// The mode that `db` keeps. One that is not readable is not taken for leave to write.
    pub(super) fn kept(db: &Db) -> Mode {
        let keyspace = match db.replication().existing_keyspace(KEYSPACE) {
            Err(Error::KeyspaceNotFound { .. }) => return Mode::Normal,
            found => found,
        };
        match keyspace.and_then(|keyspace| keyspace.get(KEY)).map(|kept| kept.map(Vec::from)) {
            Ok(None) => Mode::Normal,
            Ok(Some(kept)) if matches!(*kept, [VERSION, 0..=2]) => {
                Mode::of(kept.last().copied().unwrap_or_default())
            }
            Ok(Some(_)) => unreadable("it is not one that is known"),
            Err(error) => unreadable(&error.to_string()),
        }
    }

    /// Keeps it in `db`, durably.
    pub(super) fn keep(self, db: &Db) -> Outcome {
        let keyspace = db.replication().keyspace(ScopeId::LOCAL, KEYSPACE)?;
        let mut batch = Batch::new();
        batch.put(&keyspace, KEY, [VERSION, self as u8]);
        db.write_with(batch, WriteOptions { sync: Some(SyncMode::Sync) })?;
        Ok(())
    }

    fn of(number: u8) -> Mode {
        match number {
            0 => Mode::Normal,
            2 => Mode::Maintenance,
            _ => Mode::ReadOnly,
        }
    }
}

fn unreadable(why: &str) -> Mode {
    tracing::warn!(why, "the mode that was kept is not readable: the node is read-only");
    Mode::ReadOnly
}

/// The mode that a node is in.
#[derive(Debug, Default)]
pub(super) struct CurrentMode(AtomicU8);

impl CurrentMode {
    /// It.
    pub(super) fn get(&self) -> Mode {
        Mode::of(self.0.load(Ordering::Acquire))
    }

    /// From here on `mode`. Returns the one before.
    pub(super) fn set(&self, mode: Mode) -> Mode {
        let before = self.get();
        self.0.store(mode as u8, Ordering::Release);
        before
    }

    /// Refuses whatever users ask, where nothing is answered.
    pub(super) fn check_reads(&self) -> Outcome {
        match self.get() {
            Mode::Normal | Mode::ReadOnly => Ok(()),
            Mode::Maintenance => Err(maintenance()),
        }
    }

    /// Refuses writes of users, where they are not taken.
    pub(super) fn check_writes(&self) -> Outcome {
        match self.get() {
            Mode::Normal => Ok(()),
            Mode::ReadOnly => {
                let message = "the node is in read-only mode";
                Err(Failure::new(Exit::Denied, "ReadOnlyMode", message)
                    .action("write to another node, or ask an operator to end it"))
            }
            Mode::Maintenance => Err(maintenance()),
        }
    }
}

fn maintenance() -> Failure {
    Failure::new(Exit::Other, "Maintenance", "the node is being maintained")
        .action("ask another node, or this one later")
}
