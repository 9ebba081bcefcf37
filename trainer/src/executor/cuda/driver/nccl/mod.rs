//! Sums of gradients between GPUs, by NCCL.
//!
//! ```text
//!  NcclCommunicator        join, all_reduce, wait: failures become sentences that name rank and
//!       │                  collective, and nothing waits for ever
//!  route                   which of NCCL's collectives: the simulator's choice by size
//!       │
//!  NcclFunctions           NCCL's functions, from the library that was found
//! ```
//!
//! NCCL chooses between its own rings, trees and protocols inside each of its collectives; so ring and
//! direct are one `ncclAllReduce`. Hierarchical is `ncclReduce` in groups of consecutive ranks to the
//! first of each, `ncclAllReduce` between those masters, `ncclBroadcast` in groups, one after the other
//! on the same stream, over communicators that are split off the one of all ranks and share its
//! buffers. Hybrid is hierarchical below its size and flat from there on, as in the simulator. A world
//! of one rank calls nothing.
//!
//! # Joining and failing
//!
//! Rank 0 makes an identifier, which goes to all ranks through their hosts' communicator. NCCL's
//! communicators are non-blocking: a call returns while a thread of NCCL does what it asks for, and the
//! communicator says when that is done, so that there is a time limit on everything. Each of NCCL's
//! calls is seen to its end before the next begins. After a failure all of NCCL's communicators are
//! aborted, which ends their work on the GPU, and all that is asked of the [`NcclCommunicator`] fails
//! the same way. Every rank then calls [`who_is_missing`], which asks the hosts.
//!
//! A rank that still waits for its GPU does not answer for its host. So the hosts' time limit is to be
//! longer than that of the [`NcclCommunicator`], by what ranks may be apart.
//!
//! # Rules
//!
//! - All ranks join, and then give the same all-reduces of the same sizes, formats and algorithm in the
//!   same order. NCCL does not check it: ranks that differ wait for each other until the time limit, or
//!   sum what does not belong together.
//! - One thread at a time uses a communicator. All work goes to one stream, or to streams that wait for
//!   each other: communicators that share buffers must not work at the same time.
//! - A communicator goes before the GPU whose memory and stream it uses, on every path: a GPU that is
//!   dropped waits for its stream, which may wait for a missing rank until the communicator is aborted.
//!
//! # Captured work
//!
//! [`all_reduce`](NcclCommunicator::all_reduce) may be called while its stream is captured into a
//! graph: it asks nothing of the GPU but to note the work down.
//!
//! - Every rank captures the same collectives, and all ranks launch their graphs the same number of
//!   times, in the same order among their other collectives.
//! - Every all-reduce has been done once before it is captured, as NCCL connects ranks and takes memory
//!   for a collective of a kind when it first meets one, for which ranks wait for each other.
//! - NCCL gives the work from a thread of its own. A capture must let other threads give work, as one
//!   in the mode `THREAD_LOCAL` does.
//! - A graph goes before the communicator whose work is in it, also after a failure: NCCL frees a
//!   communicator, aborted or not, only when no graph refers to it. Where one still does,
//!   the communicator is left behind after a while.
//! - NVIDIA recommends one process for each GPU where work is captured.
//!
//! # What is not verified
//!
//! No sum has been computed by NCCL itself: tests run ranks as threads over functions that imitate
//! NCCL's in main memory. With the real library, all functions are found, an identifier is made, and
//! the start of a communicator is refused in good order where there is no GPU. How long NCCL's thread
//! takes for a call, captured work, aborts of running work, and several nodes are not tried.

mod communicator;
mod end;
mod error;
#[cfg(test)]
mod fake;
mod functions;
mod pace;
mod roll_call;
mod route;
#[cfg(test)]
mod tests;

pub use communicator::{Bind, NcclCommunicator, NcclStream};
pub use error::NcclError;
pub use functions::{NcclFunctions, open};
pub use roll_call::who_is_missing;
