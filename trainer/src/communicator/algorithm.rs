//! How all-reduces are done: which of the simulator's algorithms ranks can run, and one more.

use std::fmt;

use foretrain_sim::collective::{Algorithm, Between, CollectiveError, Inside, Method, Strategy};
use foretrain_sim::units::Bytes;

/// How all-reduces are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllReduce {
    /// As the simulator predicts it: the same messages in the same order.
    Simulated(
        /// Ring, halving-doubling, hierarchical or hybrid.
        Algorithm,
    ),
    /// Every rank gets its part of the data from all others, sums it in the order of ranks, and
    /// sends the sum to all others. The sum of an element does not depend on where it lies in a
    /// buffer: fused and single gradients give the same bits. Every rank sends n − 1 messages at
    /// once.
    Direct,
}

impl Default for AllReduce {
    fn default() -> Self {
        Self::Simulated(Algorithm::Ring)
    }
}

impl fmt::Display for AllReduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulated(algorithm) => algorithm.name().fmt(f),
            Self::Direct => f.pad("direct"),
        }
    }
}

/// An all-reduce that ranks cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedAllReduce {
    /// The simulator knows it, ranks do not.
    #[error(
        "{what} can be simulated but not run on the CPU: expected ring, halving-doubling, direct, \
         or hierarchical or hybrid with ring, tree or direct inside groups and ring or \
         halving-doubling between them"
    )]
    Algorithm {
        /// What was asked for.
        what: String,
    },
    /// It cannot be done among these ranks.
    #[error("{algorithm} cannot be done: {0}", algorithm = .1)]
    Ranks(
        /// Why.
        CollectiveError,
        /// The algorithm.
        String,
    ),
    /// The data is to be split.
    #[error(
        "{channels} channels{} can be simulated but not run on the CPU: expected 1 channel and no \
         chunk", if *.chunked { " and chunks" } else { "" }
    )]
    Split {
        /// Channels asked for.
        channels: u32,
        /// Whether chunks were asked for.
        chunked: bool,
    },
}

impl TryFrom<&Method> for AllReduce {
    type Error = UnsupportedAllReduce;

    fn try_from(method: &Method) -> Result<Self, UnsupportedAllReduce> {
        match method {
            Method::Strategy(Strategy { algorithm, channels: 1, chunk: None }) => {
                Ok(Self::Simulated(*algorithm))
            }
            Method::Strategy(Strategy { channels, chunk, .. }) => {
                let (channels, chunked) = (*channels, chunk.is_some());
                Err(UnsupportedAllReduce::Split { channels, chunked })
            }
            Method::Nccl(_) => {
                Err(UnsupportedAllReduce::Algorithm { what: "NCCL's choice".to_owned() })
            }
        }
    }
}

/// What is done with a buffer of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Ring,
    HalvingDoubling,
    Direct,
    Hierarchical { group: u32, inside: InsideGroup, between: BetweenMasters },
}

/// [`Inside`], as far as ranks can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InsideGroup {
    Ring,
    Tree,
    Direct,
}

/// [`Between`], as far as ranks can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BetweenMasters {
    Ring,
    HalvingDoubling,
}

impl AllReduce {
    /// Whether `world` ranks can do it, whatever the size of the data.
    ///
    /// # Errors
    /// They cannot.
    pub fn check(self, world: u32) -> Result<(), UnsupportedAllReduce> {
        let largest = Bytes::new(u64::MAX);
        self.route(world, Bytes::new(0)).and(self.route(world, largest)).map(|_| ())
    }

    /// What to do with so many bytes.
    pub(super) fn route(self, world: u32, bytes: Bytes) -> Result<Route, UnsupportedAllReduce> {
        let Self::Simulated(algorithm) = self else { return Ok(Route::Direct) };
        let ranks = |error| UnsupportedAllReduce::Ranks(error, algorithm.name().to_string());
        let unsupported = |what| Err(UnsupportedAllReduce::Algorithm { what });
        match algorithm.for_size(world, bytes).map_err(ranks)? {
            Algorithm::Ring => Ok(Route::Ring),
            Algorithm::HalvingDoubling => Ok(Route::HalvingDoubling),
            Algorithm::Hierarchical { group, inside, between } => {
                let inside = match inside {
                    Inside::Ring => InsideGroup::Ring,
                    Inside::Tree => InsideGroup::Tree,
                    Inside::Direct => InsideGroup::Direct,
                    Inside::InNetwork => {
                        return unsupported(format!("hierarchical with {inside} inside groups"));
                    }
                };
                let between = match between {
                    Between::Ring => BetweenMasters::Ring,
                    Between::HalvingDoubling => BetweenMasters::HalvingDoubling,
                    Between::Tree | Between::InNetwork => {
                        return unsupported(format!("hierarchical with {between} between groups"));
                    }
                };
                // The simulator's other reasons to refuse.
                algorithm.schedule(world, Bytes::new(0)).map_err(ranks)?;
                Ok(Route::Hierarchical { group, inside, between })
            }
            other => unsupported(other.name().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(algorithm: Algorithm, world: u32) -> String {
        AllReduce::Simulated(algorithm).check(world).unwrap_err().to_string()
    }

    #[test]
    fn what_ranks_cannot_do_is_refused_with_what_they_can() {
        for (algorithm, what) in [
            (Algorithm::Tree, "tree"),
            (Algorithm::Torus { group: 2 }, "torus"),
            (Algorithm::InNetwork, "in-network"),
            (
                Algorithm::Hierarchical {
                    group: 2,
                    inside: Inside::InNetwork,
                    between: Between::Ring,
                },
                "hierarchical with in-network inside groups",
            ),
            (
                Algorithm::Hybrid {
                    group: 2,
                    inside: Inside::Ring,
                    between: Between::Tree,
                    ring_from: Bytes::new(1),
                },
                "hierarchical with tree between groups",
            ),
        ] {
            let refusal = refusal(algorithm, 4);
            assert!(refusal.starts_with(what), "{refusal}");
            assert!(refusal.contains("expected ring, halving-doubling, direct"), "{refusal}");
        }
    }

    #[test]
    fn groups_must_divide_the_ranks() {
        let expected = "groups of 3 do not divide 4 ranks; groups that do: 2, 4";
        for (algorithm, name) in [
            (Algorithm::hierarchical(3), "hierarchical"),
            (Algorithm::hybrid(3, Bytes::new(8)), "hybrid"),
        ] {
            assert_eq!(refusal(algorithm, 4), format!("{name} cannot be done: {expected}"));
        }
    }

    #[test]
    fn hybrid_goes_by_size() {
        let hybrid = AllReduce::Simulated(Algorithm::hybrid(2, Bytes::new(100)));
        let route = |bytes| hybrid.route(4, Bytes::new(bytes)).unwrap();
        assert!(matches!(route(99), Route::Hierarchical { group: 2, .. }));
        assert_eq!(route(100), Route::Ring);
    }

    #[test]
    fn a_scenarios_method_is_taken_if_it_is_not_split() {
        let strategy = Strategy::from(Algorithm::Ring);
        let ring = AllReduce::try_from(&Method::from(strategy));
        assert_eq!(ring, Ok(AllReduce::default()));
        let split = Method::from(Strategy { channels: 2, chunk: Some(Bytes::new(1)), ..strategy });
        assert_eq!(
            AllReduce::try_from(&split).unwrap_err().to_string(),
            "2 channels and chunks can be simulated but not run on the CPU: expected 1 channel and \
             no chunk"
        );
    }
}
