//! Random streams, one per (entity, purpose).
//!
//! A stream is keyed by stable names, not by the order of creation, so a draw added in one place
//! moves nothing anywhere else, and the thread that draws does not matter.

use rand::rand_core::{SeedableRng, TryRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sha2::{Digest, Sha256};

/// 2^64 over the golden ratio, odd: `SplitMix64`'s increment.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SplitMix64`'s output function (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014), for draws that depend on a place and not on an order.
#[inline(always)]
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Random bits that depend on a place and on no order: draw number `place` of `SplitMix64` seeded
/// with `key`.
#[inline(always)]
#[must_use]
pub const fn place_bits(key: u64, place: u64) -> u64 {
    mix(key.wrapping_add(place.wrapping_add(1).wrapping_mul(GOLDEN)))
}

/// [`place_bits`] as a number in [0, 1), uniform.
#[inline(always)]
#[must_use]
pub const fn place_uniform(key: u64, place: u64) -> f64 {
    (place_bits(key, place) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Where all streams of one simulation come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

/// One stream of random numbers (xoshiro256++), usable with every `rand` distribution.
#[derive(Debug, Clone)]
pub struct Stream(Xoshiro256PlusPlus);

impl Streams {
    /// The streams of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream of one entity for one purpose, such as `("rank 7", "compute jitter")`.
    ///
    /// Its state is the SHA-256 of the seed and both names, so streams are independent.
    #[must_use]
    pub fn stream(&self, entity: &str, purpose: &str) -> Stream {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        for name in [entity, purpose] {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
        }
        Stream(Xoshiro256PlusPlus::from_seed(hash.finalize().into()))
    }
}

impl TryRng for Stream {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.try_fill_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    /// The first outputs of the reference implementation with seed 1234567
    /// (<https://prng.di.unimi.it/splitmix64.c>), as in Rosetta Code's "Pseudo-random
    /// numbers/Splitmix64".
    #[test]
    fn mix_is_splitmix64() {
        let outputs = (1..=3).map(|n: u64| mix(1_234_567_u64.wrapping_add(n.wrapping_mul(GOLDEN))));
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert!(outputs.eq(expected));
    }

    #[test]
    fn streams_are_keyed_by_seed_entity_and_purpose() {
        let first = |seed, entity, purpose| Streams::new(seed).stream(entity, purpose).next_u64();
        let reference = first(1, "rank 1", "jitter");
        assert_eq!(first(1, "rank 1", "jitter"), reference);
        assert_ne!(first(2, "rank 1", "jitter"), reference);
        assert_ne!(first(1, "rank 2", "jitter"), reference);
        assert_ne!(first(1, "rank 1", "start"), reference);
        assert_ne!(first(1, "rank 1j", "itter"), reference);
    }

    #[test]
    fn a_stream_is_the_same_on_every_machine() {
        // Computed apart: SHA-256 of the seed and the length-prefixed names, read as four
        // little-endian words, through the published xoshiro256++ (prng.di.unimi.it).
        let mut stream = Streams::new(1).stream("rank 0", "compute jitter");
        let draws: Vec<u64> = (0..2).map(|_| stream.next_u64()).collect();
        assert_eq!(draws, [12_610_262_025_493_650_965, 8_111_724_634_228_021_620]);
    }
}
