//! What a run costs: accelerators rented by the hour, and energy at the power they draw.
//!
//! ```text
//! cost   = accelerators · hours · price of one accelerator-hour
//! energy = accelerators · hours · power of one accelerator with its share of the node
//! power  = P idle + (P max − P idle) · busy share
//! ```
//!
//! Power is linear in how much of the time an accelerator computes: X. Fan, W.-D. Weber and L. A.
//! Barroso, "Power provisioning for a warehouse-sized computer", ISCA 2007, found that of servers and
//! their CPUs. Where the maximum is a datasheet's, the energy is an upper bound.

/// US dollars of `accelerators` for `hours`.
#[must_use]
pub fn cost_usd(accelerators: u32, hours: f64, usd_per_accelerator_hour: f64) -> f64 {
    f64::from(accelerators) * hours * usd_per_accelerator_hour
}

/// Kilowatt-hours of `accelerators` for `hours`.
#[must_use]
pub fn energy_kwh(accelerators: u32, hours: f64, watts_per_accelerator: f64) -> f64 {
    f64::from(accelerators) * hours * watts_per_accelerator / 1000.0
}

/// Watts of what draws `idle` without work and `peak` with it, working for `busy`, at most 1, of the
/// time.
#[must_use]
pub fn watts(idle: f64, peak: f64, busy: f64) -> f64 {
    idle + (peak - idle) * busy.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_for_half_an_hour() {
        assert_eq!(cost_usd(8, 0.5, 3.0), 12.0);
        assert_eq!(energy_kwh(8, 0.5, 500.0), 2.0);
    }

    #[test]
    fn power_is_linear_between_idle_and_peak() {
        assert_eq!(
            [0.0, 0.5, 1.0, 1.2].map(|busy| watts(100.0, 400.0, busy)),
            [100.0, 250.0, 400.0, 400.0]
        );
        assert_eq!(watts(400.0, 400.0, 0.3), 400.0);
    }
}
