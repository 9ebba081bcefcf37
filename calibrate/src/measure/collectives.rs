//! Messages and all-reduces of every size, in rounds.

use std::time::Duration;

use foretrain_sim::profile::AllReduceEntry;
use foretrain_sim::random::Streams;
use rand::seq::SliceRandom as _;

use super::{MeasureError, Procedure, Progress, Stage, Subject};
use crate::fit::estimate::median_estimate;
use crate::measurements::{
    CollectiveSeries, LinkSeries, Measurements, Observation, Scope, SizeSeries,
};

/// What is summed by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Two ranks, by a ring.
    Pair(Scope),
    /// All ranks.
    All(AllReduceEntry),
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pair(scope) => scope.fmt(f),
            Self::All(entry) => write!(f, "all-reduce by {entry}"),
        }
    }
}

/// Repeats are taken together until they are this long, so that the clock is no matter.
const TIMED_S_MIN: f64 = 1e-3;
const TOGETHER_MAX: u32 = 64;

/// A size of a job, and what it took.
struct Point {
    job: Job,
    bytes: u64,
    /// What one takes, about.
    expected_s: f64,
    seconds: Vec<f64>,
    /// After how many repeats it is next asked whether the interval is narrow: if it were after each,
    /// chance would decide.
    look_at: usize,
    is_narrow: bool,
}

impl Point {
    fn together(&self) -> u32 {
        ((TIMED_S_MIN / self.expected_s.max(1e-9)).ceil() as u32).clamp(1, TOGETHER_MAX)
    }

    fn round_s(&self) -> f64 {
        self.expected_s * f64::from(self.together())
    }
}

/// All sizes of everything.
pub struct Sweep<'a> {
    pub(super) procedure: &'a Procedure,
    /// Until when it may take.
    pub(super) until: Duration,
}

impl Sweep<'_> {
    /// Which pairs and algorithms there are on the machine.
    fn jobs(&self, all: &Measurements) -> Vec<Job> {
        let machine = &all.machine;
        let mut jobs = Vec::new();
        if machine.ranks_per_node > 1 {
            jobs.push(Job::Pair(Scope::IntraNode));
        }
        if machine.ranks > machine.ranks_per_node {
            jobs.push(Job::Pair(Scope::InterNode));
        }
        jobs.extend(self.procedure.collectives.iter().copied().map(Job::All));
        jobs
    }

    /// Measures, and adds what came out.
    pub(super) fn run(
        &self,
        subject: &mut dyn Subject,
        all: &mut Measurements,
        progress: &mut dyn Progress,
    ) -> Result<(), MeasureError> {
        let jobs = self.jobs(all);
        let mut points = self.check(subject, &jobs, all, progress)?;
        self.rounds(subject, &mut points, progress)?;
        for job in jobs {
            let of_job = points.iter().filter(|point| point.job == job);
            let mut sizes: Vec<SizeSeries> = of_job
                .map(|point| SizeSeries {
                    message_bytes: point.bytes,
                    seconds: point.seconds.clone(),
                })
                .collect();
            sizes.sort_by_key(|size| size.message_bytes);
            match job {
                Job::All(all_reduce) => all.collectives.push(CollectiveSeries {
                    all_reduce,
                    ranks: all.machine.ranks,
                    ranks_per_node: all.machine.ranks_per_node,
                    sizes,
                }),
                Job::Pair(scope) => {
                    // A ring of two sends half of the data in each of two rounds.
                    for size in &mut sizes {
                        size.message_bytes = size.message_bytes.div_ceil(2);
                        size.seconds.iter_mut().for_each(|seconds| *seconds /= 2.0);
                    }
                    all.links.push(LinkSeries { scope, sizes });
                }
            }
        }
        Ok(())
    }

    /// Sums every size once, small ones first, and leaves out those for whose repeats there is no
    /// time.
    fn check(
        &self,
        subject: &mut dyn Subject,
        jobs: &[Job],
        all: &mut Measurements,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Point>, MeasureError> {
        let sizes = &self.procedure.sizes;
        progress.begin(Stage::Check, (jobs.len() * sizes.len()) as u32, None);
        let time = self.until.saturating_sub(subject.elapsed()?);
        let share_s = time.as_secs_f64() / jobs.len().max(1) as f64;
        let least = f64::from(self.procedure.repeats.0);
        let mut points = Vec::new();
        for &job in jobs {
            let mut needed_s = 0.0;
            let mut left_out = None;
            for &bytes in sizes {
                subject.check_all_reduce(&job, bytes)?;
                // The first may have been slow by chance.
                let first_s = subject.all_reduce(&job, bytes, 1)?;
                let expected_s = first_s.min(subject.all_reduce(&job, bytes, 1)?);
                progress.done();
                let look_at = self.procedure.repeats.0 as usize;
                let seconds = Vec::new();
                let point = Point { job, bytes, expected_s, seconds, look_at, is_narrow: false };
                needed_s += least * point.round_s();
                // Sizes increase, so all after it take longer.
                if needed_s > share_s && bytes != sizes[0] {
                    left_out = points.last().map(|point: &Point| point.bytes);
                    break;
                }
                points.push(point);
            }
            if let Some(largest_bytes) = left_out {
                let about = job.to_string();
                all.observations.push(Observation::SizesLeftOut { about, largest_bytes });
            }
        }
        Ok(points)
    }

    /// Rounds over all points that are not narrow yet.
    fn rounds(
        &self,
        subject: &mut dyn Subject,
        points: &mut [Point],
        progress: &mut dyn Progress,
    ) -> Result<(), MeasureError> {
        let procedure = self.procedure;
        let (least, most) = procedure.repeats;
        let streams = Streams::new(procedure.seed);
        let left = self.until.saturating_sub(subject.elapsed()?);
        progress.begin(Stage::Rounds, most, Some(left));
        for round in 0..most {
            let mut order: Vec<usize> =
                (0..points.len()).filter(|&index| !points[index].is_narrow).collect();
            let expected_s: f64 = order.iter().map(|&index| points[index].round_s()).sum();
            let end = subject.elapsed()? + Duration::from_secs_f64(expected_s);
            if order.is_empty() || (round >= least && end > self.until) {
                break;
            }
            order.shuffle(&mut streams.stream(&format!("round {round}"), "order of sizes"));
            for index in order {
                let point = &mut points[index];
                let together = point.together();
                point.seconds.push(subject.all_reduce(&point.job, point.bytes, together)?);
                if point.seconds.len() >= point.look_at {
                    point.look_at += point.look_at.div_ceil(2);
                    let interval = median_estimate(&point.seconds);
                    point.is_narrow = interval.is_some_and(|interval| {
                        interval.relative_width() / 2.0 <= procedure.narrow
                    });
                }
            }
            progress.done();
        }
        Ok(())
    }
}
