//! A network that is made up: real QUIC over packets that are delayed, lost, doubled and reordered
//! as a seed says, under a clock that jumps to whatever happens next.
//!
//! ```text
//! simulate(seed, ..)   a runtime of one thread with paused time, and a network of that seed
//! SimNet::wire         a socket on it: hand it to `Endpoint::new` in place of a real one
//! SimNet::weather, cut, partition, heal    what happens to packets, each way of each pair
//! SimNet::trace        a digest of all that was sent: the same seed gives the same, always
//! ```
//!
//! To replay exactly, all else must be a function of the seed too: conversations are called inline
//! (`Calls::Inline`), `tokio::select!` is `biased`, nothing iterates over a hash map, and nothing
//! waits on a `tokio::sync::watch`, which wakes in random order.

mod crypto;
mod net;
mod runtime;
mod socket;

pub use net::{Counts, SimNet, Weather};
pub use runtime::simulate;
