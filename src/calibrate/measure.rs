//! All ranks of the command measure together.

use std::time::Duration;

use foretrain_calibrate::measure::ranks::{RankSettings, Ranks};
use foretrain_calibrate::measure::{
    MeasureError, NobodyLooks, Parts, Procedure, Progress, Stage, StepVariant,
};
use foretrain_calibrate::measurements::Measurements;
use foretrain_sim::collective::{Algorithm, Between, Inside};
use foretrain_sim::fusion::Fusion;
use foretrain_sim::profile::{AllReduceEntry, FusionEntry};
use foretrain_sim::units::Bytes;
use foretrain_trainer::communicator::{
    AllReduce, Communicator, CommunicatorSettings, HostCommunicator, ThreadTransport, Transport,
};
use foretrain_trainer::config::{Config, Transport as TransportName};
use foretrain_trainer::launch::Launch;
use foretrain_trainer::train::all_reduce;
use indicatif::ProgressBar;

use super::{command, now};
use crate::cli::{CalibrateArguments, Part, Switch};
use crate::failure::{Failure, complain};
use crate::{progress, ranks};

/// Repeats of each all-reduce, and how narrow intervals are to become.
const REPEATS: (u32, u32) = (9, 99);
const NARROW: f64 = 0.01;
/// The largest all-reduce that can be asked for.
const SIZE_MAX: u64 = 16 << 30;

/// Measures as all ranks of this process; rank 0's measurements, if it is one of them.
pub(super) fn measure(
    arguments: &CalibrateArguments,
    launch: &Launch,
    place: &str,
    config: Config,
) -> Result<Option<Measurements>, Failure> {
    let job = Job { arguments, place, config, measured: now() };
    match job.config.communication.transport {
        TransportName::Threads => {
            ranks::only_one(launch)?;
            job.threads().map(Some)
        }
        TransportName::Tcp => {
            let transport = ranks::meet(&job.config, launch)?;
            let local_ranks = ranks::local_ranks().unwrap_or(transport.local_ranks());
            let seat = (launch.local_rank, local_ranks);
            let measured = job.one_rank(transport, seat)?;
            Ok((launch.rank == 0).then_some(measured))
        }
        TransportName::Mpi => job.over_mpi(launch),
    }
}

/// What all ranks do.
struct Job<'a> {
    arguments: &'a CalibrateArguments,
    place: &'a str,
    config: Config,
    measured: String,
}

impl Job<'_> {
    #[cfg(not(feature = "mpi"))]
    fn over_mpi(&self, _: &Launch) -> Result<Option<Measurements>, Failure> {
        Err(ranks::no_mpi(self.place))
    }

    #[cfg(feature = "mpi")]
    fn over_mpi(&self, launch: &Launch) -> Result<Option<Measurements>, Failure> {
        let (rank, measured) =
            ranks::over_mpi(launch, |transport, _, seat| self.one_rank(transport, seat))?;
        Ok((rank == 0).then_some(measured))
    }

    /// All ranks as threads.
    fn threads(&self) -> Result<Measurements, Failure> {
        let world = self.config.training.ranks.unwrap_or(1);
        let results = std::thread::scope(|scope| {
            let mut transports = ThreadTransport::world(world).into_iter();
            let first = transports.next();
            let others: Vec<_> = (1..)
                .zip(transports)
                .map(|(rank, transport)| {
                    scope.spawn(move || self.one_rank(transport, (rank, world)))
                })
                .collect();
            let gone = || Failure::Runtime("a rank has ended by a panic".to_owned());
            let mut results = vec![match first {
                Some(first) => self.one_rank(first, (0, world)),
                None => Err(gone()),
            }];
            results
                .extend(others.into_iter().map(|rank| rank.join().unwrap_or_else(|_| Err(gone()))));
            results
        });
        let (mut measured, mut failures) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(measurements) => measured.push(measurements),
                Err(failure) => failures.push(failure),
            }
        }
        // That another rank is gone is what the others notice of the cause.
        failures.sort_by_key(|failure| matches!(failure, Failure::Runtime(_)));
        match failures.into_iter().next() {
            Some(failure) => Err(failure),
            None => Ok(measured.swap_remove(0)),
        }
    }

    fn one_rank<T: Transport + 'static>(
        &self,
        transport: T,
        (local_rank, local_ranks): (u32, u32),
    ) -> Result<Measurements, Failure> {
        let (rank, world) = (transport.rank(), transport.world());
        let nodes = world.div_ceil(local_ranks.max(1));
        let procedure = self.procedure(world, local_ranks.min(world), nodes)?;
        let timeout = self.config.communication.timeout();
        let settings = CommunicatorSettings { all_reduce: AllReduce::default(), timeout };
        let communicator: Box<dyn Communicator> = Box::new(
            HostCommunicator::new(transport, settings)
                .map_err(|error| Failure::Invalid(format!("{}: {error}", self.place)))?,
        );
        let scratch = tempfile::Builder::new()
            .prefix("foretrain-calibrate-")
            .tempdir()
            .map_err(|error| Failure::Runtime(format!("failed to create a folder: {error}")))?;
        let mut subject = Ranks::new(
            communicator,
            RankSettings {
                config: self.config.clone(),
                local_rank,
                local_ranks,
                scratch: scratch.path().to_owned(),
                device: ranks::device(),
                started: self.measured.clone(),
            },
        );
        let mut terminal;
        let mut nobody = NobodyLooks;
        let progress: &mut dyn Progress = if rank == 0 {
            let time: Duration = procedure.time;
            complain(&format!(
                "{world} rank{} on {nodes} node{}, {} s at most",
                if world == 1 { "" } else { "s" },
                if nodes == 1 { "" } else { "s" },
                time.as_secs()
            ));
            terminal = Terminal(progress::bar(0, ""));
            &mut terminal
        } else {
            &mut nobody
        };
        procedure.run(&mut subject, progress).map_err(|error| match error {
            MeasureError::Input(problem) => Failure::Invalid(format!("{}: {problem}", self.place)),
            MeasureError::Runtime(problem) => Failure::Runtime(problem),
            wrong @ MeasureError::WrongSum { .. } => Failure::Refused(wrong.to_string()),
        })
    }

    /// What is measured among so many ranks.
    fn procedure(&self, world: u32, ranks_per_node: u32, nodes: u32) -> Result<Procedure, Failure> {
        let arguments = self.arguments;
        let batch = u64::from(self.config.per_rank_batch(world)).max(1);
        let mut batches = arguments.batches.clone();
        if batches.is_empty() {
            batches = [4, 2, 1].iter().map(|part| (batch / part).max(1)).collect();
        }
        batches.push(batch);
        batches.sort_unstable();
        batches.dedup();
        let usual_fusion = FusionEntry::try_from(&self.config.communication.fusion())
            .map_err(|error| Failure::Invalid(format!("{}: {error}", self.place)))?;
        let collectives = self.all_reduces(world, ranks_per_node, nodes)?;
        let usual = match all_reduce(&self.config.communication) {
            AllReduce::Simulated(algorithm) => algorithm,
            // It is not simulated; only its name is another.
            AllReduce::Direct => Algorithm::Ring,
        };
        let entry = |rule: &Fusion| FusionEntry::try_from(rule);
        let fusions: Vec<FusionEntry> = match arguments.fusion.as_slice() {
            [] => vec![usual_fusion.clone()],
            some => some.iter().filter_map(|rule| entry(&rule.0).ok()).collect(),
        };
        let overlaps: Vec<bool> = match arguments.overlap.as_slice() {
            [] if world > 1 => vec![false, true],
            [] => vec![false],
            some => some.iter().map(|switch| *switch == Switch::On).collect(),
        };
        let ring = [AllReduceEntry::from(Algorithm::Ring)];
        let sums = if world > 1 { &collectives[..] } else { &ring };
        let mut sizes: Vec<u64> =
            arguments.sizes.iter().flat_map(|sizes| &sizes.0).map(|size| size.get()).collect();
        // Sums are of numbers of four bytes.
        sizes.retain(|size| *size >= 4);
        sizes.sort_unstable();
        sizes.dedup();
        if sizes.is_empty() {
            return Err(Failure::Usage("--sizes: expected at least one of 4 B or more".to_owned()));
        }
        if let Some(large) = sizes.iter().find(|size| **size > SIZE_MAX) {
            return Err(Failure::Usage(format!(
                "--sizes: {} is more than {}, which no gradient has",
                Bytes::new(*large),
                Bytes::new(SIZE_MAX)
            )));
        }
        Ok(Procedure {
            parts: parts(&arguments.only),
            batches,
            batch,
            sizes,
            variants: StepVariant::product(sums, &fusions, &overlaps),
            collectives,
            usual: (usual.into(), usual_fusion),
            warmup_steps: arguments.warmup_steps,
            steps: arguments.steps,
            jitter_steps: arguments.jitter_steps,
            repeats: REPEATS,
            narrow: NARROW,
            time: Duration::from_secs_f64(arguments.time.as_seconds()),
            seed: arguments.seed,
            command: command(),
            measured: self.measured.clone(),
            usd_per_accelerator_hour: arguments.price.map(|price| price.get()),
            watts_per_accelerator: arguments.power.map(|power| power.get()),
        })
    }

    /// The all-reduces that were asked for, or those that the ranks can do.
    fn all_reduces(
        &self,
        world: u32,
        ranks_per_node: u32,
        nodes: u32,
    ) -> Result<Vec<AllReduceEntry>, Failure> {
        if !self.arguments.all_reduce.is_empty() {
            let asked = self.arguments.all_reduce.iter().map(|argument| argument.0);
            return asked
                .map(|algorithm| match AllReduce::Simulated(algorithm).check(world) {
                    Ok(()) => Ok(algorithm.into()),
                    Err(error) => Err(Failure::Usage(format!("--all-reduce: {error}"))),
                })
                .collect();
        }
        let mut all = vec![Algorithm::Ring, Algorithm::HalvingDoubling];
        if nodes > 1 && ranks_per_node > 1 {
            let (inside, between) = (Inside::Direct, Between::Ring);
            all.push(Algorithm::Hierarchical { group: ranks_per_node, inside, between });
        }
        all.retain(|algorithm| AllReduce::Simulated(*algorithm).check(world).is_ok());
        Ok(all.into_iter().map(AllReduceEntry::from).collect())
    }
}

fn parts(only: &[Part]) -> Parts {
    if only.is_empty() {
        return Parts::default();
    }
    let wants = |part: Part| only.contains(&part);
    Parts {
        compute: wants(Part::Compute),
        all_reduce: wants(Part::AllReduce),
        steps: wants(Part::Steps),
        input: wants(Part::Input),
        jitter: wants(Part::Jitter),
        noise: wants(Part::Noise),
    }
}

/// Says on stderr what is being measured, with a bar on a terminal.
struct Terminal(ProgressBar);

impl Progress for Terminal {
    fn begin(&mut self, stage: Stage, parts: u32, takes: Option<Duration>) {
        let about = match takes {
            Some(time) if time.as_secs() > 0 => format!(" ({} s at most)", time.as_secs()),
            _ => String::new(),
        };
        self.0.suspend(|| complain(&format!("{stage}{about}")));
        self.0.set_length(u64::from(parts));
        self.0.set_position(0);
    }

    fn done(&mut self) {
        self.0.inc(1);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
