//! `foretrain train CONFIG`: really train.

use std::time::SystemTime;

use foretrain_sim::units::Fraction;
use foretrain_trainer::communicator::{self, ThreadTransport};
use foretrain_trainer::config::{Config, Transport};
use foretrain_trainer::launch::Launch;
use foretrain_trainer::train::{
    Evaluation, Losses, News, NobodyWatches, Place, Report, Setup, TrainError, Watch,
};
use indicatif::ProgressBar;
use serde_json::json;

use crate::cli::{ReportFormat, TrainArguments};
use crate::failure::{Failure, complain};
use crate::{output, progress, ranks};

pub(crate) fn run(arguments: &TrainArguments) -> Result<(), Failure> {
    let text = output::read_text(&arguments.config)?;
    let place = output::shown(&arguments.config);
    let config =
        Config::from_toml(&text).map_err(|error| Failure::Invalid(format!("{place}:{error}")))?;
    let launch = ranks::find(&arguments.launch)?;
    let report = match config.communication.transport {
        Transport::Threads => threads(config, &launch, &place)?,
        Transport::Tcp => over_tcp(config, &launch, &place)?,
        Transport::Mpi => over_mpi(config, &launch, &place)?,
    };
    let Some((report, target)) = report else { return Ok(()) };
    print(&report, arguments.format)?;
    match (target, report.reached_target, report.evaluation) {
        // A target that was missed is a threshold that was missed.
        (Some(target), Some(false), Some(found)) => Err(Failure::Missed(format!(
            "top-1 is {:.2} % after {} steps, and training.target_top1 is {:.2} %",
            100.0 * found.top1,
            report.steps,
            100.0 * target.get()
        ))),
        _ => Ok(()),
    }
}

/// What a run reports, and the accuracy that it was to reach.
type Outcome = (Report, Option<Fraction>);

/// All ranks in this process.
fn threads(config: Config, launch: &Launch, place: &str) -> Result<Option<Outcome>, Failure> {
    ranks::only_one(launch)?;
    let world = config.training.ranks.unwrap_or(1);
    let setup = setup(config, world, place)?;
    let mut watch = Terminal::new(&setup);
    let report =
        foretrain_trainer::train::run(&setup, Place::<ThreadTransport>::Threads, &mut watch)
            .map_err(|error| failed(&error, place));
    watch.end();
    Ok(Some((report?, setup.config().training.target_top1)))
}

/// One rank of several processes, which meet over TCP; rank 0 has the report.
fn over_tcp(config: Config, launch: &Launch, place: &str) -> Result<Option<Outcome>, Failure> {
    let transport = ranks::meet(&config, launch)?;
    let local_ranks = ranks::local_ranks().unwrap_or(transport.local_ranks());
    let seat = (launch.local_rank, local_ranks);
    let outcome = one_rank(config, transport, seat, &launch.to_string(), place)?;
    Ok((launch.rank == 0).then_some(outcome))
}

#[cfg(not(feature = "mpi"))]
fn over_mpi(_: Config, _: &Launch, place: &str) -> Result<Option<Outcome>, Failure> {
    Err(ranks::no_mpi(place))
}

/// One rank of several processes, which MPI connects; rank 0 has the report.
#[cfg(feature = "mpi")]
fn over_mpi(config: Config, launch: &Launch, place: &str) -> Result<Option<Outcome>, Failure> {
    let (rank, outcome) = ranks::over_mpi(launch, |transport, who, seat| {
        one_rank(config, transport, seat, who, place)
    })?;
    Ok((rank == 0).then_some(outcome))
}

/// Trains as one rank of several processes; `who` names it, and which of how many ranks of this
/// machine it is.
fn one_rank<T: communicator::Transport + 'static>(
    config: Config,
    transport: T,
    (local_rank, local_ranks): (u32, u32),
    who: &str,
    place: &str,
) -> Result<Outcome, Failure> {
    let rank = transport.rank();
    let setup = setup(config, transport.world(), place)?;
    let place_of_ranks = Place::Process { transport, local_ranks, local_rank };
    let mut terminal;
    let mut nobody = NobodyWatches;
    let watch: &mut dyn Watch = if rank == 0 {
        complain(&format!("{who}, {local_ranks} on this machine"));
        terminal = Terminal::new(&setup);
        &mut terminal
    } else {
        &mut nobody
    };
    let report = foretrain_trainer::train::run(&setup, place_of_ranks, watch)
        .map_err(|error| failed(&error, place))?;
    Ok((report, setup.config().training.target_top1))
}

fn setup(config: Config, world: u32, place: &str) -> Result<Setup, Failure> {
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    Setup::new(config, world, &ranks::device(), &started).map_err(|error| failed(&error, place))
}

fn failed(error: &TrainError, place: &str) -> Failure {
    if error.is_input() {
        Failure::Invalid(format!("{place}: {error}"))
    } else {
        Failure::Runtime(error.to_string())
    }
}

/// Tells on stderr how it goes: a bar on a terminal, lines elsewhere.
struct Terminal {
    bar: ProgressBar,
}

impl Terminal {
    fn new(setup: &Setup) -> Self {
        let config = setup.config();
        complain(&format!(
            "{}: {}, {} parameters in {} buckets, {} images, batch {} on {} rank{}, {}",
            config.name,
            setup.network().name(),
            setup.network().parameter_count(),
            setup.buckets(),
            setup.train_samples(),
            config.training.global_batch,
            setup.world(),
            if setup.world() == 1 { "" } else { "s" },
            config.training.precision.name(),
        ));
        let bar = progress::bar(0, "");
        progress::show_rate(&bar);
        Self { bar }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| complain(line));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Terminal {
    fn tell(&mut self, news: News<'_>) {
        match news {
            News::Start { done, steps, steps_per_epoch, checkpoint, device } => {
                if let Some(device) = device {
                    self.say(&format!("on {device}"));
                }
                if let Some(checkpoint) = checkpoint {
                    self.say(&format!("going on after step {done}, from {}", checkpoint.display()));
                }
                self.say(&format!("{steps} steps, {steps_per_epoch} an epoch"));
                self.bar.set_length(steps);
                self.bar.set_position(done);
                self.bar.reset_eta();
            }
            News::Step { done } => self.bar.set_position(done),
            News::Losses(losses) => {
                let Losses { loss, images_per_s, skipped, .. } = losses;
                let mut message = format!("loss {loss:.3}, {images_per_s:.1} images/s");
                if skipped > 0 {
                    message += &format!(", {skipped} steps skipped for overflow");
                }
                self.bar.set_message(message);
                if self.bar.is_hidden() {
                    self.say(&line(&losses));
                }
            }
            News::Evaluation(Evaluation { epoch, loss, top1, top5, images }) => {
                self.say(&format!(
                    "epoch {epoch:.2}: top-1 {:.2} %, top-5 {:.2} %, loss {loss:.4} on {images} images",
                    100.0 * top1,
                    100.0 * top5
                ));
            }
            News::Checkpoint(path) => self.say(&format!("checkpoint {}", path.display())),
            News::Skipped { name, reason } => {
                self.say(&format!("warning: {name} is left out: {reason}"));
            }
        }
    }
}

fn line(losses: &Losses) -> String {
    let Losses { step, epoch, loss, top1, lr, images_per_s, input_wait, skipped, .. } = losses;
    let mut line = format!(
        "step {step} (epoch {epoch:.2}): loss {loss:.4}, top-1 {:.1} %, learning rate {lr:.4}, \
         {images_per_s:.1} images/s",
        100.0 * top1
    );
    if *input_wait > 0.05 {
        line += &format!(", {:.0} % waiting for input", 100.0 * input_wait);
    }
    if *skipped > 0 {
        line += &format!(", {skipped} skipped for overflow");
    }
    line
}

fn print(report: &Report, format: ReportFormat) -> Result<(), Failure> {
    let Report { steps, steps_here, seconds, evaluation, reached_target, .. } = report;
    let checkpoint = report.checkpoint.as_ref().map(|path| path.display().to_string());
    let text = match format {
        ReportFormat::Json => {
            let evaluation = evaluation.map(|found| {
                let Evaluation { epoch, images, loss, top1, top5 } = found;
                json!({
                    "epoch": epoch, "images": images, "loss": loss,
                    "top1_percent": 100.0 * top1, "top5_percent": 100.0 * top5,
                })
            });
            let report = json!({
                "foretrain": { "version": env!("CARGO_PKG_VERSION") },
                "steps": steps, "steps_here": steps_here, "seconds": seconds,
                "evaluation": evaluation, "reached_target": reached_target,
                "checkpoint": checkpoint, "weights_sha256": report.weights_sha256,
            });
            format!("{report:#}\n")
        }
        ReportFormat::Table => {
            let mut text =
                format!("steps           {steps}, {steps_here} of them in {seconds:.1} s\n");
            if let Some(Evaluation { top1, top5, images, .. }) = evaluation {
                let (top1, top5) = (100.0 * top1, 100.0 * top5);
                text += &format!("top-1           {top1:.2} % of {images} images\n");
                text += &format!("top-5           {top5:.2} %\n");
            }
            if let Some(checkpoint) = checkpoint {
                text += &format!("checkpoint      {checkpoint}\n");
            }
            text + &format!("weights sha256  {}\n", report.weights_sha256)
        }
    };
    output::print(&text)
}
