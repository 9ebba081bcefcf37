//! Prices and power of a point, from the scenario or the catalogue.

use super::machine::{InputSource, Machine};
use super::problem::Problem;
use super::spec::{CostSpec, ScenarioSpec};
use crate::catalogue::Catalogue;
use crate::units::Power;

/// Prices and power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostRates {
    /// USD for one accelerator for one hour.
    pub usd_per_accelerator_hour: Option<f64>,
    /// Watts of one accelerator with its share of the node, computing.
    pub watts_per_accelerator: f64,
    /// The same when it does not compute, where that is known.
    pub idle_watts_per_accelerator: Option<f64>,
}

/// The rates of `machine`, if cost is asked for, and where they are from.
pub(super) fn rates(
    scenario: &ScenarioSpec,
    machine: &Machine,
) -> Result<(Option<CostRates>, Vec<InputSource>), Problem> {
    let Some(spec) = &scenario.cost else { return Ok((None, Vec::new())) };
    let mut sources = Vec::new();
    let accelerator = &machine.accelerator;
    let price = spec.price.or(accelerator.price_per_hour);
    if let Some(price) = price {
        let listed = accelerator.price_source.as_deref().zip(accelerator.price_date.as_deref());
        let from = match (spec.price, listed) {
            (Some(_), _) => "scenario".to_owned(),
            (None, Some((source, date))) => format!("{source}, {date}"),
            (None, None) => accelerator.source.clone(),
        };
        sources.push(InputSource {
            what: "price of an accelerator",
            value: price.to_string(),
            from,
        });
    }
    let (watts, from) = power(scenario, spec, machine);
    let idle_watts = spec.idle_power.map(Power::get);
    if let Some(idle) = spec.idle_power.filter(|idle| idle.get() > watts) {
        let problem = format!(
            "{idle} is more than the power when computing, {watts} W: give less, or cost.power"
        );
        return Err(Problem::new("cost.idle_power", problem));
    }
    // No accelerator runs on nothing: its power is not known.
    if watts > 0.0 {
        let value = match spec.idle_power {
            Some(idle) => format!("{watts} W computing, {idle} otherwise"),
            None => format!("{watts} W all the time, an upper bound: cost.idle_power is not given"),
        };
        sources.push(InputSource { what: "power of an accelerator", value, from });
    }
    let rates = CostRates {
        usd_per_accelerator_hour: price.map(|price| price.get()),
        watts_per_accelerator: watts,
        idle_watts_per_accelerator: idle_watts,
    };
    Ok((Some(rates), sources))
}

/// Watts of one accelerator with its share of the node, as far as it is known, and where they are
/// from.
fn power(scenario: &ScenarioSpec, spec: &CostSpec, machine: &Machine) -> (f64, String) {
    if let Some(power) = spec.power {
        return (power.get(), "scenario".to_owned());
    }
    if let Some((node, power)) = machine.node.and_then(|node| Some((node, node.node_power?))) {
        let from = format!("{} at most, over its accelerators; {}", node.title, node.source);
        return (power.get() / f64::from(node.accelerators.max(1)), from);
    }
    let accelerator = &machine.accelerator;
    let is_listed = Catalogue::shipped().accelerator(&accelerator.name).is_some();
    let from = match scenario.accelerator.board_power {
        Some(_) => "scenario, without the rest of the node".to_owned(),
        None if is_listed => {
            let source = &accelerator.source;
            format!("its board at most, without the rest of the node; {source}")
        }
        None => accelerator.source.clone(),
    };
    (accelerator.board_power.get(), from)
}
