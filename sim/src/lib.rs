//! sim
pub mod catalogue;
pub mod collective;
pub mod compute;
pub mod engine;
pub mod network;
pub mod random;
pub mod units;
pub mod workload;
