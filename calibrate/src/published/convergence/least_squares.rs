//! Nonlinear least squares with normal priors (Levenberg and Marquardt), robust and censored
//! residuals.
//!
//! The best parameters are those of the largest posterior: least Σ r(p)² + Σ x², x the parameters'
//! distances from their priors' means in standard deviations. In these units the damping of the
//! step has one scale (Marquardt, "An algorithm for least-squares estimation of nonlinear
//! parameters", 1963), and JᵀJ of all residuals, which contains the identity of the priors, is
//! always positive definite. Its inverse is the covariance (Laplace's approximation).

use nalgebra::{DMatrix, DVector};
use statrs::function::erf::erfc;

use super::error::FitError;
use foretrain_sim::convergence::Scale;

/// What is known of a parameter before any row is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// On which scale it is normal.
    pub scale: Scale,
    /// The mean (of a logarithm: the median).
    pub mean: f64,
    /// The standard deviation, on its scale.
    pub deviation: f64,
}

impl Prior {
    /// A number of either sign.
    #[must_use]
    pub const fn linear(mean: f64, deviation: f64) -> Self {
        Self { scale: Scale::Linear, mean, deviation }
    }

    /// A positive number; `deviation` of its logarithm.
    #[must_use]
    pub const fn positive(mean: f64, deviation: f64) -> Self {
        Self { scale: Scale::Logarithm, mean, deviation }
    }

    fn natural(&self, x: f64) -> f64 {
        self.scale.natural(self.scale.fitted(self.mean) + x * self.deviation)
    }
}

/// The parameters of the largest posterior.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The parameters.
    pub values: Vec<f64>,
    /// The same on their scales.
    pub fitted: Vec<f64>,
    /// Their covariance, on their scales.
    pub covariance: Vec<Vec<f64>>,
    /// Distances from the priors' means in their standard deviations, from which another fit may
    /// start.
    pub distances: Vec<f64>,
}

/// Degrees of freedom of Student's distribution: few enough that a wrong row does not matter.
const FREEDOM: f64 = 4.0;

/// The square root of twice the negative logarithm of Student's density, against that at 0, of a
/// residual in standard deviations: an outlier pulls less the further out it is.
#[must_use]
pub(super) fn robust(residual: f64) -> f64 {
    ((FREEDOM + 1.0) * (residual * residual / FREEDOM).ln_1p()).sqrt().copysign(residual)
}

/// The same of a value of which only that it is above a limit is known, `margin` standard
/// deviations below what is expected: −2 ln Φ (Tobin, "Estimation of relationships for limited
/// dependent variables", Econometrica 26, 1958).
#[must_use]
pub(super) fn censored(margin: f64) -> f64 {
    let probability = 0.5 * erfc(-margin / std::f64::consts::SQRT_2);
    // Far below, where Φ underflows: −2 ln Φ → margin².
    if probability > 1e-300 { (-2.0 * probability.ln()).max(0.0).sqrt() } else { -margin }
}

const MOST_ITERATIONS: usize = 300;

/// The derivative's step, in standard deviations of the priors.
const STEP: f64 = 1e-5;

/// Steps below this many standard deviations of the priors are none.
const SMALLEST_STEP: f64 = 1e-7;

/// Finds the parameters; `residuals` appends those of the rows, in standard deviations, to a list.
///
/// `start` are distances from the priors' means; the means themselves where there is none.
pub fn fit(
    what: &'static str,
    priors: &[Prior],
    start: Option<&[f64]>,
    residuals: impl Fn(&[f64], &mut Vec<f64>),
) -> Result<Solution, FitError> {
    let natural = |x: &DVector<f64>| -> Vec<f64> {
        priors.iter().zip(x.iter()).map(|(prior, &x)| prior.natural(x)).collect()
    };
    let all = |x: &DVector<f64>| {
        let mut found = Vec::new();
        residuals(&natural(x), &mut found);
        found.extend(x.iter());
        DVector::from_vec(found)
    };
    let count = priors.len();
    let mut x = match start {
        Some(start) if start.len() == count => DVector::from_column_slice(start),
        _ => DVector::zeros(count),
    };
    let mut r = all(&x);
    if !r.norm_squared().is_finite() {
        return Err(FitError::NotFinite { what });
    }
    let mut damping = 1e-3;
    for _ in 0..MOST_ITERATIONS {
        let jacobian = jacobian(&all, &x, r.len());
        let normal = jacobian.tr_mul(&jacobian);
        let gradient = jacobian.tr_mul(&r);
        let mut largest;
        loop {
            let damped = &normal + DMatrix::identity(count, count) * damping;
            let Some(factor) = damped.cholesky() else {
                return Err(FitError::NotFinite { what });
            };
            let step = factor.solve(&-&gradient);
            let next = &x + &step;
            let found = all(&next);
            largest = step.amax().max(0.0);
            if found.norm_squared() <= r.norm_squared() {
                let gained = r.norm_squared() - found.norm_squared();
                if gained <= 1e-12 * r.norm_squared() {
                    largest = 0.0;
                }
                (x, r) = (next, found);
                damping = (damping * 0.2).max(1e-9);
                break;
            }
            if largest < SMALLEST_STEP {
                break;
            }
            damping *= 5.0;
        }
        if largest < SMALLEST_STEP {
            return solution(what, priors, &x, &normal, natural(&x));
        }
    }
    Err(FitError::NotConverged { what, iterations: MOST_ITERATIONS })
}

/// Central differences.
fn jacobian(
    all: &impl Fn(&DVector<f64>) -> DVector<f64>,
    x: &DVector<f64>,
    rows: usize,
) -> DMatrix<f64> {
    let mut jacobian = DMatrix::zeros(rows, x.len());
    let mut moved = x.clone();
    for column in 0..x.len() {
        moved[column] = x[column] + STEP;
        let above = all(&moved);
        moved[column] = x[column] - STEP;
        let below = all(&moved);
        moved[column] = x[column];
        jacobian.set_column(column, &((above - below) / (2.0 * STEP)));
    }
    jacobian
}

fn solution(
    what: &'static str,
    priors: &[Prior],
    x: &DVector<f64>,
    normal: &DMatrix<f64>,
    values: Vec<f64>,
) -> Result<Solution, FitError> {
    let inverse = normal.clone().cholesky().ok_or(FitError::NotFinite { what })?.inverse();
    let covariance = priors.iter().enumerate().map(|(i, a)| {
        let entry = |(j, b): (usize, &Prior)| {
            // Averaged, so that it is symmetric to the last bit.
            0.5 * (inverse[(i, j)] + inverse[(j, i)]) * (a.deviation * b.deviation)
        };
        priors.iter().enumerate().map(entry).collect()
    });
    Ok(Solution {
        fitted: priors.iter().zip(&values).map(|(prior, &v)| prior.scale.fitted(v)).collect(),
        covariance: covariance.collect(),
        distances: x.iter().copied().collect(),
        values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One number seen once as 3 ± 1 with the prior 1 ± 2: precision 1 + ¼, mean (3 + ¼)/(5/4).
    #[test]
    fn a_normal_number_has_its_textbook_posterior() {
        let found = fit("a number", &[Prior::linear(1.0, 2.0)], None, |p, r| r.push(p[0] - 3.0));
        let found = found.unwrap();
        assert!((found.values[0] - 2.6).abs() < 1e-6, "{found:?}");
        assert!((found.covariance[0][0] - 0.8).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn an_exponential_is_found_again() {
        let priors = [Prior::positive(1.0, 3.0), Prior::positive(1.0, 3.0)];
        let times = [0.0, 0.5, 1.0, 1.5, 2.0];
        let found = fit("an exponential", &priors, None, |p, r| {
            r.extend(times.map(|t| (p[0] * (-p[1] * t).exp() - 5.0 * (-0.7 * t).exp()) / 1e-4));
        });
        let values = found.unwrap().values;
        assert!((values[0] - 5.0).abs() < 1e-4 && (values[1] - 0.7).abs() < 1e-4, "{values:?}");
    }

    #[test]
    fn outliers_hardly_pull() {
        let values = [1.0, 1.1, 0.9, 1.05, 0.95, 9.0];
        let found = fit("a mean", &[Prior::linear(0.0, 10.0)], None, |p, r| {
            r.extend(values.map(|value| robust((p[0] - value) / 0.1)));
        });
        assert!((found.unwrap().values[0] - 1.0).abs() < 0.05);
    }

    #[test]
    fn a_censored_value_pulls_only_from_below() {
        assert!(censored(5.0) < 1e-2);
        assert!((censored(0.0) - (2.0 * 2.0_f64.ln()).sqrt()).abs() < 1e-9);
        assert!((censored(-50.0) - 50.0).abs() < 1.0);
        assert!(censored(-1.0) > censored(0.0));
    }
}
