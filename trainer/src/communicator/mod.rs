//! How ranks combine their gradients.
//!
//! ```text
//!  Communicator            what a trainer asks for: all-reduce, broadcast, all-gather, barrier
//!       │
//!  HostCommunicator        which algorithm: AllReduce, the simulator's choice
//!       │
//!  passes over groups      ring, trees, everybody with everybody, halving and doubling
//!       │
//!  endpoint                messages in order, headers that tell collectives apart, failures
//!       │
//!  Transport               bytes from rank to rank: threads of a process, TCP, or MPI
//! ```
//!
//! There is one implementation of each algorithm for all transports: the sums have the same bits
//! whether ranks are threads or processes. They depend on the algorithm and on the number of ranks,
//! because floating-point addition is not associative: a ring adds the ranks of each block in
//! another order, and rounds to the wire's type on every hop, as NCCL does.
//!
//! # Failures
//!
//! Every receive has a time limit. When a rank dies or hangs, all others return an error that names
//! it and the collective: at once if its end is seen (threads, TCP), otherwise [`NOTICE_TIME_MAX`]
//! after the time limit at the latest. A communicator that failed stays failed.
//!
//! # Example
//!
//! ```
//! use foretrain_trainer::communicator::{
//!     Communicator, CommunicatorSettings, HostCommunicator, ThreadTransport,
//! };
//!
//! let sums = std::thread::scope(|scope| {
//!     let ranks = ThreadTransport::world(4).into_iter().map(|transport| {
//!         scope.spawn(move || {
//!             let settings = CommunicatorSettings::default();
//!             let mut communicator = HostCommunicator::new(transport, settings)?;
//!             let mut gradient = [communicator.rank() as f32; 3];
//!             communicator.all_reduce("all-reduce of fc.bias", gradient[..].as_mut().into())?;
//!             Ok::<_, Box<dyn std::error::Error + Send + Sync>>(gradient)
//!         })
//!     });
//!     let ranks: Vec<_> = ranks.collect();
//!     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
//! });
//! assert_eq!(sums.map_err(|error| error.to_string()), Ok(vec![[6.0; 3]; 4]));
//! ```

mod algorithm;
mod buffer;
mod endpoint;
mod error;
mod group;
mod header;
mod host;
mod lent;
#[cfg(feature = "mpi")]
pub mod mpi;
mod passes;
pub mod tcp;
mod threads;
mod transport;

#[cfg(test)]
mod tests;

pub use algorithm::{AllReduce, UnsupportedAllReduce};
pub use buffer::Buffer;
pub use error::{Absence, CommunicatorError};
pub use host::{CommunicatorSettings, HostCommunicator, SettingsError};
pub use lent::{Lent, Return, lend};
pub use threads::ThreadTransport;
pub use transport::{Event, Refused, Transport};

use std::time::Duration;

/// How much later than the time limit a failure is known to all ranks that are at work.
pub const NOTICE_TIME_MAX: Duration = Duration::from_secs(5);

/// A rank's part in the collectives of all ranks.
///
/// All ranks call the same collectives, with the same names, in the same order. A name says in
/// messages what failed, such as `all-reduce of bucket 3 (layer4.0.conv1.weight …
/// layer4.2.bn3.bias) in step 17`.
pub trait Communicator: Send {
    /// This rank.
    fn rank(&self) -> u32;

    /// How many ranks there are.
    fn world(&self) -> u32;

    /// Does all-reduces another way from now on; to be called by all ranks between the same
    /// collectives.
    ///
    /// # Errors
    /// So many ranks cannot run the algorithm; the way stays as it was.
    fn set_all_reduce(&mut self, all_reduce: AllReduce) -> Result<(), UnsupportedAllReduce>;

    /// Replaces `values` by the sum over all ranks: the same bits on each.
    ///
    /// # Errors
    /// A rank is missing, or does something else.
    fn all_reduce(&mut self, name: &str, values: Buffer<'_>) -> Result<(), CommunicatorError>;

    /// Replaces the `values` of rank 0 and of `other` by their sum, by a ring of two: what a message
    /// between the two takes, both ways at once. Other ranks have no part in it, but must call it.
    ///
    /// # Errors
    /// A rank is missing, or does something else.
    fn sum_with_first(
        &mut self,
        name: &str,
        other: u32,
        values: Buffer<'_>,
    ) -> Result<(), CommunicatorError>;

    /// Replaces `values` by those of rank 0.
    ///
    /// # Errors
    /// A rank is missing, or does something else.
    fn broadcast(&mut self, name: &str, values: Buffer<'_>) -> Result<(), CommunicatorError>;

    /// A short message of every rank, in the order of ranks.
    ///
    /// # Errors
    /// A rank is missing, or does something else.
    fn all_gather(&mut self, name: &str, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError>;

    /// Waits until every rank has come here.
    ///
    /// # Errors
    /// A rank is missing, or does something else.
    fn barrier(&mut self, name: &str) -> Result<(), CommunicatorError>;
}
