//! Range reconciliation: finds where two copies of a scope differ, for little more bytes than there
//! are differences.
//!
//! Source: Meyer, "Range-Based Set Reconciliation" (SRDS 2023). Both sides hold a set of elements in
//! the same order. One names a range and the fingerprint of what it holds there; if the other holds
//! something else, it answers with the fingerprints of sixteen parts, and where few elements are
//! left, with their names. Fingerprints go before names, so an equal part costs eight bytes.
//!
//! ```text
//! fingerprint  what an element and a range of elements come to
//! sketch       the elements of one side, summed up, so that any range is a difference of two sums
//! message      what goes over the wire
//! compare      the conversation
//! judge        what a difference means
//! ```
//!
//! An element is the newest version of a key: its name (keyspace, zero byte, key) with its stamp. What
//! it is does not count, so that an expired entry equals the tombstone it becomes. Tombstones and
//! entries that expire soon are elements only above the floor of either side, since below it each
//! node drops them when it likes. Equal vectors imply equal elements; a difference that vectors
//! explain is lag, any other is damage.

pub mod compare;
pub mod fingerprint;
pub mod judge;
pub mod message;
pub mod sketch;

pub use compare::{Comparison, FOUND_MAX, Found, HALF_ROUNDS_MAX, Step};
pub use fingerprint::{ElementDigest, ElementKey, Fingerprint};
pub use judge::{Absence, Verdict, judge};
pub use sketch::{Elements, Sketch, Sketching};
