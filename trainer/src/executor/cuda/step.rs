//! A whole step on a device: forward, backward, the sums over ranks, the judgement of the gradients,
//! LARS or momentum SGD, the loss scale. The host says the learning rate and hears the loss; nothing
//! else crosses.
//!
//! The first step on so many images is given one by one. From the second on it is one graph, if what
//! sums over the ranks can be a part of it; recorded steps are a graph of their own, with a moment
//! after each part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use foretrain_sim::recording::NumberFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::Arguments as _;
use super::arguments::optimizer::SetStep;
use super::arguments::pointwise::square_blocks;
use super::device::{Device, DeviceError};
use super::executor::DeviceExecutor;
use super::lower::{OptimizerTables, Program, tables};
use super::schedule::{Item, Parts, squares};
pub use super::schedule::{Phase, StepPart, Wire};
use super::work::Work;
use crate::executor::{Batch, Executor as _, ExecutorError, LossSum, Mode, Pass};
use crate::loss_scale::{LossScaleConfig, LossScaler, Verdict};
use crate::optimizer::{OptimizerState, Rule};
use crate::plan::Plan;
use crate::step::StepError;
use crate::step::StepOutcome;
use crate::step::device::{Alone, Reduction};

/// What differs from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepNumbers {
    /// The learning rate.
    pub learning_rate: f64,
    /// The seed of the step's dropout.
    pub dropout_key: u64,
    /// The number of this rank's first image in the global batch.
    pub first_image: u64,
    /// Images of all ranks.
    pub global_batch: u64,
}

/// How a step's work is given to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Launch {
    /// As one graph, from the second step on.
    #[default]
    Graph,
    /// Kernel by kernel.
    Eager,
}

/// How a rank's gradients travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Travel {
    /// Their format on the way.
    pub wire: NumberFormat,
    /// Whether buckets travel while backward goes on.
    pub overlap: bool,
}

/// When a part of a recorded step was done, in seconds from its beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Timed {
    /// A part.
    Part {
        /// In which phase.
        phase: Phase,
        /// Which instruction or bucket it is of, if it is of one.
        number: Option<usize>,
        /// Its beginning and its end.
        span_s: (f64, f64),
    },
    /// The sum of a bucket over all ranks.
    Reduced {
        /// The bucket.
        bucket: usize,
        /// When it was complete on this rank.
        ready_s: f64,
        /// Its beginning and its end.
        span_s: (f64, f64),
    },
}

/// Moments of a recorded step.
#[derive(Debug)]
struct Marks<M> {
    start: M,
    /// After each item.
    after: Vec<M>,
    /// Where an item is the sum of a bucket: its beginning and its end.
    reduced: Vec<Option<[M; 2]>>,
}

/// A step on so many images.
#[derive(Debug)]
struct SizedStep<D: Device> {
    graph: Option<D::Graph>,
    /// With moments.
    recorded: Option<D::Graph>,
    marks: Marks<D::Moment>,
    items: Vec<Item>,
    /// Whether all of it has been done once.
    is_done: bool,
}

/// Training on one device.
#[derive(Debug)]
pub struct DeviceStep<D: Device> {
    // Graphs go before the device.
    sizes: BTreeMap<usize, SizedStep<D>>,
    /// The end of the step that was given.
    ended: D::Moment,
    pub(super) executor: DeviceExecutor<D>,
    pub(super) plan: Arc<Plan>,
    wire: Wire,
    overlap: bool,
    launch: Launch,
    optimizer: OptimizerTables,
    loss_scale: LossScaleConfig,
}

impl<D: Device> DeviceStep<D> {
    /// Training with velocities of 0 and the first loss scale, whose gradients travel in the format
    /// in which they are computed, during backward.
    ///
    /// # Errors
    /// The device failed.
    pub fn new(
        executor: DeviceExecutor<D>,
        plan: Arc<Plan>,
        rule: &Rule,
        loss_scale: LossScaleConfig,
    ) -> Result<Self, ExecutorError> {
        let travel = Travel { wire: executor.memory().format, overlap: true };
        Self::travelling(executor, plan, (rule, loss_scale), travel)
    }

    /// The same with gradients that travel so.
    ///
    /// # Errors
    /// The device failed.
    pub fn travelling(
        mut executor: DeviceExecutor<D>,
        plan: Arc<Plan>,
        (rule, loss_scale): (&Rule, LossScaleConfig),
        Travel { wire, overlap }: Travel,
    ) -> Result<Self, ExecutorError> {
        let wire_bytes = Wire::bytes(executor.memory(), wire);
        let base = executor.device().allocate(wire_bytes)?;
        executor.device().enqueue(&Work::Clear { at: base, bytes: wire_bytes })?;
        let wire = Wire::at(executor.memory(), executor.buckets(), wire, base);
        let memory = executor.memory();
        let optimizer = tables(&plan, memory, (rule, &loss_scale), &wire.gradients, wire.format);
        for (at, bytes) in &optimizer.tables {
            executor.device().write(*at, bytes)?;
        }
        let all: Vec<Work> = optimizer.judge.iter().chain(&optimizer.update).cloned().collect();
        executor.device().prepare(&all)?;
        let ended = executor.device().moment()?;
        let (sizes, launch) = (BTreeMap::new(), Launch::default());
        let mut step =
            Self { sizes, ended, executor, plan, wire, overlap, launch, optimizer, loss_scale };
        let first =
            LossScaler::new(loss_scale).map_err(|error| ExecutorError::Plan(error.to_string()))?;
        step.load_state(&OptimizerState::default(), first.state())?;
        Ok(step)
    }

    /// What the device is, in words.
    #[must_use]
    pub fn description(&self) -> String {
        self.executor.description()
    }

    /// Whether a batch waits for the next step.
    #[must_use]
    pub const fn holds_batch(&self) -> bool {
        self.executor.holds_batch()
    }

    /// Gives steps so from now on.
    pub const fn set_launch(&mut self, launch: Launch) {
        self.launch = launch;
    }

    /// The buckets as they travel.
    #[must_use]
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// What runs its passes.
    #[must_use]
    pub const fn executor(&mut self) -> &mut DeviceExecutor<D> {
        &mut self.executor
    }

    /// How the loss scale is chosen.
    #[must_use]
    pub const fn loss_scale(&self) -> LossScaleConfig {
        self.loss_scale
    }

    /// The losses of a batch with the running statistics, without learning.
    ///
    /// # Errors
    /// The batch does not fit, or the device failed.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<LossSum, ExecutorError> {
        self.executor.load_batch(batch)?;
        let pass =
            Pass { mode: Mode::Evaluate, gradient_factor: 0.0, dropout_key: 0, first_image: 0 };
        for instruction in 0..self.plan.instructions().len() {
            self.executor.forward(instruction, pass)?;
        }
        self.executor.loss()
    }

    /// The work of the last step, part by part, to be repeated on the same images for measuring.
    #[must_use]
    pub fn parts(&self) -> Vec<StepPart> {
        let Some(program) = self.executor.current() else { return Vec::new() };
        let take = StepPart {
            name: "images".to_owned(),
            phase: Phase::Input,
            number: None,
            work: self.executor.taking().to_vec(),
            cost: None,
        };
        let items = self.order(program).items();
        let parts = items.into_iter().filter_map(|item| match item {
            Item::Part(part) => Some(part),
            _ => None,
        });
        [take].into_iter().chain(parts).collect()
    }

    fn order<'a>(&'a self, program: &'a Program) -> Parts<'a> {
        Parts {
            plan: &self.plan,
            buckets: self.executor.buckets(),
            memory: self.executor.memory(),
            wire: &self.wire,
            program,
            optimizer: &self.optimizer,
            images: self.executor.images(),
            overlap: self.overlap,
        }
    }

    /// Trains on `batch`, alone.
    ///
    /// # Errors
    /// The batch does not fit, or the device failed.
    pub fn step(&mut self, batch: &Batch, numbers: StepNumbers) -> Result<StepOutcome, StepError> {
        self.executor.load_batch(batch)?;
        self.begin(numbers, &mut Alone, false)?;
        Ok(self.end()?)
    }

    /// Gives a step on the batch that is [held](DeviceExecutor::holds_batch), whose gradients
    /// `reduction` sums, without waiting for its end; with moments if it is `recorded`. Returns when
    /// the passes were given, after the images.
    ///
    /// # Errors
    /// The device failed, or a rank is missing.
    pub fn begin(
        &mut self,
        numbers: StepNumbers,
        reduction: &mut dyn Reduction<D>,
        recorded: bool,
    ) -> Result<Instant, StepError> {
        self.executor.begin(Mode::Train)?;
        self.tell(numbers)?;
        let images = self.executor.images();
        self.plan_size(images)?;
        let mut given = Instant::now();
        let Some(size) = self.sizes.get_mut(&images) else { return Ok(given) };
        let device = self.executor.device();
        if self.launch == Launch::Graph && size.is_done && reduction.can_be_captured() {
            // Both at once, so that no recorded step has to wait for its own graph.
            if size.graph.is_none() {
                let SizedStep { items, marks, .. } = &*size;
                let graph = device.capture(|device| give(device, items, reduction, None))?;
                let recorded =
                    device.capture(|device| give(device, items, reduction, Some(marks)))?;
                (size.graph, size.recorded) = (Some(graph), Some(recorded));
            }
            let graph = if recorded { &size.recorded } else { &size.graph };
            given = Instant::now();
            if let Some(graph) = graph {
                device.launch_graph(graph)?;
            }
        } else {
            // Once with all that recorded steps do, so that both can be captured.
            let marks = (recorded || !size.is_done).then_some(&size.marks);
            give(device, &size.items, reduction, marks)?;
            size.is_done = true;
        }
        device.mark(&self.ended)?;
        Ok(given)
    }

    fn tell(&mut self, numbers: StepNumbers) -> Result<(), ExecutorError> {
        let set = SetStep {
            learning_rate: numbers.learning_rate,
            dropout_key: numbers.dropout_key,
            first_image: numbers.first_image,
            to: self.executor.memory().step[0],
            reciprocal_batch: 1.0 / numbers.global_batch as f32,
        };
        Ok(self.executor.device().enqueue(&Work::Launch(set.launch(1)))?)
    }

    /// Fixes the order of a step on so many images.
    fn plan_size(&mut self, images: usize) -> Result<(), ExecutorError> {
        if self.sizes.contains_key(&images) {
            return Ok(());
        }
        let Some(program) = self.executor.current() else { return Ok(()) };
        let items = self.order(program).items();
        let device = self.executor.device();
        let mut marks = Marks { start: device.moment()?, after: Vec::new(), reduced: Vec::new() };
        for item in &items {
            marks.after.push(device.moment()?);
            marks.reduced.push(match item {
                Item::Reduce(_) => Some([device.moment()?, device.moment()?]),
                _ => None,
            });
        }
        let (graph, recorded) = (None, None);
        self.sizes.insert(images, SizedStep { graph, recorded, marks, items, is_done: false });
        Ok(())
    }

    /// Whether the step that was given has ended.
    ///
    /// # Errors
    /// The device failed.
    pub fn has_ended(&mut self) -> Result<bool, DeviceError> {
        self.executor.device().has_passed(&self.ended)
    }

    /// Forgets what was captured; it is captured again when it is needed.
    pub fn forget_graphs(&mut self) {
        self.sizes.clear();
    }

    /// Waits for the end of the step that was given.
    ///
    /// # Errors
    /// The device failed.
    pub fn end(&mut self) -> Result<StepOutcome, ExecutorError> {
        let loss = self.executor.loss()?;
        let state = self.read_state()?;
        let verdict = if state.skipped == 0 { Verdict::Apply } else { Verdict::Skip };
        Ok(StepOutcome { loss, verdict, loss_scale: state.last_loss_scale })
    }

    /// When the parts of the last step, which was recorded and has ended, were done.
    ///
    /// # Errors
    /// It was not, or the device failed.
    pub fn moments(&mut self, timed_on_device: bool) -> Result<Vec<Timed>, ExecutorError> {
        let Some(size) = self.sizes.get(&self.executor.images()) else { return Ok(Vec::new()) };
        let Marks { start, after, reduced } = &size.marks;
        let device = self.executor.device();
        let mut all = Vec::new();
        let mut began_s = 0.0;
        for ((item, after), reduced) in size.items.iter().zip(after).zip(reduced) {
            let ended_s = device.seconds_between(start, after)?;
            match (item, reduced) {
                (Item::Part(part), _) => {
                    let (phase, number) = (part.phase, part.number);
                    all.push(Timed::Part { phase, number, span_s: (began_s, ended_s) });
                }
                (&Item::Reduce(bucket), Some([from, to])) if timed_on_device => {
                    let span_s =
                        (device.seconds_between(start, from)?, device.seconds_between(start, to)?);
                    all.push(Timed::Reduced { bucket, ready_s: ended_s, span_s });
                }
                _ => {}
            }
            began_s = ended_s;
        }
        Ok(all)
    }

    /// Σ g² of this rank's gradients, and of those summed over all ranks, of the last step, which was
    /// recorded and has ended; both of gradients times the loss scale.
    ///
    /// # Errors
    /// The device failed.
    pub fn gradient_squares(&mut self) -> Result<[f64; 2], ExecutorError> {
        for (bucket, at) in self.wire.buckets.iter().zip(&self.wire.squares[1]) {
            let sums = squares(bucket, self.wire.format, *at);
            self.executor.device().enqueue(&sums)?;
        }
        let mut found = [0.0; 2];
        for (sum, places) in found.iter_mut().zip(&self.wire.squares) {
            for (bucket, at) in self.wire.buckets.iter().zip(places) {
                let blocks = square_blocks(bucket.elements as u64) as usize;
                let mut bytes = vec![0; blocks * 8];
                self.executor.device().read(*at, &mut bytes)?;
                *sum +=
                    bytes.as_chunks().0.iter().map(|block| f64::from_le_bytes(*block)).sum::<f64>();
            }
        }
        Ok(found)
    }
}

/// Gives a step, with moments and what only recorded steps do if there are `marks`.
fn give<D: Device>(
    device: &mut D,
    items: &[Item],
    reduction: &mut dyn Reduction<D>,
    marks: Option<&Marks<D::Moment>>,
) -> Result<(), StepError> {
    if let Some(marks) = marks {
        device.mark(&marks.start)?;
    }
    for (index, item) in items.iter().enumerate() {
        match item {
            Item::Part(StepPart { work, .. }) => enqueue(device, work)?,
            Item::LocalSquares(work) if marks.is_some() => enqueue(device, work)?,
            Item::LocalSquares(_) => {}
            Item::Reduce(bucket) => {
                let reduced = marks.and_then(|marks| marks.reduced[index].as_ref());
                reduction.begin(device, *bucket, reduced)?;
            }
            Item::Join => reduction.join(device)?,
        }
        if let Some(marks) = marks {
            device.mark(&marks.after[index])?;
        }
    }
    Ok(())
}

fn enqueue<D: Device>(device: &mut D, work: &[Work]) -> Result<(), StepError> {
    Ok(work.iter().try_for_each(|work| device.enqueue(work))?)
}
