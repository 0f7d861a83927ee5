//! The seam to randomness: database ids, incarnations, nonces.

/// A source of random bytes.
pub trait Rng: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        getrandom::fill(bytes).map_err(std::io::Error::other)
    }
}

/// A reproducible generator for tests: Blake3 in counter mode over a seed.
#[cfg(any(test, feature = "sim"))]
#[derive(Debug)]
pub struct SeededRng {
    seed: u64,
    counter: std::sync::atomic::AtomicU64,
}

#[cfg(any(test, feature = "sim"))]
impl SeededRng {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> SeededRng {
        SeededRng { seed, counter: 0.into() }
    }
}

#[cfg(any(test, feature = "sim"))]
impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let counter = self.counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut input = [0; 16];
        input[..8].copy_from_slice(&self.seed.to_le_bytes());
        input[8..].copy_from_slice(&counter.to_le_bytes());
        blake3::Hasher::new().update(&input).finalize_xof().fill(bytes);
        Ok(())
    }
}
