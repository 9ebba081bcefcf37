//! Fitted parameters with how uncertain they are together.
//!
//! A fit ends in a normal distribution (Laplace's approximation) of the parameters, positive ones
//! in logarithms. What a law says of them has the variance gᵀΣg, g the gradient of the law and Σ
//! the covariance (the delta method).

use serde::{Deserialize, Serialize};

/// How many standard deviations from the mean 95 % of a normal distribution lie.
pub const NORMAL_95: f64 = 1.959_963_984_540_054;

/// The derivative's step, in standard deviations of the parameter: small against its uncertainty,
/// large against rounding.
const STEP: f64 = 1e-4;

/// On which scale a parameter is about normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// The parameter itself.
    Linear,
    /// Its natural logarithm: a positive number.
    Logarithm,
}

impl Scale {
    /// From the scale on which it is normal to the parameter itself.
    #[must_use]
    pub fn natural(self, fitted: f64) -> f64 {
        match self {
            Self::Linear => fitted,
            Self::Logarithm => fitted.exp(),
        }
    }

    /// From the parameter to the scale on which it is normal.
    #[must_use]
    pub fn fitted(self, natural: f64) -> f64 {
        match self {
            Self::Linear => natural,
            Self::Logarithm => natural.ln(),
        }
    }
}

/// Name and scale of each parameter of a law, in the law's order.
pub type Names = [(&'static str, Scale)];

/// A parameter with its interval of 95 % confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// What it is.
    pub name: String,
    /// On which scale it is normal.
    pub scale: Scale,
    /// The best guess.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// Parameters that do not fit their law.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PosteriorError {
    /// One is missing, or in another place.
    #[error("parameter {index} is `{found}`, expected `{expected}`: fit the laws anew")]
    Name {
        /// Its place, from 0.
        index: usize,
        /// What stands there; empty for nothing.
        found: String,
        /// What should.
        expected: String,
    },
    /// A parameter, or its covariance, is no number or out of its scale.
    #[error("parameter `{name}` is {value}, expected a finite number of its scale")]
    Value {
        /// Which.
        name: String,
        /// Its value.
        value: f64,
    },
    /// The covariance has other dimensions than there are parameters.
    #[error("the covariance is not a symmetric matrix of {expected} rows and columns")]
    Covariance {
        /// How many parameters there are.
        expected: usize,
    },
}

/// Parameters of a law, jointly normal on their scales.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Posterior {
    /// The parameters, in the law's order.
    pub parameters: Vec<Parameter>,
    /// Their covariance, on the scales on which they are normal.
    pub covariance: Vec<Vec<f64>>,
}

impl Posterior {
    /// The parameters `names` at `fitted` (on their scales) with their covariance; more numbers
    /// than names are left out.
    #[must_use]
    pub fn new(names: &Names, fitted: &[f64], covariance: &[Vec<f64>]) -> Self {
        let parameters = names
            .iter()
            .zip(fitted)
            .enumerate()
            .map(|(index, (&(name, scale), &middle))| {
                let variance = covariance.get(index).and_then(|row| row.get(index));
                let deviation = variance.copied().unwrap_or(0.0).sqrt();
                Parameter {
                    name: name.to_owned(),
                    scale,
                    value: scale.natural(middle),
                    low: scale.natural(middle - NORMAL_95 * deviation),
                    high: scale.natural(middle + NORMAL_95 * deviation),
                }
            })
            .collect();
        let kept = names.len();
        let covariance =
            covariance.iter().take(kept).map(|row| row.iter().take(kept).copied().collect());
        Self { parameters, covariance: covariance.collect() }
    }

    /// Whether these are the parameters that a law expects.
    pub fn check(&self, names: &Names) -> Result<(), PosteriorError> {
        for (index, &(expected, scale)) in names.iter().enumerate() {
            let found = self.parameters.get(index);
            if found.is_none_or(|found| found.name != expected || found.scale != scale) {
                return Err(PosteriorError::Name {
                    index,
                    found: found.map_or_else(String::new, |found| found.name.clone()),
                    expected: expected.to_owned(),
                });
            }
        }
        let expected = names.len();
        let symmetric = self.covariance.len() == expected
            && self.covariance.iter().enumerate().all(|(i, row)| {
                row.len() == expected
                    && row.iter().enumerate().all(|(j, value)| {
                        value.is_finite() && (self.covariance[j].get(i) == Some(value))
                    })
                    && row[i] >= 0.0
            });
        if self.parameters.len() != expected || !symmetric {
            return Err(PosteriorError::Covariance { expected });
        }
        let bad = |parameter: &&Parameter| !parameter.scale.fitted(parameter.value).is_finite();
        match self.parameters.iter().find(bad) {
            Some(bad) => Err(PosteriorError::Value { name: bad.name.clone(), value: bad.value }),
            None => Ok(()),
        }
    }

    /// The parameters' values.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        self.parameters.iter().map(|parameter| parameter.value).collect()
    }

    /// With another value of parameter number `index`, whose deviation on its scale is given and has
    /// nothing to do with that of the others.
    #[must_use]
    pub fn with(&self, index: usize, value: f64, deviation: f64) -> Self {
        let mut changed = self.clone();
        let Some(parameter) = changed.parameters.get_mut(index) else { return changed };
        let middle = parameter.scale.fitted(value);
        parameter.value = value;
        parameter.low = parameter.scale.natural(middle - NORMAL_95 * deviation);
        parameter.high = parameter.scale.natural(middle + NORMAL_95 * deviation);
        for (row, values) in changed.covariance.iter_mut().enumerate() {
            for (column, covariance) in values.iter_mut().enumerate() {
                if row == index && column == index {
                    *covariance = deviation * deviation;
                } else if row == index || column == index {
                    *covariance = 0.0;
                }
            }
        }
        changed
    }

    /// The standard deviation of what `law` says of the parameters.
    pub fn deviation(&self, law: impl Fn(&[f64]) -> f64) -> f64 {
        let mut values = self.values();
        let mut gradient = Vec::with_capacity(values.len());
        for (index, parameter) in self.parameters.iter().enumerate() {
            let variance = self.covariance.get(index).and_then(|row| row.get(index));
            let step = STEP * variance.copied().unwrap_or(0.0).sqrt();
            if step > 0.0 {
                let middle = parameter.scale.fitted(parameter.value);
                let mut at = |fitted: f64| {
                    values[index] = parameter.scale.natural(fitted);
                    law(&values)
                };
                let slope = (at(middle + step) - at(middle - step)) / (2.0 * step);
                values[index] = parameter.value;
                gradient.push(slope);
            } else {
                gradient.push(0.0);
            }
        }
        let variance: f64 = self
            .covariance
            .iter()
            .zip(&gradient)
            .map(|(row, slope)| {
                slope * row.iter().zip(&gradient).map(|(value, other)| value * other).sum::<f64>()
            })
            .sum();
        variance.max(0.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, Scale); 2] = [("a", Scale::Linear), ("b", Scale::Logarithm)];

    fn posterior() -> Posterior {
        Posterior::new(&NAMES, &[1.0, 0.5], &[vec![0.04, 0.01], vec![0.01, 0.09]])
    }

    /// Of a + 2·ln b: 0.04 + 2·2·0.01 + 4·0.09 = 0.44.
    #[test]
    fn a_linear_law_has_the_variance_of_the_delta_method() {
        let deviation = posterior().deviation(|values| values[0] + 2.0 * values[1].ln());
        assert!((deviation - 0.44_f64.sqrt()).abs() < 1e-9, "{deviation}");
    }

    #[test]
    fn other_parameters_are_refused() {
        assert_eq!(posterior().check(&NAMES), Ok(()));
        let turned = [NAMES[1], NAMES[0]];
        assert!(matches!(posterior().check(&turned), Err(PosteriorError::Name { index: 0, .. })));
        let mut broken = posterior();
        broken.covariance[0][1] = 0.02;
        assert_eq!(broken.check(&NAMES), Err(PosteriorError::Covariance { expected: 2 }));
        let mut broken = posterior();
        broken.parameters[1].value = -1.0;
        assert!(matches!(broken.check(&NAMES), Err(PosteriorError::Value { .. })));
    }
}
