//! How compute varies from step to step and from rank to rank.
//!
//! Each rank draws a factor of mean 1 in each step, independently (statrs' lognormal or gamma
//! distribution); slow ranks have a fixed factor on top. The slowest of thousands of draws decides
//! when an all-reduce can finish, which is why a small variation costs much at scale.

use rand::distr::Distribution;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{Gamma, LogNormal};

use crate::network::Rank;
use crate::random::{Stream, Streams};

/// The shape of the variation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JitterDistribution {
    /// ln of the factor is normal.
    #[default]
    Lognormal,
    /// The factor is gamma distributed.
    Gamma,
}

/// A rank that is always slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowRank {
    /// Which.
    pub rank: Rank,
    /// How many times as long its compute takes.
    pub factor: f64,
}

/// The variation of compute.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Jitter {
    /// The shape.
    pub distribution: JitterDistribution,
    /// Standard deviation over mean; zero for none.
    pub variation: f64,
    /// Ranks that are always slower.
    pub slow_ranks: Vec<SlowRank>,
}

enum Factors {
    One,
    Lognormal(LogNormal),
    Gamma(Gamma),
}

/// The factors of all ranks, step after step.
pub(crate) struct JitterDraws {
    factors: Factors,
    streams: Vec<Stream>,
    base: Vec<f64>,
}

impl JitterDraws {
    pub(crate) fn new(jitter: &Jitter, ranks: u32, streams: &Streams) -> Self {
        let factors = distribution(jitter);
        let streams = match factors {
            Factors::One => Vec::new(),
            _ => (0..ranks)
                .map(|rank| streams.stream(&Rank(rank).to_string(), "compute jitter"))
                .collect(),
        };
        let mut base = vec![1.0; ranks as usize];
        for slow in &jitter.slow_ranks {
            if let Some(factor) = base.get_mut(slow.rank.index()) {
                *factor *= slow.factor;
            }
        }
        Self { factors, streams, base }
    }

    /// The factors of the next step.
    pub(crate) fn draw(&mut self) -> Vec<f64> {
        let mut draws = self.base.clone();
        for (draw, stream) in draws.iter_mut().zip(&mut self.streams) {
            *draw *= match &self.factors {
                Factors::One => 1.0,
                Factors::Lognormal(distribution) => distribution.sample(stream),
                Factors::Gamma(distribution) => distribution.sample(stream),
            };
        }
        draws
    }
}

/// With v = variation: lognormal of σ² = ln(1 + v²), μ = −σ²/2; gamma of shape 1/v², rate 1/v².
/// Both have mean 1 and standard deviation v.
fn distribution(jitter: &Jitter) -> Factors {
    let squared = jitter.variation * jitter.variation;
    if !(squared.is_finite() && squared > 0.0) {
        return Factors::One;
    }
    let factors = match jitter.distribution {
        JitterDistribution::Lognormal => {
            let variance = squared.ln_1p();
            LogNormal::new(-variance / 2.0, variance.sqrt()).map(Factors::Lognormal).ok()
        }
        JitterDistribution::Gamma => {
            Gamma::new(squared.recip(), squared.recip()).map(Factors::Gamma).ok()
        }
    };
    factors.unwrap_or(Factors::One)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(distribution: JitterDistribution, variation: f64) -> (f64, f64) {
        let jitter = Jitter { distribution, variation, slow_ranks: Vec::new() };
        let mut draws = JitterDraws::new(&jitter, 100, &Streams::new(7));
        let factors: Vec<f64> = (0..1000).flat_map(|_| draws.draw()).collect();
        let mean = factors.iter().sum::<f64>() / factors.len() as f64;
        let variance =
            factors.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / factors.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn factors_have_mean_one_and_the_variation_asked_for() {
        for distribution in [JitterDistribution::Lognormal, JitterDistribution::Gamma] {
            for variation in [0.01, 0.05, 0.3] {
                let (mean, deviation) = moments(distribution, variation);
                // 100,000 draws: the mean's standard error is variation / 316.
                assert!((mean - 1.0).abs() < 5.0 * variation / 316.0, "{distribution:?} {mean}");
                assert!((deviation / variation - 1.0).abs() < 0.05, "{distribution:?} {deviation}");
            }
        }
    }

    #[test]
    fn a_slow_rank_is_slow_in_every_step_and_moves_no_other_draw() {
        let mut jitter = Jitter { variation: 0.05, ..Jitter::default() };
        let draw = |jitter: &Jitter| JitterDraws::new(jitter, 4, &Streams::new(1)).draw();
        let before = draw(&jitter);
        jitter.slow_ranks.push(SlowRank { rank: Rank(2), factor: 1.5 });
        let after = draw(&jitter);
        for rank in [0, 1, 3] {
            assert_eq!(before[rank], after[rank]);
        }
        assert!((after[2] / before[2] - 1.5).abs() < 1e-12);
    }

    #[test]
    fn no_variation_is_no_jitter() {
        let mut draws = JitterDraws::new(&Jitter::default(), 3, &Streams::new(1));
        assert_eq!(draws.draw(), [1.0; 3]);
    }
}
