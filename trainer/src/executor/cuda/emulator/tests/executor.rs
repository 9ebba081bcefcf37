//! Whole networks: what is done on a device against the executor for CPUs.

use std::num::NonZeroUsize;
use std::sync::Arc;

use candle_core::{Device as CandleDevice, Tensor};
use foretrain_sim::fusion::Fusion;
use foretrain_sim::random::{Streams, place_uniform};
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::units::Bytes;
use foretrain_sim::workload::{Architecture, Shape, Size};
use half::{bf16, f16};
use rayon::ThreadPoolBuilder;

use super::super::super::driver::Gpu;
use super::super::super::executor::DeviceExecutor;
use super::super::device::EmulatedDevice;
use super::super::hardware;
use crate::executor::cpu::{CpuExecutor, Element};
use crate::executor::{
    Batch, Executor, ExecutorError, ExecutorSettings, GradientBuffer, LossSum, Mode, Pass,
    RunningStatistics,
};
use crate::model::Weights;
use crate::plan::Plan;
use crate::plan::buckets::Buckets;

pub(super) const MEMORY_BYTES: usize = 1 << 30;

/// A network to run both ways.
pub(super) struct Case {
    architecture: Architecture,
    size: Size,
    pub(super) images: usize,
    span: Option<usize>,
}

pub(super) const SMALL: Case = Case {
    architecture: Architecture::SmallResnet { blocks_per_stage: 1 },
    size: Size { image: Shape::new(3, 9, 9), classes: 5 },
    images: 6,
    span: None,
};

/// All that two passes leave behind.
struct Outcome {
    loss: LossSum,
    /// Each parameter's, in the order inside.
    gradients: Vec<Vec<f64>>,
    statistics: Vec<RunningStatistics>,
    /// With fewer images, by the running statistics.
    evaluated: LossSum,
}

impl Case {
    pub(super) fn settings(&self) -> ExecutorSettings {
        ExecutorSettings {
            batch: NonZeroUsize::new(self.images).unwrap(),
            batch_norm_span: self.span.and_then(NonZeroUsize::new),
            batch_norm_momentum: 0.1,
            batch_norm_epsilon: 1e-5,
            label_smoothing: 0.1,
            dropout_rate: 0.5,
        }
    }

    pub(super) fn batch(&self, images: usize) -> Batch {
        let shape = self.size.image;
        let pixels = 0..images as u64 * shape.elements();
        let pixels: Vec<f32> = pixels.map(|at| place_uniform(3, at) as f32 * 2.0 - 1.0).collect();
        let labels: Vec<u32> =
            (0..images).map(|image| (image * 2 % self.size.classes as usize) as u32).collect();
        let (height, width) = (shape.height as usize, shape.width as usize);
        let dims = (images, height, width, shape.channels as usize);
        Batch {
            images: Tensor::from_vec(pixels, dims, &CandleDevice::Cpu).unwrap(),
            labels: Tensor::from_vec(labels, images, &CandleDevice::Cpu).unwrap(),
        }
    }

    pub(super) fn plan(&self) -> (Arc<Plan>, Arc<Buckets>) {
        let network = self.architecture.network(self.size);
        let plan = Arc::new(Plan::new(&network).unwrap());
        let rule = Fusion::Threshold(Bytes::new(50_000));
        let buckets = Arc::new(Buckets::new(&plan, &network, &rule, 2).unwrap());
        (plan, buckets)
    }

    /// Trains once and evaluates fewer images.
    fn outcome(&self, executor: &mut dyn Executor) -> Outcome {
        let (plan, buckets) = self.plan();
        let weights = Weights::initial(&plan, &Streams::new(1), false);
        for id in plan.parameter_ids() {
            executor.load_weights(id, weights.of(id)).unwrap();
        }
        executor.load_batch(&self.batch(self.images)).unwrap();
        let pass =
            Pass { mode: Mode::Train, gradient_factor: 8.0, dropout_key: 11, first_image: 30 };
        let instructions = plan.instructions().len();
        for instruction in 0..instructions {
            executor.forward(instruction, pass).unwrap();
        }
        let loss = executor.loss().unwrap();
        for instruction in (0..instructions).rev() {
            executor.backward(instruction, pass).unwrap();
        }
        let mut gradients = vec![Vec::new(); plan.parameters().len()];
        for (number, bucket) in buckets.all().iter().enumerate() {
            let taken = executor.take_bucket(number).unwrap();
            let values = wide(&taken);
            for &(id, offset) in &bucket.gradients {
                let elements = plan.parameters()[id.get()].elements();
                gradients[id.get()] = values[offset..offset + elements].to_vec();
            }
            executor.return_bucket(number, taken).unwrap();
        }
        let norms = 0..plan.batch_norms().len();
        let statistics = norms.map(|norm| executor.running_statistics(norm).unwrap()).collect();
        executor.load_batch(&self.batch(self.images - 1)).unwrap();
        let pass = Pass { mode: Mode::Evaluate, ..pass };
        for instruction in 0..instructions {
            executor.forward(instruction, pass).unwrap();
        }
        let evaluated = executor.loss().unwrap();
        Outcome { loss, gradients, statistics, evaluated }
    }

    fn on_cpu<E: Element>(&self) -> Outcome {
        let (plan, buckets) = self.plan();
        let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        self.outcome(&mut CpuExecutor::<E>::new(plan, buckets, self.settings(), pool).unwrap())
    }

    fn on_device(&self, format: NumberFormat) -> Outcome {
        let (plan, buckets) = self.plan();
        let device = EmulatedDevice::new(format, MEMORY_BYTES);
        self.outcome(
            &mut DeviceExecutor::new(device, plan, buckets, self.settings(), format).unwrap(),
        )
    }

    /// Compares both in single precision: numbers may differ by `tolerance` of their tensor's norm.
    fn compare(&self, tolerance: f64) {
        self.compare_outcome(&self.on_device(NumberFormat::F32), tolerance);
    }

    fn compare_outcome(&self, device: &Outcome, tolerance: f64) {
        let cpu = self.on_cpu::<f32>();
        for (what, cpu, device) in
            [("loss", cpu.loss, device.loss), ("evaluated", cpu.evaluated, device.evaluated)]
        {
            let difference = (device.loss / cpu.loss - 1.0).abs();
            assert!(difference < tolerance, "{what}: {device:?}, {cpu:?}");
            assert_eq!((device.hits, device.hits_top5), (cpu.hits, cpu.hits_top5));
        }
        let (plan, _) = self.plan();
        for (index, parameter) in plan.parameters().iter().enumerate() {
            let difference = cpu.distance(index, device);
            assert!(difference < tolerance, "{}: {difference:e}", parameter.name);
        }
        for (cpu, device) in cpu.statistics.iter().zip(&device.statistics) {
            let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            for (cpu, device) in [(&cpu.mean, &device.mean), (&cpu.variance, &device.variance)] {
                assert!(distance(&wide(cpu), &wide(device)) < tolerance, "{cpu:?}, {device:?}");
            }
        }
    }

    /// In half precision both differ from single precision: the device by no more than twice what
    /// the CPU does.
    fn compare_rounded<E: Element>(&self, format: NumberFormat) {
        self.compare_rounded_outcome::<E>(format, &self.on_device(format));
    }

    fn compare_rounded_outcome<E: Element>(&self, format: NumberFormat, device: &Outcome) {
        let exact = self.on_cpu::<f32>();
        let cpu = self.on_cpu::<E>();
        let (plan, _) = self.plan();
        for (index, parameter) in plan.parameters().iter().enumerate() {
            let (of_cpu, of_device) = (exact.distance(index, &cpu), exact.distance(index, device));
            let limit = 2.0 * of_cpu + 1e-3;
            assert!(of_device < limit, "{format:?} {}: {of_device:e}, {of_cpu:e}", parameter.name);
        }
        let error = |outcome: &Outcome| (outcome.loss.loss / exact.loss.loss - 1.0).abs();
        assert!(error(device) < 2.0 * error(&cpu) + 1e-3, "{:?}, {:?}", device.loss, cpu.loss);
    }
}

impl Outcome {
    /// How far a gradient of `other` is from this one's, as a part of its norm. Gradients that are 0
    /// but for rounding, as those of a bias before a batch norm, count as a part of all gradients.
    fn distance(&self, index: usize, other: &Self) -> f64 {
        let all = self.gradients.iter().flatten().map(|value| value * value).sum::<f64>().sqrt();
        let norm = self.gradients[index].iter().map(|value| value * value).sum::<f64>().sqrt();
        let own = distance(&self.gradients[index], &other.gradients[index]);
        own * norm / norm.max(1e-4 * all)
    }
}

fn wide(buffer: &GradientBuffer) -> Vec<f64> {
    match buffer {
        GradientBuffer::F16(values) => values.iter().map(|value| value.to_f64()).collect(),
        GradientBuffer::Bf16(values) => values.iter().map(|value| value.to_f64()).collect(),
        GradientBuffer::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
        GradientBuffer::F64(values) => values.clone(),
    }
}

/// ‖a − b‖ / ‖a‖.
pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f64 = a.iter().map(|a| a * a).sum();
    (difference / norm.max(1e-30)).sqrt()
}

/// With a GPU, its own convolutions and products too.
#[test]
fn networks_on_a_gpu_are_those_of_the_cpu() {
    if !hardware::is_wanted() {
        println!("skipped: FORETRAIN_KERNELS=gpu says that there is a GPU");
        return;
    }
    let choices = tempfile::tempdir().unwrap();
    let on_gpu = |format| {
        let gpu = Gpu::open(0, format, choices.path()).unwrap();
        let (plan, buckets) = SMALL.plan();
        let executor = DeviceExecutor::new(gpu, plan, buckets, SMALL.settings(), format);
        SMALL.outcome(&mut executor.unwrap())
    };
    SMALL.compare_outcome(&on_gpu(NumberFormat::F32), 1e-3);
    SMALL.compare_rounded_outcome::<f16>(NumberFormat::F16, &on_gpu(NumberFormat::F16));
    SMALL.compare_rounded_outcome::<bf16>(NumberFormat::Bf16, &on_gpu(NumberFormat::Bf16));
}

#[test]
fn a_small_resnet_is_that_of_the_cpu() {
    SMALL.compare(1e-4);
    SMALL.compare_rounded::<f16>(NumberFormat::F16);
    SMALL.compare_rounded::<bf16>(NumberFormat::Bf16);
}

#[test]
fn groups_of_images_have_their_own_statistics() {
    let case = Case { span: Some(2), ..SMALL };
    case.compare(1e-4);
}

/// Groups of channels, overlapping pools, biases, dropout, large linear layers.
#[test]
fn alexnet_is_that_of_the_cpu() {
    let architecture = Architecture::AlexnetBn { after_pool5: true };
    let side = architecture.side_min();
    let size = Size { image: Shape::new(3, side, side), classes: 10 };
    Case { architecture, size, images: 3, span: None }.compare(1e-4);
    let architecture = Architecture::Alexnet;
    Case { architecture, size, images: 2, span: None }.compare(1e-4);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (plan, buckets) = SMALL.plan();
    let device = EmulatedDevice::new(NumberFormat::F16, 1 << 16);
    let (format, settings) = (NumberFormat::F16, SMALL.settings());
    let new = |device, settings| {
        let (plan, buckets) = (Arc::clone(&plan), Arc::clone(&buckets));
        DeviceExecutor::new(device, plan, buckets, settings, format)
    };
    let error = new(device, settings).unwrap_err();
    assert!(error.to_string().contains("65536 bytes of memory left"), "{error}");
    let device = EmulatedDevice::new(format, MEMORY_BYTES);
    let odd = ExecutorSettings { batch_norm_span: NonZeroUsize::new(4), ..settings };
    assert!(matches!(new(device, odd), Err(ExecutorError::Batch { found: 6, span: 4, .. })));
    let device = EmulatedDevice::new(format, MEMORY_BYTES);
    let mut executor = new(device, settings).unwrap();
    assert!(matches!(executor.load_batch(&SMALL.batch(7)), Err(ExecutorError::Batch { .. })));
    let first = plan.parameter_ids().next().unwrap();
    assert!(matches!(executor.load_weights(first, &[1.0]), Err(ExecutorError::Size { .. })));
    let taken = executor.take_bucket(0).unwrap();
    assert!(matches!(executor.take_bucket(0), Err(ExecutorError::BucketAway(0))));
    assert!(matches!(
        executor.return_bucket(0, GradientBuffer::F32(vec![0.0; taken.elements()])),
        Err(ExecutorError::Bucket(0))
    ));
    executor.return_bucket(0, taken).unwrap();
}
