//! This machine or cluster: the real subject.
//!
//! Every rank has one of these, and all ranks do the same with it. Training runs are whole runs of the
//! trainer, with its input, its update and its recordings; between them the ranks stay connected.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use foretrain_sim::collective::Algorithm;
use foretrain_sim::profile::{FusionEntry, MachineEntry};
use foretrain_sim::recording::{EventKind, Recording};
use foretrain_sim::units::Bytes;
use foretrain_trainer::communicator::{AllReduce, Communicator, lend};
use foretrain_trainer::config::{
    Backend, Config, DeviceName, Every, FusionConfig, FusionName, RecordingConfig, StepRange,
};
use foretrain_trainer::recording::rank_path;
use foretrain_trainer::train::{News, Setup, TrainError, Watch, run_rank};

use super::collectives::Job;
use super::recorded::recorded_steps;
use super::{MeasureError, StepRun, StepSettings, Subject};
use crate::measure::processor::Processor;
use crate::measurements::{InputSeries, NetworkEntry, Observation, Scope};

/// What a rank is told before it measures.
#[derive(Debug, Clone, PartialEq)]
pub struct RankSettings {
    /// What is trained, and how ranks communicate.
    pub config: Config,
    /// Which rank of this machine it is.
    pub local_rank: u32,
    /// Ranks of this machine.
    pub local_ranks: u32,
    /// A folder for what runs leave behind.
    pub scratch: PathBuf,
    /// The processor, in words.
    pub device: String,
    /// When it began: a date and time of ISO 8601.
    pub started: String,
}

/// One rank of this machine or cluster.
pub struct Ranks {
    /// Always there between runs.
    communicator: Option<Box<dyn Communicator>>,
    settings: RankSettings,
    start: Instant,
    buffer: Vec<f32>,
    runs: u32,
    processor: Processor,
}

impl std::fmt::Debug for Ranks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ranks({:?})", self.communicator)
    }
}

fn runtime(error: impl ToString) -> MeasureError {
    MeasureError::Runtime(error.to_string())
}

fn trained(error: TrainError) -> MeasureError {
    if error.is_input() {
        MeasureError::Input(error.to_string())
    } else {
        MeasureError::Runtime(error.to_string())
    }
}

impl Ranks {
    /// The rank of `communicator`.
    #[must_use]
    pub fn new(communicator: Box<dyn Communicator>, settings: RankSettings) -> Self {
        Self {
            communicator: Some(communicator),
            settings,
            start: Instant::now(),
            buffer: Vec::new(),
            runs: 0,
            processor: Processor::now(),
        }
    }

    fn communicator(&mut self) -> Result<&mut dyn Communicator, MeasureError> {
        match &mut self.communicator {
            Some(communicator) => Ok(&mut **communicator),
            None => Err(runtime("the communicator was lost in a run that failed")),
        }
    }

    fn rank(&self) -> u32 {
        self.communicator.as_ref().map_or(0, |communicator| communicator.rank())
    }

    fn world(&self) -> u32 {
        self.communicator.as_ref().map_or(1, |communicator| communicator.world())
    }

    /// What every rank says, in the order of ranks.
    fn exchange(&mut self, name: &str, own: &[u8]) -> Result<Vec<Vec<u8>>, MeasureError> {
        self.communicator()?.all_gather(name, own).map_err(runtime)
    }

    /// Numbers of every rank, in the order of ranks.
    fn exchange_numbers(&mut self, name: &str, own: &[f64]) -> Result<Vec<Vec<f64>>, MeasureError> {
        let bytes: Vec<u8> = own.iter().flat_map(|number| number.to_le_bytes()).collect();
        let said = self.exchange(name, &bytes)?;
        let numbers = |bytes: &Vec<u8>| {
            let (numbers, _) = bytes.as_chunks::<8>();
            numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
        };
        Ok(said.iter().map(numbers).collect())
    }

    /// The rank after the first that takes part in a pair.
    fn other(&self, scope: Scope) -> u32 {
        match scope {
            Scope::IntraNode => 1,
            Scope::InterNode => self.settings.local_ranks,
        }
    }

    /// Sums `bytes` of the buffer.
    fn sum(&mut self, job: &Job, bytes: u64, name: &str) -> Result<(), MeasureError> {
        let elements = (bytes / 4).max(1) as usize;
        let mut buffer = std::mem::take(&mut self.buffer);
        let values = buffer[..elements].as_mut();
        let other = match job {
            Job::Pair(scope) => Some(self.other(*scope)),
            Job::All(_) => None,
        };
        let result = self.communicator().and_then(|communicator| {
            match other {
                Some(other) => communicator.sum_with_first(name, other, values.into()),
                None => communicator.all_reduce(name, values.into()),
            }
            .map_err(runtime)
        });
        self.buffer = buffer;
        result
    }

    /// Makes room, and has all-reduces done as the job says.
    fn prepare(&mut self, job: &Job, bytes: u64) -> Result<(), MeasureError> {
        let elements = (bytes / 4).max(1) as usize;
        if self.buffer.len() < elements {
            self.buffer.resize(elements, 0.0);
        }
        match job {
            Job::All(entry) => {
                let algorithm = Algorithm::try_from(*entry)
                    .map_err(|error| MeasureError::Input(error.to_string()))?;
                self.communicator()?
                    .set_all_reduce(AllReduce::Simulated(algorithm))
                    .map_err(|error| MeasureError::Input(error.to_string()))
            }
            Job::Pair(_) => Ok(()),
        }
    }

    /// The configuration of a run.
    fn config(&mut self, settings: &StepSettings) -> Result<Config, MeasureError> {
        let world = self.world();
        let mut config = self.settings.config.clone();
        let too_large = || MeasureError::Input(format!("a batch of {} images", settings.batch));
        let global_batch = settings.batch * u64::from(world);
        config.training.global_batch = u32::try_from(global_batch).map_err(|_| too_large())?;
        let steps = u64::from(settings.warmup_steps + settings.steps);
        config.training.steps_max = Some(steps);
        config.training.evaluate_every = 0.0;
        config.training.target_top1 = None;
        // A step needs images; there are at least as many as the batch, or the run says so.
        config.training.epochs = config.training.epochs.max((steps + 1) as f64);
        config.communication.overlap = settings.overlap;
        config.communication.fusion = fusion(&settings.fusion);
        config.output.folder = self.settings.scratch.join(format!("run-{}", self.runs));
        config.output.checkpoint_every = Every::Never;
        config.output.mllog = None;
        config.output.recording = settings.recorded.then(|| RecordingConfig {
            steps: StepRange(u64::from(settings.warmup_steps)..steps),
            file: "recording".into(),
            norms: settings.norms,
            timeline: true,
        });
        self.runs += 1;
        Ok(config)
    }

    fn setup(&self, config: Config) -> Result<Setup, MeasureError> {
        let RankSettings { device, started, .. } = &self.settings;
        let setup = Setup::new(config, self.world(), device, started).map_err(trained)?;
        Ok(setup.without_evaluation())
    }
}

/// The rule as a configuration has it.
fn fusion(entry: &FusionEntry) -> FusionConfig {
    match entry {
        FusionEntry::Tensor => FusionConfig { rule: FusionName::Tensor, ..Default::default() },
        FusionEntry::OneBucket => {
            FusionConfig { rule: FusionName::OneBucket, ..Default::default() }
        }
        FusionEntry::Threshold { threshold_bytes } => FusionConfig {
            rule: FusionName::Threshold,
            threshold: Some(Bytes::new(*threshold_bytes)),
            after: None,
        },
        FusionEntry::Segments { after } => {
            FusionConfig { rule: FusionName::Segments, threshold: None, after: Some(after.clone()) }
        }
    }
}

/// Notes when steps end.
#[derive(Default)]
struct StepEnds {
    ends: Vec<Instant>,
    /// The accelerator, if it is not this machine's processor that computes.
    device: Option<String>,
}

impl Watch for StepEnds {
    fn tell(&mut self, news: News<'_>) {
        match news {
            News::Step { .. } => self.ends.push(Instant::now()),
            News::Start { device, .. } => self.device = device.map(str::to_owned),
            _ => {}
        }
    }
}

impl Subject for Ranks {
    fn agree(&mut self, what: &str) -> Result<(), MeasureError> {
        let RankSettings { local_rank, local_ranks, config, .. } = &self.settings;
        let hash = foretrain_sim::scenario::text_hash(&format!("{what} {config:?}"));
        let own = format!("{local_rank} {local_ranks} {hash}");
        let world = self.world();
        let first_seat = *local_ranks;
        let all = self.exchange("what is to be measured", own.as_bytes())?;
        for (rank, said) in (0..world).zip(&all) {
            let said = String::from_utf8_lossy(said);
            let mut words = said.split(' ');
            let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
            let (seat, seats) = (number(), number());
            let expected = rank % first_seat.max(1);
            if seats != Some(first_seat) || seat != Some(expected) {
                return Err(MeasureError::Input(format!(
                    "rank {rank} says that it is rank {} of {} on its machine, expected {expected} of \
                     {first_seat}: start as many ranks on every machine, those of a machine one after \
                     the other",
                    seat.unwrap_or_default(),
                    seats.unwrap_or_default()
                )));
            }
            if words.next() != Some(hash.as_str()) {
                return Err(MeasureError::Input(format!(
                    "rank {rank} was told something else than this rank: start all with the same \
                     options and configuration"
                )));
            }
        }
        if !world.is_multiple_of(first_seat.max(1)) {
            return Err(MeasureError::Input(format!(
                "{world} ranks are not {first_seat} on every machine: start as many on each"
            )));
        }
        Ok(())
    }

    fn machine(&self) -> MachineEntry {
        let RankSettings { config, local_ranks, device, .. } = &self.settings;
        let threads = config.training.threads_per_rank.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
            (cores / (*local_ranks).max(1)).max(1)
        });
        let paced = config.training.device == DeviceName::Paced;
        MachineEntry {
            device: if paced { format!("{device}, paced") } else { device.clone() },
            threads: if config.training.device == DeviceName::Cpu { threads } else { 0 },
            ranks: self.world(),
            ranks_per_node: (*local_ranks).min(self.world()),
            transport: format!("{:?}", config.communication.transport).to_lowercase(),
            driver: None,
            // That of this machine is no accelerator's.
            memory_bytes: None,
        }
    }

    fn network(&mut self) -> Result<NetworkEntry, MeasureError> {
        let setup = self.setup(self.settings.config.clone())?;
        let config = setup.config();
        let input = setup.network().input_shape();
        Ok(NetworkEntry {
            name: setup.network().name().to_owned(),
            input: [input.channels, input.height, input.width],
            precision: config.training.precision,
            wire: config.wire(),
            optimizer: setup.optimizer_name().to_owned(),
            layers: setup.layers(),
        })
    }

    fn has_all_reduce(&self) -> bool {
        let config = &self.settings.config;
        config.training.device != DeviceName::Cuda
            || config.communication.backend() == Backend::Host
    }

    fn check_all_reduce(&mut self, job: &Job, bytes: u64) -> Result<(), MeasureError> {
        self.prepare(job, bytes)?;
        let elements = (bytes / 4).max(1) as usize;
        let own = (self.rank() + 1) as f32;
        let pattern = |index: usize| (index % 7 + 1) as f32;
        for (index, value) in self.buffer[..elements].iter_mut().enumerate() {
            *value = own * pattern(index);
        }
        self.sum(job, bytes, "check")?;
        // Small whole numbers: exact in any order.
        let sum: u32 = match job {
            Job::All(_) => (1..=self.world()).sum(),
            Job::Pair(scope) => {
                let other = self.other(*scope);
                if ![0, other].contains(&self.rank()) {
                    return Ok(());
                }
                1 + other + 1
            }
        };
        let expected = |index: usize| sum as f32 * pattern(index);
        let wrong = self.buffer[..elements]
            .iter()
            .enumerate()
            .find(|(index, value)| **value != expected(*index));
        match wrong {
            None => Ok(()),
            Some((element, &found)) => Err(MeasureError::WrongSum {
                what: format!("{job} of {}", Bytes::new(bytes)),
                element,
                found,
                expected: expected(element),
            }),
        }
    }

    fn all_reduce(&mut self, job: &Job, bytes: u64, repeats: u32) -> Result<f64, MeasureError> {
        self.prepare(job, bytes)?;
        // Zeros stay zeros, however often they are summed.
        self.buffer[..(bytes / 4).max(1) as usize].fill(0.0);
        self.communicator()?.barrier("start").map_err(runtime)?;
        let start = Instant::now();
        for _ in 0..repeats {
            self.sum(job, bytes, "timed")?;
        }
        let own = start.elapsed().as_secs_f64() / f64::from(repeats.max(1));
        let all = self.exchange_numbers("times", &[own])?;
        Ok(all.iter().flatten().copied().fold(0.0, f64::max))
    }

    fn steps(&mut self, settings: &StepSettings) -> Result<StepRun, MeasureError> {
        let config = self.config(settings)?;
        let folder = config.output.folder.clone();
        let algorithm = Algorithm::try_from(settings.all_reduce)
            .map_err(|error| MeasureError::Input(error.to_string()))?;
        if self.world() > 1 {
            self.communicator()?
                .set_all_reduce(AllReduce::Simulated(algorithm))
                .map_err(|error| MeasureError::Input(error.to_string()))?;
        }
        let setup = self.setup(config)?;
        let Some(communicator) = self.communicator.take() else {
            return Err(runtime("the communicator was lost in a run that failed"));
        };
        let (lent, back) = lend(communicator);
        let seat = (self.settings.local_rank, self.settings.local_ranks);
        let mut watch = StepEnds::default();
        let result = run_rank(&setup, Box::new(lent), seat, &mut watch);
        self.communicator = back.wait();
        result.map_err(trained)?;
        self.processor.look();
        if let Some(device) = watch.device {
            self.settings.device = device;
        }
        let periods_s: Vec<f64> = watch
            .ends
            .windows(2)
            .skip(settings.warmup_steps.saturating_sub(1) as usize)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        let mut run = StepRun::default();
        if settings.recorded {
            let recording = read(&rank_path(&folder.join("recording"), self.rank()))?;
            let steps = recorded_steps(&recording).map_err(runtime)?;
            let own: Vec<f64> = steps.iter().map(|step| step.compute_ns() as f64).collect();
            let all = self.exchange_numbers("compute times", &own)?;
            run.rank_compute_ns =
                all.iter().map(|rank| rank.iter().map(|ns| *ns as u64).collect()).collect();
            if settings.norms {
                run.norms = self.norms(&recording)?;
            }
            run.recording = (self.rank() == 0).then_some(recording);
        }
        // Steps of all ranks end together; the first's are as good as any.
        let all = self.exchange_numbers("periods", &periods_s)?;
        run.periods_s = all.into_iter().next().unwrap_or_default();
        // What was left behind has been read.
        let _ = std::fs::remove_dir_all(&folder);
        Ok(run)
    }

    fn input(&mut self, images: u32, repeats: u32) -> Result<InputSeries, MeasureError> {
        let config = self.settings.config.clone();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let workers_per_node = config.data.workers.unwrap_or(cores);
        let prefetch_batches = config.data.prefetch().get() as u32;
        let kind = serde_json::to_value(config.data.kind).unwrap_or_default();
        let data =
            format!("{}, {} pixels a side", kind.as_str().unwrap_or_default(), config.image_size());
        let setup = self.setup(config)?;
        let (mut decode_s_per_image, mut read_s_per_image) = (Vec::new(), Vec::new());
        for repeat in 0..repeats {
            // One rank alone: the others would take from its worker. They hear of it often enough
            // not to think that it is gone.
            let own = match self.rank() {
                0 => {
                    let (decode_s, read_s) =
                        setup.time_input(images, repeat * images).map_err(trained)?;
                    vec![decode_s, read_s]
                }
                _ => Vec::new(),
            };
            let all = self.exchange_numbers("input", &own)?;
            if let Some([decode_s, read_s]) = all.first().map(Vec::as_slice) {
                decode_s_per_image.push(*decode_s);
                read_s_per_image.push(*read_s);
            }
        }
        Ok(InputSeries {
            data,
            decode_s_per_image,
            read_s_per_image,
            workers_per_node,
            prefetch_batches,
        })
    }

    fn elapsed(&mut self) -> Result<Duration, MeasureError> {
        let own = self.start.elapsed().as_secs_f64();
        let all = self.exchange_numbers("time", &[own])?;
        Ok(Duration::from_secs_f64(all.iter().flatten().copied().fold(0.0, f64::max)))
    }

    fn observations(&mut self) -> Vec<Observation> {
        self.processor.look();
        let own = self.processor.used().to_bytes();
        match self.exchange("use of processors", &own) {
            Ok(all) => self.processor.observations(&all),
            Err(_) => Vec::new(),
        }
    }
}

impl Ranks {
    /// The means over ranks of the local norms, and the averaged ones, step by step.
    fn norms(&mut self, recording: &Recording) -> Result<Vec<(f64, f64)>, MeasureError> {
        let own: Vec<f64> = recording
            .events
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::Norms(norms) if !norms.skipped => {
                    Some([norms.local_gradient_norm_sq?, norms.averaged_gradient_norm_sq?])
                }
                _ => None,
            })
            .flatten()
            .collect();
        let all = self.exchange_numbers("norms", &own)?;
        let shortest = all.iter().map(Vec::len).min().unwrap_or(0) / 2;
        let ranks = all.len() as f64;
        Ok((0..shortest)
            .map(|step| {
                let local: f64 = all.iter().map(|rank| rank[2 * step]).sum();
                (local / ranks, all[0][2 * step + 1])
            })
            .collect())
    }
}

fn read(path: &std::path::Path) -> Result<Recording, MeasureError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| runtime(format!("failed to read {}: {error}", path.display())))?;
    Recording::read(&text).map_err(|error| runtime(format!("{}: {error}", path.display())))
}
