//! Convolutions and their gradients, with cuDNN.
//!
//! Which of cuDNN's algorithms is the fastest is measured where it is used, once for each kind of
//! convolution, and kept on disk ([`cache`]). Only algorithms that repeat bit for bit take part.

#![expect(unsafe_code, reason = "descriptors are moved between threads")]

mod attempts;
mod cache;
mod choice;
mod descriptor;
mod engine;
pub(crate) mod functions;
mod graph;
mod legacy;
mod ready;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::{CudaContext, CudaStream};

use self::attempts::{Attempts, Stage, is_final};
use self::cache::Choices;
use self::choice::{Choice, Method, Source};
use self::engine::{Heuristic, Limits};
use self::functions::Cudnn;
use self::legacy::LegacyConvolution;
use self::ready::{Algorithm, Handle, Ready, staged, staged_bytes};
use super::super::arguments::Address;
use super::super::device::DeviceError;
use super::super::work::Convolution;
use super::event::{Event, timed_event};
use super::memory::{DeviceMemory, free_and_total};

/// No algorithm gets more than this.
const MOST_WORKSPACE_BYTES: usize = 1 << 30;

/// Engines that are measured for each kind of convolution, from each heuristic.
const MOST_CANDIDATES: usize = 8;

/// Runs before the clock starts, and while it runs.
const WARM_UP_RUNS: u32 = 2;
const TIMED_RUNS: u32 = 5;

/// Runs while the clock runs, for algorithms that take less than `SHORT_SECONDS`.
const SHORT_RUNS: u32 = 50;
const SHORT_SECONDS: f64 = 15e-6;

/// Times that each candidate is measured. The least counts.
const ROUNDS: u32 = 2;

/// For so long something runs before anything is measured: an idle GPU raises its clocks only then.
const WARM_UP: Duration = Duration::from_millis(300);

/// Convolutions on one stream.
pub(super) struct Convolutions {
    // Freed in this order: what refers to the handle first.
    ready: HashMap<Convolution, Ready>,
    algorithms: HashMap<String, Rc<Algorithm>>,
    handle: Handle,
    /// The last one is used by all; earlier, smaller ones stay for graphs that refer to them.
    workspaces: Vec<DeviceMemory>,
    /// The same for filters that must be elsewhere than they lie.
    stages: Vec<DeviceMemory>,
    device: String,
    choices: Choices,
    /// Why the choices could not be saved.
    unsaved: Option<String>,
    clock: [Event; 2],
    /// Whether the GPU's clocks have been raised.
    warm: bool,
}

// SAFETY: the handle, all descriptors and all who share them are inside, used by the owner in one
// thread at a time.
unsafe impl Send for Convolutions {}

impl Convolutions {
    /// For a GPU of this name, whose context is current, with the choices in a folder.
    pub(super) fn new(
        cudnn: &'static Cudnn,
        stream: &Arc<CudaStream>,
        device: &str,
        choices: &Path,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            ready: HashMap::new(),
            algorithms: HashMap::new(),
            handle: Handle::new(cudnn, stream)?,
            workspaces: Vec::new(),
            stages: Vec::new(),
            device: device.to_owned(),
            choices: Choices::read(choices),
            unsaved: None,
            clock: [timed_event(stream)?, timed_event(stream)?],
            warm: false,
        })
    }

    /// Why the choices could not be saved, if they could not: they will be measured again.
    pub(super) fn unsaved(&self) -> Option<&str> {
        self.unsaved.as_deref()
    }

    /// Chooses an algorithm for each convolution and runs each once, so that it is loaded.
    pub(super) fn prepare(&mut self, convolutions: &[&Convolution]) -> Result<(), DeviceError> {
        let cudnn = self.handle.cudnn;
        let context = Arc::clone(self.handle.stream.context());
        let mut seen = HashSet::new();
        let new: Vec<&Convolution> = convolutions
            .iter()
            .copied()
            .filter(|c| !self.ready.contains_key(*c) && seen.insert(*c))
            .collect();
        let stage = new.iter().map(|convolution| staged_bytes(convolution)).max().unwrap_or(0);
        let stage = at_least(&mut self.stages, &context, stage)?;

        let (free, _) = free_and_total(&context)?;
        let limit = usize::try_from(free).unwrap_or(usize::MAX).min(MOST_WORKSPACE_BYTES);
        let mut scratch = Scratch { memory: None, limit, warm: self.warm };
        let mut chosen = Vec::new();
        for convolution in new {
            let (staged, staging) = staged(convolution, stage);
            let algorithm = self.algorithm(&staged, &mut scratch)?;
            chosen.push((convolution, staged, staging, algorithm));
        }
        self.warm = scratch.warm;
        drop(scratch);

        let wanted = chosen.iter().map(|(.., algorithm)| algorithm.workspace_bytes()).max();
        let workspace = at_least(&mut self.workspaces, &context, wanted.unwrap_or(0))?;
        for (convolution, staged, staging, algorithm) in chosen {
            let ready = Ready::new(cudnn, algorithm, (&staged, staging), workspace.0)?;
            ready.run(&self.handle)?;
            self.ready.insert(convolution.clone(), ready);
        }
        Ok(())
    }

    pub(super) fn run(&self, convolution: &Convolution) -> Result<(), DeviceError> {
        let ready = self.ready.get(convolution).ok_or_else(|| DeviceError::Call {
            call: "cudnnBackendExecute".to_owned(),
            problem: format!("{convolution:?} was not prepared"),
        })?;
        ready.run(&self.handle)
    }

    /// The algorithm for a convolution: that of its kind, else the one chosen in an earlier run, else
    /// the fastest.
    fn algorithm(
        &mut self,
        convolution: &Convolution,
        scratch: &mut Scratch,
    ) -> Result<Rc<Algorithm>, DeviceError> {
        let key = choice::key(&self.device, self.handle.cudnn.version(), convolution);
        if let Some(algorithm) = self.algorithms.get(&key) {
            return Ok(Rc::clone(algorithm));
        }
        // What cannot be restored is measured again.
        let restored = self.choices.get(&key).and_then(|choice| {
            let restored = self.restored(convolution, &choice.method).ok()?;
            (restored.workspace_bytes() <= scratch.limit).then_some(restored)
        });
        let algorithm = match restored {
            Some(algorithm) => Rc::new(algorithm),
            None => {
                let Measured { algorithm, source, seconds } = self.fastest(convolution, scratch)?;
                let microseconds = seconds * 1e6;
                let choice = Choice { method: algorithm.method(), source, microseconds };
                self.choices.insert(key.clone(), choice);
                // At once: what is measured next may fail, or be broken off.
                self.unsaved = self.choices.save().err().map(|error| error.to_string());
                algorithm
            }
        };
        self.algorithms.insert(key, Rc::clone(&algorithm));
        Ok(algorithm)
    }

    fn restored(
        &self,
        convolution: &Convolution,
        method: &Method,
    ) -> Result<Algorithm, DeviceError> {
        let (cudnn, target) = (self.handle.cudnn, self.handle.target());
        match method {
            Method::Engine { index, knobs } => {
                let graph = graph::graph(&target, convolution)?;
                Ok(Algorithm::Engine(engine::restored(&target, &graph, *index, knobs)?))
            }
            &Method::Legacy { algorithm, math_type, workspace_bytes } => {
                let described = LegacyConvolution::new(cudnn, convolution)?;
                Ok(Algorithm::Legacy(described.with(algorithm, math_type, workspace_bytes)?))
            }
        }
    }

    /// Candidates from one source.
    fn candidates(
        &self,
        convolution: &Convolution,
        source: Source,
        limit: usize,
        attempts: &mut Attempts,
    ) -> Vec<Algorithm> {
        let (target, format) = (self.handle.target(), convolution.format);
        let heuristic = match source {
            Source::ExpectedFast => Heuristic::CUDNN_HEUR_MODE_A,
            Source::Fallback => Heuristic::CUDNN_HEUR_MODE_FALLBACK,
            Source::Legacy => {
                let described = LegacyConvolution::new(target.cudnn, convolution);
                let best = described.and_then(|described| {
                    described.with_best(target.handle, format, limit, attempts)
                });
                let best = attempts.keep(Stage::Planning, best).flatten();
                return best.map(Algorithm::Legacy).into_iter().collect();
            }
        };
        let graph = graph::graph(&target, convolution);
        let Some(graph) = attempts.keep(Stage::Describing, graph) else { return Vec::new() };
        let limits = Limits { format, workspace_bytes: limit, candidates: MOST_CANDIDATES };
        let plans = engine::candidates(&target, &graph, heuristic, limits, attempts);
        plans.into_iter().map(Algorithm::Engine).collect()
    }

    /// Measures the candidates on the convolution's own addresses, those on the stage included.
    fn fastest(
        &self,
        convolution: &Convolution,
        scratch: &mut Scratch,
    ) -> Result<Measured, DeviceError> {
        let mut attempts = Attempts::default();
        let mut best: Option<Measured> = None;
        // The older functions count on aligned addresses without asking for them.
        let aligned = graph::tensors(convolution).iter().all(graph::Tensor::is_aligned);
        for source in [Source::ExpectedFast, Source::Fallback, Source::Legacy] {
            let skipped = match source {
                Source::ExpectedFast => false,
                Source::Fallback => best.is_some(),
                Source::Legacy => best.is_some() && !aligned,
            };
            if skipped {
                continue;
            }
            let candidates = self.candidates(convolution, source, scratch.limit, &mut attempts);
            let measured = self.measured(convolution, candidates, scratch, &mut attempts)?;
            for (algorithm, seconds) in measured {
                if best.as_ref().is_none_or(|best| seconds < best.seconds) {
                    best = Some(Measured { algorithm, source, seconds });
                }
            }
        }
        best.ok_or_else(|| no_algorithm(convolution, attempts.sentence()))
    }

    /// The candidates that run, with their least seconds.
    fn measured(
        &self,
        convolution: &Convolution,
        candidates: Vec<Algorithm>,
        scratch: &mut Scratch,
        attempts: &mut Attempts,
    ) -> Result<Vec<(Rc<Algorithm>, f64)>, DeviceError> {
        let mut measured: Vec<_> =
            candidates.into_iter().map(|candidate| (Rc::new(candidate), f64::INFINITY)).collect();
        // What disturbs one round hardly disturbs the same algorithm in the next.
        for _ in 0..ROUNDS {
            let mut still = Vec::with_capacity(measured.len());
            for (algorithm, least) in measured {
                match self.measure(convolution, &algorithm, scratch) {
                    Ok(seconds) => still.push((algorithm, seconds.min(least))),
                    Err(error) => {
                        attempts.failed(Stage::Running, &error);
                        self.check_context(convolution, attempts)?;
                    }
                }
            }
            measured = still;
        }
        Ok(measured)
    }

    /// An error if nothing can run any more, whatever is tried next.
    fn check_context(
        &self,
        convolution: &Convolution,
        attempts: &Attempts,
    ) -> Result<(), DeviceError> {
        match self.handle.stream.synchronize() {
            Err(error) if is_final(error.0 as u32) => {
                let problem =
                    format!("the GPU's context is lost ({error}); {}", attempts.sentence());
                Err(no_algorithm(convolution, problem))
            }
            _ => Ok(()),
        }
    }

    /// Seconds of one run of an algorithm.
    fn measure(
        &self,
        convolution: &Convolution,
        algorithm: &Rc<Algorithm>,
        scratch: &mut Scratch,
    ) -> Result<f64, DeviceError> {
        let (cudnn, stream) = (self.handle.cudnn, &self.handle.stream);
        let at = scratch.address(stream.context(), algorithm.workspace_bytes())?;
        let ready = Ready::new(cudnn, Rc::clone(algorithm), (convolution, None), at)?;
        if !scratch.warm {
            let start = Instant::now();
            while start.elapsed() < WARM_UP {
                self.seconds(&ready, TIMED_RUNS)?;
            }
            scratch.warm = true;
        }
        let seconds = self.seconds(&ready, TIMED_RUNS)?;
        // The clock is too coarse for a few runs of a short kernel.
        if seconds < SHORT_SECONDS { self.seconds(&ready, SHORT_RUNS) } else { Ok(seconds) }
    }

    /// Seconds of one of so many runs.
    fn seconds(&self, ready: &Ready, runs: u32) -> Result<f64, DeviceError> {
        for _ in 0..WARM_UP_RUNS {
            ready.run(&self.handle)?;
        }
        let [start, end] = &self.clock;
        start.record(&self.handle.stream)?;
        for _ in 0..runs {
            ready.run(&self.handle)?;
        }
        end.record(&self.handle.stream)?;
        end.wait()?;
        Ok(start.seconds_until(end)? / f64::from(runs))
    }
}

/// An algorithm that was measured.
struct Measured {
    algorithm: Rc<Algorithm>,
    source: Source,
    /// Seconds of one run.
    seconds: f64,
}

fn no_algorithm(convolution: &Convolution, problem: String) -> DeviceError {
    DeviceError::Call { call: format!("choosing an algorithm for {convolution:?}"), problem }
}

/// The address of memory of at least so many bytes: the last piece, or a new one after it.
fn at_least(
    memory: &mut Vec<DeviceMemory>,
    context: &Arc<CudaContext>,
    bytes: usize,
) -> Result<Address, DeviceError> {
    if memory.last().map_or(0, DeviceMemory::bytes) < bytes {
        memory.push(DeviceMemory::new(context, bytes)?);
    }
    Ok(memory.last().map_or(Address::NULL, DeviceMemory::address))
}

/// Workspace while algorithms are measured.
struct Scratch {
    memory: Option<DeviceMemory>,
    limit: usize,
    /// Whether the GPU's clocks are up.
    warm: bool,
}

impl Scratch {
    /// The address of so many bytes.
    fn address(&mut self, context: &Arc<CudaContext>, bytes: usize) -> Result<u64, DeviceError> {
        if self.memory.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            // Both together may be more than there is.
            self.memory = None;
            self.memory = Some(DeviceMemory::new(context, bytes)?);
        }
        Ok(self.memory.as_ref().map_or(0, |memory| memory.address().0))
    }
}
