//! Lines of a log: how they are made, and how they get into a file without anybody waiting for it.
//!
//! ```text
//! json   events as lines of JSON
//! queue  lines on their way to a file
//! ```

mod json;
mod queue;

pub use json::{Json, Time};
pub use queue::{Drain, Mouth, Overflow, Queue};
