//! What users may ask for now, as operators have decided. It lasts until the node stops; peers go on in
//! all modes.
//!
//! ```text
//! normal        reads and writes
//! read-only     writes of users are refused
//! maintenance   reads as well, and the node is not ready; operators, probes and metrics go on
//! ```

use crate::error::{Exit, Failure, Outcome};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU8, Ordering};

/// What users may ask for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// Everything.
    #[default]
    Normal = 0,
    /// Reads.
    ReadOnly = 1,
    /// Nothing.
    Maintenance = 2,
}

/// The mode that a node is in.
#[derive(Debug, Default)]
pub(super) struct CurrentMode(AtomicU8);

impl CurrentMode {
    /// It.
    pub(super) fn get(&self) -> Mode {
        match self.0.load(Ordering::Acquire) {
            1 => Mode::ReadOnly,
            2 => Mode::Maintenance,
            _ => Mode::Normal,
        }
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
