//! Oracles and properties of the laws.

mod oracles;
mod properties;

use super::Convergence;

/// The laws as fitted to the published runs.
fn fitted() -> Convergence {
    let fitted: Convergence = serde_json::from_str(include_str!("../fitted.json")).unwrap();
    fitted.check().unwrap();
    fitted
}
