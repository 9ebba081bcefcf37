//! A file of published runs against their predictions, and against what simpler models say.

use rayon::prelude::*;
use serde::Serialize;

use super::errors::{Case, Errors, NotPredicted};
use super::fit::{Fit, fit, others, pairs};
use super::interval::intervals;
use super::records::RateTable;
use super::scaling::{self, Run, Shared};

/// What predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    /// The values that come with this version.
    Shipped,
    /// Values fitted to all families of the file but the one that is predicted.
    LeaveOneFamilyOut,
    /// Data sheets alone.
    Datasheets,
}

impl Predictor {
    /// For reports.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Shipped => {
                "the simulator, from each system's anchor and the overheads of this version"
            }
            Self::LeaveOneFamilyOut => {
                "the simulator, from each system's anchor and overheads fitted to the other families"
            }
            Self::Datasheets => "the simulator, from each system's anchor and data sheets alone",
        }
    }
}

/// The system that others are predicted from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnchorRow {
    /// The row.
    pub id: String,
    /// Its system.
    pub family: String,
    /// How many times as long as the roofline work takes there.
    pub roofline_factor: Option<f64>,
    /// Why that cannot be found.
    pub problem: Option<String>,
}

/// A file of runs, predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Every published value with a prediction from an anchor.
    pub cases: Vec<Case>,
    /// Runs without an anchor, predicted from the roofline and what systems need on average; not in
    /// any summary.
    pub without_anchor: Vec<Case>,
    /// The anchors, which are met by construction.
    pub anchors: Vec<AnchorRow>,
    /// Rows without a prediction.
    pub not_predicted: Vec<NotPredicted>,
    /// Errors by quantity.
    pub quantities: Vec<Errors>,
    /// The same from data sheets alone.
    pub datasheets: Vec<Errors>,
    /// The same if every accelerator had the anchor's rate.
    pub perfect_scaling: Vec<Errors>,
    /// Errors by family.
    pub families: Vec<Errors>,
}

impl Validation {
    /// Predicts `runs`; `tables` are only for fits.
    #[must_use]
    pub fn new(runs: &[Run], predictor: Predictor, tables: &[RateTable]) -> Self {
        let shared = match predictor {
            Predictor::LeaveOneFamilyOut => leave_one_family_out(runs, tables),
            Predictor::Shipped => vec![(None, Shared::shipped())],
            Predictor::Datasheets => vec![(None, Shared::datasheets())],
        };
        let shared_of = |run: &Run| {
            let of = |family: Option<&str>| {
                shared.iter().find(|(of, _)| of.as_deref() == family).map(|(_, shared)| *shared)
            };
            of(Some(&run.family)).or_else(|| of(None)).unwrap_or_else(Shared::shipped)
        };
        let predicted: Vec<Predicted> = runs
            .par_iter()
            .filter(|run| !run.is_anchor())
            .map(|run| Predicted::new(run, anchor_of(runs, run), &shared_of(run)))
            .collect();
        let mut validation = Self {
            cases: Vec::new(),
            without_anchor: Vec::new(),
            anchors: anchors(runs, &shared_of),
            not_predicted: Vec::new(),
            quantities: Vec::new(),
            datasheets: Vec::new(),
            perfect_scaling: Vec::new(),
            families: Vec::new(),
        };
        let (mut datasheets, mut perfect) = (Vec::new(), Vec::new());
        for one in predicted {
            datasheets.extend(one.datasheets);
            perfect.extend(one.perfect);
            validation.cases.extend(one.cases);
            validation.without_anchor.extend(one.without_anchor);
            validation.not_predicted.extend(one.not_predicted);
        }
        validation.quantities = by_quantity(&validation.cases);
        validation.datasheets = by_quantity(&datasheets);
        validation.perfect_scaling = by_quantity(&perfect);
        validation.families = Errors::by_family(
            &validation.cases.iter().filter(|c| c.quantity == RATE).cloned().collect::<Vec<_>>(),
        );
        validation
    }

    /// Errors of a quantity, if there are any.
    #[must_use]
    pub fn of(&self, quantity: &str) -> Option<&Errors> {
        self.quantities.iter().find(|errors| errors.of == quantity)
    }

    /// The root of the mean square of ln(predicted / published) of rates.
    #[must_use]
    pub fn scatter(&self) -> f64 {
        let rates = self.cases.iter().filter(|case| case.quantity == RATE);
        let squares: Vec<f64> =
            rates.map(|case| (case.predicted / case.published).ln().powi(2)).collect();
        (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt()
    }
}

/// The name of throughput as a quantity.
pub const RATE: &str = "images_per_s";
/// The name of the time to train as a quantity.
pub const MINUTES: &str = "minutes";

/// Fits once for each family, to all the others.
#[must_use]
pub fn leave_one_family_out(runs: &[Run], tables: &[RateTable]) -> Vec<(Option<String>, Shared)> {
    let all = pairs(runs);
    let mut families: Vec<&str> = Vec::new();
    for (run, _) in &all {
        if !families.contains(&run.family.as_str()) {
            families.push(&run.family);
        }
    }
    families
        .par_iter()
        .map(|family| (Some((*family).to_owned()), fit(&others(&all, family), tables).shared))
        .collect()
}

/// Fits to all runs, with the scatter of those that were left out in turn.
#[must_use]
pub fn fit_all(runs: &[Run], tables: &[RateTable]) -> (Fit, f64) {
    let scatter = Validation::new(runs, Predictor::LeaveOneFamilyOut, tables).scatter();
    (fit(&pairs(runs), tables), scatter)
}

/// The anchor of a run: in its file, or among the runs that come with this version.
#[must_use]
pub fn anchor_of<'a>(runs: &'a [Run], run: &Run) -> Option<&'a Run> {
    let named = |anchor: &&Run| !run.anchor.is_empty() && anchor.id == run.anchor;
    runs.iter().find(named).or_else(|| Run::shipped().iter().find(named))
}

fn by_quantity(cases: &[Case]) -> Vec<Errors> {
    let of = |quantity: &str| Errors::of(quantity, cases.iter().filter(|c| c.quantity == quantity));
    [RATE, MINUTES].into_iter().filter_map(of).collect()
}

fn anchors(runs: &[Run], shared_of: &(impl Fn(&Run) -> Shared + Sync)) -> Vec<AnchorRow> {
    runs.par_iter()
        .filter(|run| run.is_anchor())
        .map(|run| {
            let found = scaling::factor(run, &shared_of(run));
            AnchorRow {
                id: run.id.clone(),
                family: run.family.clone(),
                problem: found.as_ref().err().cloned(),
                roofline_factor: found.ok(),
            }
        })
        .collect()
}

/// What is said of one run.
#[derive(Default)]
struct Predicted {
    cases: Vec<Case>,
    datasheets: Vec<Case>,
    perfect: Vec<Case>,
    without_anchor: Vec<Case>,
    not_predicted: Vec<NotPredicted>,
}

impl Predicted {
    fn new(run: &Run, anchor: Option<&Run>, shared: &Shared) -> Self {
        let not = |reason: String| Self {
            not_predicted: vec![NotPredicted {
                line: run.line,
                id: run.id.clone(),
                family: run.family.clone(),
                reason,
            }],
            ..Self::default()
        };
        if run.images_per_s.is_none() && run.minutes.is_none() {
            return not("neither images_per_s nor minutes: nothing to compare with".to_owned());
        }
        if anchor.is_none() && !run.anchor.is_empty() {
            return not(format!("anchor: there is no row `{}`", run.anchor));
        }
        let prediction = match scaling::predict(run, anchor, shared) {
            Ok(prediction) => prediction,
            Err(reason) => return not(reason),
        };
        let intervals = intervals(run, anchor, shared, &prediction);
        let case = |quantity, published: Option<f64>, predicted: f64| {
            let published = published?;
            Some(Case {
                id: run.id.clone(),
                family: run.family.clone(),
                line: run.line,
                quantity,
                published,
                predicted,
                error_percent: Case::error_percent(published, predicted),
                low: None,
                high: None,
                accelerators: Some(run.system.accelerators),
                per_accelerator_batch: Some(run.per_accelerator_batch),
                notes: Vec::new(),
            })
        };
        let both = |rate: Option<f64>, minutes: Option<f64>| {
            let rate = rate.and_then(|rate| case(RATE, run.images_per_s, rate));
            let minutes = minutes.and_then(|minutes| case(MINUTES, run.minutes, minutes));
            rate.into_iter().chain(minutes).collect::<Vec<Case>>()
        };
        let mut cases = both(Some(prediction.images_per_s), prediction.minutes);
        if cases.is_empty() {
            return not("epochs: not given, without which there are no minutes".to_owned());
        }
        for case in &mut cases {
            if run.minutes.is_some() && prediction.minutes.is_none() {
                case.notes.push("epochs: not given, so that minutes are not predicted".to_owned());
            }
            let interval = match case.quantity {
                RATE => Some(intervals.images_per_s),
                _ => intervals.minutes,
            };
            (case.low, case.high) = interval.unzip();
            case.notes.extend(prediction.notes.iter().cloned());
        }
        if anchor.is_none() {
            return Self { without_anchor: cases, ..Self::default() };
        }
        let sheets = scaling::predict(run, anchor, &Shared::datasheets()).ok();
        Self {
            cases,
            datasheets: sheets.map_or_else(Vec::new, |p| both(Some(p.images_per_s), p.minutes)),
            perfect: both(anchor.and_then(|anchor| scaling::perfect_rate(run, anchor)), None),
            ..Self::default()
        }
    }
}
