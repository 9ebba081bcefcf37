//! Dominance: one is no worse in time, cost and accuracy, and better in one of them.

use super::planned::Planned;

/// What candidates are compared by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measure {
    pub(super) minutes: f64,
    pub(super) cost_usd: f64,
    /// 0 where accuracy is not forecast.
    pub(super) top1_percent: f64,
}

impl Measure {
    /// Whether nothing of it is worse than `other`'s, and something is better.
    pub(super) fn dominates(&self, other: &Self) -> bool {
        let no_worse = self.minutes <= other.minutes
            && self.cost_usd <= other.cost_usd
            && self.top1_percent >= other.top1_percent;
        no_worse && self != other
    }
}

/// Measures of which none dominates another.
#[derive(Debug, Clone, Default)]
pub(super) struct Archive(Vec<Measure>);

impl Archive {
    /// Whether some measure dominates `other`.
    pub(super) fn dominates(&self, other: &Measure) -> bool {
        self.0.iter().any(|measure| measure.dominates(other))
    }

    pub(super) fn add(&mut self, new: Measure) {
        if !self.dominates(&new) {
            self.0.retain(|old| !new.dominates(old));
            self.0.push(new);
        }
    }
}

/// Those that no other dominates, fastest first; of equals the first.
pub(super) fn non_dominated(all: &[Planned]) -> Vec<Planned> {
    let mut kept: Vec<Planned> = Vec::new();
    let mut sorted: Vec<&Planned> = all.iter().collect();
    // Whatever dominates a candidate comes before it in this order.
    sorted.sort_by(|a, b| {
        let (a, b) = (a.measure(), b.measure());
        a.minutes
            .total_cmp(&b.minutes)
            .then(a.cost_usd.total_cmp(&b.cost_usd))
            .then(b.top1_percent.total_cmp(&a.top1_percent))
    });
    for planned in sorted {
        let measure = planned.measure();
        let beaten = kept
            .iter()
            .any(|other| other.measure().dominates(&measure) || other.measure() == measure);
        if !beaten {
            kept.push(planned.clone());
        }
    }
    kept
}
