//! A real GPU: NVIDIA's driver and libraries, found when a program asks for a GPU and not before.

pub mod compile;
pub mod libraries;
mod missing;
pub mod search;
