//! What the fuzz targets do, as functions of bytes. A panic is a finding.
//!
//! ```text
//! fuzz_targets/*.rs ──> bodies <── tests/replay.rs: the seeds of corpus/, and random bytes
//! ```
//!
//! Digests stop most random bytes at the door. So most targets first build something genuine from
//! their input, then damage it, and hold the strong rule: what is read is an error or the truth.
//! Some also seal the damage again, with fresh digests, to reach the decoders behind them.

mod backup;
mod batch;
mod beacon;
mod block;
mod damage;
mod directory;
mod door;
mod frame;
mod input;
mod introductions;
mod json;
mod lane;
mod manifest;
mod message;
mod operations;
mod reconcile;
mod root;
mod roster;
mod session;
mod state;
mod stream;
mod table;

pub use backup::backup;
pub use batch::batch;
pub use beacon::beacon;
pub use block::block;
pub use directory::directory;
pub use door::{certificate, request};
pub use frame::frame;
pub use introductions::introductions;
pub use json::json_merge;
pub use lane::lane;
pub use manifest::manifest;
pub use message::message;
pub use operations::operations;
pub use reconcile::reconcile;
pub use root::root;
pub use roster::roster;
pub use session::session;
pub use state::{catalog, shipment, state};
pub use stream::stream;
pub use table::table_open;

/// A fuzz target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. The names are those of the folders of the corpus.
pub const TARGETS: [Target; 23] = [
    ("frame", frame),
    ("batch", batch),
    ("block", block),
    ("table_open", table_open),
    ("manifest", manifest),
    ("root", root),
    ("backup", backup),
    ("directory", directory),
    ("operations", operations),
    ("stream", stream),
    ("introductions", introductions),
    ("message", message),
    ("session", session),
    ("lane", lane),
    ("shipment", shipment),
    ("state", state),
    ("catalog", catalog),
    ("reconcile", reconcile),
    ("beacon", beacon),
    ("request", request),
    ("certificate", certificate),
    ("roster", roster),
    ("json_merge", json_merge),
];
