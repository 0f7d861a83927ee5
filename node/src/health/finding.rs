//! What a check found.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How well something is, worst last.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wellness {
    /// All is well.
    Healthy,
    /// It works, and something needs attention.
    Degraded,
    /// Something does not work.
    Unhealthy,
}

/// What one look has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How well it is.
    pub status: Wellness,
    /// One sentence for people. Never a key or a value.
    pub message: String,
    /// What was measured, by name.
    pub numbers: BTreeMap<&'static str, f64>,
}

impl Finding {
    /// All is well.
    pub fn healthy(message: impl Into<String>) -> Finding {
        Finding::new(Wellness::Healthy, message)
    }

    /// Something needs attention.
    pub fn degraded(message: impl Into<String>) -> Finding {
        Finding::new(Wellness::Degraded, message)
    }

    /// Something does not work.
    pub fn unhealthy(message: impl Into<String>) -> Finding {
        Finding::new(Wellness::Unhealthy, message)
    }

    /// As `status` says.
    pub fn new(status: Wellness, message: impl Into<String>) -> Finding {
        Finding { status, message: message.into(), numbers: BTreeMap::new() }
    }

    /// With a number more.
    #[must_use]
    pub fn with(mut self, name: &'static str, number: f64) -> Finding {
        self.numbers.insert(name, number);
        self
    }
}
