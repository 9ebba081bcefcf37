//! A real GPU: NVIDIA's driver and libraries, found when a program asks for a GPU and not before.

pub mod compile;
mod convolutions;
mod event;
mod facts;
mod gpu;
mod graph;
mod kernels;
pub mod libraries;
mod memory;
mod missing;
pub mod nccl;
mod products;
pub mod search;
#[cfg(test)]
mod tests;
mod upload;

pub use event::Event;
pub use facts::GpuFacts;
pub use gpu::Gpu;
pub use graph::Graph;
pub use upload::Upload;

use super::device::DeviceError;

/// Turns an error of `call` into one for the person at the terminal.
fn called<E: ToString>(call: &str) -> impl Fn(E) -> DeviceError + use<'_, E> {
    move |error| DeviceError::Call { call: call.to_owned(), problem: error.to_string() }
}
