//! Convolutions that are ready to run.

#![expect(unsafe_code, reason = "cuDNN is called through pointers")]

use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::{CudaStream, result};

use super::super::super::arguments::Address;
use super::super::super::device::DeviceError;
use super::super::super::work::{Convolution, ConvolutionPass};
use super::super::called;
use super::choice::Method;
use super::descriptor::Descriptor;
use super::engine::{self, Plan, Target};
use super::functions::{Cudnn, Opaque};
use super::graph;
use super::legacy::LegacyConvolution;

/// A handle of cuDNN.
pub(super) struct Handle {
    pub(super) cudnn: &'static Cudnn,
    pub(super) raw: Opaque,
    pub(super) stream: Arc<CudaStream>,
}

impl Handle {
    pub(super) fn new(
        cudnn: &'static Cudnn,
        stream: &Arc<CudaStream>,
    ) -> Result<Self, DeviceError> {
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

    /// What engines are chosen for.
    pub(super) const fn target(&self) -> Target {
        Target { cudnn: self.cudnn, handle: self.raw, device: None }
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
pub(super) enum Algorithm {
    Engine(Plan),
    Legacy(LegacyConvolution),
}

impl Algorithm {
    pub(super) const fn workspace_bytes(&self) -> usize {
        match self {
            Self::Engine(plan) => plan.workspace_bytes,
            Self::Legacy(legacy) => legacy.workspace_bytes,
        }
    }

    pub(super) fn method(&self) -> Method {
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

/// Filters that lie where they come to lie in a bucket, and are worked on elsewhere.
///
/// Engines read 16 bytes at once; for filters of half precision that are not so aligned cuDNN has
/// none that uses tensor cores. Filters are small beside what they are applied to, so a copy costs
/// little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Staging {
    /// Where the filters lie.
    pub(super) filters: Address,
    /// Where they are worked on.
    pub(super) stage: Address,
    /// How many bytes they are.
    pub(super) bytes: usize,
    /// Whether they are copied to the stage before.
    pub(super) before: bool,
    /// Whether they are copied from the stage after.
    pub(super) after: bool,
}

/// Bytes that a convolution needs on the stage.
pub(super) fn staged_bytes(convolution: &Convolution) -> usize {
    let [_, filters, _] = graph::tensors(convolution);
    if filters.is_aligned() {
        return 0;
    }
    filters.sizes.iter().product::<usize>() * convolution.format.element_bytes() as usize
}

/// A convolution with its filters on the stage, if they must be there.
pub(super) fn staged(convolution: &Convolution, stage: Address) -> (Convolution, Option<Staging>) {
    let bytes = staged_bytes(convolution);
    if bytes == 0 {
        return (convolution.clone(), None);
    }
    let writes_filters = convolution.pass == ConvolutionPass::Filters;
    let staging = Staging {
        filters: convolution.filters,
        stage,
        bytes,
        before: !writes_filters || convolution.accumulate,
        after: writes_filters,
    };
    (Convolution { filters: stage, ..convolution.clone() }, Some(staging))
}

/// An algorithm with the addresses of one convolution.
pub(super) struct Ready {
    algorithm: Rc<Algorithm>,
    addresses: [u64; 3],
    workspace: u64,
    /// The same for an engine.
    places: Option<Descriptor>,
    staging: Option<Staging>,
}

impl Ready {
    /// For a convolution whose filters are on the stage if they must be.
    pub(super) fn new(
        cudnn: &'static Cudnn,
        algorithm: Rc<Algorithm>,
        (convolution, staging): (&Convolution, Option<Staging>),
        workspace: u64,
    ) -> Result<Self, DeviceError> {
        let Convolution { input, filters, output, .. } = convolution;
        let addresses = [input.0, filters.0, output.0];
        let places = match *algorithm {
            Algorithm::Engine(_) => Some(engine::places(cudnn, addresses, workspace)?),
            Algorithm::Legacy(_) => None,
        };
        Ok(Self { algorithm, addresses, workspace, places, staging })
    }

    pub(super) fn run(&self, handle: &Handle) -> Result<(), DeviceError> {
        let copy = |to: Address, from: Address, bytes| {
            let stream = handle.stream.cu_stream();
            // SAFETY: both places have so many bytes: the caller gives the filters, and the stage is
            // as large as the largest filters on it.
            unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, stream) }
                .map_err(called("cuMemcpyDtoDAsync"))
        };
        if let Some(Staging { filters, stage, bytes, before: true, .. }) = self.staging {
            copy(stage, filters, bytes)?;
        }
        self.compute(handle)?;
        if let Some(Staging { filters, stage, bytes, after: true, .. }) = self.staging {
            copy(filters, stage, bytes)?;
        }
        Ok(())
    }

    fn compute(&self, handle: &Handle) -> Result<(), DeviceError> {
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
