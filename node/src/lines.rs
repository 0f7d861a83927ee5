//! Lines of a log: how they are made, and how they get into a file without anybody waiting for it.
//!
//! ```text
//! json     events as lines of JSON
//! text     events as lines for people
//! dataset  dataset and operation of an event, from its spans
//! target   component and operation of an event, from its target
//! serving  the operation that is being served, without a span
//! queue    lines on their way to a file
//! ```

mod dataset;
mod json;
mod queue;
mod serving;
mod target;
mod text;

pub use dataset::{About, Abouts};
pub use json::{Json, Time};
pub use queue::{Drain, Mouth, Overflow, Queue};
pub use serving::{served, serving, serving_here};
pub use target::component_of;
pub use text::Text;
