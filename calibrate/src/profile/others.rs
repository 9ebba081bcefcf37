//! Variation, input and noise of gradients.

use foretrain_sim::convergence::noise_scale::{Images, SquaredNorms};
use foretrain_sim::profile::{Estimate, GradientNoise, InputProfile, JitterProfile};

use super::{Fitting, Refused};
use crate::fit::distribution::{FEWEST_VALUES, fit_distribution};
use crate::fit::estimate::{median_estimate, percentile_bootstrap};
use crate::fit::robust::{median, reject_outliers};
use crate::fit::series::{self, Finding};
use crate::measurements::{ComputeSeries, InputSeries, NormSeries};

/// Less probable fits are worth a word.
const KS_PROBABILITY_MIN: f64 = 0.02;

/// More steps than this say no more of a distribution.
const VALUES_MAX: usize = 4000;

impl Fitting<'_> {
    /// How compute varies: each rank about its own median.
    pub(super) fn jitter(&mut self) -> Result<Option<JitterProfile>, Refused> {
        let about = "variation of compute";
        let length = |series: &ComputeSeries| series.rank_compute_ns.first().map_or(0, Vec::len);
        let alone = self.measurements.compute.iter().filter(|series| !series.overlap);
        let Some(longest) = alone.max_by_key(|series| length(series)) else { return Ok(None) };
        if length(longest) < FEWEST_VALUES {
            return Ok(None);
        }
        let ranks: Vec<(u32, Vec<f64>)> = (0..)
            .zip(&longest.rank_compute_ns)
            .map(|(rank, times)| (rank, times.iter().map(|ns| *ns as f64).collect()))
            .collect();
        let slow = series::slow_ranks(&ranks);
        let slow_ranks = slow.iter().filter_map(|found| match found {
            Finding::SlowRank { rank, times_slower, .. } => Some((*rank, *times_slower)),
            _ => None,
        });
        let slow_ranks = slow_ranks.collect();
        for found in slow {
            self.warn(found.code(), about, found);
        }
        if let Some((rank, _)) =
            ranks.iter().find(|(_, times)| times.iter().any(|time| *time <= 0.0))
        {
            let reason = format!("a step of rank {rank} took no time: the clock is too coarse");
            return Err(Refused::new(about, reason));
        }
        let factors: Vec<Vec<f64>> = ranks
            .iter()
            .map(|(_, times)| {
                let middle = median(times);
                times.iter().map(|time| time / middle).collect()
            })
            .collect();
        for (rank, factors) in factors.iter().enumerate() {
            let about = format!("{about} of rank {rank}");
            let found =
                [series::drift(factors), series::warm_up(factors), series::dependence(factors)];
            for found in found.into_iter().flatten() {
                self.warn(found.code(), &about, found);
            }
        }
        let lag_1 = |factors: &Vec<f64>| {
            series::autocorrelation(factors, 1).first().copied().unwrap_or_default()
        };
        let autocorrelation = factors.iter().map(lag_1).sum::<f64>() / factors.len() as f64;
        let all: Vec<f64> = factors.concat();
        let every = all.len().div_ceil(VALUES_MAX);
        let some: Vec<f64> = all.iter().copied().step_by(every).collect();
        // Pauses, ten times as long as a step, are no variation: one would be the whole of it.
        let kept = reject_outliers(&some);
        let paused_share = kept.rejected as f64 / some.len() as f64;
        let usual: Vec<f64> = kept.ln_seconds.iter().map(|ln| ln.exp()).collect();
        let fit = fit_distribution(&usual, &self.streams, about).map_err(Refused::of(about))?;
        let Some(best) = fit.best() else { return Ok(None) };
        if paused_share > 0.0 {
            let message = format!(
                "{:.2} % of the steps took far longer than the others, and are left out: the simulator has \
                 no pauses",
                100.0 * paused_share
            );
            self.warn("pauses", about, message);
        }
        if best.ks_probability < KS_PROBABILITY_MIN {
            let message = format!(
                "no distribution fits well: {}, the best, has a probability of {:.2}",
                best.shape.name(),
                best.ks_probability
            );
            self.warn("distribution", about, message);
        }
        Ok(Some(JitterProfile {
            distribution: fit.drawable,
            variation: fit.variation,
            best: best.shape.name().to_owned(),
            ks_distance: best.ks_statistic,
            ks_probability: best.ks_probability,
            autocorrelation,
            paused_share,
            steps: all.len() as u64,
            slow_ranks,
        }))
    }

    /// How images come.
    pub(super) fn input(&mut self) -> Result<Option<InputProfile>, Refused> {
        let Some(input) = &self.measurements.input else { return Ok(None) };
        let InputSeries { data, decode_s_per_image, read_s_per_image, .. } = input;
        let decode = median_estimate(decode_s_per_image).ok_or_else(|| {
            let reason = format!(
                "{} times of decoding, expected at least 2 above 0: measure again",
                decode_s_per_image.len()
            );
            Refused::new("input", reason)
        })?;
        Ok(Some(InputProfile {
            decode_us_per_image: decode.scaled(1e6),
            read_us_per_image: median_estimate(read_s_per_image).map(|time| time.scaled(1e6)),
            workers_per_node: input.workers_per_node,
            prefetch_batches: input.prefetch_batches,
            data: data.clone(),
        }))
    }

    /// The gradient noise scale S / |G|² of these steps, by the equations of
    /// [`foretrain_sim::convergence::noise_scale`], norms averaged over steps before they are divided.
    pub(super) fn gradient_noise(&mut self) -> Option<GradientNoise> {
        let norms = self.measurements.norms.as_ref()?;
        let NormSeries { first_step, per_rank_batch, global_batch, local_and_averaged } = norms;
        let about = "gradient noise";
        if *global_batch <= *per_rank_batch || local_and_averaged.is_empty() {
            return None;
        }
        let images = Images { local: *per_rank_batch as f64, averaged: *global_batch as f64 };
        let scale = move |steps: &[(f64, f64)]| {
            let norms = |&(local, averaged): &(f64, f64)| SquaredNorms { local, averaged };
            SquaredNorms::mean(steps.iter().map(norms)).gradient(images).noise_scale()
        };
        let scale_images =
            percentile_bootstrap(local_and_averaged, scale, &self.streams, "gradient noise");
        let Estimate { value, low, .. } = scale_images;
        if !(value.is_finite() && value > 0.0) {
            let message = format!(
                "the noise scale comes out as {value:.0} images, which no scale is: the {} steps say too \
                 little; take more, or more ranks",
                local_and_averaged.len()
            );
            self.warn("noise-scale", about, message);
            return None;
        }
        if low <= 0.0 {
            let message = "the interval of the noise scale reaches below 0: take more steps";
            self.warn("noise-scale", about, message);
        }
        let last = first_step.saturating_add(local_and_averaged.len() as u64 - 1);
        Some(GradientNoise {
            scale_images,
            steps: (*first_step, last),
            batches: (*per_rank_batch, *global_batch),
        })
    }
}
