//! What measurements say: robust fits with intervals, and refusals of data that say too little.

pub mod curve;
pub mod distribution;
pub mod estimate;
mod noise;
mod refusal;
pub mod robust;
mod segments;
pub mod series;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;
