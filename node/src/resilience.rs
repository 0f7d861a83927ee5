//! What keeps one failure from becoming many.
//!
//! ```text
//! breakers   by name: leave alone for a while what fails again and again
//! retry      try again what may succeed later, with growing pauses
//! timeouts   by name: how long something may take; changed while a node runs
//! ```

mod breakers;
mod retry;
mod timeouts;

pub use breakers::{BreakerReport, Breakers, Guarded};
pub use replication::link::{BreakerSettings, BreakerState};
pub use retry::{Attempt, Jitter, Pauses, Retry, RetryError, Schedule};
pub use timeouts::{BadTimeout, Profile, Timeout, Timeouts};
