//! Why ranks could not communicate.

use std::fmt;
use std::time::Duration;

use super::algorithm::UnsupportedAllReduce;

/// How it was seen that ranks are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// They have ended.
    Ended,
    /// They neither sent anything in this time nor answered when asked.
    Silent(
        /// The time limit of a receive.
        Duration,
    ),
}

/// A collective that failed. Nothing can be said of the buffer then, and the communicator is of no
/// more use: all that is asked of it fails the same way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommunicatorError {
    /// Ranks do not take part.
    #[error("{collective}: {}", lost(.missing, *.absence, *.noticed_by))]
    Missing {
        /// The collective.
        collective: String,
        /// The ranks.
        missing: Vec<u32>,
        /// How it was seen.
        absence: Absence,
        /// The rank that saw it first, as far as this rank knows.
        noticed_by: u32,
    },
    /// Every rank answers, and still no message came.
    #[error(
        "{collective}: rank {waits_for} did not do its part within {}, though all ranks answer; it \
         is in {its_place}: do all ranks run the same collectives in the same order? If that rank \
         is only slow, raise the timeout", Seconds(*.waited)
    )]
    Stalled {
        /// The collective.
        collective: String,
        /// The rank that was waited for.
        waits_for: u32,
        /// Where it says it is.
        its_place: String,
        /// For how long.
        waited: Duration,
    },
    /// Another rank does something else.
    #[error(
        "{collective}: rank {other} is in {theirs}, this rank {rank} in {ours}: all ranks must run \
         the same collectives in the same order, of the same sizes and by the same algorithm"
    )]
    Mismatch {
        /// The collective.
        collective: String,
        /// This rank.
        rank: u32,
        /// The other rank.
        other: u32,
        /// What the other does.
        theirs: String,
        /// What this rank does.
        ours: String,
    },
    /// Another rank gave up.
    #[error("{collective}: rank {rank} gave up: {reason}")]
    GaveUp {
        /// The collective.
        collective: String,
        /// The rank.
        rank: u32,
        /// Its error.
        reason: String,
    },
    /// A message that no rank of this program sends.
    #[error(
        "{collective}: rank {from} sent a message of {bytes} bytes that cannot be read: do all ranks \
         run the same version of the program?"
    )]
    Unreadable {
        /// The collective.
        collective: String,
        /// The sender.
        from: u32,
        /// The size of the message.
        bytes: usize,
    },
    /// The algorithm cannot be run.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedAllReduce),
}

impl CommunicatorError {
    /// The ranks known to be missing.
    #[must_use]
    pub fn missing(&self) -> &[u32] {
        match self {
            Self::Missing { missing, .. } => missing,
            _ => &[],
        }
    }
}

fn lost(missing: &[u32], absence: Absence, noticed_by: u32) -> String {
    let names: Vec<String> = missing.iter().map(u32::to_string).collect();
    let (ranks, has, it) = match missing {
        [_] => ("rank", "has", "it"),
        _ => ("ranks", "have", "they"),
    };
    let names = names.join(", ");
    match absence {
        Absence::Ended => format!(
            "{ranks} {names} {has} ended (noticed by rank {noticed_by}): see what {it} printed last"
        ),
        Absence::Silent(waited) => format!(
            "no sign of {ranks} {names} within {} (noticed by rank {noticed_by}): see what {it} \
             printed last; if {it} may be that slow, raise the timeout",
            Seconds(waited)
        ),
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_collective_and_the_ranks() {
        let missing = |missing: &[u32], absence| CommunicatorError::Missing {
            collective: "all-reduce of bucket 3 in step 17".to_owned(),
            missing: missing.to_vec(),
            absence,
            noticed_by: 0,
        };
        assert_eq!(
            missing(&[2], Absence::Ended).to_string(),
            "all-reduce of bucket 3 in step 17: rank 2 has ended (noticed by rank 0): see what it \
             printed last"
        );
        assert_eq!(
            missing(&[2, 5], Absence::Silent(Duration::from_millis(1500))).to_string(),
            "all-reduce of bucket 3 in step 17: no sign of ranks 2, 5 within 1.5 s (noticed by rank \
             0): see what they printed last; if they may be that slow, raise the timeout"
        );
    }
}
