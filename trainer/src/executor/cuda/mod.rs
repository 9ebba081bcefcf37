//! The executor for NVIDIA GPUs.
//!
//! What a plan needs of a GPU is written down as [`Work`](work::Work): launches of own kernels,
//! convolutions, matrix products, on addresses that are known before the first step. A
//! [`Device`](device::Device) carries it out. The text of the kernels is C that is also compiled for
//! this machine, so that everything but the GPU's own libraries is tested without one.

pub mod arguments;
pub mod device;
pub mod driver;
#[cfg(test)]
pub(crate) mod emulator;
pub mod executor;
pub mod filters;
pub mod kernels;
pub mod lockstep;
pub mod lower;
pub mod memory;
pub mod schedule;
mod state;
pub mod step;
pub mod work;
