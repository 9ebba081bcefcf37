//! A device whose kernels are emulated and whose convolutions and products are their definitions.
//!
//! Each piece of work takes a microsecond of the device's own clock. Copies beside the work happen as
//! late as they may, so that who does not wait for one sees it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foretrain_sim::recording::NumberFormat;

use super::super::arguments::Address;
use super::super::device::{Device, DeviceError};
use super::super::work::{Convolution, ConvolutionPass, Product, Work};
use super::{Emulator, Memory};

/// A GPU for tests.
#[derive(Debug)]
pub(crate) struct EmulatedDevice {
    emulator: Emulator,
    memory: Vec<Memory>,
    capacity: usize,
    /// What has been prepared.
    prepared: Vec<Work>,
    /// What has been done once, and so may be captured.
    done: HashSet<String>,
    /// What is being captured.
    capturing: Option<Vec<Captured>>,
    clock_us: u64,
    /// Graphs that were launched.
    pub(crate) launches: usize,
}

/// A part of captured work.
#[derive(Debug, Clone)]
enum Captured {
    Work(Work),
    Mark(EmulatedMoment),
}

/// Captured work.
#[derive(Debug)]
pub(crate) struct EmulatedGraph(Vec<Captured>);

/// A moment on the device's clock; 0 before it is marked.
#[derive(Debug, Clone)]
pub(crate) struct EmulatedMoment(Arc<AtomicU64>);

/// A place on the host, and the copy that has not been made yet.
#[derive(Debug)]
pub(crate) struct EmulatedUpload {
    bytes: Vec<u8>,
    copy: Option<(Address, usize)>,
    /// Whether the last copy may be overwritten.
    is_released: bool,
}

impl EmulatedDevice {
    /// A device for kernels of `format` with so much memory.
    pub(crate) fn new(format: NumberFormat, capacity: usize) -> Self {
        Self {
            emulator: Emulator::new(format),
            memory: Vec::new(),
            capacity,
            prepared: Vec::new(),
            done: HashSet::new(),
            capturing: None,
            clock_us: 0,
            launches: 0,
        }
    }

    fn refuse_while_capturing(&self) {
        assert!(self.capturing.is_none(), "this cannot be captured");
    }

    fn run(&mut self, work: &Work) {
        self.clock_us += 1;
        match work {
            Work::Launch(launch) => self.emulator.launch(launch),
            Work::Convolution(convolution) => self.convolve(convolution),
            Work::Product(product) => self.multiply(product),
            Work::Clear { at, bytes } => self.piece(*at).set(*at, &vec![0_u8; *bytes]),
            Work::Copy { from, to, bytes } => {
                let copied: Vec<u8> = self.piece(*from).get(*from, *bytes);
                self.piece(*to).set(*to, &copied);
            }
        }
    }

    /// Makes a copy that was started.
    fn complete(&mut self, upload: &mut EmulatedUpload) {
        if let Some((to, bytes)) = upload.copy.take() {
            self.piece(to).set(to, &upload.bytes[..bytes]);
        }
    }

    fn piece(&mut self, at: Address) -> &mut Memory {
        self.memory.iter_mut().find(|piece| piece.contains(at)).unwrap()
    }

    fn numbers(&mut self, format: NumberFormat, at: Address, count: usize) -> Vec<f32> {
        self.piece(at).get_elements(format, at, count)
    }

    /// Stores numbers, or adds them to what is there.
    fn store(&mut self, format: NumberFormat, at: Address, values: &[f64], accumulate: bool) {
        let there = if accumulate {
            self.numbers(format, at, values.len())
        } else {
            vec![0.0; values.len()]
        };
        let sum = |(value, there): (&f64, f32)| (value + f64::from(there)) as f32;
        let values: Vec<f32> = values.iter().zip(there).map(sum).collect();
        self.piece(at).set_elements(format, at, &values);
    }

    /// y(n, o, k) = Σ x(n, i, c) w(k, position, c), and its derivatives, term by term.
    fn convolve(&mut self, convolution: &Convolution) {
        let Convolution { window, images, format, .. } = *convolution;
        let inputs = images * window.input_elements();
        let outputs = images * window.output_elements();
        let filters = window.output_channels * window.depth();
        let mut read = |at, count, pass| {
            let is_result = convolution.pass == pass;
            if is_result { vec![0.0; count] } else { self.numbers(format, at, count) }
        };
        let x = read(convolution.input, inputs, ConvolutionPass::Data);
        let w = read(convolution.filters, filters, ConvolutionPass::Filters);
        let y = read(convolution.output, outputs, ConvolutionPass::Forward);
        let result = match convolution.pass {
            ConvolutionPass::Data => inputs,
            ConvolutionPass::Filters => filters,
            ConvolutionPass::Forward => outputs,
        };
        let mut sums = vec![0.0_f64; result];
        for_each_term(&window, images, |input, filter, output| {
            let (x, w, y) = (f64::from(x[input]), f64::from(w[filter]), f64::from(y[output]));
            match convolution.pass {
                ConvolutionPass::Data => sums[input] += w * y,
                ConvolutionPass::Filters => sums[filter] += x * y,
                ConvolutionPass::Forward => sums[output] += x * w,
            }
        });
        let at = match convolution.pass {
            ConvolutionPass::Data => convolution.input,
            ConvolutionPass::Filters => convolution.filters,
            ConvolutionPass::Forward => convolution.output,
        };
        self.store(format, at, &sums, convolution.accumulate);
    }

    fn multiply(&mut self, product: &Product) {
        let &Product { rows, columns, depth, format, .. } = product;
        let left = self.numbers(format, product.left, rows * depth);
        let right = self.numbers(format, product.right, depth * columns);
        let mut sums = vec![0.0_f64; rows * columns];
        for row in 0..rows {
            for column in 0..columns {
                for term in 0..depth {
                    let of_left = if product.left_transposed {
                        term * rows + row
                    } else {
                        row * depth + term
                    };
                    let of_right = if product.right_transposed {
                        column * depth + term
                    } else {
                        term * columns + column
                    };
                    sums[row * columns + column] +=
                        f64::from(left[of_left]) * f64::from(right[of_right]);
                }
            }
        }
        self.store(format, product.out, &sums, product.accumulate);
    }
}

/// Calls `visit` with the elements of input, filters and output of every product of a convolution.
fn for_each_term(
    window: &crate::plan::Window,
    images: usize,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let (group_inputs, group_outputs) = (window.group_inputs(), window.group_outputs());
    for image in 0..images {
        for pixel in 0..window.output_pixels() {
            let (row, column) = (pixel / window.output_width, pixel % window.output_width);
            for position in 0..window.kernel * window.kernel {
                let (down, right) = (position / window.kernel, position % window.kernel);
                let (Some(input_row), Some(input_column)) = (
                    window.source(row, down, window.input_height),
                    window.source(column, right, window.input_width),
                ) else {
                    continue;
                };
                let input_pixel =
                    (image * window.input_height + input_row) * window.input_width + input_column;
                for channel in 0..window.output_channels {
                    let group = channel / group_outputs;
                    for of_group in 0..group_inputs {
                        let input =
                            input_pixel * window.input_channels + group * group_inputs + of_group;
                        let filter = (channel * window.kernel * window.kernel + position)
                            * group_inputs
                            + of_group;
                        let output = (image * window.output_pixels() + pixel)
                            * window.output_channels
                            + channel;
                        visit(input, filter, output);
                    }
                }
            }
        }
    }
}

impl Device for EmulatedDevice {
    type Graph = EmulatedGraph;
    type Moment = EmulatedMoment;
    type Upload = EmulatedUpload;

    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        self.refuse_while_capturing();
        if bytes > self.capacity {
            let (wanted_bytes, free_bytes) = (bytes as u64, self.capacity as u64);
            return Err(DeviceError::OutOfMemory { wanted_bytes, free_bytes });
        }
        self.capacity -= bytes;
        let mut memory = Memory::new(bytes);
        let at = memory.take(bytes);
        self.memory.push(memory);
        Ok(at)
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        self.refuse_while_capturing();
        self.piece(to).set(to, bytes);
        Ok(())
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.refuse_while_capturing();
        let found = self.piece(from).get(from, bytes.len());
        bytes.copy_from_slice(&found);
        Ok(())
    }

    fn prepare(&mut self, work: &[Work]) -> Result<(), DeviceError> {
        self.refuse_while_capturing();
        self.prepared.extend_from_slice(work);
        Ok(())
    }

    fn enqueue(&mut self, work: &Work) -> Result<(), DeviceError> {
        if matches!(work, Work::Convolution(_) | Work::Product(_)) {
            assert!(self.prepared.contains(work), "not prepared: {work:?}");
        }
        let text = format!("{work:?}");
        if let Some(captured) = &mut self.capturing {
            assert!(self.done.contains(&text), "captured before it was done once: {text}");
            captured.push(Captured::Work(work.clone()));
            return Ok(());
        }
        self.done.insert(text);
        self.run(work);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        self.refuse_while_capturing();
        Ok(())
    }

    fn description(&self) -> String {
        "an emulated GPU".to_owned()
    }

    fn capture<E: From<DeviceError>>(
        &mut self,
        give: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<EmulatedGraph, E> {
        self.refuse_while_capturing();
        self.capturing = Some(Vec::new());
        let given = give(self);
        let captured = self.capturing.take().unwrap_or_default();
        given.map(|()| EmulatedGraph(captured))
    }

    fn launch_graph(&mut self, graph: &EmulatedGraph) -> Result<(), DeviceError> {
        self.refuse_while_capturing();
        self.launches += 1;
        for part in &graph.0 {
            match part {
                Captured::Work(work) => self.run(work),
                Captured::Mark(moment) => moment.0.store(self.clock_us + 1, Ordering::Relaxed),
            }
        }
        Ok(())
    }

    fn moment(&mut self) -> Result<EmulatedMoment, DeviceError> {
        self.refuse_while_capturing();
        Ok(EmulatedMoment(Arc::default()))
    }

    fn mark(&mut self, moment: &EmulatedMoment) -> Result<(), DeviceError> {
        match &mut self.capturing {
            Some(captured) => captured.push(Captured::Mark(moment.clone())),
            None => moment.0.store(self.clock_us + 1, Ordering::Relaxed),
        }
        Ok(())
    }

    fn has_passed(&mut self, moment: &EmulatedMoment) -> Result<bool, DeviceError> {
        assert_ne!(moment.0.load(Ordering::Relaxed), 0, "never marked");
        Ok(true)
    }

    fn seconds_between(
        &mut self,
        from: &EmulatedMoment,
        to: &EmulatedMoment,
    ) -> Result<f64, DeviceError> {
        let [from, to] = [from, to].map(|moment| moment.0.load(Ordering::Relaxed));
        assert!(from > 0 && to >= from, "{from}, {to}");
        Ok((to - from) as f64 / 1e6)
    }

    fn upload(&mut self, bytes: usize) -> Result<EmulatedUpload, DeviceError> {
        self.refuse_while_capturing();
        Ok(EmulatedUpload { bytes: vec![0; bytes], copy: None, is_released: true })
    }

    fn fill<'u>(&mut self, upload: &'u mut EmulatedUpload) -> Result<&'u mut [u8], DeviceError> {
        self.complete(upload);
        Ok(&mut upload.bytes)
    }

    fn start(
        &mut self,
        upload: &mut EmulatedUpload,
        to: Address,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        assert!(upload.is_released, "the last copy would be overwritten");
        upload.is_released = false;
        upload.copy = Some((to, bytes));
        Ok(())
    }

    fn hold(&mut self, upload: &mut EmulatedUpload) -> Result<(), DeviceError> {
        self.refuse_while_capturing();
        self.complete(upload);
        Ok(())
    }

    fn release(&mut self, upload: &mut EmulatedUpload) -> Result<(), DeviceError> {
        self.refuse_while_capturing();
        upload.is_released = true;
        Ok(())
    }
}
