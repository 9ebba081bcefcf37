//! Steps that can be worked out by hand, and both engines against each other at random.

use proptest::prelude::*;

use super::*;
use crate::collective::{Algorithm, Method, Operation, Strategy};
use crate::compute::{ComputeSource, LayerTime};
use crate::jitter::{JitterDistribution, SlowRank};
use crate::network::{Interconnect, Link, Rank, TwoLevel};
use crate::random::Streams;

const US: u64 = 1_000_000;

fn us(us: u64) -> SimDuration {
    SimDuration::from_ps(us * US)
}

/// Forward 10 us; backward 4 us for each of three layers; optimizer 2 us.
fn compute() -> ComputeTimes {
    let layer = |forward, backward| LayerTime { forward: us(forward), backward: us(backward) };
    ComputeTimes {
        layers: vec![layer(5, 4), layer(3, 4), layer(2, 4)],
        optimizer: us(2),
        source: ComputeSource::Roofline,
    }
}

/// Three tensors of 1000 bytes, ready 4, 8 and 12 us into the backward pass.
fn tensors() -> Vec<Gradient> {
    [4, 8, 12]
        .into_iter()
        .map(|at| Gradient {
            tensor: format!("t{at}"),
            node: format!("n{at}"),
            bytes: Bytes::new(1000),
            ready_after: us(at),
        })
        .collect()
}

/// 1 GB/s and 1 us: two ranks' ring all-reduce of 1000 bytes takes 2 · (1 us + 500 B / 1 GB/s) =
/// 3 us, of 3000 bytes 2 · (1 us + 1.5 us) = 5 us.
fn network() -> TwoLevel {
    TwoLevel::uniform("1 GB/s, 1 us".parse().unwrap())
}

/// All-reduces by `method` over `network`.
fn planner(
    method: Method,
    layout: Layout,
    network: &Interconnect,
) -> impl Fn(Bytes) -> Result<Plan, CollectiveError> + Sync {
    move |bytes| method.plan(Operation::AllReduce, layout, network, bytes)
}

struct Hand {
    fusion: Fusion,
    overlap: bool,
    link: &'static str,
    input: Option<InputPipeline>,
    jitter: Jitter,
}

impl Default for Hand {
    fn default() -> Self {
        Self {
            fusion: Fusion::Tensor,
            overlap: true,
            link: "1 GB/s, 1 us",
            input: None,
            jitter: Jitter::default(),
        }
    }
}

impl Hand {
    /// Runs `steps` steps on two ranks with both engines; the device copies 6 GB/s, so that packing
    /// all 3000 bytes takes 1 us.
    fn run(&self, steps: u32) -> (Vec<StepTimes>, StepSummary) {
        let (_, undisturbed) = self.simulate(&Jitter::default(), steps);
        let (times, account) = self.simulate(&self.jitter, steps);
        (times, account.summary(&undisturbed))
    }

    fn simulate(&self, jitter: &Jitter, steps: u32) -> (Vec<StepTimes>, Account) {
        let network = Interconnect::uniform(self.link.parse().unwrap());
        let plan = planner(Algorithm::Ring.into(), Layout::flat(2), &network);
        let (compute, gradients) = (compute(), tensors());
        let setup = StepSetup {
            layout: Layout::flat(2),
            compute: &compute,
            gradients: &gradients,
            fusion: self.fusion.clone(),
            overlap: self.overlap,
            plan: &plan,
            folding: Folding::Off,
            network: &network,
            packing: Packing::Copy("6 GB/s".parse().unwrap()),
            input: self.input,
            jitter,
        };
        let mut times = Vec::new();
        let mut account = Account::default();
        run_arrays(&setup, &Streams::new(1), steps, |_, step| {
            times.push(step.clone());
            account.add(step);
        })
        .unwrap();
        assert_eq!(
            run_events(&setup, &Streams::new(1), steps).map(|run| run.steps).as_ref(),
            Ok(&times)
        );
        (times, account)
    }

    fn step_us(&self) -> u64 {
        let (times, _) = self.run(1);
        assert_eq!(times[0].end[0], times[0].end[1]);
        times[0].end[0] / US
    }
}

#[test]
fn a_bucket_a_tensor_with_overlap() {
    // Ready at 14, 18, 22; back at 17, 21, 25; update until 27.
    assert_eq!(Hand::default().step_us(), 27);
    let (_, summary) = Hand::default().run(1);
    let us = |ms: f64| (ms * 1000.0).round();
    assert_eq!(us(summary.compute_ms), 24.0);
    assert_eq!(us(summary.exposed_communication_ms), 3.0);
    assert_eq!(us(summary.communication_ms), 9.0);
    assert_eq!((summary.input_wait_ms, summary.straggler_wait_ms), (0.0, 0.0));
}

#[test]
fn a_bucket_a_tensor_without_overlap() {
    // Backward ends at 22; 3 us for each tensor; update until 33.
    assert_eq!(Hand { overlap: false, ..Hand::default() }.step_us(), 33);
}

#[test]
fn one_bucket_hides_nothing() {
    // 22, packed at 23, reduced at 28, unpacked at 29, update until 31; overlap cannot help.
    for overlap in [true, false] {
        assert_eq!(Hand { fusion: Fusion::OneBucket, overlap, ..Hand::default() }.step_us(), 31);
    }
}

#[test]
fn a_threshold_merges_the_first_two() {
    // 2000 bytes ready at 18: packing takes 4000 B / 6 GB/s, reducing 2 · 2 us; the third tensor
    // is ready at 22 but waits for the stream.
    let (times, _) = Hand { fusion: Fusion::Threshold(Bytes::new(1500)), ..Hand::default() }.run(1);
    let pack = 666_667;
    assert_eq!(times[0].buckets[0].end[0], 18 * US + pack + 4 * US + pack);
    assert_eq!(times[0].end[0], 18 * US + 2 * pack + 4 * US + 3 * US + 2 * US);
}

#[test]
fn a_slow_network_makes_the_step_communication_bound() {
    // 100 MB/s: 2 · (1 us + 5 us) = 12 us a tensor, one after the other from 14: 50, then 52.
    assert_eq!(Hand { link: "100 MB/s, 1 us", ..Hand::default() }.step_us(), 52);
}

#[test]
fn a_perfect_network_leaves_compute_only() {
    let hand = Hand { link: "1000 TB/s, 0 us", ..Hand::default() };
    let (times, _) = hand.run(1);
    // Each message still takes a picosecond: two rounds after the last gradient.
    assert_eq!(times[0].end[0], 24 * US + 2);
}

#[test]
fn a_cycle_waits_for_its_tick() {
    // Ticks every 5 us: ready at 14, 18, 22 goes at 15, 20, 25; back at 18, 23, 28; until 30.
    let cycle = Fusion::Cycle { threshold: Bytes::new(1 << 20), cycle: us(5) };
    assert_eq!(Hand { fusion: cycle, ..Hand::default() }.step_us(), 30);
    // Without overlap all is ready at 22 and goes together at 25: 1 + 5 + 1 us; until 34.
    let cycle = Fusion::Cycle { threshold: Bytes::new(1 << 20), cycle: us(5) };
    assert_eq!(Hand { fusion: cycle, overlap: false, ..Hand::default() }.step_us(), 34);
}

#[test]
fn a_slow_rank_makes_the_other_wait() {
    let slow = SlowRank { rank: Rank(1), factor: 1.5 };
    let jitter = Jitter { slow_ranks: vec![slow], ..Jitter::default() };
    let (times, summary) = Hand { jitter, ..Hand::default() }.run(1);
    // Rank 1 is ready at 15 + 6, 12, 18 = 21, 27, 33; all-reduces end at 24, 30, 36; the updates
    // take 2 and 3 us.
    assert_eq!(times[0].end, [38 * US, 39 * US]);
    // Rank 0 waits from 22 to 36, rank 1 from 33 to 36: 17 us, of which an undisturbed step shows
    // 3 + 3. Computes: 24 and 36. Twice the means over the two:
    let us = |ms: f64| (ms * 1000.0 * 2.0).round();
    assert_eq!(us(summary.straggler_wait_ms), 11.0);
    assert_eq!(us(summary.exposed_communication_ms), 6.0);
    assert_eq!(us(summary.compute_ms), 60.0);
    assert_eq!(us(summary.step_ms), 77.0);
}

#[test]
fn a_slow_rank_makes_the_others_wait_at_a_tick_too() {
    let slow = SlowRank { rank: Rank(1), factor: 1.5 };
    let jitter = Jitter { slow_ranks: vec![slow], ..Jitter::default() };
    let fusion = Fusion::Cycle { threshold: Bytes::new(1 << 20), cycle: us(5) };
    let (times, summary) = Hand { jitter, fusion, ..Hand::default() }.run(1);
    // Rank 1 is ready at 21, 27, 33: ticks at 25, 30, 35, back at 28, 33, 38.
    assert_eq!(times[0].optimizer_start, [38 * US, 38 * US]);
    // Undisturbed both wait from 22 to 28; now from 22 and from 33 to 38: 21 less 12 are straggling.
    assert_eq!((summary.straggler_wait_ms * 2000.0).round(), 9.0);
    assert_eq!((summary.exposed_communication_ms * 2000.0).round(), 12.0);
}

#[test]
fn slow_decoding_sets_the_pace() {
    let input = Some(InputPipeline { decode: us(50), copy: us(7), prefetch_batches: 2 });
    let (times, summary) = Hand { input, ..Hand::default() }.run(4);
    // The first batch is decoded at 50 and on the device at 57; then one every 50 us. A step
    // without waiting takes 27 us.
    let ends: Vec<u64> = times.iter().map(|step| step.end[0] / US).collect();
    assert_eq!(ends, [84, 134, 184, 234]);
    assert_eq!((summary.input_wait_ms * 1000.0 * 4.0).round(), 57.0 + 3.0 * 23.0);
}

#[test]
fn a_fast_input_is_waited_for_once() {
    let input = Some(InputPipeline { decode: us(10), copy: us(7), prefetch_batches: 2 });
    let (times, _) = Hand { input, ..Hand::default() }.run(3);
    let ends: Vec<u64> = times.iter().map(|step| step.end[0] / US).collect();
    assert_eq!(ends, [17 + 27, 17 + 2 * 27, 17 + 3 * 27]);
    // The queue is bounded: batch 3 waits for the copy of batch 1 to make room, and the copy of
    // batch 2 for the device buffer that step 0 frees at the end of its backward pass, at 39.
    let copy_start = times[2].input.as_ref().map(|input| input.copy_start[0] / US);
    assert_eq!(copy_start, Some(17 + 22));
}

#[test]
fn one_rank_does_not_communicate() {
    let (compute, gradients, network) = (compute(), tensors(), Interconnect::from(network()));
    let plan = planner(Algorithm::Ring.into(), Layout::flat(1), &network);
    let setup = StepSetup {
        layout: Layout::flat(1),
        compute: &compute,
        gradients: &gradients,
        fusion: Fusion::Tensor,
        overlap: true,
        plan: &plan,
        folding: Folding::Off,
        network: &network,
        packing: Packing::Copy("6 GB/s".parse().unwrap()),
        input: None,
        jitter: &Jitter::default(),
    };
    let mut ends = Vec::new();
    run_arrays(&setup, &Streams::new(1), 2, |_, times| ends.push(times.end[0])).unwrap();
    assert_eq!(ends, [24 * US, 48 * US]);
}

prop_compose! {
    fn fusion()(
        rule in 0..6, threshold in 1_u64..5000, cycle in 1_u64..20_000_000, node in 0_usize..6,
    ) -> Fusion {
        let threshold = Bytes::new(threshold);
        match rule {
            0 => Fusion::Tensor,
            1 => Fusion::OneBucket,
            2 => Fusion::Threshold(threshold),
            3 => Fusion::Segments(vec![format!("n{node}")]),
            4 => Fusion::MgWfbp {
                latency: SimDuration::from_ps(cycle),
                bandwidth: Bandwidth::from_bytes_per_s(threshold.get() * 1_000_000),
            },
            _ => Fusion::Cycle { threshold, cycle: SimDuration::from_ps(cycle) },
        }
    }
}

#[derive(Debug)]
struct Case {
    ranks: u32,
    compute: ComputeTimes,
    gradients: Vec<Gradient>,
    fusion: Fusion,
    overlap: bool,
    strategy: Strategy,
    folding: Folding,
    network: TwoLevel,
    input: Option<InputPipeline>,
    jitter: Jitter,
    seed: u64,
}

impl Case {
    fn run<T>(&self, run: impl FnOnce(&StepSetup<'_>) -> T) -> T {
        let network = Interconnect::from(self.network);
        let layout = Layout { ranks: self.ranks, ranks_per_node: self.network.ranks_per_node() };
        let plan = planner(self.strategy.into(), layout, &network);
        run(&StepSetup {
            layout,
            compute: &self.compute,
            gradients: &self.gradients,
            fusion: self.fusion.clone(),
            overlap: self.overlap,
            plan: &plan,
            folding: self.folding,
            network: &network,
            packing: Packing::Copy(Bandwidth::from_bytes_per_s(1_000_000_000)),
            input: self.input,
            jitter: &self.jitter,
        })
    }

    fn arrays(&self, steps: u32) -> Vec<StepTimes> {
        let mut record = Vec::new();
        self.run(|setup| {
            run_arrays(setup, &Streams::new(self.seed), steps, |_, times| {
                record.push(times.clone());
            })
        })
        .unwrap();
        record
    }

    fn events(&self, steps: u32) -> Result<Vec<StepTimes>, StepError> {
        self.run(|setup| run_events(setup, &Streams::new(self.seed), steps)).map(|run| run.steps)
    }
}

prop_compose! {
    fn case()(
        shape in prop::sample::select(
            vec![(1, 1), (2, 1), (2, 2), (4, 2), (5, 1), (6, 3), (8, 4), (9, 3), (12, 4)]
        ),
        layers in prop::collection::vec((0_u64..9_000_000, 1_u64..9_000_000, 1_u64..3000), 1..6),
        optimizer in 0_u64..2_000_000,
        fusion in fusion(),
        (overlap, input, folded, seed) in any::<(bool, bool, bool, u64)>(),
        (algorithm, channels, chunk) in (0..4, 1_u32..4, prop::option::of(1_u64..3000)),
        ranks_per_node in 1_u32..5,
        links in ((0_u64..3_000_000, 100_000_000_u64..9_000_000_000),
                  (0_u64..3_000_000, 100_000_000_u64..9_000_000_000)),
        (decode, copy, prefetch_batches) in (0_u64..60_000_000, 0_u64..30_000_000, 1_u32..4),
        variation in prop_oneof![Just(0.0), 0.0..0.3],
        slow in prop::collection::vec((0_u32..12, 1.0..2.0), 0..2),
    ) -> Case {
        let (ranks, group) = shape;
        let link = |(latency, rate)| Link {
            latency: SimDuration::from_ps(latency),
            bandwidth: Bandwidth::from_bytes_per_s(rate),
        };
        let mut ready_after = SimDuration::ZERO;
        let gradients = layers.iter().enumerate().rev().map(|(index, &(_, backward, bytes))| {
            ready_after += SimDuration::from_ps(backward);
            Gradient {
                tensor: format!("t{index}"),
                node: format!("n{index}"),
                bytes: Bytes::new(bytes),
                ready_after,
            }
        }).collect();
        let layers = layers.iter().map(|&(forward, backward, _)| LayerTime {
            forward: SimDuration::from_ps(forward),
            backward: SimDuration::from_ps(backward),
        }).collect();
        let input = input.then_some(InputPipeline {
            decode: SimDuration::from_ps(decode),
            copy: SimDuration::from_ps(copy),
            prefetch_batches,
        });
        let slow_ranks = slow
            .into_iter()
            .map(|(rank, factor)| SlowRank { rank: Rank(rank), factor })
            .collect();
        Case {
            ranks,
            compute: ComputeTimes {
                layers,
                optimizer: SimDuration::from_ps(optimizer),
                source: ComputeSource::Roofline,
            },
            gradients,
            fusion,
            overlap,
            strategy: Strategy {
                algorithm: match algorithm {
                    0 => Algorithm::Ring,
                    1 => Algorithm::Torus { group },
                    2 => Algorithm::Tree,
                    _ => Algorithm::hierarchical(group),
                },
                channels,
                chunk: chunk.map(Bytes::new),
            },
            folding: if folded { Folding::On } else { Folding::Off },
            network: TwoLevel::new(ranks_per_node, link(links.0), link(links.1)),
            input,
            jitter: Jitter { distribution: JitterDistribution::Gamma, variation, slow_ranks },
            seed,
        }
    }
}

proptest! {
    #[test]
    fn arrays_equal_events_to_the_picosecond(case in case()) {
        prop_assert_eq!(case.events(4), Ok(case.arrays(4)));
    }

    #[test]
    fn every_millisecond_is_accounted_for(mut case in case()) {
        let mut account = Account::default();
        let record = case.arrays(3);
        record.iter().for_each(|times| account.add(times));
        let mut undisturbed = Account::default();
        case.jitter = Jitter::default();
        case.arrays(3).iter().for_each(|times| undisturbed.add(times));
        let StepSummary {
            step_ms,
            compute_ms,
            exposed_communication_ms,
            input_wait_ms,
            straggler_wait_ms,
            ..
        } = account.summary(&undisturbed);
        let total_ps: u64 = record[2].end.iter().sum();
        let mean_ms = total_ps as f64 / 1e9 / 3.0 / f64::from(case.ranks);
        prop_assert!((step_ms - mean_ms).abs() <= 1e-9 * mean_ms.max(1e-9));
        let parts = compute_ms + exposed_communication_ms + input_wait_ms + straggler_wait_ms;
        prop_assert!((step_ms - parts).abs() <= 1e-9 * step_ms);
        // Without jitter and slow ranks nobody waits for stragglers, whatever the network.
        prop_assert_eq!(undisturbed.summary(&undisturbed).straggler_wait_ms, 0.0);
    }

    #[test]
    fn overlap_never_slows_fixed_buckets(mut case in case()) {
        prop_assume!(!matches!(case.fusion, Fusion::Cycle { .. }));
        case.overlap = true;
        let with = case.arrays(3);
        case.overlap = false;
        let without = case.arrays(3);
        prop_assert!(with[2].end.iter().zip(&without[2].end).all(|(with, without)| with <= without));
    }

    #[test]
    fn faster_links_never_slow_a_step(mut case in case()) {
        prop_assume!(!matches!(case.fusion, Fusion::Cycle { .. }));
        // Where groups are nodes, a chunk makes another schedule.
        case.strategy.chunk = None;
        let before = case.arrays(3);
        case.network = TwoLevel::uniform("9 GB/s, 0 us".parse().unwrap());
        let after = case.arrays(3);
        prop_assert!(after[2].end.iter().zip(&before[2].end).all(|(after, before)| after <= before));
    }
}
