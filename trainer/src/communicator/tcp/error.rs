//! Why ranks did not find each other.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::launch::Master;

/// Ranks that did not meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TcpError {
    /// A rank that cannot be, or no port.
    #[error(
        "rank {rank} of {world} cannot meet others at port {port}: expected a rank below the world \
         and a port above 0"
    )]
    Impossible {
        /// This rank.
        rank: u32,
        /// How many ranks there are.
        world: u32,
        /// The port.
        port: u16,
    },
    /// The host of rank 0 has no address.
    #[error(
        "the host of rank 0, `{host}`, has no address: {reason}; correct --master or MASTER_ADDR"
    )]
    Resolve {
        /// The host.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// This rank cannot take connections.
    #[error("rank {rank} cannot listen at {place}: {reason}")]
    Listen {
        /// This rank.
        rank: u32,
        /// Where.
        place: String,
        /// What the system says, and what to do.
        reason: String,
    },
    /// Rank 0 is not there.
    #[error(
        "no answer from rank 0 at {master} within {} s ({reason}): has it been started, and does \
         every rank have the same master address?", .waited.as_secs_f64()
    )]
    NoAnswer {
        /// Where it should be.
        master: Master,
        /// For how long it was tried.
        waited: Duration,
        /// How the last try failed.
        reason: String,
    },
    /// Somebody else is there.
    #[error("{place} is not a rank of this program: {reason}; choose another port")]
    Foreign {
        /// Where.
        place: String,
        /// What is wrong with what it says.
        reason: String,
    },
    /// Ranks did not come.
    #[error(
        "{} {place} within {} s: see what {} printed last{turned_away}", did_not_come(.missing),
        .waited.as_secs_f64(), if .missing.len() == 1 { "it" } else { "they" }
    )]
    Missing {
        /// Where they should have come.
        place: String,
        /// The ranks.
        missing: Vec<u32>,
        /// How long they had.
        waited: Duration,
        /// Who came instead, if anybody.
        turned_away: TurnedAway,
    },
    /// Two processes are the same rank.
    #[error(
        "two processes are rank {rank}, one on {first}, the other on {second}: give each a rank of \
         its own"
    )]
    SameRank {
        /// The rank.
        rank: u32,
        /// The host of the one.
        first: String,
        /// The host of the other.
        second: String,
    },
    /// Ranks do not agree how many they are.
    #[error(
        "{rank} is one of {theirs} ranks, rank {own} one of {ours}: start all with the same world"
    )]
    Worlds {
        /// The other rank, and its host.
        rank: String,
        /// How many ranks there are for it.
        theirs: u32,
        /// The rank that it came to.
        own: u32,
        /// How many there are for that.
        ours: u32,
    },
    /// Another rank refused this one.
    #[error("{by} turned this rank away: {reason}")]
    Refused {
        /// The other rank, and where it is.
        by: String,
        /// What it says.
        reason: String,
    },
    /// A rank came to the meeting, and cannot be reached.
    #[error(
        "rank {rank} on {host} cannot be reached at {place}: {reason}; ranks connect to each other on \
         ports that the system chooses: see whether it has ended, and what a firewall lets through"
    )]
    Unreachable {
        /// The rank.
        rank: u32,
        /// Its host.
        host: String,
        /// Its address and port.
        place: String,
        /// What the system says.
        reason: String,
    },
    /// The connection cannot be set up.
    #[error("the connection to rank {rank} cannot be used: {reason}")]
    Setup {
        /// The other rank.
        rank: u32,
        /// What the system says.
        reason: String,
    },
}

/// Those who came to a meeting and were no ranks of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TurnedAway(pub(super) Vec<String>);

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => Ok(()),
            false => write!(f, "; turned away: {}", self.0.join(", ")),
        }
    }
}

fn did_not_come(missing: &[u32]) -> String {
    let names: Vec<String> = missing.iter().map(u32::to_string).collect();
    let ranks = if missing.len() == 1 { "rank" } else { "ranks" };
    format!("{ranks} {} did not come to", names.join(", "))
}

impl TcpError {
    pub(super) fn listen(rank: u32, place: impl fmt::Display, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is taken, by another program or by another process \
                                         that is rank 0: choose another by --master or MASTER_PORT"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        Self::Listen { rank, place: place.to_string(), reason }
    }
}
