//! A rank whose model is on a device: what crosses between host and device, and what is recorded.

mod over_nccl;
mod reduction;
mod through_host;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use foretrain_sim::random::place_bits;
use foretrain_sim::recording::{EventKind, Norms, Span};

pub use over_nccl::OverNccl;
pub use reduction::{Alone, Reduction};
pub use through_host::ThroughHost;

use super::ReplicaSettings;
use super::communication::CommunicationThread;
use super::replica::{Replica, StateError, StepError, StepOutcome};
use super::timeline::Timeline;
use crate::executor::cuda::device::Device;
use crate::executor::cuda::schedule::Phase;
use crate::executor::cuda::step::{DeviceStep, StepNumbers, Timed};
use crate::executor::{Batch, Executor as _, ExecutorError, LossSum, RunningStatistics};
use crate::loss_scale::{LossScaleState, LossScaler, Verdict};
use crate::model::Weights;
use crate::optimizer::OptimizerState;
use crate::plan::Plan;

/// A copy of the model on a device.
pub struct DeviceReplica<D: Device> {
    // What refers to the device goes before it.
    reduction: Box<dyn Reduction<D>>,
    step: DeviceStep<D>,
    plan: Arc<Plan>,
    settings: ReplicaSettings,
    communication: Arc<CommunicationThread>,
    /// The last step, if it was recorded and is to be noted.
    recorded: Option<Recorded>,
}

/// A step that was recorded.
#[derive(Debug, Clone, Copy)]
struct Recorded {
    /// When its work was given to the device.
    given: Instant,
    outcome: StepOutcome,
    lr: f64,
}

impl<D: Device> fmt::Debug for DeviceReplica<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceReplica({:?}, {:?})", self.communication, self.settings)
    }
}

impl<D: Device> Drop for DeviceReplica<D> {
    fn drop(&mut self) {
        // Work of the reduction may be in the graphs, so they go before it.
        self.step.forget_graphs();
    }
}

impl<D: Device> DeviceReplica<D> {
    /// A copy of the model with these parts.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        settings: ReplicaSettings,
        step: DeviceStep<D>,
        communication: Arc<CommunicationThread>,
        reduction: Box<dyn Reduction<D>>,
    ) -> Self {
        Self { reduction, step, plan, settings, communication, recorded: None }
    }

    fn global_batch(&self) -> u64 {
        u64::from(self.settings.per_rank_batch) * u64::from(self.communication.world())
    }

    /// Notes what was done when. The device began when the step was given to it, or a few microseconds
    /// after.
    fn note_parts(
        &mut self,
        Recorded { given, outcome, lr }: Recorded,
        timeline: &mut Timeline,
    ) -> Result<(), ExecutorError> {
        let start_ns = given.saturating_duration_since(timeline.start()).as_nanos() as u64;
        let at = |seconds: f64| start_ns + (seconds * 1e9).round() as u64;
        let span = |(from, to): (f64, f64)| Span { start_ns: at(from), end_ns: at(to) };
        let mut update: Option<(f64, f64)> = None;
        for timed in self.step.moments(self.reduction.marks_moments())? {
            match timed {
                Timed::Part { phase: Phase::Forward, number: Some(index), span_s } => {
                    let (instruction, span) = (index as u32, span(span_s));
                    timeline.note(EventKind::Forward { instruction, span });
                }
                Timed::Part { phase: Phase::Backward, number: Some(index), span_s } => {
                    let (instruction, span) = (index as u32, span(span_s));
                    timeline.note(EventKind::Backward { instruction, span });
                    for parameter in self.plan.instructions()[index].kind.parameters() {
                        let (tensor, at_ns) = (parameter.get() as u32, span.end_ns);
                        timeline.note(EventKind::GradientReady { tensor, at_ns });
                    }
                }
                Timed::Part { phase: Phase::Pack, number: Some(bucket), span_s } => {
                    let (bucket, span) = (bucket as u32, span(span_s));
                    timeline.note(EventKind::Pack { bucket, span });
                }
                Timed::Part { phase: Phase::Optimizer, span_s, .. } => {
                    update = Some((update.map_or(span_s.0, |(from, _)| from), span_s.1));
                }
                Timed::Part { .. } => {}
                Timed::Reduced { bucket, ready_s, span_s } => {
                    let bucket = bucket as u32;
                    let queue = span((ready_s.min(span_s.0), span_s.0));
                    timeline.note(EventKind::Queue { bucket, span: queue });
                    timeline.note(EventKind::AllReduce { bucket, span: span(span_s) });
                }
            }
        }
        self.reduction.events().into_iter().for_each(|event| timeline.note(event));
        if let Some(update) = update {
            timeline.note(EventKind::Optimizer { span: span(update) });
        }
        self.note_norms(&outcome, lr, timeline)
    }

    fn note_norms(
        &mut self,
        outcome: &StepOutcome,
        lr: f64,
        timeline: &mut Timeline,
    ) -> Result<(), ExecutorError> {
        let [local, averaged] = self.step.gradient_squares()?;
        let scale_sq = f64::from(outcome.loss_scale).powi(2);
        let world = f64::from(self.communication.world());
        let finite = |value: f64| value.is_finite().then_some(value);
        let per_rank_batch = u64::from(self.settings.per_rank_batch);
        timeline.note(EventKind::Norms(Norms {
            // A rank's own mean is over the world-th part of the images.
            local_gradient_norm_sq: finite(local * world * world / scale_sq),
            averaged_gradient_norm_sq: finite(averaged / scale_sq),
            per_rank_batch,
            global_batch: self.global_batch(),
            loss: finite(outcome.loss.loss / per_rank_batch as f64),
            loss_scale: f64::from(outcome.loss_scale),
            learning_rate: lr,
            skipped: outcome.verdict != Verdict::Apply,
        }));
        Ok(())
    }
}

impl<D: Device> Replica for DeviceReplica<D> {
    fn communication(&self) -> &CommunicationThread {
        &self.communication
    }

    fn device(&self) -> Option<String> {
        Some(self.step.description())
    }

    fn take(&mut self, batch: Batch) -> Result<(), ExecutorError> {
        self.step.executor().stage(&batch)
    }

    fn holds_batch(&self) -> bool {
        self.step.holds_batch()
    }

    fn step(
        &mut self,
        step: u64,
        lr: f64,
        timeline: &mut Timeline,
        ahead: &mut dyn FnMut() -> Option<Batch>,
    ) -> Result<StepOutcome, StepError> {
        if !self.step.holds_batch() {
            return Err(ExecutorError::Tensor("a step has no batch".to_owned()).into());
        }
        let per_rank_batch = u64::from(self.settings.per_rank_batch);
        let numbers = StepNumbers {
            learning_rate: lr,
            dropout_key: place_bits(self.settings.dropout_key, step),
            first_image: u64::from(self.communication.rank()) * per_rank_batch,
            global_batch: self.global_batch(),
        };
        self.reduction.begin_step(step, timeline.start());
        let given = self.step.begin(numbers, &mut *self.reduction, timeline.is_on())?;
        let Self { step: on_device, reduction, .. } = self;
        let mut refused = Ok(());
        reduction.wait(&mut || {
            if refused.is_ok()
                && !on_device.holds_batch()
                && let Some(batch) = ahead()
            {
                refused = on_device.executor().stage(&batch);
            }
            on_device.has_ended()
        })?;
        refused?;
        let outcome = self.step.end()?;
        self.recorded = timeline.is_on().then_some(Recorded { given, outcome, lr });
        Ok(outcome)
    }

    fn note(&mut self, timeline: &mut Timeline) -> Result<(), ExecutorError> {
        match self.recorded.take() {
            Some(recorded) => self.note_parts(recorded, timeline),
            None => Ok(()),
        }
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<LossSum, ExecutorError> {
        self.step.evaluate(batch)
    }

    fn weights(&mut self) -> Result<Weights, ExecutorError> {
        self.step.weights()
    }

    fn load_weights(&mut self, weights: Weights) -> Result<(), ExecutorError> {
        self.step.load_weights(&weights)
    }

    fn state(&mut self) -> Result<(OptimizerState, LossScaleState), ExecutorError> {
        self.step.state()
    }

    fn load_state(
        &mut self,
        optimizer: OptimizerState,
        scale: LossScaleState,
    ) -> Result<(), StateError> {
        // A static scale is that of the settings, whatever a checkpoint says.
        let scale = LossScaler::resume(self.step.loss_scale(), scale)?.state();
        Ok(self.step.load_state(&optimizer, scale)?)
    }

    fn running_statistics(&mut self) -> Result<Vec<RunningStatistics>, ExecutorError> {
        let norms = 0..self.plan.batch_norms().len();
        norms.map(|norm| self.step.executor().running_statistics(norm)).collect()
    }

    fn set_running_statistics(
        &mut self,
        statistics: &[RunningStatistics],
    ) -> Result<(), ExecutorError> {
        let mut norms = statistics.iter().enumerate();
        norms.try_for_each(|(norm, statistics)| {
            self.step.executor().set_running_statistics(norm, statistics)
        })
    }
}
