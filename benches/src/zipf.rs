//! Random draws: uniform ones, and ones where few records get most of the attention.

use crate::keys::mix;

/// A small fast generator (xorshift), one per thread, the same at every run.
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Draw {
        Draw { state: mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)) | 1 }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, each as likely.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in 0..1.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Zipf-distributed ranks after Gray et al., "Quickly generating billion-record synthetic
/// databases", as YCSB draws them: rank 0 is the most likely.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: u64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

/// The skew that YCSB uses.
pub const YCSB_THETA: f64 = 0.99;

impl Zipf {
    /// Ranks below `count`.
    pub fn new(count: u64, theta: f64) -> Zipf {
        let count = count.max(2);
        let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-theta)).sum::<f64>();
        let all = zeta(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - theta)) / (1.0 - zeta(2) / all);
        Zipf { count, theta, alpha: 1.0 / (1.0 - theta), zeta: all, eta }
    }

    /// The next rank.
    #[inline]
    pub fn rank(&self, draw: &mut Draw) -> u64 {
        let unit = draw.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(self.theta) {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }

    /// The next record: ranks spread over all records, so that the popular ones are not neighbours.
    #[inline]
    pub fn spread(&self, draw: &mut Draw) -> u64 {
        mix(self.rank(draw)) % self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_ranks_get_most_draws_and_none_is_out_of_range() {
        let zipf = Zipf::new(1000, YCSB_THETA);
        let mut draw = Draw::new(1);
        let ranks: Vec<u64> = (0..100_000).map(|_| zipf.rank(&mut draw)).collect();
        let top = ranks.iter().filter(|rank| **rank < 100).count();
        assert!(ranks.iter().all(|rank| *rank < 1000));
        assert!((60_000..80_000).contains(&top), "{top}");
        assert!((0..1000).all(|_| zipf.spread(&mut draw) < 1000));
    }

    #[test]
    fn uniform_draws_reach_everything() {
        let mut draw = Draw::new(2);
        let mut seen = [false; 50];
        (0..2000).for_each(|_| seen[draw.below(50) as usize] = true);
        assert!(seen.iter().all(|seen| *seen));
    }
}
