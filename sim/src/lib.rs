//! sim
pub mod catalogue;
pub mod collective;
pub mod compute;
pub mod engine;
pub mod fusion;
pub mod network;
pub mod random;
pub mod step;
pub mod units;
pub mod workload;
