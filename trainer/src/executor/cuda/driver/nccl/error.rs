//! Why GPUs could not sum their gradients.

use std::fmt;
use std::time::Duration;

use super::super::super::device::DeviceError;
use crate::bad_value::BadValue;
use crate::communicator::CommunicatorError;

/// What is said at the end where NCCL may know more.
const TRY: &str = "set NCCL_DEBUG=INFO to see what NCCL does";

/// A collective among GPUs that failed. Nothing can be said of the buffer then; after all but
/// [`Misuse`](Self::Misuse) the communicator is of no more use.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NcclError {
    /// The GPU, or a library of it, could not be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The ranks could not communicate through their hosts.
    #[error(transparent)]
    Host(#[from] CommunicatorError),
    /// The timeout makes no sense.
    #[error(transparent)]
    Timeout(#[from] BadValue),
    /// NCCL does not do it so.
    #[error(
        "{what} among GPUs: expected ring or direct, both of which leave it to NCCL, or hierarchical \
         or hybrid with groups that divide the ranks"
    )]
    Algorithm {
        /// What was asked for, and why it is not done.
        what: String,
    },
    /// What makes ranks find each other did not come.
    #[error(
        "joining NCCL: rank {from} sent {bytes} bytes, expected {expected}: {}",
        if *.bytes == 0 { "see what it printed" } else { "do all ranks run the same program?" }
    )]
    UniqueId {
        /// The rank that sent something else.
        from: usize,
        /// How much it sent.
        bytes: usize,
        /// How much it should have sent.
        expected: usize,
    },
    /// A buffer that cannot be summed. The communicator remains as it was.
    #[error("{collective}: rank {rank} gives {what}")]
    Misuse {
        /// The collective.
        collective: String,
        /// This rank.
        rank: u32,
        /// What is wrong, and what was expected.
        what: String,
    },
    /// A call into NCCL failed, or what it began.
    #[error("{collective}: {call} of rank {rank} failed: {problem}; {TRY}")]
    Call {
        /// The collective.
        collective: String,
        /// This rank.
        rank: u32,
        /// NCCL's function.
        call: &'static str,
        /// What NCCL says.
        problem: String,
    },
    /// NCCL failed while the GPU worked.
    #[error("{collective}: NCCL failed on rank {rank} while the GPU worked: {problem}; {TRY}")]
    WhileWorking {
        /// The collective.
        collective: String,
        /// This rank.
        rank: u32,
        /// What NCCL says.
        problem: String,
    },
    /// The GPU failed while NCCL was waited for.
    #[error("{collective}: the GPU of rank {rank} failed: {problem}")]
    Gpu {
        /// The collective.
        collective: String,
        /// This rank.
        rank: u32,
        /// What its driver says.
        problem: DeviceError,
    },
    /// It was not done in time.
    #[error(
        "{collective}: rank {rank} waited {} s for {what}: another rank may be missing{}; {TRY}, or \
         raise the timeout if a rank may be that slow", .waited.as_secs_f64(), last(.said.as_deref())
    )]
    TimedOut {
        /// The collective.
        collective: String,
        /// This rank.
        rank: u32,
        /// What it waited for.
        what: &'static str,
        /// For how long.
        waited: Duration,
        /// What NCCL said last, if anything, which may be of something else.
        said: Option<String>,
    },
    /// The failure, and the ranks that are known to be missing.
    #[error("{host} ({failure})")]
    Missing {
        /// What failed first.
        failure: Box<Self>,
        /// What the ranks' hosts found out.
        host: CommunicatorError,
    },
    /// The failure, though no rank is missing.
    #[error("{failure} (all {} ranks answer: {})", .places.len(), Places(.places))]
    AllAnswer {
        /// What failed.
        failure: Box<Self>,
        /// The collective in which each rank failed.
        places: Vec<String>,
    },
}

impl NcclError {
    /// The collective that failed, as far as it is known.
    #[must_use]
    pub fn collective(&self) -> Option<&str> {
        match self {
            Self::Misuse { collective, .. }
            | Self::Call { collective, .. }
            | Self::WhileWorking { collective, .. }
            | Self::Gpu { collective, .. }
            | Self::TimedOut { collective, .. } => Some(collective),
            Self::Missing { failure, .. } | Self::AllAnswer { failure, .. } => failure.collective(),
            Self::Device(_)
            | Self::Host(_)
            | Self::Timeout(_)
            | Self::Algorithm { .. }
            | Self::UniqueId { .. } => None,
        }
    }

    /// The ranks known to be missing.
    #[must_use]
    pub fn missing(&self) -> &[u32] {
        match self {
            Self::Host(host) | Self::Missing { host, .. } => host.missing(),
            _ => &[],
        }
    }
}

fn last(said: Option<&str>) -> String {
    said.map_or_else(String::new, |said| format!(" (NCCL said last: {said})"))
}

/// Where ranks failed, and what that says.
struct Places<'a>(&'a [String]);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differs = |place: &&String| Some(*place) != self.0.first();
        if !self.0.iter().any(|place| differs(&place)) {
            return f.write_str("NCCL itself failed");
        }
        for (rank, place) in self.0.iter().enumerate() {
            let comma = if rank == 0 { "" } else { ", " };
            write!(f, "{comma}rank {rank} failed in {place}")?;
        }
        f.write_str("; all ranks must run the same collectives in the same order")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::communicator::Absence;

    fn timed_out() -> NcclError {
        NcclError::TimedOut {
            collective: "all-reduce of bucket 3 in step 17".to_owned(),
            rank: 0,
            what: "the GPU's work to end",
            waited: Duration::from_millis(1500),
            said: None,
        }
    }

    #[test]
    fn every_sentence_says_what_where_and_how() {
        let collective = || "all-reduce of bucket 3".to_owned();
        let sentences = [
            (
                timed_out(),
                "all-reduce of bucket 3 in step 17: rank 0 waited 1.5 s for the GPU's work to end: \
                 another rank may be missing; set NCCL_DEBUG=INFO to see what NCCL does, or raise \
                 the timeout if a rank may be that slow",
            ),
            (
                NcclError::TimedOut {
                    collective: collective(),
                    rank: 3,
                    what: "ncclReduce",
                    waited: Duration::from_secs(300),
                    said: Some("NET : closed".to_owned()),
                },
                "all-reduce of bucket 3: rank 3 waited 300 s for ncclReduce: another rank may be \
                 missing (NCCL said last: NET : closed); set NCCL_DEBUG=INFO to see what NCCL does, \
                 or raise the timeout if a rank may be that slow",
            ),
            (
                NcclError::UniqueId { from: 0, bytes: 0, expected: 128 },
                "joining NCCL: rank 0 sent 0 bytes, expected 128: see what it printed",
            ),
            (
                NcclError::UniqueId { from: 2, bytes: 7, expected: 0 },
                "joining NCCL: rank 2 sent 7 bytes, expected 0: do all ranks run the same program?",
            ),
            (
                NcclError::Call {
                    collective: collective(),
                    rank: 1,
                    call: "ncclAllReduce",
                    problem: "invalid usage (5)".to_owned(),
                },
                "all-reduce of bucket 3: ncclAllReduce of rank 1 failed: invalid usage (5); set \
                 NCCL_DEBUG=INFO to see what NCCL does",
            ),
            (
                NcclError::WhileWorking {
                    collective: collective(),
                    rank: 1,
                    problem: "remote process exited (6)".to_owned(),
                },
                "all-reduce of bucket 3: NCCL failed on rank 1 while the GPU worked: remote process \
                 exited (6); set NCCL_DEBUG=INFO to see what NCCL does",
            ),
        ];
        for (error, sentence) in sentences {
            assert_eq!(error.to_string(), sentence);
        }
    }

    #[test]
    fn a_roll_call_says_who_is_missing_or_where_ranks_are() {
        let failure = Box::new(timed_out());
        let host = CommunicatorError::Missing {
            collective: "roll call".to_owned(),
            missing: vec![2],
            absence: Absence::Ended,
            noticed_by: 0,
        };
        let missing = NcclError::Missing { failure: failure.clone(), host };
        assert_eq!(missing.missing(), [2]);
        assert_eq!(missing.collective(), timed_out().collective());
        let sentence = missing.to_string();
        assert!(sentence.starts_with("roll call: rank 2 has ended"), "{sentence}");
        assert!(
            sentence.contains("(all-reduce of bucket 3 in step 17: rank 0 waited"),
            "{sentence}"
        );

        let answer = |places: &[&str]| {
            let places = places.iter().map(|place| (*place).to_owned()).collect();
            NcclError::AllAnswer { failure: failure.clone(), places }.to_string()
        };
        let same = answer(&["a", "a"]);
        assert!(same.ends_with("slow (all 2 ranks answer: NCCL itself failed)"), "{same}");
        let different = answer(&["a", "b"]);
        let end = "(all 2 ranks answer: rank 0 failed in a, rank 1 failed in b; all ranks must run \
                   the same collectives in the same order)";
        assert!(different.ends_with(end), "{different}");
    }
}
