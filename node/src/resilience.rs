//! What keeps one failure from becoming many.
//!
//! ```text
//! breakers   by name: leave alone for a while what fails again and again
//! remedies   by name: what a node does by itself, so often an hour
//! retry      try again what may succeed later, with growing pauses
//! timeouts   by name: how long something may take; changed while a node runs
//! ```

mod breakers;
mod remedies;
mod retry;
mod timeouts;

pub use breakers::{BreakerReport, Breakers, Guarded};
pub use remedies::{Remedies, RemedyReport, RemedySettings, RemedyState, RemedySwitch};
pub use replication::link::{BreakerSettings, BreakerState};
pub use retry::{Attempt, Jitter, Pauses, Retry, RetryError, Schedule};
pub use timeouts::{BadTimeout, Profile, Timeout, Timeouts};
