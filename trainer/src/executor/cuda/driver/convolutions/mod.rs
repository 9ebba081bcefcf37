//! Convolutions and their gradients, with cuDNN.
//!
//! Which of cuDNN's algorithms is the fastest is measured where it is used, once for each kind of
//! convolution, and kept on disk ([`cache`]). Only algorithms that repeat bit for bit take part.

#![expect(unsafe_code, reason = "descriptors are moved between threads")]

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

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream};

use self::cache::Choices;
use self::choice::{Choice, Method};
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

/// Engines that are measured for each kind of convolution.
const MOST_CANDIDATES: usize = 8;

/// Runs before the clock starts, and while it runs.
const WARM_UP_RUNS: u32 = 2;
const TIMED_RUNS: u32 = 5;

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
        let new: Vec<&Convolution> =
            convolutions.iter().copied().filter(|c| !self.ready.contains_key(*c)).collect();
        let stage = new.iter().map(|convolution| staged_bytes(convolution)).max().unwrap_or(0);
        let stage = at_least(&mut self.stages, &context, stage)?;

        let (free, _) = free_and_total(&context)?;
        let limit = usize::try_from(free).unwrap_or(usize::MAX).min(MOST_WORKSPACE_BYTES);
        let mut scratch = Scratch { memory: None, limit };
        let mut chosen = Vec::new();
        for convolution in new {
            let (staged, staging) = staged(convolution, stage);
            let algorithm = self.algorithm(&staged, &mut scratch)?;
            chosen.push((convolution, staged, staging, algorithm));
        }
        drop(scratch);
        self.unsaved = self.choices.save().err().map(|error| error.to_string());

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
                let (algorithm, seconds) = self.fastest(convolution, scratch)?;
                let microseconds = seconds * 1e6;
                let choice = Choice { method: algorithm.method(), microseconds };
                self.choices.insert(key.clone(), choice);
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

    fn candidates(&self, convolution: &Convolution, limit: usize) -> Vec<Algorithm> {
        let (target, format) = (self.handle.target(), convolution.format);
        let mut candidates = Vec::new();
        if let Ok(graph) = graph::graph(&target, convolution) {
            let plans = engine::candidates(&target, &graph, format, limit, MOST_CANDIDATES);
            candidates.extend(plans.into_iter().map(Algorithm::Engine));
        }
        // The older functions count on aligned addresses without asking for them.
        let aligned = graph::tensors(convolution).iter().all(graph::Tensor::is_aligned);
        if aligned || candidates.is_empty() {
            let described = LegacyConvolution::new(target.cudnn, convolution);
            let handle = target.handle;
            let best = described.and_then(|described| described.with_best(handle, format, limit));
            candidates.extend(best.ok().flatten().map(Algorithm::Legacy));
        }
        candidates
    }

    /// Measures the candidates on the convolution's own addresses, those on the stage included.
    /// Returns the fastest and its
    /// seconds.
    fn fastest(
        &self,
        convolution: &Convolution,
        scratch: &mut Scratch,
    ) -> Result<(Rc<Algorithm>, f64), DeviceError> {
        let mut best: Option<(Rc<Algorithm>, f64)> = None;
        let mut failed = "cuDNN proposes none".to_owned();
        for algorithm in self.candidates(convolution, scratch.limit) {
            let context = self.handle.stream.context();
            let measured = scratch.address(context, algorithm.workspace_bytes()).and_then(|at| {
                let algorithm = Rc::new(algorithm);
                let cudnn = self.handle.cudnn;
                let ready = Ready::new(cudnn, Rc::clone(&algorithm), (convolution, None), at)?;
                Ok((algorithm, self.seconds(&ready)?))
            });
            match measured {
                Ok((algorithm, seconds)) => {
                    if best.as_ref().is_none_or(|(_, least)| seconds < *least) {
                        best = Some((algorithm, seconds));
                    }
                }
                Err(error) => failed = error.to_string(),
            }
        }
        best.ok_or_else(|| DeviceError::Call {
            call: format!("choosing an algorithm for {convolution:?}"),
            problem: failed,
        })
    }

    /// Seconds of one run.
    fn seconds(&self, ready: &Ready) -> Result<f64, DeviceError> {
        for _ in 0..WARM_UP_RUNS {
            ready.run(&self.handle)?;
        }
        let [start, end] = &self.clock;
        start.record(&self.handle.stream)?;
        for _ in 0..TIMED_RUNS {
            ready.run(&self.handle)?;
        }
        end.record(&self.handle.stream)?;
        end.wait()?;
        Ok(start.seconds_until(end)? / f64::from(TIMED_RUNS))
    }
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
