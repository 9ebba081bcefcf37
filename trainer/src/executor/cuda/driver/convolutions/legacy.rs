//! cuDNN's older functions, for convolutions that no engine takes.

#![expect(unsafe_code, reason = "cuDNN is called through pointers")]

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use cudarc::cudnn::sys::{cudnnDeterminism_t, cudnnMathType_t, cudnnTensorFormat_t};
use foretrain_sim::recording::NumberFormat;

use super::super::super::device::DeviceError;
use super::super::super::work::{Convolution, ConvolutionPass};
use super::attempts::{Attempts, Stage};
use super::functions::{Cudnn, Legacy, Opaque, Performance};
use super::graph::{CROSS_CORRELATION, SINGLE, Tensor, data_type, tensors};

/// A descriptor with the function that destroys it.
struct Owned {
    raw: Opaque,
    destroy: unsafe extern "C" fn(Opaque) -> c_int,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
        let _ = unsafe { (self.destroy)(self.raw) };
    }
}

/// A convolution by an older function.
pub(super) struct LegacyConvolution {
    cudnn: &'static Cudnn,
    functions: &'static Legacy,
    pass: ConvolutionPass,
    accumulate: bool,
    /// Input, filters, output.
    tensors: [Owned; 3],
    geometry: Owned,
    pub(super) algorithm: c_int,
    pub(super) math_type: c_int,
    pub(super) workspace_bytes: usize,
}

/// More algorithms than there are.
const MOST_ALGORITHMS: usize = 16;

impl LegacyConvolution {
    /// Describes a convolution, without an algorithm yet. It needs no GPU.
    pub(super) fn new(
        cudnn: &'static Cudnn,
        convolution: &Convolution,
    ) -> Result<Self, DeviceError> {
        let functions = cudnn.legacy.as_ref().ok_or_else(|| DeviceError::Call {
            call: "looking up cuDNN's older functions".to_owned(),
            problem: "this cuDNN has none".to_owned(),
        })?;
        let f = functions;
        let [input, filters, output] = tensors(convolution);
        let format = data_type(convolution.format);
        let together = cudnnTensorFormat_t::CUDNN_TENSOR_NHWC as c_int;
        let tensor = |tensor: Tensor| {
            let owned = created(cudnn, f.create_tensor, f.destroy_tensor)?;
            let [n, c, h, w] = in_c(tensor.sizes)?;
            // SAFETY: the descriptor is alive.
            let status = unsafe { (f.set_tensor)(owned.raw, together, format, n, c, h, w) };
            cudnn.check("cudnnSetTensor4dDescriptor", status)?;
            Ok(owned)
        };
        let (input, output) = (tensor(input)?, tensor(output)?);
        let owned = created(cudnn, f.create_filter, f.destroy_filter)?;
        let [k, c, r, s] = in_c(filters.sizes)?;
        // SAFETY: the descriptor is alive.
        let status = unsafe { (f.set_filter)(owned.raw, format, together, k, c, r, s) };
        cudnn.check("cudnnSetFilter4dDescriptor", status)?;

        let geometry = created(cudnn, f.create_convolution, f.destroy_convolution)?;
        let window = &convolution.window;
        let [padding, stride, groups] = in_c([window.padding, window.stride, window.groups])?;
        let (g, mode) = (geometry.raw, CROSS_CORRELATION);
        // SAFETY: the descriptor is alive.
        unsafe {
            let set = f.set_convolution;
            let status = set(g, padding, padding, stride, stride, 1, 1, mode, SINGLE);
            cudnn.check("cudnnSetConvolution2dDescriptor", status)?;
            let status = (f.set_groups)(g, groups);
            cudnn.check("cudnnSetConvolutionGroupCount", status)?;
        }
        let mut described = Self {
            cudnn,
            functions,
            pass: convolution.pass,
            accumulate: convolution.accumulate,
            tensors: [input, owned, output],
            geometry,
            algorithm: 0,
            math_type: 0,
            workspace_bytes: 0,
        };
        described.set_math_type(math_type(convolution.format))?;
        Ok(described)
    }

    /// The same with this algorithm, which was chosen before.
    pub(super) fn with(
        mut self,
        algorithm: c_int,
        math_type: c_int,
        workspace_bytes: usize,
    ) -> Result<Self, DeviceError> {
        self.set_math_type(math_type)?;
        Ok(Self { algorithm, workspace_bytes, ..self })
    }

    /// The same with the algorithm that cuDNN expects to be the fastest among those that are
    /// acceptable, if there is one. Why others dropped out is added to `attempts`.
    pub(super) fn with_best(
        self,
        handle: Opaque,
        format: NumberFormat,
        most_workspace_bytes: usize,
        attempts: &mut Attempts,
    ) -> Result<Option<Self>, DeviceError> {
        let mut performances = [Performance::default(); MOST_ALGORITHMS];
        let mut count = 0;
        let (name, list) = match self.pass {
            ConvolutionPass::Forward => {
                ("cudnnGetConvolutionForwardAlgorithm_v7", self.functions.forward_algorithms)
            }
            ConvolutionPass::Data => {
                ("cudnnGetConvolutionBackwardDataAlgorithm_v7", self.functions.data_algorithms)
            }
            ConvolutionPass::Filters => {
                ("cudnnGetConvolutionBackwardFilterAlgorithm_v7", self.functions.filter_algorithms)
            }
        };
        let [first, second, third] = self.order().map(|i| self.tensors[i].raw);
        // SAFETY: handle and descriptors are alive; no more is written than there is room for.
        let status = unsafe {
            list(
                handle,
                first,
                second,
                self.geometry.raw,
                third,
                MOST_ALGORITHMS as c_int,
                &raw mut count,
                performances.as_mut_ptr(),
            )
        };
        self.cudnn.check(name, status)?;
        let count = usize::try_from(count).unwrap_or(0).min(MOST_ALGORITHMS);
        attempts.proposed(count);
        for performance in &performances[..count] {
            let &Performance { algorithm, math_type, workspace_bytes, status, .. } = performance;
            if status != 0 {
                attempts.dropped(Stage::Planning);
            } else if !acceptable(performance, format) {
                attempts.dropped(Stage::Noting);
            } else if workspace_bytes > most_workspace_bytes {
                attempts.dropped(Stage::Workspace);
            } else {
                return self.with(algorithm, math_type, workspace_bytes).map(Some);
            }
        }
        Ok(None)
    }

    fn set_math_type(&mut self, math_type: c_int) -> Result<(), DeviceError> {
        // SAFETY: the descriptor is alive.
        let status = unsafe { (self.functions.set_math_type)(self.geometry.raw, math_type) };
        self.cudnn.check("cudnnSetConvolutionMathType", status)?;
        self.math_type = math_type;
        Ok(())
    }

    /// The order in which the functions take input (0), filters (1) and output (2): what is read,
    /// then what is written.
    const fn order(&self) -> [usize; 3] {
        match self.pass {
            ConvolutionPass::Forward => [0, 1, 2],
            ConvolutionPass::Data => [1, 2, 0],
            ConvolutionPass::Filters => [0, 2, 1],
        }
    }

    /// Gives the convolution of input, filters and output at these addresses to the handle's stream.
    pub(super) fn run(
        &self,
        handle: Opaque,
        addresses: [u64; 3],
        workspace: u64,
    ) -> Result<(), DeviceError> {
        let (name, function) = match self.pass {
            ConvolutionPass::Forward => ("cudnnConvolutionForward", self.functions.forward),
            ConvolutionPass::Data => ("cudnnConvolutionBackwardData", self.functions.backward_data),
            ConvolutionPass::Filters => {
                ("cudnnConvolutionBackwardFilter", self.functions.backward_filter)
            }
        };
        let [first, second, third] =
            self.order().map(|i| (self.tensors[i].raw, addresses[i] as *mut c_void));
        let (alpha, beta) = (1.0_f32, if self.accumulate { 1.0_f32 } else { 0.0 });
        // SAFETY: handle and descriptors are alive; factors are numbers of the host; the caller
        // gives tensors of these sizes, and workspace of this size, in memory of the handle's GPU.
        let status = unsafe {
            function(
                handle,
                &raw const alpha,
                first.0,
                first.1,
                second.0,
                second.1,
                self.geometry.raw,
                self.algorithm,
                workspace as *mut c_void,
                self.workspace_bytes,
                &raw const beta,
                third.0,
                third.1,
            )
        };
        self.cudnn.check(name, status)
    }
}

/// The arithmetic that an algorithm may use: tensor cores multiply numbers of half precision, and no
/// others.
const fn math_type(format: NumberFormat) -> c_int {
    (match format {
        NumberFormat::F32 => cudnnMathType_t::CUDNN_FMA_MATH,
        NumberFormat::F16 | NumberFormat::Bf16 => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }) as c_int
}

/// Whether an algorithm can be used, repeats bit for bit, and does not round what it multiplies.
fn acceptable(performance: &Performance, format: NumberFormat) -> bool {
    let math_type_is_fine = match format {
        // The default multiplies as TensorFloat-32.
        NumberFormat::F32 => performance.math_type == math_type(format),
        NumberFormat::F16 | NumberFormat::Bf16 => true,
    };
    performance.status == 0
        && performance.deterministic == cudnnDeterminism_t::CUDNN_DETERMINISTIC as c_int
        && math_type_is_fine
}

fn created(
    cudnn: &Cudnn,
    create: unsafe extern "C" fn(*mut Opaque) -> c_int,
    destroy: unsafe extern "C" fn(Opaque) -> c_int,
) -> Result<Owned, DeviceError> {
    let mut raw = null_mut();
    // SAFETY: one pointer is written.
    cudnn.check("creating a descriptor", unsafe { create(&raw mut raw) })?;
    Ok(Owned { raw, destroy })
}

fn in_c<const N: usize>(sizes: [usize; N]) -> Result<[c_int; N], DeviceError> {
    let mut out = [0; N];
    for (out, size) in out.iter_mut().zip(sizes) {
        *out = c_int::try_from(size).map_err(|error| DeviceError::Call {
            call: format!("telling cuDNN the size {size}"),
            problem: error.to_string(),
        })?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_that_do_not_repeat_or_round_are_refused() {
        let good = Performance { deterministic: 1, math_type: 3, ..Performance::default() };
        assert!(acceptable(&good, NumberFormat::F32));
        assert!(acceptable(&Performance { math_type: 1, ..good }, NumberFormat::F16));
        for math_type in 0..3 {
            assert!(!acceptable(&Performance { math_type, ..good }, NumberFormat::F32));
        }
        for format in [NumberFormat::F16, NumberFormat::Bf16, NumberFormat::F32] {
            assert!(!acceptable(&Performance { deterministic: 0, ..good }, format));
            assert!(!acceptable(&Performance { status: 3000, ..good }, format));
        }
    }

    #[test]
    fn performances_lie_as_in_cudnns_header() {
        use std::mem::offset_of;

        use cudarc::cudnn::sys::cudnnConvolutionFwdAlgoPerf_t as Header;
        assert_eq!(size_of::<Performance>(), size_of::<Header>());
        assert_eq!(offset_of!(Performance, status), offset_of!(Header, status));
        assert_eq!(offset_of!(Performance, milliseconds), offset_of!(Header, time));
        assert_eq!(offset_of!(Performance, workspace_bytes), offset_of!(Header, memory));
        assert_eq!(offset_of!(Performance, deterministic), offset_of!(Header, determinism));
        assert_eq!(offset_of!(Performance, math_type), offset_of!(Header, mathType));
    }

    #[test]
    fn sizes_beyond_what_cudnn_counts_are_refused() {
        assert_eq!(in_c([0, 7]).unwrap(), [0, 7]);
        assert!(in_c([1 << 31]).is_err());
    }
}
