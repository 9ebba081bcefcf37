//! How well left-out rows were foretold.

use std::collections::BTreeMap;

use serde::Serialize;

use foretrain_sim::convergence::Forecast;

/// A published number and what the others foretell of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// Which run.
    pub id: String,
    /// Where it stands in the file.
    pub line: u64,
    /// What is compared, with its unit.
    pub quantity: &'static str,
    /// Groups it counts for.
    pub groups: Vec<&'static str>,
    /// As published.
    pub published: f64,
    /// As foretold without it.
    pub predicted: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// Predicted − published: points, or percent of the published number of epochs.
    pub error: f64,
}

impl Case {
    /// Whether the interval holds the published number.
    #[must_use]
    pub fn covered(&self) -> bool {
        (self.low..=self.high).contains(&self.published)
    }

    pub(super) fn points(
        id: &str,
        line: u64,
        groups: Vec<&'static str>,
        published: f64,
        forecast: &Forecast,
    ) -> Self {
        let &Forecast { value: predicted, low, high, .. } = forecast;
        let (id, quantity) = (id.to_owned(), "top-1, percent");
        let error = predicted - published;
        Self { id, line, quantity, groups, published, predicted, low, high, error }
    }
}

/// A row without prediction, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotPredicted {
    /// Which run.
    pub id: String,
    /// Where it stands in the file.
    pub line: u64,
    /// Why.
    pub reason: &'static str,
}

/// Errors of several cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// How many.
    pub cases: usize,
    /// The mean of |error|.
    pub mean_abs_error: f64,
    /// The largest |error|.
    pub max_abs_error: f64,
    /// The part whose interval holds the published number.
    pub covered: f64,
}

impl Figures {
    fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Self {
        let (mut count, mut sum, mut largest, mut covered) = (0_usize, 0.0, 0.0_f64, 0_usize);
        for case in cases {
            count += 1;
            sum += case.error.abs();
            largest = largest.max(case.error.abs());
            covered += usize::from(case.covered());
        }
        let part = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
        Self {
            cases: count,
            mean_abs_error: part(sum),
            max_abs_error: largest,
            covered: part(covered as f64),
        }
    }
}

/// All rows of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was left out for each case.
    pub left_out: &'static str,
    /// Each prediction.
    pub cases: Vec<Case>,
    /// Errors of each group.
    pub groups: BTreeMap<&'static str, Figures>,
    /// What was not predicted.
    pub not_predicted: Vec<NotPredicted>,
}

/// What was left out where some rows come with this version, and others do not.
const BOTH: &str = "each row that comes with this version; the others were never fitted";
/// The group of all cases.
pub(super) const ALL: &str = "all";

impl Report {
    /// Both together, in the order of the file.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let mut cases: Vec<Case> = self.cases.into_iter().chain(other.cases).collect();
        cases.sort_by_key(|case| case.line);
        let mut not_predicted: Vec<NotPredicted> =
            self.not_predicted.into_iter().chain(other.not_predicted).collect();
        not_predicted.sort_by_key(|row| row.line);
        let left_out = if self.left_out == other.left_out { self.left_out } else { BOTH };
        Self::new(left_out, cases, not_predicted)
    }

    /// Only the rows whose name `wanted` accepts.
    #[must_use]
    pub fn only(self, wanted: impl Fn(&str) -> bool) -> Self {
        let cases = self.cases.into_iter().filter(|case| wanted(&case.id)).collect();
        let not = self.not_predicted.into_iter().filter(|row| wanted(&row.id)).collect();
        Self::new(self.left_out, cases, not)
    }

    pub(super) fn new(
        left_out: &'static str,
        cases: Vec<Case>,
        not_predicted: Vec<NotPredicted>,
    ) -> Self {
        let mut names: Vec<&'static str> =
            cases.iter().flat_map(|case| case.groups.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        let figures = |name: &'static str| {
            (name, Figures::of(cases.iter().filter(|case| case.groups.contains(&name))))
        };
        let mut groups: BTreeMap<_, _> = names.into_iter().map(figures).collect();
        groups.insert(ALL, Figures::of(cases.iter()));
        Self { left_out, cases, groups, not_predicted }
    }
}
