//! A scenario as offers to choose from: for each variant, lists of everything that can be chosen.
//!
//! What the scenario sweeps is chosen from the lists it gives; what it fixes stays; what it leaves open
//! is chosen from lists of its own ([`Offer::new`]). So `simulate` of a scenario that sweeps everything
//! is the exhaustive search of the same space.

use super::convergence;
use super::machine::Machine;
use super::problem::Problem;
use super::resolve::{self, Case};
use super::spec::{CostSpec, FusionRule, Objective, PlanSpec, ScenarioSpec};
use super::{Overrides, sweep};
use crate::collective::AlgorithmName;
use crate::compute::Optimizer;
use crate::convergence::{Convergence, Outcome};
use crate::profile::Profile;
use crate::units::Bytes;

/// More than this are surely a mistake: at 2 ms each they take over half an hour.
const SETUPS_MAX: usize = 1_000_000;
/// Batches of one accelerator that are tried; those that do not fit its memory are not counted.
const BATCHES: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
/// Passes over ImageNet that are tried, as far as the law of accuracy was fitted.
const EPOCHS: [f64; 12] =
    [30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 120.0, 150.0, 200.0, 250.0];
/// Group sizes that are tried, in nodes.
const GROUP_NODES: [u32; 3] = [1, 2, 4];
const MIB: u64 = 1 << 20;
/// Fusion thresholds that are tried.
const THRESHOLDS: [Bytes; 4] =
    [Bytes::new(MIB), Bytes::new(4 * MIB), Bytes::new(16 * MIB), Bytes::new(64 * MIB)];
/// All-reduces that are tried: those that need nothing of the network's switches.
const ALGORITHMS: [AlgorithmName; 5] = [
    AlgorithmName::Ring,
    AlgorithmName::Hierarchical,
    AlgorithmName::Torus,
    AlgorithmName::HalvingDoubling,
    AlgorithmName::Tree,
];

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goals {
    /// What is best.
    pub minimize: Objective,
    /// The longest time to train, in minutes.
    pub deadline_min: Option<f64>,
    /// The highest cost.
    pub budget_usd: Option<f64>,
    /// The least top-1 in percent.
    pub top1_min_percent: Option<f64>,
}

/// A scenario as offers to choose from.
#[derive(Debug, Clone)]
pub struct Space {
    /// What it is called.
    pub name: String,
    /// Where it is from.
    pub source: Option<String>,
    /// The SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// The SHA-256 of the profiles it rests on, in hexadecimal.
    pub profile_hashes: Vec<String>,
    /// What is looked for.
    pub goals: Goals,
    /// What is on offer, a variant each.
    pub offers: Vec<Offer>,
}

/// A variant, with everything in it that can be chosen.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The variant, if the scenario has any.
    pub name: Option<String>,
    spec: ScenarioSpec,
    profile: Option<Profile>,
    /// Numbers of accelerators, increasing.
    pub accelerators: Vec<u32>,
    /// Batches of one accelerator, or of all.
    pub batches: Vec<Batch>,
    /// Optimizers.
    pub optimizers: Vec<Option<Optimizer>>,
    /// All-reduces.
    pub algorithms: Vec<Option<AlgorithmName>>,
    /// Groups, of algorithms that have any.
    pub groups: Vec<Option<u32>>,
    /// Fusion thresholds.
    pub thresholds: Vec<Option<Bytes>>,
    /// Whether buckets travel during the backward pass.
    pub overlaps: Vec<Option<bool>>,
    /// Passes over the images; one that is not given is of the target accuracy.
    pub epochs: Vec<Option<f64>>,
}

/// A batch as it is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Of one accelerator.
    Each(u64),
    /// Of all.
    Global(u64),
}

/// One choice of everything but the epochs: what has to be simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// How many accelerators.
    pub accelerators: u32,
    /// Which batch.
    pub batch: Batch,
    /// Which optimizer.
    pub optimizer: Option<Optimizer>,
    /// Which all-reduce.
    pub algorithm: Option<AlgorithmName>,
    /// In which groups.
    pub group: Option<u32>,
    /// From which size a bucket is closed.
    pub threshold: Option<Bytes>,
    /// Whether buckets travel during the backward pass.
    pub overlap: Option<bool>,
}

impl Goals {
    pub(super) fn new(spec: Option<&PlanSpec>, offers: &[Offer]) -> Result<Self, Problem> {
        let spec = spec.cloned().unwrap_or_default();
        let deadline_min = spec.deadline.map(|time| time.as_seconds() / 60.0);
        let budget_usd = spec.budget.map(|amount| amount.get());
        let top1_min_percent = spec.top1_min.map(|top1| top1.percent());
        for (key, value) in [
            ("plan.deadline", deadline_min),
            ("plan.budget", budget_usd),
            ("plan.top1_min", top1_min_percent),
        ] {
            if value.is_some_and(|value| value <= 0.0) {
                return Err(Problem::new(key, "expected more than 0"));
            }
        }
        if top1_min_percent.is_some_and(|top1| top1 >= 100.0) {
            return Err(Problem::new("plan.top1_min", "expected less than 100 %"));
        }
        let without = offers.iter().any(|offer| offer.spec.convergence.is_none());
        if top1_min_percent.is_some() && without {
            let problem = "accuracy is not forecast without a section [convergence]: add one (it may be \
                           empty)";
            return Err(Problem::new("plan.top1_min", problem));
        }
        let unknown = offers.iter().filter_map(|offer| offer.spec.convergence.as_ref());
        let unknown =
            unknown.filter(|asked| asked.reference.is_some() && asked.target_top1.is_none());
        if top1_min_percent.is_some() && unknown.count() > 0 {
            let problem = "the accuracy of convergence.reference is not known: give it as \
                           convergence.target_top1, or leave this out";
            return Err(Problem::new("plan.top1_min", problem));
        }
        let thrifty = deadline_min.is_some() && budget_usd.is_none();
        let minimize =
            spec.minimize.unwrap_or(if thrifty { Objective::Cost } else { Objective::Time });
        Ok(Self { minimize, deadline_min, budget_usd, top1_min_percent })
    }
}

impl Offer {
    /// What can be chosen of `spec`: from its sweep; what it fixes, as it says; all else from lists.
    ///
    /// Accelerators go from one by doubling to a node, and from there by doubling nodes to all that are
    /// available; batches, epochs, thresholds, group sizes and algorithms from the constants above.
    ///
    /// # Errors
    /// Nothing says how many accelerators there are, when training ends or what an hour costs; or there
    /// are too many choices, or none that is possible.
    pub(super) fn new(
        mut spec: ScenarioSpec,
        name: Option<String>,
        overrides: Overrides,
        profile: Option<Profile>,
    ) -> Result<Self, Problem> {
        sweep::check(&spec)?;
        spec.simulation.seed = overrides.seed.or(spec.simulation.seed);
        spec.simulation.steps = overrides.steps.or(spec.simulation.steps);
        spec.published.clear();
        spec.cost.get_or_insert_with(CostSpec::default);
        let sweep = std::mem::take(&mut spec.sweep);
        let machine = Machine::new(&spec, profile.as_ref())?;
        let per_node = machine.accelerators_per_node;
        let accelerators = match (sweep.accelerators, spec.cluster.available) {
            (given, None) if !given.is_empty() => given,
            (given, Some(available)) if !given.is_empty() => {
                given.into_iter().filter(|count| *count <= available).collect()
            }
            (_, available) => match (spec.cluster.accelerators, available) {
                (Some(fixed), None) => vec![fixed],
                (None, Some(available)) => counts(available, per_node),
                (Some(_), Some(_)) => {
                    let problem = "given beside cluster.accelerators: leave one of them out";
                    return Err(Problem::new("cluster.available", problem));
                }
                (None, None) => {
                    let problem = "missing: say how many accelerators there are, or list numbers in \
                                   sweep.accelerators";
                    return Err(Problem::new("cluster.available", problem));
                }
            },
        };
        let (each, all) = (spec.training.per_accelerator_batch, spec.training.global_batch);
        let batches = match (each, all) {
            _ if !sweep.per_accelerator_batch.is_empty() => {
                sweep.per_accelerator_batch.into_iter().map(Batch::Each).collect()
            }
            _ if !sweep.global_batch.is_empty() => {
                sweep.global_batch.into_iter().map(Batch::Global).collect()
            }
            (Some(each), _) => vec![Batch::Each(each)],
            (None, Some(all)) => vec![Batch::Global(all)],
            (None, None) => BATCHES.map(Batch::Each).to_vec(),
        };
        let profiled = profile.as_ref().is_some_and(|profile| profile.compute.is_some());
        let fixed = spec.training.optimizer.is_some() || profiled;
        let optimizers = choices(sweep.optimizer, fixed, &[Optimizer::Momentum, Optimizer::Lars]);
        let algorithm = spec.allreduce.algorithm;
        let algorithms = choices(sweep.algorithm, algorithm.is_some(), &ALGORITHMS);
        let grouped =
            algorithms.iter().any(|name| name.or(algorithm).unwrap_or_default().has_groups());
        let sizes = GROUP_NODES.map(|nodes| nodes * per_node);
        let groups = choices(sweep.group, spec.allreduce.group.is_some() || !grouped, &sizes);
        let rule = spec.fusion.rule.unwrap_or_default();
        let sized = matches!(rule, FusionRule::Threshold | FusionRule::Cycle);
        let thresholds =
            choices(sweep.threshold, spec.fusion.threshold.is_some() || !sized, &THRESHOLDS);
        let overlaps = choices(sweep.overlap, true, &[]);
        let epochs = epochs(&spec, sweep.epochs)?;
        let all_reduces = [algorithms.len(), groups.len(), thresholds.len(), overlaps.len()];
        if spec.compute.anchor.is_some_and(|anchor| anchor.accelerators > 1)
            && all_reduces.iter().any(|choices| *choices > 1)
        {
            let problem = "an anchor of several accelerators is met with each point's own all-reduce, so \
                           that it cannot tell all-reduces apart: give the rate of one, or fix \
                           allreduce.algorithm, allreduce.group, allreduce.overlap and fusion.threshold";
            return Err(Problem::new("compute.anchor", problem));
        }
        let offer = Self {
            name,
            spec,
            profile,
            accelerators,
            batches,
            optimizers,
            algorithms,
            groups,
            thresholds,
            overlaps,
            epochs,
        };
        offer.check()?;
        Ok(offer)
    }

    fn check(&self) -> Result<(), Problem> {
        let setups = self.lengths().iter().fold(1_usize, |all, length| all.saturating_mul(*length));
        if setups > SETUPS_MAX {
            let problem = format!(
                "{setups} choices to simulate, expected at most {SETUPS_MAX}: shorten a list"
            );
            return Err(Problem::new("sweep", problem));
        }
        let mut first = None;
        for setup in self.setups() {
            match self.case(&setup) {
                Ok(case) => {
                    let priced =
                        case.cost.is_some_and(|cost| cost.usd_per_accelerator_hour.is_some());
                    let problem = "missing: the catalogue has no price of this accelerator; give one, such \
                                   as \"2.50 USD/h\"";
                    return if priced { Ok(()) } else { Err(Problem::new("cost.price", problem)) };
                }
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        Err(first.unwrap_or_else(|| {
            let problem = "none of sweep.accelerators are available";
            Problem::new("cluster.available", problem)
        }))
    }

    /// How many there are of everything but the epochs.
    fn lengths(&self) -> [usize; 7] {
        [
            self.accelerators.len(),
            self.batches.len(),
            self.optimizers.len(),
            self.algorithms.len(),
            self.groups.len(),
            self.thresholds.len(),
            self.overlaps.len(),
        ]
    }

    /// Every choice to simulate.
    pub fn setups(&self) -> impl Iterator<Item = Setup> + '_ {
        let all: usize = self.lengths().iter().product();
        (0..all).filter_map(move |mut index| {
            let mut next = |length: usize| {
                let at = index % length;
                index /= length;
                at
            };
            let overlap = self.overlaps[next(self.overlaps.len())];
            let threshold = self.thresholds[next(self.thresholds.len())];
            let group_at = next(self.groups.len());
            let algorithm = self.algorithms[next(self.algorithms.len())];
            let optimizer = self.optimizers[next(self.optimizers.len())];
            let batch = self.batches[next(self.batches.len())];
            let accelerators = self.accelerators[next(self.accelerators.len())];
            let name = algorithm.or(self.spec.allreduce.algorithm).unwrap_or_default();
            let group = self.groups[group_at].filter(|_| name.has_groups());
            // Without groups all sizes are the same choice, and alone all all-reduces are.
            let differs = match accelerators {
                1 => {
                    group_at == 0
                        && algorithm == self.algorithms[0]
                        && threshold == self.thresholds[0]
                        && overlap == self.overlaps[0]
                }
                _ => name.has_groups() || group_at == 0,
            };
            differs.then_some(Setup {
                accelerators,
                batch,
                optimizer,
                algorithm,
                group,
                threshold,
                overlap,
            })
        })
    }

    /// Whether epochs are chosen, and do not follow from a target accuracy.
    #[must_use]
    pub fn chooses_epochs(&self) -> bool {
        self.epochs.iter().any(Option::is_some)
    }

    /// The point of `setup`, with the first of the epochs.
    ///
    /// # Errors
    /// If it is not possible, saying which key and why.
    pub(crate) fn case(&self, setup: &Setup) -> Result<Case, Problem> {
        let epochs = self.epochs.first().copied().flatten();
        self.case_for(setup, epochs)
    }

    /// The point of `setup` with so many epochs.
    ///
    /// # Errors
    /// As [`Self::case`].
    pub(crate) fn case_for(&self, setup: &Setup, epochs: Option<f64>) -> Result<Case, Problem> {
        let mut spec = self.spec.clone();
        setup.write_to(&mut spec);
        spec.training.epochs = epochs;
        resolve::case(&spec, self.name.as_deref(), String::new(), self.profile.as_ref())
    }

    /// What the point of `case` needs and reaches with so many epochs.
    pub(crate) fn outcome(&self, case: &Case, epochs: Option<f64>) -> Option<Outcome> {
        let trained = convergence::Trained {
            network: &case.model,
            precision: case.precision,
            optimizer: case.optimizer,
            images: case.images,
            imagenet_images: resolve::IMAGENET_IMAGES,
            global_batch: case.global_batch,
        };
        let outcome = convergence::outcome(&self.spec, self.profile.as_ref(), &trained, epochs);
        outcome.ok().flatten().map(|(outcome, _)| outcome)
    }
}

impl Setup {
    /// No choice; of no offer.
    pub(crate) const NONE: Self = Self {
        accelerators: 0,
        batch: Batch::Each(0),
        optimizer: None,
        algorithm: None,
        group: None,
        threshold: None,
        overlap: None,
    };

    fn write_to(&self, spec: &mut ScenarioSpec) {
        spec.cluster.accelerators = Some(self.accelerators);
        (spec.training.per_accelerator_batch, spec.training.global_batch) = match self.batch {
            Batch::Each(each) => (Some(each), None),
            Batch::Global(all) => (None, Some(all)),
        };
        spec.training.optimizer = self.optimizer.or(spec.training.optimizer);
        spec.allreduce.algorithm = self.algorithm.or(spec.allreduce.algorithm);
        spec.allreduce.group = self.group.or(spec.allreduce.group);
        spec.fusion.threshold = self.threshold.or(spec.fusion.threshold);
        spec.allreduce.overlap = self.overlap.or(spec.allreduce.overlap);
    }
}

/// The sweep's list; nothing to choose where it is fixed; else the usual ones.
fn choices<T: Copy>(swept: Vec<T>, fixed: bool, usual: &[T]) -> Vec<Option<T>> {
    match (swept.is_empty(), fixed) {
        (false, _) => swept.into_iter().map(Some).collect(),
        (true, true) => vec![None],
        (true, false) => usual.iter().copied().map(Some).collect(),
    }
}

fn epochs(spec: &ScenarioSpec, swept: Vec<f64>) -> Result<Vec<Option<f64>>, Problem> {
    let by_target = spec
        .convergence
        .as_ref()
        .is_some_and(|asked| asked.target_top1.is_some() || asked.reference.is_some());
    match (swept.is_empty(), spec.training.epochs) {
        (false, _) => {
            swept.iter().try_for_each(|epochs| resolve::check_epochs("sweep.epochs", *epochs))?;
            Ok(swept.into_iter().map(Some).collect())
        }
        (true, Some(epochs)) => Ok(vec![Some(epochs)]),
        (true, None) if by_target => Ok(vec![None]),
        (true, None) if spec.convergence.is_some() => {
            let fitted = Convergence::shipped().accuracy.epochs;
            Ok(EPOCHS.into_iter().filter(|epochs| fitted.contains(*epochs)).map(Some).collect())
        }
        (true, None) => {
            let problem = "missing: without epochs nothing says how long training takes; give a number, or \
                           a section [convergence], with which their number is chosen by accuracy";
            Err(Problem::new("training.epochs", problem))
        }
    }
}

/// From one by doubling to a node, from there by doubling nodes to all.
fn counts(available: u32, per_node: u32) -> Vec<u32> {
    let inside = std::iter::successors(Some(1_u32), |count| count.checked_mul(2));
    let nodes = std::iter::successors(Some(per_node), |count| count.checked_mul(2));
    let mut counts: Vec<u32> = inside.take_while(|count| *count < per_node).collect();
    counts.extend(nodes);
    counts.retain(|count| *count <= available);
    let whole = available / per_node * per_node;
    let last = if whole > 0 { whole } else { available };
    if counts.last().is_none_or(|count| *count < last) {
        counts.push(last);
    }
    counts
}
