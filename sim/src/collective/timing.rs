//! One all-reduce timed, as the benchmarks of collective libraries report it.

use std::fmt;

use rand::RngExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Algorithm, CollectiveError, replay_arrays, replay_events};
use crate::engine::RunError;
use crate::network::{Rank, TwoLevel};
use crate::random::Streams;
use crate::units::{Bytes, SimDuration, SimTime};

/// Which engine evaluates messages and steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Recurrences over arrays of ranks: fast.
    #[default]
    Arrays,
    /// The discrete-event engine: the reference, slow.
    Events,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Arrays => "arrays",
            Self::Events => "events",
        })
    }
}

/// One all-reduce, and what was measured of it.
///
/// The bandwidths are those of nccl-tests: `algbw` is bytes over time, `busbw` is what each link
/// carries, `algbw` · 2(n−1)/n, comparable with the link's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// The algorithm.
    pub algorithm: String,
    /// How many ranks.
    pub ranks: u32,
    /// Bytes that each rank contributes.
    pub message_bytes: u64,
    /// From the first start to the last finish.
    pub time_us: f64,
    /// Bytes over time; GB is 1e9 bytes.
    pub algbw_gbyte_per_s: f64,
    /// What each link carries.
    pub busbw_gbyte_per_s: f64,
    /// Messages evaluated.
    pub messages: u64,
    /// The engine that ran.
    pub engine: Engine,
}

/// Why an all-reduce cannot be timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimingError {
    /// It cannot be scheduled.
    Collective(CollectiveError),
    /// There is nothing to time: fewer than two ranks, or no bytes.
    Nothing,
    /// It would take more simulated time than can be represented.
    TooLong,
    /// The event engine's run did not end well.
    Run(RunError),
}

impl fmt::Display for TimingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collective(error) => error.fmt(f),
            Self::Nothing => f.write_str("an all-reduce needs at least 2 ranks and 1 byte"),
            Self::TooLong => f.write_str("it takes longer than 106 days: look at the link's units"),
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TimingError {}

/// Half of what u64 picoseconds reach.
const TIME_PS_MAX: f64 = (u64::MAX / 2) as f64;

/// Times one all-reduce of `bytes` whose ranks start uniformly at random within `jitter`.
///
/// # Errors
/// If there is nothing to time, or it cannot be scheduled or run.
pub fn time_all_reduce(
    algorithm: Algorithm,
    ranks: u32,
    bytes: Bytes,
    network: &TwoLevel,
    jitter: SimDuration,
    streams: &Streams,
    engine: Engine,
) -> Result<Timing, TimingError> {
    if ranks < 2 || bytes == Bytes::ZERO {
        return Err(TimingError::Nothing);
    }
    let schedule = algorithm.schedule(ranks, bytes).map_err(TimingError::Collective)?;
    let longest_ps: f64 = schedule
        .phases()
        .iter()
        .map(|phase| {
            let message = network.slowest_message_time(phase.message_bytes);
            f64::from(phase.rounds()) * message.as_ps() as f64
        })
        .sum();
    if longest_ps + jitter.as_ps() as f64 > TIME_PS_MAX {
        return Err(TimingError::TooLong);
    }
    let starts: Vec<SimTime> = (0..ranks)
        .map(|rank| match jitter.as_ps() {
            0 => SimTime::ZERO,
            jitter => {
                let mut stream = streams.stream(&Rank(rank).to_string(), "start");
                SimTime::from_ps(stream.random_range(0..=jitter))
            }
        })
        .collect();
    let finished = match engine {
        Engine::Arrays => replay_arrays(&schedule, network, &starts),
        Engine::Events => {
            let starts: Vec<Option<SimTime>> = starts.iter().copied().map(Some).collect();
            replay_events(&schedule, network, &starts).map_err(TimingError::Run)?
        }
    };
    let first = starts.iter().min().copied().unwrap_or_default();
    let time = finished.iter().max().copied().unwrap_or_default().since(first);
    let gbyte_per_s = bytes.get() as f64 / 1e9 / time.as_seconds();
    Ok(Timing {
        algorithm: algorithm.name().to_string(),
        ranks,
        message_bytes: bytes.get(),
        time_us: time.as_us(),
        algbw_gbyte_per_s: gbyte_per_s,
        busbw_gbyte_per_s: gbyte_per_s * 2.0 * f64::from(ranks - 1) / f64::from(ranks),
        messages: schedule.messages(),
        engine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(ranks: u32, bytes: u64, link: &str, jitter: &str) -> Result<Timing, TimingError> {
        let network = TwoLevel::uniform(link.parse().unwrap());
        let jitter = jitter.parse().unwrap();
        let streams = Streams::new(1);
        let bytes = Bytes::new(bytes);
        time_all_reduce(Algorithm::Ring, ranks, bytes, &network, jitter, &streams, Engine::Arrays)
    }

    #[test]
    fn bandwidths_are_those_of_nccl_tests() {
        // 2 · 3 rounds of 1000 bytes at 1 GB/s.
        let timing = time(4, 4000, "1 GB/s, 0 us", "0 us").unwrap();
        assert_eq!(timing.time_us, 6.0);
        assert!((timing.algbw_gbyte_per_s - 4.0 / 6.0).abs() < 1e-12);
        assert!((timing.busbw_gbyte_per_s - 1.0).abs() < 1e-12);
    }

    #[test]
    fn late_starts_delay_the_end_by_less_than_the_jitter() {
        let sharp = time(64, 1 << 20, "12 GB/s, 5 us", "0 us").unwrap().time_us;
        let late = time(64, 1 << 20, "12 GB/s, 5 us", "1 ms").unwrap().time_us;
        assert!(late > sharp && late <= sharp + 1000.0, "{sharp} {late}");
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(time(1, 8, "1 GB/s, 0 us", "0 us"), Err(TimingError::Nothing));
        assert_eq!(time(2, 0, "1 GB/s, 0 us", "0 us"), Err(TimingError::Nothing));
        assert_eq!(time(1024, 8, "1 GB/s, 59 h", "0 us"), Err(TimingError::TooLong));
        assert!(matches!(time(0, 8, "1 GB/s, 0 us", "0 us"), Err(TimingError::Nothing)));
    }
}
