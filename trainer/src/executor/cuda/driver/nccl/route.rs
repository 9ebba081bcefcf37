//! Which of NCCL's collectives an all-reduce becomes.

use foretrain_sim::collective::{Algorithm, Between, Inside};
use foretrain_sim::units::Bytes;

use super::error::NcclError;
use crate::communicator::AllReduce;

/// What is done with a buffer of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// One all-reduce of all ranks, inside which NCCL chooses.
    Flat,
    /// A reduce in groups of so many consecutive ranks to the first of each, an all-reduce between
    /// those, a broadcast in groups.
    Hierarchical {
        /// Ranks of one group.
        group: u32,
    },
}

/// What to do with so many bytes: what the simulator does with them.
pub(super) fn route(all_reduce: AllReduce, world: u32, bytes: u64) -> Result<Route, NcclError> {
    let AllReduce::Simulated(algorithm) = all_reduce else { return Ok(Route::Flat) };
    let name = algorithm.name();
    let refuse = |what| Err(NcclError::Algorithm { what });
    match algorithm.for_size(world, Bytes::new(bytes)) {
        Ok(Algorithm::Ring) => Ok(Route::Flat),
        Ok(Algorithm::Hierarchical { group, inside, between }) => {
            if group == 0 || !world.is_multiple_of(group) {
                return refuse(format!(
                    "{name} cannot be done in groups of {group} of {world} ranks"
                ));
            }
            if inside == Inside::InNetwork {
                return refuse(format!("{name} with {inside} inside groups is not done"));
            }
            if matches!(between, Between::HalvingDoubling | Between::InNetwork) {
                return refuse(format!("{name} with {between} between groups is not done"));
            }
            Ok(Route::Hierarchical { group })
        }
        Ok(other) => refuse(format!("{} is not done", other.name())),
        Err(error) => refuse(format!("{name} cannot be done, as {error},")),
    }
}

/// The groups that an algorithm needs for some size, if for any.
///
/// # Errors
/// So many ranks cannot do it.
pub(super) fn groups(all_reduce: AllReduce, world: u32) -> Result<Option<u32>, NcclError> {
    let mut groups = None;
    for bytes in [0, u64::MAX] {
        if let Route::Hierarchical { group } = route(all_reduce, world, bytes)? {
            groups = Some(group);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(algorithm: Algorithm) -> AllReduce {
        AllReduce::Simulated(algorithm)
    }

    #[test]
    fn hybrid_goes_by_size_as_in_the_simulator() {
        let hybrid = Algorithm::hybrid(2, Bytes::new(100));
        for bytes in [0, 99, 100, 101] {
            let flat = hybrid.for_size(4, Bytes::new(bytes)) == Ok(Algorithm::Ring);
            let expected = if flat { Route::Flat } else { Route::Hierarchical { group: 2 } };
            assert_eq!(route(simulated(hybrid), 4, bytes), Ok(expected), "{bytes}");
        }
        assert_eq!(route(simulated(hybrid), 4, 100), Ok(Route::Flat));
        assert_eq!(groups(simulated(hybrid), 4), Ok(Some(2)));
        // From 0 bytes on all goes by ring.
        assert_eq!(groups(simulated(Algorithm::hybrid(2, Bytes::new(0))), 4), Ok(None));
        assert_eq!(groups(simulated(Algorithm::hierarchical(4)), 8), Ok(Some(4)));
        assert_eq!(groups(simulated(Algorithm::Ring), 8), Ok(None));
        assert_eq!(groups(AllReduce::Direct, 8), Ok(None));
    }

    #[test]
    fn what_nccl_does_not_do_is_refused_with_what_it_does() {
        let (inside, between) = (Inside::Ring, Between::Ring);
        for (algorithm, what) in [
            (Algorithm::Tree, "tree is not done"),
            (Algorithm::HalvingDoubling, "halving-doubling is not done"),
            (Algorithm::Torus { group: 2 }, "torus is not done"),
            (Algorithm::InNetwork, "in-network is not done"),
            (Algorithm::hierarchical(3), "hierarchical cannot be done in groups of 3 of 4 ranks"),
            (Algorithm::hierarchical(0), "hierarchical cannot be done in groups of 0 of 4 ranks"),
            (
                Algorithm::hybrid(3, Bytes::new(8)),
                "hybrid cannot be done, as groups of 3 do not divide 4 ranks; groups that do: 2, 4,",
            ),
            (
                Algorithm::Hierarchical { group: 2, inside: Inside::InNetwork, between },
                "hierarchical with in-network inside groups is not done",
            ),
            (
                Algorithm::Hierarchical { group: 2, inside, between: Between::HalvingDoubling },
                "hierarchical with halving-doubling between groups is not done",
            ),
        ] {
            let refusal = groups(simulated(algorithm), 4).unwrap_err().to_string();
            let expected = format!("{what} among GPUs: expected ring or direct");
            assert!(refusal.starts_with(&expected), "{refusal}");
        }
    }
}
