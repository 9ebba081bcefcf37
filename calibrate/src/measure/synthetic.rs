//! A machine made up from known numbers, so that the whole procedure can be tested without a clock.
//!
//! Its messages, all-reduces and steps take what the simulator says of the true numbers, times noise:
//! lognormal, and now and then far too long. Time is simulated too.

use std::time::Duration;

use foretrain_sim::collective::{Algorithm, Folding, Layout, Method, Operation, replay_arrays};
use foretrain_sim::compute::ComputeTimes;
use foretrain_sim::fusion::{Fusion, gradients};
use foretrain_sim::jitter::Jitter;
use foretrain_sim::network::{Interconnect, LinkCurve, MeasuredNetwork};
use foretrain_sim::profile::{
    AllReduceEntry, BatchTimes, ComputeProfile, Estimate, LayerEntry, MachineEntry, PackingProfile,
    TensorEntry,
};
use foretrain_sim::random::{Stream, Streams};
use foretrain_sim::recording::{
    BucketEntry, Event, EventKind, Header, Instruction, Norms, NumberFormat, Recording, Span,
    VERSION,
};
use foretrain_sim::step::{Packing, StepSetup, StepTimes, run_arrays};
use foretrain_sim::units::{Bytes, SimTime};
use rand::Rng as _;
use rand::distr::Distribution as _;
use statrs::distribution::LogNormal;

use super::collectives::Job;
use super::{MeasureError, StepRun, StepSettings, Subject};
use crate::measurements::{InputSeries, NetworkEntry, Observation, Scope};

/// The true numbers of a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// All ranks.
    pub ranks: u32,
    /// Ranks of a node.
    pub ranks_per_node: u32,
    /// What messages take inside nodes.
    pub intra_node: LinkCurve,
    /// What messages take between nodes.
    pub inter_node: LinkCurve,
    /// What layers take, at two batches or more.
    pub compute: ComputeProfile,
    /// What packing takes.
    pub packing: PackingProfile,
    /// How compute varies.
    pub jitter: Jitter,
    /// What one worker takes for an image, in seconds.
    pub decode_s: f64,
    /// The noise scale of the gradients, in images, and |G|².
    pub noise: (f64, f64),
    /// The standard deviation of the logarithm of every time that is measured.
    pub sigma: f64,
    /// The share of measurements that take 2 to 10 times as long.
    pub outliers: f64,
}

impl Truth {
    /// A small machine: two nodes of two ranks, whose messages change their protocol at 64 KiB.
    #[must_use]
    pub fn small() -> Self {
        let link = |text: &str| {
            text.parse().unwrap_or(foretrain_sim::network::Link {
                latency: foretrain_sim::units::SimDuration::ZERO,
                bandwidth: foretrain_sim::units::Bandwidth::from_bytes_per_s(1),
            })
        };
        let switch = Bytes::new(64 << 10);
        let curve = |small: &str, large: &str| {
            LinkCurve::new(vec![(Bytes::ZERO, link(small)), (switch, link(large))])
                .unwrap_or_else(|| link(small).into())
        };
        Self {
            ranks: 4,
            ranks_per_node: 2,
            intra_node: curve("2 GB/s, 4 us", "8 GB/s, 20 us"),
            inter_node: curve("500 MB/s, 30 us", "1 GB/s, 90 us"),
            compute: small_network(),
            packing: PackingProfile {
                pack_us: Estimate::exact(3.0),
                pack_us_per_mb: Estimate::exact(120.0),
                unpack_us: Estimate::exact(0.0),
                unpack_us_per_mb: Estimate::exact(0.0),
            },
            jitter: Jitter { variation: 0.02, ..Jitter::default() },
            decode_s: 250e-6,
            noise: (400.0, 0.5),
            sigma: 0.05,
            outliers: 0.05,
        }
    }

    /// What carries messages.
    #[must_use]
    pub fn network(&self) -> Interconnect {
        let (intra, inter) = (self.intra_node.clone(), self.inter_node.clone());
        MeasuredNetwork::new(self.ranks_per_node, intra, inter).into()
    }
}

/// Twelve layers that take from 100 to 1200 µs at batch 8, more at 16.
fn small_network() -> ComputeProfile {
    let count = 12;
    let layers = (0..count).map(|index| LayerEntry {
        name: format!("layer{index}"),
        operation: "convolution".to_owned(),
        tensors: vec![TensorEntry {
            name: format!("layer{index}.weight"),
            elements: 10_000 * (index + 1),
        }],
    });
    let batch = |batch: u64, factor: f64| {
        let forward: Vec<f64> =
            (0..count).map(|index| factor * 100.0 * (index + 1) as f64).collect();
        let backward: Vec<f64> = forward.iter().map(|us| 2.0 * us).collect();
        BatchTimes {
            batch,
            steps: 1,
            host_us: Estimate::exact(150.0),
            forward_us: Estimate::exact(forward.iter().sum()),
            backward_us: Estimate::exact(backward.iter().sum()),
            optimizer_us: Estimate::exact(800.0),
            layer_forward_us: forward,
            layer_backward_us: backward,
        }
    };
    ComputeProfile {
        network: "twelve layers".to_owned(),
        input: [3, 32, 32],
        precision: NumberFormat::F32,
        wire: None,
        optimizer: "lars".to_owned(),
        layers: layers.collect(),
        batches: vec![batch(8, 1.0), batch(16, 1.8)],
        overlap_slowdown: None,
    }
}

/// The machine.
#[derive(Debug)]
pub struct Synthetic {
    truth: Truth,
    noise: Stream,
    streams: Streams,
    runs: u32,
    elapsed_s: f64,
}

impl Synthetic {
    /// A machine of these numbers, whose noise is that of `seed`.
    #[must_use]
    pub fn new(truth: Truth, seed: u64) -> Self {
        let streams = Streams::new(seed);
        let noise = streams.stream("synthetic machine", "noise of measurements");
        Self { truth, noise, streams, runs: 0, elapsed_s: 0.0 }
    }

    /// The true numbers.
    #[must_use]
    pub const fn truth(&self) -> &Truth {
        &self.truth
    }

    /// A time as it is measured.
    fn measured(&mut self, seconds: f64) -> f64 {
        let noise = match LogNormal::new(0.0, self.truth.sigma) {
            Ok(noise) => noise.sample(&mut self.noise),
            Err(_) => 1.0,
        };
        let gross =
            if self.uniform() < self.truth.outliers { 2.0 + 8.0 * self.uniform() } else { 1.0 };
        let seconds = seconds * noise * gross;
        self.elapsed_s += seconds;
        seconds
    }

    fn uniform(&mut self) -> f64 {
        (self.noise.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn curve(&self, scope: Scope) -> &LinkCurve {
        match scope {
            Scope::IntraNode => &self.truth.intra_node,
            Scope::InterNode => &self.truth.inter_node,
        }
    }

    fn method(entry: AllReduceEntry) -> Result<Method, MeasureError> {
        let algorithm =
            Algorithm::try_from(entry).map_err(|error| MeasureError::Input(error.to_string()))?;
        Ok(Method::from(algorithm))
    }

    fn layout(&self) -> Layout {
        Layout { ranks: self.truth.ranks, ranks_per_node: self.truth.ranks_per_node }
    }

    /// The true time of a job.
    fn true_s(&self, job: &Job, bytes: u64) -> Result<f64, MeasureError> {
        Ok(match job {
            // Two rounds of half of the data.
            Job::Pair(scope) => {
                2.0 * self.curve(*scope).message_time(Bytes::new(bytes.div_ceil(2))).as_seconds()
            }
            Job::All(entry) => {
                let network = self.truth.network();
                let plan = Self::method(*entry)?
                    .plan(Operation::AllReduce, self.layout(), &network, Bytes::new(bytes))
                    .map_err(|error| MeasureError::Input(error.to_string()))?;
                let starts = vec![SimTime::ZERO; self.truth.ranks as usize];
                let ends = replay_arrays(&plan.schedule, &plan.network, &starts);
                ends.iter().map(|end| end.since(SimTime::ZERO).as_seconds()).fold(0.0, f64::max)
            }
        })
    }
}

impl Subject for Synthetic {
    fn agree(&mut self, _: &str) -> Result<(), MeasureError> {
        Ok(())
    }

    fn machine(&self) -> MachineEntry {
        MachineEntry {
            device: "a synthetic machine".to_owned(),
            threads: 1,
            ranks: self.truth.ranks,
            ranks_per_node: self.truth.ranks_per_node,
            transport: "simulated".to_owned(),
            driver: None,
            memory_bytes: None,
        }
    }

    fn network(&mut self) -> Result<NetworkEntry, MeasureError> {
        let compute = &self.truth.compute;
        Ok(NetworkEntry {
            name: compute.network.clone(),
            input: compute.input,
            precision: compute.precision,
            wire: compute.precision,
            optimizer: compute.optimizer.clone(),
            layers: compute.layers.clone(),
        })
    }

    fn has_all_reduce(&self) -> bool {
        true
    }

    fn check_all_reduce(&mut self, job: &Job, bytes: u64) -> Result<(), MeasureError> {
        self.elapsed_s += self.true_s(job, bytes)?;
        Ok(())
    }

    fn all_reduce(&mut self, job: &Job, bytes: u64, repeats: u32) -> Result<f64, MeasureError> {
        let seconds = self.true_s(job, bytes)?;
        // What several after each other take varies as one does: noise of a moment, not of each.
        self.elapsed_s += f64::from(repeats.saturating_sub(1)) * seconds;
        Ok(self.measured(seconds))
    }

    fn steps(&mut self, settings: &StepSettings) -> Result<StepRun, MeasureError> {
        self.runs += 1;
        let truth = self.truth.clone();
        let compute = truth
            .compute
            .compute_times(settings.batch)
            .ok_or_else(|| MeasureError::Input("no layer times".to_owned()))?;
        let network = truth.network();
        let method = Self::method(settings.all_reduce)?;
        let layout = self.layout();
        let plan = |bytes| method.plan(Operation::AllReduce, layout, &network, bytes);
        let model = truth.compute.network();
        let gradients = gradients(&model, &compute, truth.compute.precision.element_bytes());
        let setup = StepSetup {
            layout,
            compute: &compute,
            gradients: &gradients,
            fusion: Fusion::from(&settings.fusion),
            overlap: settings.overlap,
            plan: &plan,
            folding: Folding::Off,
            network: &network,
            packing: Packing::Measured(truth.packing),
            input: None,
            jitter: &truth.jitter,
        };
        let mut all: Vec<StepTimes> = Vec::new();
        let steps = settings.warmup_steps + settings.steps;
        let seed = self.streams.stream(&format!("run {}", self.runs), "seed").next_u64();
        run_arrays(&setup, &Streams::new(seed), steps, |_, times| all.push(times.clone()))
            .map_err(|error| MeasureError::Input(error.to_string()))?;
        let seconds = |ps: u64| ps as f64 / 1e12;
        self.elapsed_s += all.last().map_or(0.0, |last| seconds(last.end[0]));
        let counted = &all[settings.warmup_steps as usize..];
        let mut run = StepRun {
            periods_s: counted
                .iter()
                .map(|step| seconds(step.end[0] - step.previous_end[0]))
                .collect(),
            ..StepRun::default()
        };
        if settings.recorded {
            let host = compute.layers[0].forward;
            run.rank_compute_ns = (0..truth.ranks as usize)
                .map(|rank| {
                    let compute_ps = |step: &StepTimes| {
                        (step.backward_end[rank] - step.forward_start[rank])
                            + (step.end[rank] - step.optimizer_start[rank])
                            - host.scaled(step.factor[rank]).as_ps()
                    };
                    counted.iter().map(|step| compute_ps(step) / 1000).collect()
                })
                .collect();
            run.recording = Some(self.recording(&compute, settings, counted));
            if settings.norms {
                run.norms = self.norms(settings);
            }
        }
        Ok(run)
    }

    fn input(&mut self, images: u32, repeats: u32) -> Result<InputSeries, MeasureError> {
        let image_s = self.truth.decode_s;
        let one = f64::from(images) * image_s;
        let decode = (0..repeats).map(|_| self.measured(one) / f64::from(images)).collect();
        Ok(InputSeries {
            data: "synthetic".to_owned(),
            decode_s_per_image: decode,
            read_s_per_image: Vec::new(),
            workers_per_node: 8,
            prefetch_batches: 2,
        })
    }

    fn elapsed(&mut self) -> Result<Duration, MeasureError> {
        Ok(Duration::from_secs_f64(self.elapsed_s))
    }

    fn observations(&mut self) -> Vec<Observation> {
        Vec::new()
    }
}

impl Synthetic {
    /// ‖g_b‖² = |G|² + S|G|²/b for a batch of b images, which follows from the scale's definition,
    /// with the noise of measurements.
    fn norms(&mut self, settings: &StepSettings) -> Vec<(f64, f64)> {
        let (scale, squared) = self.truth.noise;
        let global = settings.batch * u64::from(self.truth.ranks);
        let expected = |batch: u64| squared * (1.0 + scale / batch as f64);
        let sigma = self.truth.sigma;
        let draws = LogNormal::new(-sigma * sigma / 2.0, sigma);
        (0..settings.steps)
            .map(|_| {
                let mut noisy = |value: f64| {
                    draws.as_ref().map_or(value, |draws| value * draws.sample(&mut self.noise))
                };
                (noisy(expected(settings.batch)), noisy(expected(global)))
            })
            .collect()
    }

    /// What rank 0 would have written down.
    fn recording(
        &self,
        compute: &ComputeTimes,
        settings: &StepSettings,
        steps: &[StepTimes],
    ) -> Recording {
        let truth = &self.truth;
        let layers = &truth.compute.layers;
        let tensors: Vec<&TensorEntry> = layers.iter().flat_map(|layer| &layer.tensors).collect();
        let mut events = Vec::new();
        for (number, step) in (u64::from(settings.warmup_steps)..).zip(steps) {
            let ns = |ps: u64| ps / 1000;
            let mut note = |kind| events.push(Event { rank: 0, step: number, kind });
            let factor = step.factor[0];
            let mut at_ps =
                step.forward_start[0] + compute.layers[0].forward.scaled(factor).as_ps();
            let mut during = |duration: foretrain_sim::units::SimDuration| {
                let start_ps = at_ps;
                at_ps += duration.scaled(factor).as_ps();
                Span { start_ns: ns(start_ps), end_ns: ns(at_ps) }
            };
            let times = &compute.layers[1..];
            for (instruction, layer) in (0..).zip(times) {
                note(EventKind::Forward { instruction, span: during(layer.forward) });
            }
            for (instruction, layer) in (0..times.len() as u32).zip(times).rev() {
                note(EventKind::Backward { instruction, span: during(layer.backward) });
            }
            for (bucket, times) in (0..).zip(&step.buckets) {
                let span = |start: u64, end: u64| Span { start_ns: ns(start), end_ns: ns(end) };
                note(EventKind::Pack { bucket, span: span(times.pack_start[0], times.enter[0]) });
                note(EventKind::AllReduce { bucket, span: span(times.enter[0], times.finish[0]) });
                note(EventKind::Unpack { bucket, span: span(times.finish[0], times.end[0]) });
            }
            let span = Span { start_ns: ns(step.optimizer_start[0]), end_ns: ns(step.end[0]) };
            note(EventKind::Optimizer { span });
            let span = Span { start_ns: ns(step.previous_end[0]), end_ns: ns(step.end[0]) };
            note(EventKind::Step { span });
            note(EventKind::Norms(Norms {
                local_gradient_norm_sq: None,
                averaged_gradient_norm_sq: None,
                per_rank_batch: settings.batch,
                global_batch: settings.batch * u64::from(truth.ranks),
                loss: None,
                loss_scale: 1.0,
                learning_rate: 0.1,
                skipped: false,
            }));
        }
        let buckets = steps.first().map(|step| step.buckets.as_slice()).unwrap_or_default();
        let mut next = tensors.len() as u32;
        let buckets = buckets.iter().map(|bucket| {
            let members = (0..bucket.tensors as u32).map(|offset| next - 1 - offset).collect();
            next -= bucket.tensors as u32;
            BucketEntry { tensors: members, bytes: bucket.bytes.get() }
        });
        let buckets = buckets.collect();
        Recording {
            header: Header {
                recording: VERSION,
                foretrain: env!("CARGO_PKG_VERSION").to_owned(),
                network: truth.compute.network.clone(),
                input: truth.compute.input,
                ranks: truth.ranks,
                rank: 0,
                per_rank_batch: settings.batch,
                precision: truth.compute.precision,
                wire: truth.compute.precision,
                device: "a synthetic machine".to_owned(),
                threads: 1,
                optimizer: truth.compute.optimizer.clone(),
                fusion: settings.fusion.to_string(),
                algorithm: settings.all_reduce.to_string(),
                seed: 1,
                started: "2026-01-01".to_owned(),
                instructions: layers
                    .iter()
                    .map(|layer| Instruction {
                        name: layer.name.clone(),
                        operation: layer.operation.clone(),
                        forward_flop: None,
                        backward_flop: None,
                    })
                    .collect(),
                tensors: tensors.iter().map(|tensor| tensor.name.clone()).collect(),
                tensor_elements: tensors.iter().map(|tensor| tensor.elements).collect(),
                buckets,
            },
            events,
        }
    }
}
