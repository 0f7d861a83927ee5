//! The write-ahead log: a durable sequence of opaque commits.
//!
//! ```text
//! Appender ──> segment ──> frames: Commit | Run, records, Close | Seal
//!    │ prepare_sync                          │
//! SyncGate: who syncs, who waits             ├─> SegmentReader ─> scan_log: the whole log, judged
//!                                            └─> TailReader: what is durable, as it grows
//! ```
//!
//! The log stores a commit as a seqno and bytes it does not look into. It creates segments and
//! never removes one: the engine does, with what [`Appender::release`] returns. A segment is never
//! appended to by a later process.
//!
//! Torn or corrupt is told by promises and nothing else: see [`judge`].

mod appender;
mod growing;
mod promise;
mod reader;
mod retired;
mod run;
mod salvage;
mod scan;
mod segment;
mod spare;
mod sync;
mod tail;
mod verdict;
mod window;

pub use appender::{Appender, LogOptions, NextSegment};
pub use promise::highest_promise;
pub use reader::{CommitRef, Ending, SegmentReader, read_segment};
pub use retired::{SegmentSpan, SyncTarget};
pub use salvage::{LaterCommits, LogCut, LogSalvage, cut_where, database_of, salvage_log};
pub use scan::{LogScan, SegmentFacts, TornTail, newer_commits, scan_log};
pub use segment::{
    HEADER_LEN, HeaderState, SegmentEnd, SegmentHeader, SegmentOwner, header_flaw, read_header,
};
pub use spare::{Spare, SpareBuilder};
pub use sync::SyncGate;
pub use tail::TailReader;
pub use verdict::{Evidence, Later, Verdict, judge};
