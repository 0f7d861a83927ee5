//! Lines of a log: how they are made, and how they get into a file without anybody waiting for it.
//!
//! ```text
//! json     events as lines of JSON
//! dataset  dataset and operation of an event, from its spans
//! target   component and operation of an event, from its target
//! queue    lines on their way to a file
//! ```

mod dataset;
mod json;
mod queue;
mod target;

pub use dataset::{About, Abouts};
pub use json::{Json, Time};
pub use queue::{Drain, Mouth, Overflow, Queue};
pub use target::component_of;
