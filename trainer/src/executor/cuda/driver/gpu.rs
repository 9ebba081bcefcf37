//! A GPU as a [`Device`].

#![expect(unsafe_code, reason = "the driver is called with addresses of the GPU's memory")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, result, sys};
use foretrain_sim::recording::NumberFormat;

use super::super::arguments::Address;
use super::super::device::{Device, DeviceError};
use super::super::work::Work;
use super::compile::Compiler;
use super::convolutions::Convolutions;
use super::event::Event;
use super::facts::{GpuFacts, driver_version};
use super::graph::Graph;
use super::kernels::Kernels;
use super::memory::{DeviceMemory, free_and_total};
use super::products::Products;
use super::search::Library;
use super::upload::Upload;
use super::{called, libraries, missing};

/// What all that a process does on one GPU has in common. It stays until the process ends: libraries
/// keep what they have loaded in a context, and do not hear of its end.
struct Common {
    context: Arc<CudaContext>,
    /// Held while work is captured, and while a [`Gpu`] is waited for to be dropped.
    ///
    /// A call that concerns a whole context fails while a stream of it is being captured, and spoils
    /// the capture, also that of another thread. What is given while it is held must not wait for
    /// another thread that captures on this GPU or drops it.
    captures: Mutex<()>,
}

static COMMON: Mutex<BTreeMap<usize, &'static Common>> = Mutex::new(BTreeMap::new());

/// What this GPU has in common, opened when it is first asked for.
fn common(number: usize) -> Result<&'static Common, DeviceError> {
    let mut all = COMMON.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(common) = all.get(&number) {
        return Ok(common);
    }
    let context = CudaContext::new(number).map_err(called("opening the GPU"))?;
    let common: &'static Common = Box::leak(Box::new(Common { context, captures: Mutex::new(()) }));
    all.insert(number, common);
    Ok(common)
}

/// A GPU, its memory, and what has been prepared on it.
///
/// Its work runs in order on one stream. Fields go in the order in which they are written: what is
/// freed needs the context, and nothing of it is in use, as dropping a GPU waits for its work first.
pub struct Gpu {
    products: Products,
    convolutions: Convolutions,
    memory: Vec<DeviceMemory>,
    kernels: Kernels,
    pub(super) stream: Arc<CudaStream>,
    pub(super) context: Arc<CudaContext>,
    common: &'static Common,
    pub(super) capturing: bool,
    facts: GpuFacts,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gpu").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Gpu {
    /// How many GPUs this process can see; at least one.
    ///
    /// # Errors
    /// There is none, or no driver.
    pub fn count() -> Result<usize, DeviceError> {
        libraries::open(Library::Cuda)?;
        let gpus = match CudaContext::device_count() {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => 0,
            Err(error) => return Err(missing::working_driver(&error.to_string())),
        };
        if gpus == 0 { Err(missing::gpu()) } else { Ok(gpus) }
    }

    /// Opens a GPU by its number among those that can be seen, to compute in `format`. Which
    /// algorithms are best for convolutions is kept in the folder `choices`, from run to run.
    ///
    /// # Errors
    /// [`DeviceError::Missing`] if the driver, a library or the GPU is not there or too old;
    /// [`DeviceError::Call`] if one of them fails.
    pub fn open(number: usize, format: NumberFormat, choices: &Path) -> Result<Self, DeviceError> {
        let gpus = Self::count()?;
        if number >= gpus {
            return Err(missing::gpu_number(number, gpus));
        }
        let compiler = Compiler::open()?;
        libraries::open(Library::CublasLt)?;
        let cudnn = super::convolutions::functions::open()?;

        let common = common(number)?;
        let context = Arc::clone(&common.context);
        // SAFETY: no memory is held through `cudarc`'s own type, whose uses it would follow.
        unsafe { context.disable_event_tracking() };
        let name = context.name().map_err(called("cuDeviceGetName"))?;
        let (major, minor) = context
            .compute_capability()
            .map_err(called("cuDeviceGetAttribute of the compute capability"))?;
        let capability = (major.unsigned_abs(), minor.unsigned_abs());
        missing::check_capability(&name, capability)?;
        let driver_cuda = driver_cuda_version()?;
        missing::check_driver(driver_cuda, compiler.version)?;

        let target = compiler.target(capability)?;
        let code = compiler.kernels(format, target)?;
        let kernels = Kernels::load(&context, &code)?;
        let stream = context.new_stream().map_err(called("cuStreamCreate"))?;
        let attribute = |which| context.attribute(which).ok().map(i32::unsigned_abs);
        use sys::CUdevice_attribute as A;
        let (free_memory_bytes, memory_bytes) = free_and_total(&context)?;
        let facts = GpuFacts {
            compute_capability: format!("{major}.{minor}"),
            multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            clock_khz: attribute(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
            memory_clock_khz: attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE),
            memory_bus_bits: attribute(A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
            memory_bytes,
            free_memory_bytes,
            driver: driver_version(),
            driver_cuda: missing::cuda_version(driver_cuda),
            nvrtc: format!("{}.{}", compiler.version.0, compiler.version.1),
            architecture: target.architecture(),
            cublaslt: Products::version(),
            cudnn: missing::cudnn_version(cudnn.version()),
            name: name.clone(),
        };
        Ok(Self {
            products: Products::new(&stream)?,
            convolutions: Convolutions::new(cudnn, &stream, &name, choices)?,
            memory: Vec::new(),
            kernels,
            stream,
            context,
            common,
            capturing: false,
            facts,
        })
    }

    /// What is known of the GPU and its software.
    #[must_use]
    pub const fn facts(&self) -> &GpuFacts {
        &self.facts
    }

    /// Why the choices of algorithms could not be saved, if they could not: the next run measures
    /// again, and may choose differently.
    #[must_use]
    pub fn unsaved_choices(&self) -> Option<&str> {
        self.convolutions.unsaved()
    }

    /// The stream on which work runs, for what other libraries do in between.
    #[must_use]
    pub const fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The driver's context of this GPU.
    #[must_use]
    pub const fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// Makes this GPU's context that of the calling thread, for libraries with threads of their own.
    #[must_use]
    pub fn binding(&self) -> Arc<dyn Fn() -> Result<(), DeviceError> + Send + Sync> {
        let context = Arc::clone(&self.context);
        Arc::new(move || context.bind_to_thread().map_err(called("cuCtxSetCurrent")))
    }

    /// A stream for work beside that of this GPU.
    ///
    /// # Errors
    /// The driver failed.
    pub fn new_stream(&self) -> Result<Arc<CudaStream>, DeviceError> {
        self.context.new_stream().map_err(called("cuStreamCreate"))
    }

    /// Waiting, and copies from and to memory that the driver has to stage, cannot be captured.
    pub(super) fn refuse_while_capturing(&self, call: &str) -> Result<(), DeviceError> {
        if self.capturing {
            let problem = "work is being captured".to_owned();
            return Err(DeviceError::Call { call: call.to_owned(), problem });
        }
        Ok(())
    }

    /// Calls into the driver work on the context of the calling thread.
    pub(super) fn bind(&self) -> Result<(), DeviceError> {
        self.context.bind_to_thread().map_err(called("cuCtxSetCurrent"))
    }

    /// Waits until nothing is being captured on this GPU, and keeps it so.
    pub(super) fn exclude_captures(&self) -> MutexGuard<'static, ()> {
        // Nothing is behind the lock that a panic could have left half done.
        self.common.captures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> Result<(), DeviceError> {
        self.stream.synchronize().map_err(called("waiting for the GPU"))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Memory and kernels may be in use. Other streams are waited for by those who have them. To
        // wait for the whole context would spoil a capture of another GPU of this process that
        // shares it. Nothing can be done about a failure.
        let _alone = self.exclude_captures();
        let _ = self.stream.synchronize();
    }
}

impl Device for Gpu {
    type Graph = Graph;
    type Moment = Event;
    type Upload = Upload;

    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        self.refuse_while_capturing("allocating memory")?;
        let memory = DeviceMemory::new(&self.context, bytes)?;
        let address = memory.address();
        self.memory.push(memory);
        Ok(address)
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        self.refuse_while_capturing("copying to the GPU")?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the bytes are there until the copy has ended, which is waited for, also where
        // starting it has failed.
        let copy = unsafe { result::memcpy_htod_async(to.0, bytes, self.stream.cu_stream()) };
        let waited = self.wait();
        copy.map_err(called("cuMemcpyHtoDAsync"))?;
        waited
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.refuse_while_capturing("copying from the GPU")?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the bytes are there and borrowed alone until the copy has ended, which is waited
        // for, also where starting it has failed.
        let copy = unsafe { result::memcpy_dtoh_async(bytes, from.0, self.stream.cu_stream()) };
        let waited = self.wait();
        copy.map_err(called("cuMemcpyDtoHAsync"))?;
        waited
    }

    fn prepare(&mut self, work: &[Work]) -> Result<(), DeviceError> {
        self.refuse_while_capturing("preparing work")?;
        self.bind()?;
        let (mut products, mut convolutions) = (Vec::new(), Vec::new());
        for work in work {
            match work {
                Work::Launch(launch) => {
                    self.kernels.check(launch)?;
                }
                Work::Product(product) => products.push(product),
                Work::Convolution(convolution) => convolutions.push(convolution),
                Work::Clear { .. } | Work::Copy { .. } => {}
            }
        }
        self.products.prepare(&products)?;
        self.convolutions.prepare(&convolutions)?;
        self.wait()
    }

    fn enqueue(&mut self, work: &Work) -> Result<(), DeviceError> {
        self.bind()?;
        match work {
            Work::Launch(launch) => self.kernels.launch(launch, &self.stream),
            Work::Convolution(convolution) => self.convolutions.run(convolution),
            Work::Product(product) => self.products.run(product),
            Work::Clear { bytes: 0, .. } => Ok(()),
            Work::Clear { at, bytes } => {
                // SAFETY: the caller gives memory of this GPU; a wrong address is the driver's error.
                unsafe { result::memset_d8_async(at.0, 0, *bytes, self.stream.cu_stream()) }
                    .map_err(called("cuMemsetD8Async"))
            }
            Work::Copy { bytes: 0, .. } => Ok(()),
            Work::Copy { from, to, bytes } => {
                let stream = self.stream.cu_stream();
                // SAFETY: as above.
                unsafe { result::memcpy_dtod_async(to.0, from.0, *bytes, stream) }
                    .map_err(called("cuMemcpyDtoDAsync"))
            }
        }
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        self.refuse_while_capturing("waiting for the GPU")?;
        self.wait()
    }

    fn description(&self) -> String {
        let GpuFacts { name, driver, driver_cuda, cudnn, cublaslt, nvrtc, .. } = &self.facts;
        let driver = driver.as_deref().unwrap_or("unknown");
        format!(
            "{name}, driver {driver} (CUDA {driver_cuda}), cuDNN {cudnn}, cuBLASLt {cublaslt}, \
             NVRTC {nvrtc}"
        )
    }

    fn capture<E: From<DeviceError>>(
        &mut self,
        give: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Graph, E> {
        Self::capture(self, give)
    }

    fn launch_graph(&mut self, graph: &Graph) -> Result<(), DeviceError> {
        self.bind()?;
        Self::launch_graph(self, graph)
    }

    fn moment(&mut self) -> Result<Event, DeviceError> {
        self.timed_event()
    }

    fn mark(&mut self, moment: &Event) -> Result<(), DeviceError> {
        moment.record_in_graph(&self.stream)
    }

    fn has_passed(&mut self, moment: &Event) -> Result<bool, DeviceError> {
        moment.has_passed()
    }

    fn seconds_between(&mut self, from: &Event, to: &Event) -> Result<f64, DeviceError> {
        from.seconds_until(to)
    }

    fn upload(&mut self, bytes: usize) -> Result<Upload, DeviceError> {
        Upload::new(self, bytes)
    }

    fn fill<'u>(&mut self, upload: &'u mut Upload) -> Result<&'u mut [u8], DeviceError> {
        upload.fill()
    }

    fn start(&mut self, upload: &mut Upload, to: Address, bytes: usize) -> Result<(), DeviceError> {
        upload.start(to, bytes)
    }

    fn hold(&mut self, upload: &mut Upload) -> Result<(), DeviceError> {
        Upload::hold(upload, self)
    }

    fn release(&mut self, upload: &mut Upload) -> Result<(), DeviceError> {
        Upload::release(upload, self)
    }
}

/// The CUDA version of the driver, as it counts: 13020 for 13.2.
fn driver_cuda_version() -> Result<u32, DeviceError> {
    let mut version = 0;
    // SAFETY: one number is written.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }
        .result()
        .map_err(called("cuDriverGetVersion"))?;
    Ok(version.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_the_sentence_says_so() {
        if libraries::open(Library::Cuda).is_ok() {
            println!("skipped: there is a driver");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let opened = Gpu::open(0, NumberFormat::F16, folder.path());
        assert_eq!(
            opened.unwrap_err().to_string(),
            "the NVIDIA driver was not found: libcuda.so.1 is in none of the dynamic linker's \
             folders: expected an NVIDIA GPU with its driver installed, or training on the CPU"
        );
    }
}
