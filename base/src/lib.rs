//! The words that two crates of Esker share, and the seams to the outside.
//!
//! A word is here if at least two crates need it: keys, ticks, stamps, records, the frame
//! envelope, log positions, errors. A seam is here if tests must be able to replace what is behind
//! it: the file system ([`fs`]), the clock ([`clock`]) and randomness ([`rng`]).
//!
//! This crate knows no threads, no policy and no file that it was not handed.

pub mod batch;
pub mod clock;
pub mod codec;
pub mod codes;
pub mod cursor;
pub mod defect;
pub mod dir;
pub mod error;
pub mod foreign;
pub mod frame;
pub mod fs;
pub mod identity;
pub mod key;
pub mod limits;
pub mod lock;
pub mod moment;
pub mod panics;
pub mod position;
pub mod range;
pub mod record;
pub mod remote;
pub mod rng;
pub mod shipment;
pub mod stamp;
pub mod state;
pub mod striped;
pub mod tick;
pub mod vector;

pub use batch::{Op, OpKind};
pub use clock::{Clock, SystemClock};
pub use cursor::Cursor;
pub use defect::{Defect, planted};
pub use dir::{FileName, RelPath};
pub use error::{Category, Corruption, Error, Result};
pub use foreign::OriginNumber;
pub use identity::Identity;
pub use key::{EntryKind, KeyspaceId, ScopeId, SpaceId, Trailer, key_hash, key_prefix};
pub use moment::Moment;
pub use position::Position;
pub use range::{KeyRange, KeyRanges};
pub use record::{Record, RecordKind};
pub use rng::{OsRng, Rng};
pub use shipment::Shipment;
pub use stamp::{Incarnation, NodeId, Origin, Stamp};
pub use striped::Striped;
pub use tick::Tick;
pub use vector::Vector;
