//! A training step of one rank: forward, backward with the all-reduce under way, update.
//!
//! ```text
//! main thread           forward ─ backward ──┬──┬──┬─▶ wait ─ overflow? ─ optimizer ─ new weights
//!                        bucket complete ────▼──▼──▼        ▲
//! communication thread   queue ▸ pack ▸ all-reduce ▸ unpack ┘
//! ```
//!
//! The gradient of a rank is that of its share of the mean loss over the global batch, times the
//! loss scale: so the sum over the ranks is the averaged gradient, times the scale. Every rank then
//! makes the same update; weights stay the same on all, bit by bit.
//!
//! Buckets travel by being moved: a bucket's memory belongs to the communication thread until it
//! has been summed. With overlap they leave as soon as their last gradient is written, without it
//! after backward; what is computed is the same.
//!
//! That is a [`HostReplica`]. On a GPU ([`device`]) forward, backward, sums and update are one piece of
//! work, and the host only takes the next batch and waits. Both are a [`Replica`].

mod communication;
pub mod device;
mod host_replica;
mod replica;
#[cfg(test)]
mod tests;
mod timeline;
mod wire;

pub use communication::{CommunicationThread, Pending, ThreadGone};
pub use host_replica::{HostReplica, ReplicaSettings};
pub use replica::{Replica, StateError, StepError, StepOutcome};
pub use timeline::Timeline;
