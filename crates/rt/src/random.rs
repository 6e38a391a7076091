//! The door to the dice.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives random bits.
pub trait Random: Send + Sync + std::fmt::Debug {
    /// 128 bits.
    fn u128(&self) -> u128;
}

/// The operating system's dice, fit for secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn u128(&self) -> u128 {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("Linux gives random bytes once it has started");
        u128::from_le_bytes(bytes)
    }
}

/// Dice that fall the same way for the same seed.
///
/// The algorithm is SplitMix64 (Steele, Lea, Flood 2014): good enough to choose faults, and small.
#[derive(Debug)]
pub struct SimRandom(AtomicU64);

impl SimRandom {
    /// Dice of this seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// 64 bits.
    pub fn u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0. The bias is below 2^-32 for the bounds used here.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        self.u64() % bound
    }

    /// True this often in 100.
    pub fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

impl Random for SimRandom {
    fn u128(&self) -> u128 {
        u128::from(self.u64()) << 64 | u128::from(self.u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_dice() {
        let (one, other) = (SimRandom::new(7), SimRandom::new(7));
        assert!((0..100).all(|_| one.u128() == other.u128()));
        assert_ne!(SimRandom::new(7).u64(), SimRandom::new(8).u64());
        assert_ne!(OsRandom.u128(), OsRandom.u128());
    }
}
