//! A candidate with what it takes, and how it stands to what is looked for.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frontier::Measure;
use crate::compute::Optimizer;
use crate::scenario::spec::Objective;
use crate::scenario::{Goals, Setup};
use crate::units::Bytes;

/// One candidate: what is chosen, how long it takes, what it costs, how accurate it becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// The variant, if the scenario has any.
    pub variant: Option<String>,
    /// Accelerators in all.
    pub accelerators: u32,
    /// Nodes.
    pub nodes: u32,
    /// Images of one accelerator's step.
    pub per_accelerator_batch: u64,
    /// Images of a step.
    pub global_batch: u64,
    /// How weights are updated.
    pub optimizer: Optimizer,
    /// Passes over the training set.
    pub epochs: f64,
    /// The all-reduce algorithm.
    pub algorithm: String,
    /// Ranks of a group, of algorithms that have any.
    pub group: Option<u32>,
    /// The size that closes a bucket, of fusion rules that have one.
    pub threshold: Option<Bytes>,
    /// Whether buckets travel during the backward pass.
    pub overlap: bool,
    /// From the end of one step to the end of the next.
    pub step_ms: f64,
    /// Throughput.
    pub images_per_s: f64,
    /// From the first step to the last evaluation.
    pub time_to_train_min: f64,
    /// The price of the run.
    pub cost_usd: f64,
    /// Accuracy at the end.
    pub top1_percent: Option<f64>,
    /// The lower end of its interval of 95 %.
    pub top1_percent_low: Option<f64>,
    /// Its upper end.
    pub top1_percent_high: Option<f64>,
    /// The offer it is of.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) offer: usize,
    /// What is chosen.
    #[serde(skip, default = "no_setup")]
    #[schemars(skip)]
    pub(super) setup: Setup,
}

/// What stands in for the choice of a plan that was read back.
const fn no_setup() -> Setup {
    Setup::NONE
}

/// What was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalsNote {
    /// What is best.
    pub minimize: Objective,
    /// The longest time to train.
    pub deadline_min: Option<f64>,
    /// The highest cost.
    pub budget_usd: Option<f64>,
    /// The least top-1.
    pub top1_min_percent: Option<f64>,
}

impl From<Goals> for GoalsNote {
    fn from(goals: Goals) -> Self {
        let Goals { minimize, deadline_min, budget_usd, top1_min_percent } = goals;
        Self { minimize, deadline_min, budget_usd, top1_min_percent }
    }
}

impl Planned {
    /// Whether it ends, for all its failures.
    pub(super) fn ends(&self) -> bool {
        self.time_to_train_min.is_finite()
    }

    pub(super) fn measure(&self) -> Measure {
        Measure {
            minutes: self.time_to_train_min,
            cost_usd: self.cost_usd,
            top1_percent: self.top1_percent.unwrap_or(0.0),
        }
    }
}

/// What a limit may cost without being worth a word.
const HARDLY: f64 = 0.01;

impl Goals {
    /// Whether `planned` keeps to every limit.
    pub(super) fn keeps(&self, planned: &Planned) -> bool {
        self.missed(planned).is_empty()
    }

    /// The limits that `planned` does not keep to, in words.
    pub(super) fn missed(&self, planned: &Planned) -> Vec<String> {
        let mut missed = Vec::new();
        if let Some(deadline) = self.deadline_min
            && planned.time_to_train_min > deadline
        {
            let over = planned.time_to_train_min - deadline;
            missed.push(format!("misses the deadline by {over:.1} min"));
        }
        if let Some(budget) = self.budget_usd
            && planned.cost_usd > budget
        {
            missed.push(format!("exceeds the budget by {:.2} USD", planned.cost_usd - budget));
        }
        if let Some(least) = self.top1_min_percent {
            match planned.top1_percent {
                Some(top1) if top1 >= least => {}
                Some(top1) => missed.push(format!("reaches {top1:.2} % of {least} % top-1")),
                None => missed.push("its accuracy is not known".to_owned()),
            }
        }
        missed
    }

    /// Better first: by what is minimised, then by the other of time and cost, then by accuracy.
    pub(super) fn order(&self, a: &Planned, b: &Planned) -> Ordering {
        let (a, b) = (a.measure(), b.measure());
        let by_time = a.minutes.total_cmp(&b.minutes);
        let by_cost = a.cost_usd.total_cmp(&b.cost_usd);
        let both = match self.minimize {
            Objective::Time => by_time.then(by_cost),
            Objective::Cost => by_cost.then(by_time),
        };
        both.then(b.top1_percent.total_cmp(&a.top1_percent))
    }

    /// Why there is no best, or what limits it, from the frontiers of all offers.
    pub(super) fn verdict(&self, best: Option<&Planned>, found: &[Planned]) -> String {
        let by = |key: fn(&Planned) -> f64| found.iter().min_by(|a, b| key(a).total_cmp(&key(b)));
        let (Some(fastest), Some(cheapest)) =
            (by(|planned| planned.time_to_train_min), by(|planned| planned.cost_usd))
        else {
            return match self.top1_min_percent {
                Some(least) => {
                    format!("nothing that can be trained to the end reaches {least} % top-1")
                }
                None => "nothing can be trained to the end".to_owned(),
            };
        };
        let Some(best) = best else {
            let within = |limit: Option<f64>, value: f64| limit.is_none_or(|limit| value <= limit);
            let mut reasons = Vec::new();
            if !within(self.deadline_min, fastest.time_to_train_min) {
                reasons.push(format!(
                    "the fastest takes {:.1} min, longer than the deadline",
                    fastest.time_to_train_min
                ));
            }
            if !within(self.budget_usd, cheapest.cost_usd) {
                reasons.push(format!(
                    "the cheapest costs {:.2} USD, more than the budget",
                    cheapest.cost_usd
                ));
            }
            if reasons.is_empty() {
                reasons.push(
                    "what is fast enough costs too much, and what is cheap enough is too slow"
                        .to_owned(),
                );
            }
            return format!("nothing keeps to the limits: {}", reasons.join("; "));
        };
        let (what, without, ratio) = match self.minimize {
            Objective::Time => {
                ("fastest", fastest, best.time_to_train_min / fastest.time_to_train_min)
            }
            Objective::Cost => ("cheapest", cheapest, best.cost_usd / cheapest.cost_usd),
        };
        let of_all = match self.top1_min_percent {
            Some(least) => format!("{what} that reaches {least} % top-1"),
            None => format!("{what} there is"),
        };
        if best.measure() == without.measure() {
            return format!("the {of_all}");
        }
        // What costs nothing is within any part of nothing.
        if ratio < 1.0 + HARDLY || !ratio.is_finite() {
            return format!("within 1 % of the {of_all}");
        }
        let limit = match self.minimize {
            Objective::Time if self.budget_usd.is_some() => "the budget",
            Objective::Cost if self.deadline_min.is_some() => "the deadline",
            _ => "a limit",
        };
        let Planned { time_to_train_min: minutes, cost_usd, .. } = without;
        format!("{limit} binds: the {of_all} takes {minutes:.1} min and {cost_usd:.2} USD")
    }
}
