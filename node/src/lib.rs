//! Parts of a node that other programs around Esker can use as well.
//!
//! ```text
//! bugs         panics that nobody catches end the process
//! health       checks that look for trouble in the background, and the report of what they found
//! lines        how a log is written without anybody waiting for it
//! resilience   breakers by name, retries, and timeouts that can be changed while a node runs
//! ```

pub mod bugs;
pub mod health;
pub mod lines;
pub mod resilience;
