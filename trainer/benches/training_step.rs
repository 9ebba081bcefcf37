//! Images a second of a whole training step in single precision: forward, backward, momentum SGD.
//! `pytorch_cpu.py` beside it measures the same in PyTorch.
//!
//! `cargo bench -p foretrain-trainer --bench training_step`; `FORETRAIN_THREADS` sets the threads
//! (2 by default), `FORETRAIN_PROFILE=1` prints where the time of the last step went.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]
#![expect(clippy::print_stdout, reason = "the profile is for the person who asked for it")]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use divan::counter::ItemsCount;
use foretrain_sim::fusion::Fusion;
use foretrain_sim::random::Streams;
use foretrain_sim::recording::{EventKind, NumberFormat};
use foretrain_sim::workload::{Architecture, Shape, Size};
use foretrain_trainer::communicator::{CommunicatorSettings, HostCommunicator, ThreadTransport};
use foretrain_trainer::executor::Batch;
use foretrain_trainer::executor::ExecutorSettings;
use foretrain_trainer::executor::cpu::CpuExecutor;
use foretrain_trainer::loss_scale::{LossScaleConfig, LossScaler, StaticScale};
use foretrain_trainer::model::Weights;
use foretrain_trainer::optimizer::{Momentum, Optimizer, Rule};
use foretrain_trainer::plan::buckets::Buckets;
use foretrain_trainer::plan::{Kind, Plan};
use foretrain_trainer::step::{CommunicationThread, HostReplica, ReplicaSettings, Timeline};

fn main() {
    divan::main();
}

fn threads() -> usize {
    std::env::var("FORETRAIN_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

struct Step {
    plan: Arc<Plan>,
    replica: HostReplica,
    batch: Batch,
    timeline: Timeline,
    done: u64,
}

impl Step {
    fn new(architecture: Architecture, side: u64, images: usize) -> Self {
        let network =
            architecture.network(Size { image: Shape::new(3, side, side), classes: 1000 });
        let plan = Arc::new(Plan::new(&network).unwrap());
        let buckets = Arc::new(
            Buckets::new(&plan, &network, &Fusion::Threshold("25 MiB".parse().unwrap()), 4)
                .unwrap(),
        );
        let pool =
            Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads()).build().unwrap());
        let settings = ExecutorSettings {
            batch: NonZeroUsize::new(images).unwrap(),
            batch_norm_span: None,
            batch_norm_momentum: 0.1,
            batch_norm_epsilon: 1e-5,
            label_smoothing: 0.0,
            dropout_rate: 0.5,
        };
        let executor = CpuExecutor::<f32>::new(
            Arc::clone(&plan),
            Arc::clone(&buckets),
            settings,
            Arc::clone(&pool),
        );
        let transport = ThreadTransport::world(1).remove(0);
        let communicator =
            HostCommunicator::new(transport, CommunicatorSettings::default()).unwrap();
        let replica = HostReplica::new(
            Arc::clone(&plan),
            buckets,
            ReplicaSettings {
                per_rank_batch: images as u32,
                wire: NumberFormat::F32,
                overlap: true,
                dropout_key: 1,
            },
            Weights::initial(&plan, &Streams::new(1), false),
            Optimizer::new(Rule::Momentum(Momentum::default())).unwrap(),
            LossScaler::new(LossScaleConfig::Static(StaticScale { scale: 1.0 })).unwrap(),
            Box::new(executor.unwrap()),
            CommunicationThread::start(Box::new(communicator)).unwrap(),
            pool,
        )
        .unwrap();
        let side = side as usize;
        let labels: Vec<u32> = (0..images as u32).collect();
        let batch = Batch {
            images: Tensor::rand(-1.0_f32, 1.0, (images, side, side, 3), &Device::Cpu).unwrap(),
            labels: Tensor::from_vec(labels, images, &Device::Cpu).unwrap(),
        };
        let timeline = Timeline::new(Instant::now(), 0);
        Self { plan, replica, batch, timeline, done: 0 }
    }

    fn run(&mut self) {
        self.timeline.set_step(self.done, std::env::var_os("FORETRAIN_PROFILE").is_some());
        let _ = self.timeline.take();
        self.replica.step(&self.batch, self.done, 0.001, &mut self.timeline).unwrap();
        self.done += 1;
    }

    /// Prints the time of each kind of instruction in the last step.
    fn profile(&mut self) {
        let mut times: BTreeMap<String, [Duration; 2]> = BTreeMap::new();
        for event in self.timeline.take() {
            let (name, way, span) = match event.kind {
                EventKind::Forward { instruction, span } => (self.kind(instruction), 0, span),
                EventKind::Backward { instruction, span } => (self.kind(instruction), 1, span),
                EventKind::Optimizer { span } => ("optimizer".to_owned(), 1, span),
                _ => continue,
            };
            times.entry(name).or_default()[way] += Duration::from_nanos(span.duration_ns());
        }
        for (name, [forward, backward]) in times {
            println!("{name:30} forward {forward:>10.1?} backward {backward:>10.1?}");
        }
    }

    fn kind(&self, instruction: u32) -> String {
        match &self.plan.instructions()[instruction as usize].kind {
            Kind::Convolution { window, .. } => {
                format!("convolution {0}x{0} {1}x{1}", window.kernel, window.output_height)
            }
            Kind::BatchNorm { residual, .. } if residual.is_some() => "batch norm + add".to_owned(),
            Kind::BatchNorm { .. } => "batch norm".to_owned(),
            Kind::Linear { .. } => "linear".to_owned(),
            _ => "others".to_owned(),
        }
    }
}

fn bench(bencher: divan::Bencher<'_, '_>, architecture: Architecture, side: u64, images: usize) {
    let mut step = Step::new(architecture, side, images);
    bencher.counter(ItemsCount::new(images)).bench_local(|| step.run());
    step.profile();
}

#[divan::bench(args = [8, 32], max_time = 20)]
fn resnet50_64_pixels(bencher: divan::Bencher<'_, '_>, images: usize) {
    bench(bencher, Architecture::Resnet50, 64, images);
}

#[divan::bench(args = [8, 16], max_time = 30)]
fn resnet50_224_pixels(bencher: divan::Bencher<'_, '_>, images: usize) {
    bench(bencher, Architecture::Resnet50, 224, images);
}

#[divan::bench(args = [32], max_time = 20)]
fn alexnet_bn_227_pixels(bencher: divan::Bencher<'_, '_>, images: usize) {
    bench(bencher, Architecture::AlexnetBn { after_pool5: true }, 227, images);
}
