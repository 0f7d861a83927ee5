//! Reads that caches are judged by: loops, scans, Zipf, and mixes of these.

use super::oracle::Read;

/// How the weights of blocks are spread.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weights {
    /// All weigh 1.
    Unit,
    /// Most are near 8 KiB, some are many times that, as blocks with large values are.
    Blocks,
}

impl Weights {
    fn read(self, key: u64) -> Read {
        let spread = mix(key ^ 0x77);
        let weight = match self {
            Weights::Unit => 1,
            Weights::Blocks if spread.is_multiple_of(50) => 70_000,
            Weights::Blocks => 4_000 + (spread % 5_000) as usize,
        };
        (key, weight)
    }

    /// The budget for about `blocks` blocks.
    pub(super) fn budget(self, blocks: usize) -> usize {
        match self {
            Weights::Unit => blocks,
            Weights::Blocks => blocks * 7_770,
        }
    }
}

/// Reads `0..keys` over and over.
pub(super) fn cycle(weights: Weights, keys: u64, reads: usize) -> Vec<Read> {
    (0..keys).cycle().take(reads).map(|key| weights.read(key)).collect()
}

/// Reads popular keys more often: the k-th with a frequency of 1 / k^skew.
pub(super) fn zipf(weights: Weights, seed: u64, keys: usize, skew: f64, reads: usize) -> Vec<Read> {
    let mut sums = Vec::with_capacity(keys);
    let mut sum = 0.0;
    for rank in 1..=keys {
        sum += (rank as f64).powf(-skew);
        sums.push(sum);
    }
    let mut random = Random(seed);
    let mut draw = || {
        let at = random.unit() * sum;
        // Popular keys are spread over the key space.
        mix(sums.partition_point(|&s| s < at) as u64)
    };
    (0..reads).map(|_| weights.read(draw())).collect()
}

/// A Zipf load that is interrupted by scans of keys that are read once: after every `every` reads,
/// `len` new ones.
pub(super) fn scanned(base: Vec<Read>, weights: Weights, every: usize, len: usize) -> Vec<Read> {
    let mut fresh = 1 << 40..;
    let mut trace = Vec::new();
    for reads in base.chunks(every) {
        trace.extend_from_slice(reads);
        trace.extend(fresh.by_ref().take(len).map(|key| weights.read(key)));
    }
    trace
}

/// Zipf whose popular keys change completely after every `period` reads.
pub(super) fn drifting(weights: Weights, keys: usize, period: usize, phases: u64) -> Vec<Read> {
    let phase = |phase: u64| {
        let reads = zipf(weights, phase, keys, 0.9, period);
        reads.into_iter().map(move |(key, _)| weights.read(key ^ mix(phase)))
    };
    (0..phases).flat_map(phase).collect()
}

/// Two loads that take turns, read by read.
pub(super) fn interleaved(a: Vec<Read>, b: Vec<Read>) -> Vec<Read> {
    a.into_iter().zip(b).flat_map(|(a, b)| [a, b]).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
