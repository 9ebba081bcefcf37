//! What all ranks share, fixed before the first step.

use std::num::NonZeroUsize;
use std::sync::Arc;

use foretrain_sim::fusion::Fusion;
use foretrain_sim::located::Problem;
use foretrain_sim::profile::{LayerEntry, Profile, TensorEntry};
use foretrain_sim::recording::{self, BucketEntry, Header, NumberFormat};
use foretrain_sim::workload::{Architecture, Network, Shape, Size};

use super::TrainError;
use super::data::{self, Sources};
use crate::checkpoint::{ModelTensor, model_tensors};
use crate::config::{Config, Fingerprint, ModelName};
use crate::data::augment::{Layout, Preparation};
use crate::data::sampler::{Purpose, Sampler};
use crate::data::source::Source;
use crate::executor::ExecutorSettings;
use crate::executor::paced::Pace;
use crate::optimizer::Rule;
use crate::plan::buckets::Buckets;
use crate::plan::{Kind, Plan};
use crate::schedule::Schedule;

/// Data, network, plan and schedule of a run.
pub struct Setup {
    pub(super) config: Config,
    /// All ranks, of all processes.
    pub(super) world: u32,
    pub(super) network: Network,
    pub(super) plan: Arc<Plan>,
    pub(super) buckets: Arc<Buckets>,
    pub(super) schedule: Schedule,
    pub(super) steps_per_epoch: u64,
    pub(super) train: Arc<dyn Source>,
    pub(super) eval: Option<Arc<dyn Source>>,
    pub(super) train_preparation: Arc<Preparation>,
    pub(super) eval_preparation: Arc<Preparation>,
    pub(super) fingerprint: Fingerprint,
    pub(super) tensors: Vec<ModelTensor>,
    /// What a paced device replays.
    pub(super) pace: Option<Pace>,
    /// The processor, in words.
    pub(super) device: String,
    /// When the run started, as a date and time of ISO 8601.
    pub(super) started: String,
    /// Whether a GPU is emulated.
    #[cfg(test)]
    pub(super) is_emulated: bool,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Setup({}, {} ranks, {})", self.config.name, self.world, self.network.name())
    }
}

impl Setup {
    /// Opens the data of `config` and plans a run on `world` ranks, on `device`, which `started`
    /// then; the last two are for recordings only.
    ///
    /// # Errors
    /// The data cannot be read, or do not fit the configuration.
    pub fn new(
        config: Config,
        world: u32,
        device: &str,
        started: &str,
    ) -> Result<Self, TrainError> {
        config.check_world(world)?;
        let Sources { train, eval } = data::open(&config)?;
        let classes = classes(&config, &*train, eval.as_deref())?;
        let side = u64::from(config.image_size());
        let image = Shape::new(config.channels() as u64, side, side);
        let network = architecture(&config).network(Size { image, classes });
        let plan = Arc::new(Plan::new(&network)?);
        let rule = config.communication.fusion();
        check_segments(&config, &network)?;
        let element_bytes = config.wire().element_bytes();
        let buckets = Arc::new(Buckets::new(&plan, &network, &rule, element_bytes)?);
        let [train_preparation, eval_preparation] = config.preparations(Layout::Nhwc)?;
        let order = Sampler {
            samples: train.len(),
            batch: config.per_rank_batch(world),
            rank: 0,
            world,
            seed: config.seed,
            purpose: Purpose::Training,
        };
        let steps_per_epoch = order.epoch(0)?.batches() as u64;
        let global_batch = u64::from(config.training.global_batch);
        let schedule = Schedule::new(config.schedule(), global_batch, steps_per_epoch)?;
        let mut fingerprint = config.fingerprint(world);
        fingerprint.insert("data.train_samples", train.len());
        fingerprint.insert("network.classes", classes);
        let tensors = model_tensors(&network);
        let pace = pace(&config, &plan, world)?;
        Ok(Self {
            config,
            world,
            network,
            plan,
            buckets,
            schedule,
            steps_per_epoch,
            train,
            eval,
            train_preparation: Arc::new(train_preparation),
            eval_preparation: Arc::new(eval_preparation),
            fingerprint,
            tensors,
            pace,
            device: device.to_owned(),
            started: started.to_owned(),
            #[cfg(test)]
            is_emulated: false,
        })
    }

    /// The settings of the run.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// All ranks.
    #[must_use]
    pub const fn world(&self) -> u32 {
        self.world
    }

    /// Images to train on.
    #[must_use]
    pub fn train_samples(&self) -> u32 {
        self.train.len()
    }

    /// Buckets in which gradients travel.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.buckets.all().len()
    }

    /// The same without images to evaluate on, for runs that are to be timed.
    #[must_use]
    pub fn without_evaluation(mut self) -> Self {
        self.eval = None;
        self
    }

    /// The name of the update rule.
    #[must_use]
    pub const fn optimizer_name(&self) -> &'static str {
        match self.config.optimizer {
            Rule::Momentum(_) => "momentum",
            Rule::Lars(_) => "lars",
        }
    }

    /// What a step executes, in forward order, each with its parameter tensors.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerEntry> {
        let parameters = self.plan.parameters();
        let layer = |instruction: &crate::plan::Instruction| {
            let tensors = instruction.kind.parameters().map(|id| {
                let tensor = &parameters[id.get()];
                TensorEntry { name: tensor.name.clone(), elements: tensor.elements() as u64 }
            });
            LayerEntry {
                name: instruction.name.clone(),
                operation: operation(&instruction.kind).to_owned(),
                tensors: tensors.collect(),
            }
        };
        self.plan.instructions().iter().map(layer).collect()
    }

    /// What all ranks must have been told alike: whatever changes results or the order of collectives.
    pub(super) fn agreement(&self) -> String {
        let training = &self.config.training;
        format!(
            "{} {:?} {} {:?} {} {}",
            self.fingerprint.hash(),
            training.steps_max,
            training.evaluate_every,
            training.target_top1,
            self.config.output.checkpoint_every,
            self.eval.as_ref().map_or(0, |eval| eval.len()),
        )
    }

    /// Steps of the whole training.
    pub(super) fn steps(&self) -> u64 {
        let steps = self.schedule.steps();
        self.config.training.steps_max.map_or(steps, |most| steps.min(most))
    }

    /// The step after which the next evaluation is due, if one is before the end: the nearest to a
    /// multiple of the epochs from one to the next.
    pub(super) fn next_evaluation(&self, done: u64) -> Option<u64> {
        let every = self.config.training.evaluate_every * self.steps_per_epoch as f64;
        if every <= 0.0 {
            return None;
        }
        // More often than after each step there is nothing to see.
        let every = every.max(1.0);
        let number = (done as f64 / every).floor() as u64;
        (number..number + 3)
            .map(|number| (number as f64 * every).round() as u64)
            .find(|at| *at > done)
    }

    /// Threads of each of `local` ranks of this machine.
    pub(super) fn threads(&self, local: u32) -> NonZeroUsize {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = match self.config.training.threads_per_rank {
            Some(threads) => threads as usize,
            None => cores / local.max(1) as usize,
        };
        NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)
    }

    pub(super) fn executor_settings(&self) -> ExecutorSettings {
        let network = &self.config.network;
        let at_least_1 =
            |number: u32| NonZeroUsize::new(number as usize).unwrap_or(NonZeroUsize::MIN);
        ExecutorSettings {
            batch: at_least_1(self.config.per_rank_batch(self.world)),
            batch_norm_span: Some(at_least_1(self.config.batch_norm_span(self.world))),
            batch_norm_momentum: network.batch_norm_momentum(),
            batch_norm_epsilon: network.batch_norm_epsilon(),
            label_smoothing: self.config.training.label_smoothing,
            dropout_rate: network.dropout(),
        }
    }

    /// The first line of a rank's recording.
    pub(super) fn header(&self, rank: u32, threads: NonZeroUsize, algorithm: &str) -> Header {
        let Shape { channels, height, width } = self.network.input_shape();
        let config = &self.config;
        let batch = u64::from(config.per_rank_batch(self.world));
        Header {
            recording: recording::VERSION,
            foretrain: env!("CARGO_PKG_VERSION").to_owned(),
            network: self.network.name().to_owned(),
            input: [channels, height, width],
            ranks: self.world,
            rank,
            per_rank_batch: batch,
            precision: config.training.precision,
            wire: config.wire(),
            device: self.device.clone(),
            threads: threads.get() as u32,
            optimizer: self.optimizer_name().to_owned(),
            fusion: fusion(&config.communication.fusion()),
            algorithm: algorithm.to_owned(),
            seed: config.seed,
            started: self.started.clone(),
            instructions: self.instructions(batch),
            tensors: self.plan.parameters().iter().map(|tensor| tensor.name.clone()).collect(),
            tensor_elements: (self.plan.parameters().iter())
                .map(|tensor| tensor.elements() as u64)
                .collect(),
            buckets: self.bucket_entries(config.wire()),
        }
    }

    fn bucket_entries(&self, wire: NumberFormat) -> Vec<BucketEntry> {
        let entry = |bucket: &crate::plan::buckets::Bucket| BucketEntry {
            tensors: bucket.gradients.iter().map(|(id, _)| id.get() as u32).collect(),
            bytes: bucket.elements as u64 * wire.element_bytes(),
        };
        self.buckets.all().iter().map(entry).collect()
    }

    fn instructions(&self, batch: u64) -> Vec<recording::Instruction> {
        let entry = |instruction: &crate::plan::Instruction| {
            let nodes = &instruction.nodes;
            let costs = nodes.iter().map(|index| self.network.nodes()[index.get()].cost());
            let (forward, backward) = costs.fold((0, 0), |(forward, backward), cost| {
                (forward + cost.forward_flops, backward + cost.backward_flops)
            });
            recording::Instruction {
                name: instruction.name.clone(),
                operation: operation(&instruction.kind).to_owned(),
                forward_flop: Some(forward * batch),
                backward_flop: Some(backward * batch),
            }
        };
        self.plan.instructions().iter().map(entry).collect()
    }
}

/// What a paced device replays, from the profile that the configuration names.
fn pace(config: &Config, plan: &Plan, world: u32) -> Result<Option<Pace>, TrainError> {
    let Some(path) = &config.training.pace else { return Ok(None) };
    let read = || -> Result<Pace, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let profile = Profile::read(&text).map_err(|error| error.to_string())?;
        let compute = profile.compute.ok_or("it has no layer times: calibrate again")?;
        Pace::new(plan, &compute, u64::from(config.per_rank_batch(world)))
    };
    let problem = |reason| Problem::new("training.pace", format!("{}: {reason}", path.display()));
    Ok(Some(read().map_err(problem)?))
}

fn fusion(rule: &Fusion) -> String {
    match rule {
        Fusion::Tensor => "each tensor alone".to_owned(),
        Fusion::OneBucket => "one bucket".to_owned(),
        Fusion::Threshold(threshold) => format!("threshold {threshold}"),
        Fusion::Segments(ends) => format!("segments that end at {}", ends.join(", ")),
        Fusion::MgWfbp { latency, bandwidth } => format!("mg-wfbp {latency}, {bandwidth}"),
        Fusion::Cycle { threshold, cycle } => format!("cycle {cycle}, {threshold}"),
    }
}

const fn operation(kind: &Kind) -> &'static str {
    match kind {
        Kind::Convolution { .. } => "convolution",
        Kind::BatchNorm { residual: None, relu: false, .. } => "batch-norm",
        Kind::BatchNorm { residual: None, relu: true, .. } => "batch-norm+relu",
        Kind::BatchNorm { residual: Some(_), relu: false, .. } => "batch-norm+add",
        Kind::BatchNorm { residual: Some(_), relu: true, .. } => "batch-norm+add+relu",
        Kind::Relu { .. } => "relu",
        Kind::Dropout { .. } => "dropout",
        Kind::MaxPool { .. } => "max-pool",
        Kind::GlobalAveragePool { .. } => "average-pool",
        Kind::Linear { .. } => "linear",
        Kind::Loss { .. } => "loss",
    }
}

fn architecture(config: &Config) -> Architecture {
    let network = &config.network;
    match network.model {
        ModelName::Resnet18 => Architecture::Resnet18,
        ModelName::Resnet50 => Architecture::Resnet50,
        ModelName::ResnetCifar => {
            Architecture::SmallResnet { blocks_per_stage: u64::from(network.depth() - 2) / 6 }
        }
        ModelName::Alexnet => Architecture::Alexnet,
        ModelName::AlexnetBn => {
            Architecture::AlexnetBn { after_pool5: network.batch_norm_after_pool5() }
        }
    }
}

/// As many classes as the configuration says, or the data have.
fn classes(
    config: &Config,
    train: &dyn Source,
    eval: Option<&dyn Source>,
) -> Result<u64, TrainError> {
    let of_data = train.classes().max(eval.map_or(0, Source::classes));
    let classes = config.network.classes.unwrap_or(of_data);
    if classes < of_data {
        let problem = format!("{classes}, but the data have {of_data} classes: give as many");
        return Err(Problem::new("network.classes", problem).into());
    }
    Ok(u64::from(classes))
}

/// Segments end at layers that there are.
fn check_segments(config: &Config, network: &Network) -> Result<(), Problem> {
    for layer in config.communication.fusion.after.iter().flatten() {
        if network.node_named(layer).is_none() {
            let names: Vec<&str> = network
                .nodes()
                .iter()
                .filter(|node| !node.parameters.is_empty())
                .map(|node| node.name.as_str())
                .collect();
            let hint = foretrain_sim::located::nearest_name(layer, &names)
                .map_or(String::new(), |name| format!(": did you mean `{name}`?"));
            let problem = format!("there is no layer `{layer}` in {}{hint}", network.name());
            return Err(Problem::new("communication.fusion.after", problem));
        }
    }
    Ok(())
}
