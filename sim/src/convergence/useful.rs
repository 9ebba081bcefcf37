//! How many of the epochs are useful.
//!
//! ```text
//! u = E / (1 + B/Bc)
//! ```
//!
//! E passes over the data at global batch B make as much progress as u passes of small batches: a
//! step of B images replaces at most 1 + B/Bnoise steps (McCandlish et al., "An empirical model of
//! large-batch training", arXiv 1812.06162, section 2.3: examples needed grow as 1 + B/Bc).

/// u.
#[must_use]
pub fn useful_epochs(epochs: f64, batch: f64, critical_batch: f64) -> f64 {
    epochs / (1.0 + batch / critical_batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_epochs_are_useful_at_the_critical_batch() {
        assert_eq!(useful_epochs(90.0, 50_000.0, 50_000.0), 45.0);
        assert!((useful_epochs(90.0, 256.0, 50_000.0) - 89.5415).abs() < 1e-4);
    }
}
