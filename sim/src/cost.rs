//! What a run costs: accelerators rented by the hour, and energy at the power they draw at most.
//!
//! ```text
//! cost   = accelerators · hours · price of one accelerator-hour
//! energy = accelerators · hours · power of one accelerator with its share of the node
//! ```
//!
//! Power is the datasheet's maximum, so the energy is an upper bound.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_for_half_an_hour() {
        assert_eq!(cost_usd(8, 0.5, 3.0), 12.0);
        assert_eq!(energy_kwh(8, 0.5, 500.0), 2.0);
    }
}
