//! A convolution as a graph of one operation.

use std::ffi::c_int;

use cudarc::cudnn::sys::{
    cudnnBackendAttributeType_t as Type, cudnnConvolutionMode_t, cudnnDataType_t,
};
use foretrain_sim::recording::NumberFormat;

use super::super::super::arguments::Address;
use super::super::super::device::DeviceError;
use super::super::super::work::{Convolution, ConvolutionPass};
use super::descriptor::{Attribute as A, Descriptor, Kind, Unfinished};
use super::engine::Target;
use super::functions::Cudnn;

/// What engines look at of an address: 16 bytes are what one thread reads at once.
const MOST_ALIGNMENT: u64 = 16;

/// The numbers by which graphs name input, filters and output.
pub(super) const NAMES: [i64; 3] = [1, 2, 3];

/// How a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tensor {
    /// Images or outputs, channels, rows, columns.
    pub(super) sizes: [usize; 4],
    /// What its address is a multiple of, in bytes.
    pub(super) alignment: u64,
}

impl Tensor {
    fn new(sizes: [usize; 4], address: Address) -> Self {
        let alignment = 1 << (address.0 | MOST_ALIGNMENT).trailing_zeros();
        Self { sizes, alignment }
    }

    /// Whether a thread can read as much of it at once as engines like.
    pub(super) const fn is_aligned(&self) -> bool {
        self.alignment == MOST_ALIGNMENT
    }

    /// Elements from one image, channel, row and column to the next: channels are together.
    pub(super) const fn strides(&self) -> [usize; 4] {
        let [_, channels, rows, columns] = self.sizes;
        [channels * rows * columns, 1, channels * columns, channels]
    }
}

/// Input, filters and output of a convolution.
pub(super) fn tensors(convolution: &Convolution) -> [Tensor; 3] {
    let (w, images) = (&convolution.window, convolution.images);
    // cuDNN takes the number of groups from how many times the filters' channels fit.
    let channels_of_group = w.input_channels / w.groups;
    [
        Tensor::new([images, w.input_channels, w.input_height, w.input_width], convolution.input),
        Tensor::new(
            [w.output_channels, channels_of_group, w.kernel, w.kernel],
            convolution.filters,
        ),
        Tensor::new(
            [images, w.output_channels, w.output_height, w.output_width],
            convolution.output,
        ),
    ]
}

/// cuDNN's number for a format.
pub(super) const fn data_type(format: NumberFormat) -> c_int {
    (match format {
        NumberFormat::F16 => cudnnDataType_t::CUDNN_DATA_HALF,
        NumberFormat::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        NumberFormat::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
    }) as c_int
}

/// cuDNN's number for single precision, in which sums are.
pub(super) const SINGLE: c_int = data_type(NumberFormat::F32);

/// cuDNN's number for a convolution as networks have it, whose filters are not mirrored.
pub(super) const CROSS_CORRELATION: c_int =
    cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION as c_int;

/// The operation, which needs no GPU.
pub(super) fn operation(
    cudnn: &'static Cudnn,
    convolution: &Convolution,
) -> Result<Descriptor, DeviceError> {
    let format = data_type(convolution.format);
    let describe = |name: i64, tensor: Tensor| {
        Unfinished::new(cudnn, Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .choice(A::CUDNN_ATTR_TENSOR_DATA_TYPE, Type::CUDNN_TYPE_DATA_TYPE, format)?
            .integers(A::CUDNN_ATTR_TENSOR_DIMENSIONS, &tensor.sizes.map(|size| size as i64))?
            .integers(A::CUDNN_ATTR_TENSOR_STRIDES, &tensor.strides().map(|stride| stride as i64))?
            .integers(A::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[name])?
            .integers(A::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[tensor.alignment as i64])?
            .boolean(A::CUDNN_ATTR_TENSOR_IS_VIRTUAL, false)?
            .finish()
    };
    let [input, filters, output] = tensors(convolution);
    let [input, filters, output] =
        [describe(NAMES[0], input)?, describe(NAMES[1], filters)?, describe(NAMES[2], output)?];

    let window = &convolution.window;
    let (stride, padding) = (window.stride as i64, window.padding as i64);
    let single = Type::CUDNN_TYPE_DATA_TYPE;
    let mode = Type::CUDNN_TYPE_CONVOLUTION_MODE;
    let geometry = Unfinished::new(cudnn, Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
        .choice(A::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, single, SINGLE)?
        .choice(A::CUDNN_ATTR_CONVOLUTION_CONV_MODE, mode, CROSS_CORRELATION)?
        .integers(A::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2])?
        .integers(A::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &[padding; 2])?
        .integers(A::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &[padding; 2])?
        .integers(A::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1; 2])?
        .integers(A::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &[stride; 2])?
        .finish()?;

    let beta = if convolution.accumulate { 1.0 } else { 0.0 };
    match convolution.pass {
        ConvolutionPass::Forward => {
            Unfinished::new(cudnn, Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?
                .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &[&geometry])?
                .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &[&input])?
                .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &[&filters])?
                .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &[&output])?
                .float(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0)?
                .float(A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, beta)?
        }
        ConvolutionPass::Data => Unfinished::new(
            cudnn,
            Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
        )?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, &[&geometry])?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, &[&input])?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, &[&filters])?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, &[&output])?
        .float(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0)?
        .float(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, beta)?,
        ConvolutionPass::Filters => Unfinished::new(
            cudnn,
            Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
        )?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, &[&geometry])?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, &[&input])?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, &[&filters])?
        .descriptors(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, &[&output])?
        .float(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 1.0)?
        .float(A::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, beta)?,
    }
    .finish()
}

/// The graph of the operation.
pub(super) fn graph(target: &Target, convolution: &Convolution) -> Result<Descriptor, DeviceError> {
    let operation = operation(target.cudnn, convolution)?;
    let graph = Unfinished::new(target.cudnn, Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
        .descriptors(A::CUDNN_ATTR_OPERATIONGRAPH_OPS, &[&operation])?;
    target.with_handle(graph, A::CUDNN_ATTR_OPERATIONGRAPH_HANDLE)?.finish()
}
