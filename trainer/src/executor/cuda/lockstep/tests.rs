//! Lockstep with a device that is emulated, and with one that does something wrong.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::LazyLock;

use foretrain_sim::workload::{Architecture, Shape, Size};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::super::arguments::Address;
use super::super::device::DeviceError;
use super::super::emulator::FORMATS;
use super::super::emulator::device::{EmulatedDevice, EmulatedMoment, EmulatedUpload};
use super::super::work::{ConvolutionPass, Work};
use super::steps::Training;
use super::*;
use crate::executor::ExecutorSettings;

const MEMORY_BYTES: usize = 1 << 31;
const SEED: u64 = 7;

static THREADS: LazyLock<Arc<ThreadPool>> =
    LazyLock::new(|| Arc::new(ThreadPoolBuilder::new().num_threads(2).build().unwrap()));

const SMALL: Case = Case {
    architecture: Architecture::SmallResnet { blocks_per_stage: 1 },
    size: Size { image: Shape::new(3, 9, 9), classes: 5 },
    images: 6,
    batch_norm_span: None,
};

/// What is run often.
const TINY: Case =
    Case { size: Size { image: Shape::new(3, 5, 5), classes: 5 }, images: 3, ..SMALL };

/// Groups of channels, overlapping max pools, biases, dropout.
fn alexnet() -> Case {
    let architecture = Architecture::AlexnetBn { after_pool5: true };
    let side = architecture.side_min();
    let size = Size { image: Shape::new(3, side, side), classes: 10 };
    Case { architecture, size, images: 2, batch_norm_span: None }
}

fn emulated(case: &Case, format: NumberFormat) -> Lockstep {
    let device = EmulatedDevice::new(format, MEMORY_BYTES);
    case.lockstep(device, format, SEED, &THREADS).unwrap()
}

/// The emulator rounds only what a GPU must round, so it stays far from the limits.
fn assert_passes(case: &Case) {
    for format in FORMATS {
        let found = emulated(case, format);
        let worst = found.worst().unwrap();
        assert!(found.passed() && worst.strain() < 0.5, "{format:?}: {worst}");
    }
}

#[test]
fn a_small_resnet_is_that_of_the_cpu() {
    assert_passes(&SMALL);
    assert_passes(&Case { batch_norm_span: NonZeroUsize::new(2), ..SMALL });
}

#[test]
fn an_alexnet_is_that_of_the_cpu() {
    assert_passes(&alexnet());
}

/// Forward, backward and evaluation of each instruction, all its parameters, and for batch norms all
/// that they keep.
#[test]
fn everything_is_compared() {
    let found = emulated(&SMALL, NumberFormat::F32);
    let plan = SMALL.plan().unwrap().0;
    let of = |instruction: usize, direction| {
        let comparisons = found.comparisons.iter();
        let here = comparisons
            .filter(|found| found.instruction == instruction && found.direction == direction);
        here.map(|found| found.tensor.clone()).collect::<Vec<_>>()
    };
    for (index, instruction) in plan.instructions().iter().enumerate() {
        let kind = &instruction.kind;
        let statistics = ["mean of group 0", "1 / √(v + ε) of group 0"];
        let running = ["running mean", "running variance"];
        let mut forward = match kind {
            Kind::BatchNorm { .. } => [&["output"][..], &statistics, &running].concat(),
            Kind::Loss { .. } => vec!["loss", "hits"],
            _ => vec!["output"],
        };
        if index == 0 {
            forward.insert(0, "images");
        }
        assert_eq!(of(index, Direction::Forward), forward, "{}", instruction.name);
        forward.retain(|tensor| !statistics.contains(tensor) && !running.contains(tensor));
        assert_eq!(of(index, Direction::Evaluation), forward, "{}", instruction.name);
        let inputs = kind.operands().zip(["gradient of input", "gradient of residual"]);
        let inputs = inputs.filter(|(operand, _)| operand.gradient.is_some());
        let mut backward: Vec<String> = inputs.map(|(_, name)| name.to_owned()).collect();
        let parameter = |id: ParameterId| &plan.parameters()[id.get()].name;
        backward.extend(kind.parameters().map(|id| format!("gradient of {}", parameter(id))));
        assert_eq!(of(index, Direction::Backward), backward, "{}", instruction.name);
    }
}

/// What a device does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It does nothing when it should run this kernel.
    Skips(&'static str),
    /// Results of convolutions are 5 % too large.
    Enlarges(ConvolutionPass),
    /// One element of the results of products is far away.
    MissesOne,
}

/// An emulated device in single precision that has one fault, if any.
#[derive(Debug)]
struct Faulty {
    inner: EmulatedDevice,
    fault: Option<Fault>,
    /// All kernels that it was to run.
    kernels: Arc<std::sync::Mutex<BTreeSet<&'static str>>>,
    /// What is being captured; its fault is that of each launch.
    capturing: Option<Vec<Work>>,
}

impl Faulty {
    fn new(fault: Option<Fault>) -> Self {
        let inner = EmulatedDevice::new(NumberFormat::F32, MEMORY_BYTES);
        Self { inner, fault, kernels: Arc::default(), capturing: None }
    }

    /// Changes numbers that were computed.
    fn change(&mut self, at: Address, elements: usize, change: impl FnOnce(&mut [f32])) {
        let mut bytes = vec![0; elements * 4];
        self.inner.read(at, &mut bytes).unwrap();
        let numbers = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let mut numbers: Vec<f32> = numbers.collect();
        change(&mut numbers);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.inner.write(at, &bytes).unwrap();
    }
}

impl Device for Faulty {
    type Graph = Vec<Work>;
    type Moment = EmulatedMoment;
    type Upload = EmulatedUpload;

    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        self.inner.allocate(bytes)
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        self.inner.write(to, bytes)
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.read(from, bytes)
    }

    fn prepare(&mut self, work: &[Work]) -> Result<(), DeviceError> {
        self.inner.prepare(work)
    }

    fn enqueue(&mut self, work: &Work) -> Result<(), DeviceError> {
        if let Some(captured) = &mut self.capturing {
            captured.push(work.clone());
            return Ok(());
        }
        if let Work::Launch(launch) = work {
            self.kernels.lock().unwrap().insert(launch.kernel);
            if self.fault == Some(Fault::Skips(launch.kernel)) {
                return Ok(());
            }
        }
        self.inner.enqueue(work)?;
        match (work, self.fault) {
            (Work::Convolution(convolution), Some(Fault::Enlarges(pass)))
                if convolution.pass == pass =>
            {
                let (window, images) = (&convolution.window, convolution.images);
                let (at, elements) = match pass {
                    ConvolutionPass::Forward => {
                        (convolution.output, images * window.output_elements())
                    }
                    ConvolutionPass::Data => (convolution.input, images * window.input_elements()),
                    ConvolutionPass::Filters => {
                        (convolution.filters, window.output_channels * window.depth())
                    }
                };
                self.change(at, elements, |all| all.iter_mut().for_each(|each| *each *= 1.05));
            }
            (Work::Product(product), Some(Fault::MissesOne)) => {
                let elements = product.rows * product.columns;
                self.change(product.out, elements, |all| {
                    let square_sum = all.iter().map(|each| each * each).sum::<f32>();
                    all[elements - 1] += 0.1 * (square_sum / elements as f32).sqrt();
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        self.inner.finish()
    }

    fn description(&self) -> String {
        self.inner.description()
    }

    fn capture<E: From<DeviceError>>(
        &mut self,
        give: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Vec<Work>, E> {
        self.capturing = Some(Vec::new());
        let given = give(self);
        let captured = self.capturing.take().unwrap_or_default();
        given.map(|()| captured)
    }

    fn launch_graph(&mut self, graph: &Vec<Work>) -> Result<(), DeviceError> {
        graph.iter().try_for_each(|work| self.enqueue(work))
    }

    fn moment(&mut self) -> Result<EmulatedMoment, DeviceError> {
        self.inner.moment()
    }

    fn mark(&mut self, moment: &EmulatedMoment) -> Result<(), DeviceError> {
        self.inner.mark(moment)
    }

    fn has_passed(&mut self, moment: &EmulatedMoment) -> Result<bool, DeviceError> {
        self.inner.has_passed(moment)
    }

    fn seconds_between(
        &mut self,
        from: &EmulatedMoment,
        to: &EmulatedMoment,
    ) -> Result<f64, DeviceError> {
        self.inner.seconds_between(from, to)
    }

    fn upload(&mut self, bytes: usize) -> Result<EmulatedUpload, DeviceError> {
        self.inner.upload(bytes)
    }

    fn fill<'u>(&mut self, upload: &'u mut EmulatedUpload) -> Result<&'u mut [u8], DeviceError> {
        self.inner.fill(upload)
    }

    fn start(
        &mut self,
        upload: &mut EmulatedUpload,
        to: Address,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        self.inner.start(upload, to, bytes)
    }

    fn hold(&mut self, upload: &mut EmulatedUpload) -> Result<(), DeviceError> {
        self.inner.hold(upload)
    }

    fn release(&mut self, upload: &mut EmulatedUpload) -> Result<(), DeviceError> {
        self.inner.release(upload)
    }
}

fn with_fault(fault: Option<Fault>) -> Lockstep {
    TINY.lockstep(Faulty::new(fault), NumberFormat::F32, SEED, &THREADS).unwrap()
}

/// Each kernel that a network needs is missed if it is not run.
#[test]
fn a_kernel_that_does_nothing_is_noticed() {
    let device = Faulty::new(None);
    let kernels = Arc::clone(&device.kernels);
    assert!(TINY.lockstep(device, NumberFormat::F32, SEED, &THREADS).unwrap().passed());
    let kernels = kernels.lock().unwrap().clone();
    assert!(kernels.len() > 15, "{kernels:?}");
    for kernel in kernels {
        assert!(!with_fault(Some(Fault::Skips(kernel))).passed(), "{kernel}");
    }
}

/// What is wrong is named, and nothing else: errors do not add up.
#[test]
fn what_is_computed_wrongly_is_named_and_nothing_else() {
    for (pass, direction) in [
        (ConvolutionPass::Forward, Direction::Forward),
        (ConvolutionPass::Data, Direction::Backward),
        (ConvolutionPass::Filters, Direction::Backward),
    ] {
        let found = with_fault(Some(Fault::Enlarges(pass)));
        let convolutions =
            found.comparisons.iter().filter(|c| c.operation == "convolution").collect::<Vec<_>>();
        let is_missed = |comparison: &&&Comparison| !comparison.is_within_limit();
        let missed: Vec<_> = convolutions.iter().filter(is_missed).collect();
        assert_eq!(missed.len(), found.missed().count(), "{pass:?}");
        assert!(missed.iter().any(|comparison| comparison.direction == direction), "{pass:?}");
        let expected = match pass {
            ConvolutionPass::Forward => "output",
            ConvolutionPass::Data => "gradient of input",
            ConvolutionPass::Filters => "weight",
        };
        let is_expected = |comparison: &&&&Comparison| comparison.tensor.ends_with(expected);
        assert_eq!(missed.iter().filter(is_expected).count(), missed.len(), "{pass:?}");
        assert_eq!(
            convolutions.iter().filter(|c| c.tensor.ends_with(expected)).count(),
            missed.len()
        );
    }
}

#[test]
fn a_single_element_of_a_product_is_noticed() {
    let found = with_fault(Some(Fault::MissesOne));
    let missed: Vec<_> = found.missed().collect();
    assert!(!missed.is_empty() && missed.iter().all(|comparison| comparison.operation == "linear"));
}

#[test]
fn another_label_smoothing_on_one_side_is_noticed_at_the_loss() {
    let (plan, buckets) = TINY.plan().unwrap();
    let settings = TINY.settings().unwrap();
    let other = ExecutorSettings { label_smoothing: 0.0, ..settings };
    let format = NumberFormat::F16;
    let mut cpu =
        CpuExecutor::new(Arc::clone(&plan), Arc::clone(&buckets), settings, Arc::clone(&THREADS))
            .unwrap();
    let device = EmulatedDevice::new(format, MEMORY_BYTES);
    let mut device = DeviceExecutor::new(device, plan, buckets, other, format).unwrap();
    let found = lockstep(&TINY, (&mut cpu, &mut device), SEED).unwrap();
    let missed: Vec<_> = found.missed().map(|c| (c.operation, c.tensor.as_str())).collect();
    assert_eq!(missed, [("loss", "loss"), ("loss", "gradient of input")]);
}

#[test]
fn another_seed_gives_other_numbers() {
    let format = NumberFormat::F32;
    let loss = |seed| {
        let device = EmulatedDevice::new(format, MEMORY_BYTES);
        TINY.lockstep(device, format, seed, &THREADS).unwrap()
    };
    assert_eq!(loss(SEED), loss(SEED));
    assert_ne!(loss(SEED).comparisons, loss(SEED + 1).comparisons);
    let plan = SMALL.plan().unwrap().0;
    assert_ne!(SMALL.weights(&plan, 1), SMALL.weights(&plan, 2));
}

#[test]
fn buffers_and_gradients_are_read_as_they_were_written() {
    let small = FORMATS.map(|format| (SMALL, format));
    for (case, format) in small.into_iter().chain([(alexnet(), NumberFormat::F16)]) {
        let (plan, buckets) = case.plan().unwrap();
        let device = EmulatedDevice::new(format, MEMORY_BYTES);
        let settings = case.settings().unwrap();
        let mut device =
            DeviceExecutor::new(device, Arc::clone(&plan), buckets, settings, format).unwrap();
        let numbers =
            |elements: usize| (0..elements).map(|at| (at % 251) as f32).collect::<Vec<_>>();
        let second = output(&plan.instructions()[0].kind).unwrap().buffer;
        for buffer in [plan.images(), second] {
            let values = numbers(plan.buffers()[buffer.get()].elements * case.images);
            device.write_buffer(buffer, &values).unwrap();
            assert_eq!(device.read_buffer(buffer).unwrap(), values);
            let error = device.write_buffer(buffer, &values[1..]).unwrap_err();
            assert!(matches!(error, ExecutorError::Size { .. }), "{error}");
        }
        // Filters in groups have another order on the device.
        for id in plan.parameter_ids().take(8) {
            let values = numbers(plan.parameters()[id.get()].elements());
            device.write_gradient(id, &values).unwrap();
            assert_eq!(device.read_gradient(id).unwrap(), values);
            let error = device.write_gradient(id, &values[1..]).unwrap_err();
            assert!(matches!(error, ExecutorError::Size { .. }), "{error}");
        }
    }
}

#[test]
fn what_is_run_on_a_gpu_can_be_planned() {
    for (name, case) in cases(224, 8).into_iter().chain(steps_cases()) {
        let (plan, _) = case.plan().unwrap();
        assert!(!plan.instructions().is_empty(), "{name}");
        let span = case.batch_norm_span.map_or(1, NonZeroUsize::get);
        assert!(case.settings().is_ok() && case.images.is_multiple_of(span), "{name}");
    }
    assert!(Case { images: 0, ..SMALL }.settings().is_err());
}

fn steps(format: NumberFormat) -> Training {
    Training { case: SMALL, steps: 10, format, seed: SEED }
}

#[test]
fn ten_steps_are_those_of_the_cpu() {
    for format in FORMATS {
        let device = EmulatedDevice::new(format, MEMORY_BYTES);
        let found = steps(format).compare(device, &THREADS).unwrap();
        assert!(found.passed(), "{format:?}: {found:?}");
        assert_eq!(found.steps.len(), 10);
        let losses = found.steps.iter().map(|step| step.device).collect::<Vec<_>>();
        assert!(losses[9] < losses[0], "{losses:?}");
    }
}

#[test]
fn steps_that_do_not_learn_are_noticed() {
    for kernel in ["optimizer_update", "optimizer_norms"] {
        let device = Faulty::new(Some(Fault::Skips(kernel)));
        let found = steps(NumberFormat::F32).compare(device, &THREADS).unwrap();
        assert!(!found.passed(), "{kernel}: {found:?}");
    }
}
