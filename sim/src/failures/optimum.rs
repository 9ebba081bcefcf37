//! How often to write a checkpoint.

/// Work between checkpoints by J. W. Young, "A first order approximation to the optimum checkpoint
/// interval", Communications of the ACM 17 (1974): √(2δM), in seconds.
#[must_use]
pub fn young_interval_s(checkpoint_s: f64, mtbf_s: f64) -> f64 {
    (2.0 * checkpoint_s * mtbf_s).sqrt()
}

/// Work between checkpoints by J. T. Daly, "A higher order estimate of the optimum checkpoint interval
/// for restart dumps", Future Generation Computer Systems 22 (2006), in seconds:
///
/// ```text
/// √(2δM) · (1 + ⅓·√(δ/2M) + ⅑·δ/2M) − δ        δ < 2M
/// M                                             otherwise
/// ```
///
/// With it the wall-clock time is within a fraction of a percent of the least. What a restart takes
/// has no influence.
#[must_use]
pub fn daly_interval_s(checkpoint_s: f64, mtbf_s: f64) -> f64 {
    if checkpoint_s >= 2.0 * mtbf_s {
        return mtbf_s;
    }
    let ratio = checkpoint_s / (2.0 * mtbf_s);
    young_interval_s(checkpoint_s, mtbf_s) * (1.0 + ratio.sqrt() / 3.0 + ratio / 9.0) - checkpoint_s
}
