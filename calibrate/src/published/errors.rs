//! Predictions beside what was published, and how far apart they are.

use serde::Serialize;

/// A published value and its prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// The row.
    pub id: String,
    /// Rows of the same system.
    pub family: String,
    /// Where the row stands in the file.
    pub line: u64,
    /// What was published, with its unit.
    pub quantity: &'static str,
    /// Its value.
    pub published: f64,
    /// The prediction.
    pub predicted: f64,
    /// Of the published value: positive where the prediction is larger.
    pub error_percent: f64,
    /// Where the 95 % interval of the prediction begins.
    pub low: Option<f64>,
    /// Where it ends.
    pub high: Option<f64>,
    /// Accelerators in all.
    pub accelerators: Option<u32>,
    /// Images of one accelerator.
    pub per_accelerator_batch: Option<f64>,
    /// What the prediction rests on that a reader should know.
    pub notes: Vec<String>,
}

/// A row without a prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotPredicted {
    /// Where the row stands in the file.
    pub line: u64,
    /// The row.
    pub id: String,
    /// Its system.
    pub family: String,
    /// Why.
    pub reason: String,
}

/// How far predictions are from what was published.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Errors {
    /// Whose.
    pub of: String,
    /// How many.
    pub cases: usize,
    /// The mean of their sizes.
    pub mean_abs_error_percent: f64,
    /// Their median.
    pub median_abs_error_percent: f64,
    /// The largest.
    pub max_abs_error_percent: f64,
    /// The largest with its sign.
    pub worst_error_percent: f64,
    /// Whose it is.
    pub worst_id: String,
    /// How many published values lie in the interval of their prediction.
    pub within_interval: usize,
}

impl Case {
    /// Sets the prediction beside what was published.
    #[must_use]
    pub fn error_percent(published: f64, predicted: f64) -> f64 {
        100.0 * (predicted - published) / published
    }
}

impl Errors {
    /// Of some cases; none of none.
    #[must_use]
    pub fn of<'a>(of: &str, cases: impl IntoIterator<Item = &'a Case>) -> Option<Self> {
        let cases: Vec<&Case> = cases.into_iter().collect();
        let errors: Vec<f64> = cases.iter().map(|case| case.error_percent.abs()).collect();
        let worst =
            cases.iter().max_by(|a, b| a.error_percent.abs().total_cmp(&b.error_percent.abs()))?;
        let is_within = |case: &&&Case| {
            case.low
                .zip(case.high)
                .is_some_and(|(low, high)| (low..=high).contains(&case.published))
        };
        Some(Self {
            of: of.to_owned(),
            cases: cases.len(),
            mean_abs_error_percent: errors.iter().sum::<f64>() / errors.len() as f64,
            median_abs_error_percent: median(&errors)?,
            max_abs_error_percent: worst.error_percent.abs(),
            worst_error_percent: worst.error_percent,
            worst_id: worst.id.clone(),
            within_interval: cases.iter().filter(is_within).count(),
        })
    }

    /// Of each family, in the order of the cases.
    #[must_use]
    pub fn by_family(cases: &[Case]) -> Vec<Self> {
        let mut families: Vec<&str> = Vec::new();
        for case in cases {
            if !families.contains(&case.family.as_str()) {
                families.push(&case.family);
            }
        }
        let of = |family: &&str| Self::of(family, cases.iter().filter(|c| c.family == **family));
        families.iter().filter_map(of).collect()
    }
}

/// The middle value, or the mean of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { sorted[sorted.len() / 2 - 1] } else { upper };
    Some(f64::midpoint(lower, upper))
}
