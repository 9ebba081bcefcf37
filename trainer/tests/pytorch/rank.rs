//! One rank: a network's plan, its executor, and passes over a batch.

use std::num::NonZeroUsize;
use std::sync::Arc;

use foretrain_sim::fusion::Fusion;
use foretrain_sim::workload::{Architecture, Network, Shape, Size};
use foretrain_trainer::executor::ExecutorSettings;
use foretrain_trainer::executor::cpu::{CpuExecutor, Element};
use foretrain_trainer::executor::{Executor as _, Mode, Pass};
use foretrain_trainer::plan::buckets::Buckets;
use foretrain_trainer::plan::{ParameterId, Plan};

use crate::formula;

pub(crate) struct Rank<E: Element> {
    pub(crate) network: Network,
    pub(crate) plan: Arc<Plan>,
    pub(crate) executor: CpuExecutor<E>,
    /// Images of a batch.
    pub(crate) batch: usize,
    channels: usize,
}

/// What a fixture's network is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    pub(crate) architecture: Architecture,
    pub(crate) side: u64,
    pub(crate) classes: u64,
    pub(crate) batch: usize,
    /// Images that share batch-norm statistics; 0 for all.
    pub(crate) span: usize,
}

/// PyTorch's settings of batch norms; no smoothing, no dropout.
fn settings(task: Task) -> ExecutorSettings {
    ExecutorSettings {
        batch: NonZeroUsize::new(task.batch).unwrap(),
        batch_norm_span: NonZeroUsize::new(task.span),
        batch_norm_momentum: 0.1,
        batch_norm_epsilon: 1e-5,
        label_smoothing: 0.0,
        dropout_rate: 0.0,
    }
}

impl<E: Element> Rank<E> {
    /// With the formula's weights and running statistics.
    pub(crate) fn new(task: Task) -> Self {
        let image = Shape::new(3, task.side, task.side);
        let network = task.architecture.network(Size { image, classes: task.classes });
        let plan = Arc::new(Plan::new(&network).unwrap());
        let rule = Fusion::Threshold(foretrain_sim::units::Bytes::new(1 << 20));
        let buckets = Arc::new(Buckets::new(&plan, &network, &rule, 4).unwrap());
        let threads = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
        let executor =
            CpuExecutor::new(Arc::clone(&plan), buckets, settings(task), threads).unwrap();
        let mut rank = Self { network, plan, executor, batch: task.batch, channels: 3 };
        for id in rank.plan.parameter_ids() {
            let parameter = &rank.plan.parameters()[id.get()];
            let values = formula::parameter(&parameter.name, &parameter.shape);
            rank.set_weights(id, &values);
        }
        for (index, norm) in Arc::clone(&rank.plan).batch_norms().iter().enumerate() {
            let statistic =
                |part: &str| formula::parameter(&format!("{}.{part}", norm.name), &[norm.channels]);
            let (mean, variance) = (statistic("running_mean"), statistic("running_var"));
            rank.executor.load_exact_statistics(index, [&mean, &variance]).unwrap();
        }
        rank
    }

    /// From elements in PyTorch's order.
    pub(crate) fn set_weights(&mut self, id: ParameterId, outside: &[f64]) {
        let inside = self.plan.parameters()[id.get()].from_torch(outside);
        self.executor.load_exact_weights(id, inside.into_iter()).unwrap();
    }

    /// Images `first` to `first + batch` of the formula's batch, and their labels.
    pub(crate) fn load(&mut self, first: usize) {
        let shape = self.plan.image_shape();
        let pixels = (shape.height * shape.width) as usize;
        let (elements, end) = (self.channels * pixels, first + self.batch);
        let images = formula::images("input", end * elements);
        // Channels are outermost in PyTorch.
        let inside: Vec<f64> = images[first * elements..]
            .chunks_exact(elements)
            .flat_map(|image| {
                (0..elements).map(|at| image[at % self.channels * pixels + at / self.channels])
            })
            .collect();
        let labels = formula::labels(end, self.plan.classes());
        let labels: Vec<u32> = labels[first..].iter().map(|&label| label as u32).collect();
        self.executor.load_images(&inside, &labels).unwrap();
    }

    pub(crate) fn forward(&mut self, mode: Mode) {
        for instruction in 0..self.plan.instructions().len() {
            self.executor.forward(instruction, pass(mode, 1.0));
        }
    }

    /// The gradient of the losses' sum times the factor.
    pub(crate) fn backward(&mut self, factor: f64) {
        for instruction in (0..self.plan.instructions().len()).rev() {
            self.executor.backward(instruction, pass(Mode::Train, factor)).unwrap();
        }
    }

    /// The gradient of a parameter in PyTorch's order.
    pub(crate) fn gradient(&mut self, id: ParameterId) -> Vec<f64> {
        let inside = self.executor.gradient(id).unwrap();
        self.plan.parameters()[id.get()].to_torch(&inside)
    }

    /// The mean loss of the last pass.
    pub(crate) fn loss(&self) -> f64 {
        self.executor.loss().loss / self.batch as f64
    }

    /// A batch norm's running mean or variance by its name in PyTorch.
    pub(crate) fn running(&self, name: &str) -> Vec<f64> {
        let (norm, part) = name.rsplit_once('.').unwrap();
        let index = self.plan.batch_norms().iter().position(|info| info.name == norm);
        let statistics = self.executor.running_statistics(index.unwrap());
        let values = match part {
            "running_mean" => statistics.mean,
            "running_var" => statistics.variance,
            _ => panic!("no statistic {part}"),
        };
        values.into_iter().map(f64::from).collect()
    }
}

const fn pass(mode: Mode, gradient_factor: f64) -> Pass {
    Pass { mode, gradient_factor, dropout_key: 0, first_image: 0 }
}
