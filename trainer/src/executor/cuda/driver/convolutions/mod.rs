//! Convolutions and their gradients, with cuDNN.
//!
//! Which of cuDNN's algorithms is the fastest is measured where it is used, once for each kind of
//! convolution, and kept on disk ([`cache`]). Only algorithms that repeat bit for bit take part.

#![expect(unsafe_code, reason = "cuDNN is called through pointers")]

mod cache;
mod choice;
mod descriptor;
mod engine;
pub(crate) mod functions;
mod graph;
mod legacy;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::CudaStream;

use self::cache::Choices;
use self::choice::{Choice, Method};
use self::descriptor::Descriptor;
use self::engine::Plan;
use self::functions::{Cudnn, Opaque};
use self::legacy::LegacyConvolution;
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

/// A handle of cuDNN.
struct Handle {
    cudnn: &'static Cudnn,
    raw: Opaque,
    stream: Arc<CudaStream>,
}

impl Handle {
    fn new(cudnn: &'static Cudnn, stream: &Arc<CudaStream>) -> Result<Self, DeviceError> {
        let mut raw = null_mut();
        // SAFETY: one pointer is written. The GPU's context is current.
        let status = unsafe { (cudnn.graphs.create_handle)(&raw mut raw) };
        cudnn.check("cudnnCreate", status)?;
        let handle = Self { cudnn, raw, stream: Arc::clone(stream) };
        // SAFETY: handle and stream are alive, and of the same context.
        let status = unsafe { (cudnn.graphs.set_stream)(raw, stream.cu_stream().cast()) };
        cudnn.check("cudnnSetStream", status)?;
        Ok(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
            let _ = unsafe { (self.cudnn.graphs.destroy_handle)(self.raw) };
        }
    }
}

/// An algorithm that is ready for convolutions of one kind.
enum Algorithm {
    Engine(Plan),
    Legacy(LegacyConvolution),
}

impl Algorithm {
    const fn workspace_bytes(&self) -> usize {
        match self {
            Self::Engine(plan) => plan.workspace_bytes,
            Self::Legacy(legacy) => legacy.workspace_bytes,
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::Engine(plan) => Method::Engine { index: plan.engine, knobs: plan.knobs.clone() },
            Self::Legacy(legacy) => Method::Legacy {
                algorithm: legacy.algorithm,
                math_type: legacy.math_type,
                workspace_bytes: legacy.workspace_bytes,
            },
        }
    }
}

/// An algorithm with the addresses of one convolution.
struct Ready {
    algorithm: Rc<Algorithm>,
    addresses: [u64; 3],
    workspace: u64,
    /// The same for an engine.
    places: Option<Descriptor>,
}

impl Ready {
    fn new(
        cudnn: &'static Cudnn,
        algorithm: Rc<Algorithm>,
        convolution: &Convolution,
        workspace: u64,
    ) -> Result<Self, DeviceError> {
        let Convolution { input, filters, output, .. } = convolution;
        let addresses = [input.0, filters.0, output.0];
        let places = match *algorithm {
            Algorithm::Engine(_) => Some(engine::places(cudnn, addresses, workspace)?),
            Algorithm::Legacy(_) => None,
        };
        Ok(Self { algorithm, addresses, workspace, places })
    }

    fn run(&self, handle: &Handle) -> Result<(), DeviceError> {
        match (&*self.algorithm, &self.places) {
            (Algorithm::Engine(plan), Some(places)) => {
                let execute = handle.cudnn.graphs.execute;
                // SAFETY: handle and descriptors are alive; the caller gives tensors of the plan's
                // sizes, and workspace of its size, in memory of this GPU.
                let status = unsafe { execute(handle.raw, plan.descriptor.raw(), places.raw()) };
                handle.cudnn.check("cudnnBackendExecute", status)
            }
            (Algorithm::Legacy(legacy), _) => {
                legacy.run(handle.raw, self.addresses, self.workspace)
            }
            (Algorithm::Engine(_), None) => Err(DeviceError::Call {
                call: "cudnnBackendExecute".to_owned(),
                problem: "an engine has no addresses".to_owned(),
            }),
        }
    }
}

/// Convolutions on one stream.
pub(super) struct Convolutions {
    // Freed in this order: what refers to the handle first.
    ready: HashMap<Convolution, Ready>,
    algorithms: HashMap<String, Rc<Algorithm>>,
    handle: Handle,
    /// The last one is used by all; earlier, smaller ones stay for graphs that refer to them.
    workspaces: Vec<DeviceMemory>,
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
        let (free, _) = free_and_total(self.handle.stream.context())?;
        let limit = usize::try_from(free).unwrap_or(usize::MAX).min(MOST_WORKSPACE_BYTES);
        let mut scratch = Scratch { memory: None, limit };
        let mut chosen = Vec::new();
        for convolution in convolutions {
            if !self.ready.contains_key(*convolution) {
                chosen.push((*convolution, self.algorithm(convolution, &mut scratch)?));
            }
        }
        drop(scratch);
        self.unsaved = self.choices.save().err().map(|error| error.to_string());

        let wanted = chosen.iter().map(|(_, algorithm)| algorithm.workspace_bytes()).max();
        let there = self.workspaces.last().map_or(0, DeviceMemory::bytes);
        if wanted.is_some_and(|wanted| wanted > there) {
            let wanted = wanted.unwrap_or(0);
            self.workspaces.push(DeviceMemory::new(self.handle.stream.context(), wanted)?);
        }
        let workspace = self.workspaces.last().map_or(0, |memory| memory.address().0);
        for (convolution, algorithm) in chosen {
            let ready = Ready::new(cudnn, algorithm, convolution, workspace)?;
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
        let Handle { cudnn, raw, .. } = self.handle;
        match method {
            Method::Engine { index, knobs } => {
                let graph = graph::graph(cudnn, raw, convolution)?;
                Ok(Algorithm::Engine(engine::restored(cudnn, raw, &graph, *index, knobs)?))
            }
            &Method::Legacy { algorithm, math_type, workspace_bytes } => {
                let described = LegacyConvolution::new(cudnn, convolution)?;
                Ok(Algorithm::Legacy(described.with(algorithm, math_type, workspace_bytes)?))
            }
        }
    }

    fn candidates(&self, convolution: &Convolution, limit: usize) -> Vec<Algorithm> {
        let (Handle { cudnn, raw, .. }, format) = (&self.handle, convolution.format);
        let mut candidates = Vec::new();
        if let Ok(graph) = graph::graph(cudnn, *raw, convolution) {
            let plans = engine::candidates(cudnn, *raw, &graph, format, MOST_CANDIDATES);
            let fit = plans.into_iter().filter(|plan| plan.workspace_bytes <= limit);
            candidates.extend(fit.map(Algorithm::Engine));
        }
        // The older functions count on aligned addresses without asking for them.
        let aligned = graph::tensors(convolution).iter().all(graph::Tensor::is_aligned);
        if aligned || candidates.is_empty() {
            let described = LegacyConvolution::new(cudnn, convolution);
            let best = described.and_then(|described| described.with_best(*raw, format, limit));
            candidates.extend(best.ok().flatten().map(Algorithm::Legacy));
        }
        candidates
    }

    /// Measures the candidates on the convolution's own addresses. Returns the fastest and its
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
                let ready = Ready::new(cudnn, Rc::clone(&algorithm), convolution, at)?;
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

/// Workspace while algorithms are measured.
struct Scratch {
    memory: Option<DeviceMemory>,
    limit: usize,
}

impl Scratch {
    /// The address of so many bytes.
    fn address(
        &mut self,
        context: &Arc<cudarc::driver::CudaContext>,
        bytes: usize,
    ) -> Result<u64, DeviceError> {
        if self.memory.as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            // Both together may be more than there is.
            self.memory = None;
            self.memory = Some(DeviceMemory::new(context, bytes)?);
        }
        Ok(self.memory.as_ref().map_or(0, |memory| memory.address().0))
    }
}
