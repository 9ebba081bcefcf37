//! Steps in double precision: many ranks do what one does.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use foretrain_sim::fusion::Fusion;
use foretrain_sim::random::{Streams, place_uniform};
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::workload::{Architecture, Shape, Size};
use rayon::ThreadPoolBuilder;

use super::*;
use crate::communicator::{AllReduce, CommunicatorSettings, HostCommunicator, ThreadTransport};
use crate::executor::Batch;
use crate::executor::ExecutorSettings;
use crate::executor::cpu::CpuExecutor;
use crate::loss_scale::{LossScaleConfig, LossScaler, StaticScale};
use crate::model::Weights;
use crate::optimizer::{Momentum, Optimizer, Rule};
use crate::plan::Plan;
use crate::plan::buckets::Buckets;

const GLOBAL_BATCH: usize = 8;

/// Weights after three steps of a small ResNet on `ranks` ranks, in double precision.
fn weights_of(ranks: u32) -> Vec<Vec<f32>> {
    let network = Architecture::SmallResnet { blocks_per_stage: 1 }
        .network(Size { image: Shape::new(3, 9, 9), classes: 5 });
    let plan = Arc::new(Plan::new(&network).unwrap());
    let buckets = Arc::new(Buckets::new(&plan, &network, &Fusion::OneBucket, 4).unwrap());
    let share = GLOBAL_BATCH / ranks as usize;
    let threads = ThreadTransport::world(ranks).into_iter().map(|transport| {
        let (plan, buckets) = (Arc::clone(&plan), Arc::clone(&buckets));
        std::thread::spawn(move || {
            let settings = CommunicatorSettings {
                all_reduce: AllReduce::Direct,
                timeout: Duration::from_secs(60),
            };
            let communicator = HostCommunicator::new(transport, settings).unwrap();
            let communication = CommunicationThread::start(Box::new(communicator)).unwrap();
            let rank = communication.rank() as usize;
            let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
            let settings = ExecutorSettings {
                batch: NonZeroUsize::new(share).unwrap(),
                batch_norm_span: NonZeroUsize::new(2),
                batch_norm_momentum: 0.1,
                batch_norm_epsilon: 1e-5,
                label_smoothing: 0.1,
                dropout_rate: 0.5,
            };
            let executor = CpuExecutor::<f64>::new(
                Arc::clone(&plan),
                Arc::clone(&buckets),
                settings,
                Arc::clone(&pool),
            );
            let settings = ReplicaSettings {
                per_rank_batch: share as u32,
                wire: NumberFormat::F32,
                overlap: true,
                dropout_key: 5,
            };
            let scale = LossScaleConfig::Static(StaticScale { scale: 8.0 });
            let mut replica = HostReplica::new(
                Arc::clone(&plan),
                buckets,
                settings,
                Weights::initial(&plan, &Streams::new(1), false),
                Optimizer::new(Rule::Momentum(Momentum::default())).unwrap(),
                LossScaler::new(scale).unwrap(),
                Box::new(executor.unwrap()),
                communication,
                pool,
            )
            .unwrap();
            let mut timeline = Timeline::new(Instant::now(), rank as u32);
            for step in 0..3 {
                let batch = batch(&plan, step, rank * share..(rank + 1) * share);
                replica.step(&batch, step, 0.05, &mut timeline).unwrap();
            }
            replica.weights.masters_mut().map(|(_, weights)| weights.clone()).collect::<Vec<_>>()
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut all = threads.into_iter().map(|thread| thread.join().unwrap());
    let first = all.next().unwrap();
    for other in all {
        assert_eq!(other, first, "ranks differ");
    }
    first
}

/// Images `range` of the global batch of a step.
fn batch(plan: &Plan, step: u64, range: std::ops::Range<usize>) -> Batch {
    let shape = plan.image_shape();
    let elements = shape.elements() as usize;
    let numbers = range.start * elements..range.end * elements;
    let pixels = numbers.map(|index| place_uniform(step, index as u64) as f32 * 2.0 - 1.0);
    let labels: Vec<u32> = range.clone().map(|image| (image % 5) as u32).collect();
    let (height, width) = (shape.height as usize, shape.width as usize);
    let dims = (range.len(), height, width, shape.channels as usize);
    Batch {
        images: Tensor::from_vec(pixels.collect::<Vec<_>>(), dims, &Device::Cpu).unwrap(),
        labels: Tensor::from_vec(labels, range.len(), &Device::Cpu).unwrap(),
    }
}

/// Gradients agree to 1e-13 or so in double precision, so weights, which are rounded to single
/// precision after each step, agree but for the rounding of numbers that lie between two.
#[test]
fn ranks_do_together_what_one_rank_does() {
    let one = weights_of(1);
    for ranks in [2, 4] {
        let many = weights_of(ranks);
        let pairs = one.iter().flatten().zip(many.iter().flatten());
        let (mut different, mut all) = (0, 0);
        for (&one, &many) in pairs {
            all += 1;
            different += usize::from(one != many);
            assert!((one - many).abs() <= 1e-6 * one.abs().max(1e-3), "{one} and {many}");
        }
        assert!(different * 1000 < all, "{ranks} ranks: {different} of {all} weights differ");
    }
}

/// One rank in half precision with a loss scale that no gradient survives.
#[test]
fn a_skipped_step_changes_neither_weights_nor_statistics() {
    let size = Size { image: Shape::new(3, 9, 9), classes: 5 };
    let network = Architecture::SmallResnet { blocks_per_stage: 1 }.network(size);
    let plan = Arc::new(Plan::new(&network).unwrap());
    let buckets = Arc::new(Buckets::new(&plan, &network, &Fusion::OneBucket, 2).unwrap());
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let settings = ExecutorSettings {
        batch: NonZeroUsize::new(GLOBAL_BATCH).unwrap(),
        batch_norm_span: None,
        batch_norm_momentum: 0.1,
        batch_norm_epsilon: 1e-5,
        label_smoothing: 0.0,
        dropout_rate: 0.0,
    };
    let (plans, bucket_list) = (Arc::clone(&plan), Arc::clone(&buckets));
    let executor =
        CpuExecutor::<half::f16>::new(plans, bucket_list, settings, Arc::clone(&pool)).unwrap();
    let transport = ThreadTransport::world(1).remove(0);
    let communicator = HostCommunicator::new(transport, CommunicatorSettings::default()).unwrap();
    let first = Weights::initial(&plan, &Streams::new(1), false);
    let mut replica = HostReplica::new(
        Arc::clone(&plan),
        buckets,
        ReplicaSettings {
            per_rank_batch: GLOBAL_BATCH as u32,
            wire: NumberFormat::F16,
            overlap: true,
            dropout_key: 5,
        },
        first.clone(),
        Optimizer::new(Rule::Momentum(Momentum::default())).unwrap(),
        LossScaler::new(LossScaleConfig::Static(StaticScale { scale: 1e9 })).unwrap(),
        Box::new(executor),
        CommunicationThread::start(Box::new(communicator)).unwrap(),
        pool,
    )
    .unwrap();
    let statistics = replica.running_statistics().unwrap();
    let mut timeline = Timeline::new(Instant::now(), 0);
    let batch = batch(&plan, 0, 0..GLOBAL_BATCH);
    let outcome = replica.step(&batch, 0, 0.05, &mut timeline).unwrap();
    assert_ne!(outcome.verdict, crate::loss_scale::Verdict::Apply);
    assert_eq!(replica.weights, first);
    assert_eq!(replica.running_statistics().unwrap(), statistics);
    // The same step with a scale that fits changes both.
    replica.scaler = LossScaler::new(LossScaleConfig::Static(StaticScale { scale: 1.0 })).unwrap();
    replica.step(&batch, 1, 0.05, &mut timeline).unwrap();
    assert_ne!(replica.weights, first);
    assert_ne!(replica.running_statistics().unwrap(), statistics);
}
