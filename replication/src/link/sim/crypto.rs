//! Randomness of handshakes that follows from the seed.
//!
//! An endpoint that has forgotten a connection looks at the first packets of one again, with keys that do not
//! fit: whether what comes out looks like a header depends on each bit of the packet, and so whether it answers.

use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom, ring};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    /// The seed of the simulation that this thread runs, and how often was drawn.
    static DRAWN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

#[derive(Debug)]
struct Drawing;

/// A simulation of `seed` begins in this thread.
pub(super) fn begin(seed: u64) {
    DRAWN.set((seed, 0));
}

/// What TLS computes with.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { secure_random: &Drawing, ..ring::default_provider() })
}

impl SecureRandom for Drawing {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        let (seed, count) = DRAWN.get();
        DRAWN.set((seed, count + 1));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&count.to_le_bytes());
        hasher.finalize_xof().fill(bytes);
        Ok(())
    }
}
