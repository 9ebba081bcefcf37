//! From raw measurements to a profile, or to the reason why they cannot support one.
//!
//! Every part of a profile is fitted by itself: layers and updates are medians over steps
//! (`compute.rs`), links are curves (`links.rs`), the rest is in `others.rs`. What is doubtful becomes a
//! warning; what cannot be fitted is refused, and then there is no profile.

mod compute;
mod links;
mod others;
mod warnings;

#[cfg(test)]
mod tests;

use foretrain_sim::profile::{
    CostEntry, FileHash, Origin, Profile, ProfileWarning, StepProfile, VERSION,
};
use foretrain_sim::random::Streams;

use crate::fit::Refusal;
use crate::fit::estimate::median_estimate;
use crate::measurements::{Measurements, Observation, StepSeries};

/// Measurements that cannot support a profile.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{about}: {reason}")]
pub struct Refused {
    /// Which measurement.
    pub about: String,
    /// Why, and what to measure instead.
    pub reason: String,
}

impl Refused {
    fn new(about: impl ToString, reason: impl ToString) -> Self {
        Self { about: about.to_string(), reason: reason.to_string() }
    }

    fn of(about: impl ToString) -> impl FnOnce(Refusal) -> Self {
        move |refusal| Self::new(about, refusal)
    }
}

/// What is being fitted, and what was doubtful so far.
struct Fitting<'a> {
    measurements: &'a Measurements,
    streams: Streams,
    warnings: Vec<ProfileWarning>,
}

impl Fitting<'_> {
    fn warn(&mut self, code: &str, about: impl ToString, message: impl ToString) {
        let (code, about, message) = (code.to_owned(), about.to_string(), message.to_string());
        let warning = ProfileWarning { code, about, message };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// Fits a profile; `raw` is the file that the measurements are kept in, beside it.
///
/// # Errors
/// A part of the measurements cannot support a fit.
pub fn fit(measurements: &Measurements, raw: Option<FileHash>) -> Result<Profile, Refused> {
    let all = measurements;
    let empty = all.compute.is_empty()
        && all.links.is_empty()
        && all.collectives.is_empty()
        && all.steps.is_empty()
        && all.input.is_none()
        && all.norms.is_none();
    if empty {
        let noted = all.observations.iter().filter_map(|observation| match observation {
            Observation::NotMeasured { what } => Some(format!(" ({what})")),
            _ => None,
        });
        let reason = format!("there is nothing{}", noted.collect::<String>());
        return Err(Refused::new("measurements", reason));
    }
    let mut fitting =
        Fitting { measurements, streams: Streams::new(measurements.seed), warnings: Vec::new() };
    let compute = fitting.compute()?;
    let packing = fitting.packing();
    let links = fitting.links()?;
    let collectives = fitting.collectives()?;
    let jitter = fitting.jitter()?;
    let input = fitting.input()?;
    let gradient_noise = fitting.gradient_noise();
    let steps = measurements.steps.iter().map(step).collect::<Result<Vec<_>, _>>()?;
    fitting.observations();
    let cost = CostEntry {
        usd_per_accelerator_hour: measurements.usd_per_accelerator_hour,
        watts_per_accelerator: measurements.watts_per_accelerator,
    };
    Ok(Profile {
        profile: VERSION,
        foretrain: env!("CARGO_PKG_VERSION").to_owned(),
        origin: Origin {
            procedure: measurements.procedure.clone(),
            command: measurements.command.clone(),
            measured: measurements.measured.clone(),
            seed: measurements.seed,
        },
        machine: measurements.machine.clone(),
        compute,
        packing,
        links,
        collectives,
        jitter,
        input,
        gradient_noise,
        cost: (cost != CostEntry::default()).then_some(cost),
        steps,
        warnings: fitting.warnings,
        measurements: raw,
    })
}

fn step(series: &StepSeries) -> Result<StepProfile, Refused> {
    let StepSeries { ranks, ranks_per_node, per_rank_batch, all_reduce, overlap, .. } = *series;
    let about = || format!("steps with {all_reduce}, fusion {}", series.fusion);
    let periods = &series.periods_s;
    let median = median_estimate(periods).ok_or_else(|| {
        let reason = format!(
            "{} steps were measured, expected at least 2 that take time: measure more",
            periods.len()
        );
        Refused::new(about(), reason)
    })?;
    Ok(StepProfile {
        ranks,
        ranks_per_node,
        per_rank_batch,
        all_reduce,
        fusion: series.fusion.clone(),
        wire_element_bytes: series.wire_element_bytes,
        overlap,
        step_us: median.scaled(1e6),
        step_mean_us: 1e6 * periods.iter().sum::<f64>() / periods.len() as f64,
        steps: periods.len() as u32,
    })
}
