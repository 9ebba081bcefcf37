//! Whole steps on a device against steps that the CPU drives.

use std::sync::Arc;
use std::time::Instant;

use foretrain_sim::random::{Streams, place_bits};
use foretrain_sim::recording::{Event, EventKind, NumberFormat};
use half::f16;
use rayon::ThreadPoolBuilder;

use super::super::super::device::Device as _;
use super::super::super::executor::DeviceExecutor;
use super::super::super::step::{DeviceStep, Launch, Phase, StepNumbers, Timed};
use super::super::device::EmulatedDevice;
use super::executor::{Case, MEMORY_BYTES, SMALL, distance};
use crate::communicator::{CommunicatorSettings, HostCommunicator, ThreadTransport};
use crate::executor::Executor;
use crate::executor::cpu::{CpuExecutor, Element};
use crate::loss_scale::{DynamicScale, LossScaleConfig, LossScaler, StaticScale, Verdict};
use crate::model::Weights;
use crate::optimizer::{Lars, Momentum, Optimizer, Rule};
use crate::step::device::{Alone, DeviceReplica};
use crate::step::{
    CommunicationThread, HostReplica, Replica, ReplicaSettings, StepOutcome, Timeline,
};

const DROPOUT_KEY: u64 = 5;

/// A rule, a loss scale and what is trained with them.
struct Training<'a> {
    case: &'a Case,
    rule: Rule,
    loss_scale: LossScaleConfig,
    format: NumberFormat,
}

impl Training<'_> {
    fn weights(&self) -> Weights {
        Weights::initial(&self.case.plan().0, &Streams::new(1), false)
    }

    fn learning_rate(step: u64) -> f64 {
        0.002 * (step + 1) as f64
    }

    fn on_cpu<E: Element>(&self) -> HostReplica {
        let (plan, buckets) = self.case.plan();
        let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let settings = self.case.settings();
        let executor = CpuExecutor::<E>::new(
            Arc::clone(&plan),
            Arc::clone(&buckets),
            settings,
            Arc::clone(&pool),
        );
        let transport = ThreadTransport::world(1).remove(0);
        let communicator = HostCommunicator::new(transport, CommunicatorSettings::default());
        HostReplica::new(
            plan,
            buckets,
            ReplicaSettings {
                per_rank_batch: self.case.images as u32,
                wire: self.format,
                overlap: false,
                dropout_key: DROPOUT_KEY,
            },
            self.weights(),
            Optimizer::new(self.rule).unwrap(),
            LossScaler::new(self.loss_scale).unwrap(),
            Box::new(executor.unwrap()),
            CommunicationThread::start(Box::new(communicator.unwrap())).unwrap(),
            pool,
        )
        .unwrap()
    }

    fn on_device(&self) -> DeviceStep<EmulatedDevice> {
        let (plan, buckets) = self.case.plan();
        let device = EmulatedDevice::new(self.format, MEMORY_BYTES);
        let settings = self.case.settings();
        let executor =
            DeviceExecutor::new(device, Arc::clone(&plan), buckets, settings, self.format).unwrap();
        let mut step = DeviceStep::new(executor, plan, &self.rule, self.loss_scale).unwrap();
        step.load_weights(&self.weights()).unwrap();
        step
    }

    fn numbers(&self, step: u64) -> StepNumbers {
        StepNumbers {
            learning_rate: Self::learning_rate(step),
            dropout_key: place_bits(DROPOUT_KEY, step),
            first_image: 0,
            global_batch: self.case.images as u64,
        }
    }

    /// Runs so many steps both ways and compares weights, velocities and the loss scale after each;
    /// weights may differ by `tolerance` of how far they have come.
    fn compare<E: Element>(&self, steps: u64, tolerance: f64) -> Vec<StepOutcome> {
        let (mut cpu, mut device) = (self.on_cpu::<E>(), self.on_device());
        let mut timeline = Timeline::new(Instant::now(), 0);
        let plan = self.case.plan().0;
        let first = self.weights();
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let mut outcomes = Vec::new();
        for number in 0..steps {
            let batch = self.case.batch(self.case.images);
            let expected =
                cpu.step(&batch, number, Self::learning_rate(number), &mut timeline).unwrap();
            let found = device.step(&batch, self.numbers(number)).unwrap();
            assert_eq!((found.verdict, found.loss_scale), (expected.verdict, expected.loss_scale));
            let difference = (found.loss.loss / expected.loss.loss - 1.0).abs();
            assert!(difference < tolerance, "loss in step {number}: {found:?}, {expected:?}");
            let weights = device.weights().unwrap();
            for (id, parameter) in plan.parameter_ids().zip(plan.parameters()) {
                let first = wide(first.of(id));
                let moved = |weights: &[f32]| {
                    wide(weights).iter().zip(&first).map(|(now, first)| now - first).collect()
                };
                let (expected, found): (Vec<f64>, Vec<f64>) =
                    (moved(cpu.weights.of(id)), moved(weights.of(id)));
                let difference = distance(&expected, &found);
                assert!(
                    difference < tolerance,
                    "{} in step {number}: {difference}",
                    parameter.name
                );
            }
            let (optimizer, scale) = device.state().unwrap();
            assert_eq!(scale, cpu.scaler.state());
            let expected = cpu.optimizer.state();
            assert_eq!(optimizer.tensors.len(), expected.tensors.len());
            for (name, memory) in &optimizer.tensors {
                let expected = &expected.tensors[name];
                assert_eq!(memory.last_lr, expected.last_lr);
                let difference = distance(&wide(&expected.velocity), &wide(&memory.velocity));
                assert!(difference < tolerance, "velocity of {name}: {difference}");
            }
            outcomes.push(found);
        }
        outcomes
    }
}

#[test]
fn ten_steps_of_lars_are_those_of_the_cpu() {
    let training = Training {
        case: &SMALL,
        rule: Rule::Lars(Lars { coefficient: 1.0, momentum_correction: true, ..Lars::default() }),
        loss_scale: LossScaleConfig::Static(StaticScale { scale: 8.0 }),
        format: NumberFormat::F32,
    };
    let outcomes = training.compare::<f32>(10, 1e-2);
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Apply));
    assert!(outcomes[9].loss.loss < outcomes[0].loss.loss, "{outcomes:?}");
}

/// The first scale overflows half precision; it is halved until it does not, and doubled after four
/// good steps.
#[test]
fn overflows_are_skipped_and_the_scale_follows() {
    let dynamic = DynamicScale {
        initial_scale: 16_777_216.0 * 16.0,
        growth_interval: 4,
        ..DynamicScale::default()
    };
    let training = Training {
        case: &SMALL,
        rule: Rule::Momentum(Momentum { nesterov: true, ..Momentum::default() }),
        loss_scale: LossScaleConfig::Dynamic(dynamic),
        format: NumberFormat::F16,
    };
    // Rounding alone makes gradients of the first layers differ by a twentieth from step to step.
    let outcomes = training.compare::<f16>(14, 2e-1);
    let skipped = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Skip).count();
    assert!((1..12).contains(&skipped), "{outcomes:?}");
}

/// What is measured is the step: all its parts, once more, are a second step on the same images.
#[test]
fn the_parts_of_a_step_are_the_step() {
    let training = Training {
        case: &SMALL,
        rule: Rule::Lars(Lars { coefficient: 0.1, ..Lars::default() }),
        loss_scale: LossScaleConfig::default(),
        format: NumberFormat::F16,
    };
    let batch = SMALL.batch(SMALL.images);
    let [mut whole, mut parts] = [(); 2].map(|()| training.on_device());
    for device in [&mut whole, &mut parts] {
        device.step(&batch, training.numbers(1)).unwrap();
    }
    whole.step(&batch, training.numbers(1)).unwrap();
    for part in parts.parts() {
        for work in &part.work {
            parts.executor().device().enqueue(work).unwrap();
        }
    }
    assert_eq!(parts.weights().unwrap(), whole.weights().unwrap());
    assert_eq!(parts.state().unwrap(), whole.state().unwrap());
    let statistics = |device: &mut DeviceStep<EmulatedDevice>| {
        Executor::running_statistics(device.executor(), 0).unwrap()
    };
    assert_eq!(statistics(&mut parts), statistics(&mut whole));
}

/// What a checkpoint keeps is enough to go on with the same bits.
#[test]
fn a_device_goes_on_from_a_checkpoint_bit_by_bit() {
    let training = Training {
        case: &SMALL,
        rule: Rule::Lars(Lars { coefficient: 0.1, ..Lars::default() }),
        loss_scale: LossScaleConfig::default(),
        format: NumberFormat::F16,
    };
    let batch = SMALL.batch(SMALL.images);
    let mut whole = training.on_device();
    for step in 0..3 {
        whole.step(&batch, training.numbers(step)).unwrap();
    }
    let (optimizer, scale) = whole.state().unwrap();
    let loss = whole.evaluate(&SMALL.batch(3)).unwrap();
    assert_eq!(whole.state().unwrap(), (optimizer.clone(), scale), "an evaluation changed it");
    assert_eq!(whole.evaluate(&SMALL.batch(3)).unwrap(), loss);
    let plan = SMALL.plan().0;
    let mut second = training.on_device();
    let weights = whole.weights().unwrap();
    let statistics: Vec<_> = (0..plan.batch_norms().len())
        .map(|norm| Executor::running_statistics(whole.executor(), norm).unwrap())
        .collect();
    second.load_weights(&weights).unwrap();
    for (norm, statistics) in statistics.iter().enumerate() {
        Executor::set_running_statistics(second.executor(), norm, statistics).unwrap();
    }
    second.load_state(&optimizer, scale).unwrap();
    for step in 3..5 {
        let one = whole.step(&batch, training.numbers(step)).unwrap();
        assert_eq!(second.step(&batch, training.numbers(step)).unwrap(), one);
    }
    assert_eq!(second.weights().unwrap(), whole.weights().unwrap());
    assert_eq!(second.state().unwrap(), whole.state().unwrap());
}

/// The first step is given one by one, the others as a graph; a recorded one as a graph of its own.
#[test]
fn graphs_do_what_is_given_one_by_one() {
    for (rule, format) in [
        (Rule::Lars(Lars { coefficient: 0.1, ..Lars::default() }), NumberFormat::F16),
        (Rule::Momentum(Momentum::default()), NumberFormat::F32),
    ] {
        let loss_scale = LossScaleConfig::default();
        let training = Training { case: &SMALL, rule, loss_scale, format };
        let run = |launch| {
            let mut step = training.on_device();
            step.set_launch(launch);
            for number in 0..5 {
                // A smaller batch in between has graphs of its own.
                let images = if number == 3 { SMALL.images - 2 } else { SMALL.images };
                step.executor().stage(&SMALL.batch(images)).unwrap();
                step.begin(training.numbers(number), &mut Alone, number == 2).unwrap();
                assert!(step.has_ended().unwrap());
                step.end().unwrap();
            }
            let launches = step.executor().device().launches;
            (step.weights().unwrap(), step.state().unwrap(), launches)
        };
        let (weights, state, launches) = run(Launch::Eager);
        assert_eq!(launches, 0);
        assert_eq!(run(Launch::Graph), (weights, state, 3));
    }
}

/// On the emulator's clock each piece of work takes a microsecond.
#[test]
fn moments_of_a_recorded_step_are_those_of_its_parts() {
    let training = Training {
        case: &SMALL,
        rule: Rule::Lars(Lars::default()),
        loss_scale: LossScaleConfig::default(),
        format: NumberFormat::F16,
    };
    let mut step = training.on_device();
    for number in 0..3 {
        step.executor().stage(&SMALL.batch(SMALL.images)).unwrap();
        step.begin(training.numbers(number), &mut Alone, number != 1).unwrap();
        step.end().unwrap();
        if number == 1 {
            continue;
        }
        let parts = step.parts();
        let mut parts = parts.iter().filter(|part| part.phase != Phase::Input);
        let (mut until, mut reduced) = (0.0, 0);
        for timed in step.moments(true).unwrap() {
            let span_s = match timed {
                Timed::Part { phase, number, span_s } => {
                    let part = parts.next().unwrap();
                    assert_eq!((part.phase, part.number), (phase, number));
                    let took_us = ((span_s.1 - span_s.0) * 1e6).round();
                    assert_eq!(took_us, part.work.len() as f64, "{}", part.name);
                    span_s
                }
                Timed::Reduced { bucket, ready_s, span_s } => {
                    assert_eq!((bucket, ready_s), (reduced, span_s.0));
                    reduced += 1;
                    span_s
                }
            };
            assert!(span_s.0 >= until && span_s.1 >= span_s.0, "{timed:?}");
            until = span_s.1;
        }
        assert!(parts.next().is_none());
        assert_eq!(reduced, SMALL.plan().1.all().len());
    }
}

/// What a recording says of a step on a device is what it says of the CPU's.
#[test]
fn a_recorded_step_notes_what_the_cpus_notes() {
    let training = Training {
        case: &SMALL,
        rule: Rule::Lars(Lars::default()),
        loss_scale: LossScaleConfig::Static(StaticScale { scale: 4.0 }),
        format: NumberFormat::F32,
    };
    let record = |replica: &mut dyn Replica| {
        let mut timeline = Timeline::new(Instant::now(), 0);
        timeline.set_step(0, true);
        assert!(!replica.holds_batch());
        assert!(replica.step(0, 0.01, &mut timeline, &mut || None).is_err());
        replica.take(SMALL.batch(SMALL.images)).unwrap();
        replica.step(0, 0.01, &mut timeline, &mut || None).unwrap();
        replica.note(&mut timeline).unwrap();
        timeline.take()
    };
    let cpu = record(&mut training.on_cpu::<f32>());
    let (plan, buckets) = SMALL.plan();
    let step = training.on_device();
    let transport = ThreadTransport::world(1).remove(0);
    let communicator = HostCommunicator::new(transport, CommunicatorSettings::default()).unwrap();
    let communication = CommunicationThread::start(Box::new(communicator)).unwrap();
    let settings = ReplicaSettings {
        per_rank_batch: SMALL.images as u32,
        wire: training.format,
        overlap: true,
        dropout_key: DROPOUT_KEY,
    };
    let alone = Box::new(Alone);
    let device = record(&mut DeviceReplica::new(plan, settings, step, communication.into(), alone));
    let of = |events: &[Event], wanted: fn(&EventKind) -> bool| {
        events.iter().filter(|event| wanted(&event.kind)).count()
    };
    for (wanted, extra) in [
        ((|kind| matches!(kind, EventKind::Forward { .. })) as fn(&EventKind) -> bool, 0),
        (|kind| matches!(kind, EventKind::Backward { .. }), 0),
        (|kind| matches!(kind, EventKind::GradientReady { .. }), 0),
        (|kind| matches!(kind, EventKind::Queue { .. }), 0),
        (|kind| matches!(kind, EventKind::AllReduce { .. }), 0),
        (|kind| matches!(kind, EventKind::Optimizer { .. }), 0),
        (|kind| matches!(kind, EventKind::Norms(_)), 0),
        // Nothing is cast or copied together on a device whose gradients lie in their buckets.
        (|kind| matches!(kind, EventKind::Pack { .. }), buckets.all().len()),
        (|kind| matches!(kind, EventKind::Unpack { .. }), buckets.all().len()),
    ] {
        assert_eq!(of(&cpu, wanted), of(&device, wanted) + extra);
        assert!(of(&cpu, wanted) > 0);
    }
    let norms = |events: &[Event]| {
        let norms = events.iter().find_map(|event| match event.kind {
            EventKind::Norms(norms) => Some(norms),
            _ => None,
        });
        norms.unwrap()
    };
    let (cpu, device) = (norms(&cpu), norms(&device));
    let near = |a: Option<f64>, b: Option<f64>| (a.unwrap() / b.unwrap() - 1.0).abs() < 1e-4;
    assert!(near(cpu.local_gradient_norm_sq, device.local_gradient_norm_sq), "{cpu:?}, {device:?}");
    assert!(near(cpu.averaged_gradient_norm_sq, device.averaged_gradient_norm_sq));
    assert!(near(cpu.loss, device.loss));
    assert_eq!(device.learning_rate, 0.01);
    assert!(!device.skipped);
}
