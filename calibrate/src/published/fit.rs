//! What all systems share, fitted to published runs.
//!
//! Five values are fitted: what a kernel takes besides its work in a graph and started by itself, how
//! much a rank's compute varies, and what the starts of an epoch and of an evaluation take. Each is
//! positive, so its logarithm θ is what is fitted. The fit minimises
//!
//! ```text
//! Σ ρ( ln(predicted / published) / σ ) + Σ ( (θ − ln prior) / ln spread )²
//! ```
//!
//! over the training rates of all runs with an anchor (σ = 4 %), the share of a run's minutes that is
//! not training (of the whole run's time, σ = 3 %), and tables of rates against the batch (σ = 15 %:
//! other software). ρ is Huber's, quadratic to 1.5 σ and linear beyond, so that one odd run does not
//! decide. Priors are weak but for what no run shows; [`PRIORS`] has their sources.
//!
//! The minimum is found by damped Gauss-Newton steps with reweighting (Holland and Welsch, 1977; the
//! derivatives are differences, of simulations with the same random numbers). Intervals are
//! ±1.96 standard deviations of Laplace's approximation.

use foretrain_sim::catalogue::{Fitted, Overheads};
use foretrain_sim::units::{Fraction, SimDuration};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::records::RateTable;
use super::scaling::{self, Run, Shared};

/// What is known of a value before any run is seen: its median, and the factor that one standard
/// deviation is.
#[derive(Debug, Clone, Copy)]
pub struct Prior {
    /// What it is of.
    pub name: &'static str,
    /// Its median, in seconds or as a fraction.
    pub median: f64,
    /// The factor of one standard deviation.
    pub spread: f64,
    /// Where it is from.
    pub source: &'static str,
}

/// Priors in the order of the fitted values.
pub const PRIORS: [Prior; 5] = [
    Prior {
        name: "graph_kernel",
        median: 5e-6,
        spread: 1.5,
        source: "a node of a CUDA graph after another: 0.5 us for the gap (A. Gray, Getting started with \
                 CUDA graphs, NVIDIA, 2019: 3.4 us for kernels of 2.9 us) and a few us to fill the \
                 device and to drain it",
    },
    Prior {
        name: "eager_kernel",
        median: 20e-6,
        spread: 2.0,
        source: "starting a kernel from a framework: 5 us by CUDA alone, some tens by Python's",
    },
    Prior {
        name: "variation",
        median: 0.01,
        spread: 2.0,
        source: "standard deviations of 0.5 to 2 % of steps on one GPU are common",
    },
    Prior {
        name: "epoch_start",
        median: 20e-3,
        spread: 3.0,
        source: "a few steps while queues of batches fill",
    },
    Prior {
        name: "evaluation_start",
        median: 0.2,
        spread: 3.0,
        source: "a second pipeline of batches starts",
    },
];

const VALUES: usize = PRIORS.len();
/// Scatter of training rates, of the rest of a run's minutes, and of tables of rates.
const RATE_SCATTER: f64 = 0.04;
const MINUTES_SCATTER: f64 = 0.03;
const TABLE_SCATTER: f64 = 0.15;
/// Huber's threshold, in standard deviations.
const HUBER: f64 = 1.5;
/// The step of a derivative, in θ.
const DERIVATIVE: f64 = 0.05;
const ITERATIONS: usize = 25;
const CONVERGED: f64 = 1e-4;
/// Two-sided 95 % of a normal distribution.
pub const Z95: f64 = 1.959_963_985;

/// Fitted values with their uncertainty.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The values.
    pub shared: Shared,
    /// Standard deviations of their logarithms, in the order of [`PRIORS`].
    pub ln_deviations: [f64; VALUES],
    /// Standard deviation of the logarithm of the roofline's factor over systems.
    pub factor_ln_deviation: f64,
    /// Runs that were fitted to.
    pub runs: usize,
    /// Tables of rates that were fitted to.
    pub tables: usize,
}

impl Shared {
    /// The fitted values, in the order of [`PRIORS`].
    #[must_use]
    pub const fn values(&self) -> [f64; VALUES] {
        [
            self.graph_kernel_s,
            self.eager_kernel_s,
            self.variation,
            self.epoch_start_s,
            self.evaluation_start_s,
        ]
    }

    /// With other fitted values, in the order of [`PRIORS`].
    #[must_use]
    pub const fn with_values(self, values: [f64; VALUES]) -> Self {
        let [graph_kernel_s, eager_kernel_s, variation, epoch_start_s, evaluation_start_s] = values;
        Self {
            graph_kernel_s,
            eager_kernel_s,
            variation,
            epoch_start_s,
            evaluation_start_s,
            ..self
        }
    }
}

/// A run and the one that it is predicted from.
pub type Pair<'a> = (&'a Run, &'a Run);

/// The runs with an anchor in the file, anchors themselves left out.
#[must_use]
pub fn pairs(runs: &[Run]) -> Vec<Pair<'_>> {
    let anchor = |run: &Run| runs.iter().find(|anchor| anchor.id == run.anchor);
    runs.iter().filter(|run| !run.is_anchor()).filter_map(|run| Some((run, anchor(run)?))).collect()
}

/// Those of other families.
#[must_use]
pub fn others<'a>(pairs: &[Pair<'a>], family: &str) -> Vec<Pair<'a>> {
    pairs.iter().copied().filter(|(run, _)| run.family != family).collect()
}

/// Fits the shared values to `pairs` and `tables`; what cannot be predicted is left out.
#[must_use]
pub fn fit(pairs: &[Pair<'_>], tables: &[RateTable]) -> Fit {
    let at = |theta: &DVector<f64>| residuals(pairs, tables, &shared(theta));
    let mut theta = DVector::from_iterator(VALUES, PRIORS.iter().map(|prior| prior.median.ln()));
    let mut found = at(&theta);
    let mut damping = 1e-3;
    let mut information = DMatrix::identity(VALUES, VALUES);
    for _ in 0..ITERATIONS {
        let columns: Vec<Vec<f64>> = (0..VALUES)
            .map(|value| {
                let mut moved = theta.clone();
                moved[value] += DERIVATIVE;
                let there = at(&moved);
                there.iter().zip(&found).map(|(a, b)| (a - b) / DERIVATIVE).collect()
            })
            .collect();
        let jacobian = DMatrix::from_fn(found.len(), VALUES, |row, column| columns[column][row]);
        let weights =
            DVector::from_iterator(found.len(), found.iter().map(|r| (HUBER / r.abs()).min(1.0)));
        let weighted = DMatrix::from_fn(found.len(), VALUES, |row, column| {
            weights[row] * jacobian[(row, column)]
        });
        let (prior_gradient, prior_information) = priors(&theta);
        information = jacobian.transpose() * &weighted + prior_information;
        let gradient = weighted.transpose() * DVector::from_column_slice(&found) + prior_gradient;
        let cost = cost(&found, &theta);
        let mut moved = 0.0;
        // Where a step does not go down, a shorter one does.
        for _ in 0..8 {
            let mut damped = information.clone();
            (0..VALUES).for_each(|value| damped[(value, value)] *= 1.0 + damping);
            let Some(step) = damped.lu().solve(&gradient) else { break };
            let next = &theta - &step;
            let there = at(&next);
            if self::cost(&there, &next) < cost {
                (theta, found, moved) = (next, there, step.amax());
                damping = (damping / 4.0).max(1e-9);
                break;
            }
            damping *= 8.0;
        }
        if moved < CONVERGED {
            break;
        }
    }
    let covariance = information.try_inverse();
    let deviation = |value: usize| {
        covariance.as_ref().map_or(f64::INFINITY, |matrix| matrix[(value, value)].max(0.0).sqrt())
    };
    let fitted = shared(&theta);
    let (roofline_factor, factor_ln_deviation) = factors(pairs, &fitted);
    Fit {
        shared: Shared { roofline_factor, ..fitted },
        ln_deviations: std::array::from_fn(deviation),
        factor_ln_deviation,
        runs: pairs.len(),
        tables: tables.len(),
    }
}

fn shared(theta: &DVector<f64>) -> Shared {
    Shared::datasheets().with_values(std::array::from_fn(|value| theta[value].exp()))
}

/// Half the gradient of the priors' squares, and their information.
fn priors(theta: &DVector<f64>) -> (DVector<f64>, DMatrix<f64>) {
    let deviation = |value: usize| PRIORS[value].spread.ln();
    let away = |value: usize| theta[value] - PRIORS[value].median.ln();
    (
        DVector::from_fn(VALUES, |value, _| away(value) / deviation(value).powi(2)),
        DMatrix::from_fn(
            VALUES,
            VALUES,
            |row, column| {
                if row == column { deviation(row).powi(-2) } else { 0.0 }
            },
        ),
    )
}

fn cost(residuals: &[f64], theta: &DVector<f64>) -> f64 {
    let huber = |r: &f64| {
        let size = r.abs();
        if size <= HUBER { size * size } else { 2.0 * HUBER * size - HUBER * HUBER }
    };
    let prior = |value: usize| {
        let prior = PRIORS[value];
        ((theta[value] - prior.median.ln()) / prior.spread.ln()).powi(2)
    };
    residuals.iter().map(huber).sum::<f64>() + (0..VALUES).map(prior).sum::<f64>()
}

/// Differences of logarithms over their scatter; 0 for what cannot be predicted.
fn residuals(pairs: &[Pair<'_>], tables: &[RateTable], shared: &Shared) -> Vec<f64> {
    let of_runs: Vec<[f64; 2]> = pairs
        .par_iter()
        .map(|(run, anchor)| {
            let Ok(prediction) = scaling::predict(run, Some(anchor), shared) else {
                return [0.0; 2];
            };
            let rate = run
                .images_per_s
                .map_or(0.0, |published| (prediction.images_per_s / published).ln() / RATE_SCATTER);
            let rest = prediction.rest_s.zip(run.rest_s()).map_or(0.0, |(predicted, published)| {
                let whole = run.minutes.unwrap_or(f64::INFINITY) * 60.0;
                (predicted - published) / whole / MINUTES_SCATTER
            });
            [rate, rest]
        })
        .collect();
    let of_tables = tables.iter().flat_map(|table| match table.ratios(shared) {
        Some(ratios) => ratios,
        None => vec![1.0; table.rates.len().saturating_sub(1)],
    });
    let of_tables = of_tables.map(|ratio| ratio.ln() / TABLE_SCATTER);
    of_runs.into_iter().flatten().chain(of_tables).collect()
}

/// The geometric mean over systems of how many times as long as the roofline work takes, and the
/// standard deviation of its logarithm.
fn factors(pairs: &[Pair<'_>], shared: &Shared) -> (f64, f64) {
    let mut families: Vec<(&str, f64)> = Vec::new();
    for (_, anchor) in pairs {
        if !families.iter().any(|(family, _)| *family == anchor.family)
            && let Ok(factor) = scaling::factor(anchor, shared)
        {
            families.push((&anchor.family, factor.ln()));
        }
    }
    let count = families.len() as f64;
    if families.is_empty() {
        return (1.0, f64::INFINITY);
    }
    let mean = families.iter().map(|(_, ln)| ln).sum::<f64>() / count;
    let squares: f64 = families.iter().map(|(_, ln)| (ln - mean).powi(2)).sum();
    (mean.exp(), (squares / (count - 1.0).max(1.0)).sqrt())
}

impl Fit {
    /// As the simulator's file of overheads; `scatter` is what predictions of runs that were not
    /// fitted are off by.
    #[must_use]
    pub fn overheads(&self, scatter: f64) -> Overheads {
        let [graph, eager, variation, epoch, evaluation] = self.shared.values();
        let ends = |value: f64, deviation: f64| {
            let factor = (Z95 * deviation).exp();
            [value, value / factor, value * factor]
        };
        let time = |index: usize, value: f64, per_unit: f64| {
            let [value, low, high] = ends(value, self.ln_deviations[index])
                .map(|s| SimDuration::from_seconds(rounded(s, per_unit)));
            Fitted { value, low, high }
        };
        let share = |value: f64, deviation: f64| {
            let [value, low, high] = ends(value, deviation).map(|v| Fraction::new(rounded(v, 1e4)));
            Fitted { value, low, high }
        };
        Overheads {
            source: format!(
                "fit to {} published runs with an anchor (MLPerf ResNet-50) and {} tables of rates \
                 against the batch (MXNet 1.2)",
                self.runs, self.tables
            ),
            graph_kernel: time(0, graph, 1e8),
            eager_kernel: time(1, eager, 1e8),
            variation: share(variation, self.ln_deviations[2]),
            epoch_start: time(3, epoch, 1e5),
            evaluation_start: time(4, evaluation, 1e4),
            roofline_factor: share(self.shared.roofline_factor, self.factor_ln_deviation),
            scatter: Fraction::new(rounded(scatter, 1e4)),
        }
    }
}

/// To a multiple of one over `per_unit`, so that the file shows no digits that mean nothing.
fn rounded(value: f64, per_unit: f64) -> f64 {
    (value * per_unit).round() / per_unit
}
