//! What of convolutions can be told without a GPU.

use std::collections::HashSet;

use foretrain_sim::recording::NumberFormat;
use foretrain_sim::workload::Architecture;
use proptest::prelude::*;

use super::super::libraries;
use super::super::search::Library;
use super::graph::{Tensor, operation, tensors};
use super::*;
use crate::executor::cuda::arguments::Address;
use crate::executor::cuda::emulator::FORMATS;
use crate::executor::cuda::work::ConvolutionPass;
use crate::plan::{Kind, Plan as NetworkPlan, Window};

const PASSES: [ConvolutionPass; 3] =
    [ConvolutionPass::Forward, ConvolutionPass::Data, ConvolutionPass::Filters];

fn cudnn() -> Option<&'static Cudnn> {
    libraries::for_tests(Library::Cudnn)?;
    Some(functions::open().unwrap())
}

fn windows(architecture: Architecture) -> Vec<Window> {
    let plan = NetworkPlan::new(&architecture.network(architecture.published_size())).unwrap();
    let windows = plan.instructions().iter().filter_map(|instruction| match instruction.kind {
        Kind::Convolution { window, .. } => Some(window),
        _ => None,
    });
    windows.collect()
}

fn convolution(window: Window) -> Convolution {
    Convolution {
        pass: ConvolutionPass::Forward,
        window,
        images: 256,
        format: NumberFormat::F16,
        input: Address(1 << 20),
        filters: Address(1 << 30),
        output: Address(1 << 40),
        accumulate: false,
    }
}

fn some_window() -> Window {
    Window {
        input_channels: 96,
        input_height: 27,
        input_width: 25,
        output_channels: 256,
        output_height: 14,
        output_width: 13,
        kernel: 5,
        stride: 2,
        padding: 2,
        groups: 2,
    }
}

#[test]
fn every_convolution_of_the_networks_can_be_described() {
    let Some(cudnn) = cudnn() else { return };
    let mut windows = windows(Architecture::Resnet50);
    assert_eq!(windows.len(), 53);
    windows.extend(self::windows(Architecture::Alexnet));
    windows.push(some_window());
    for window in windows {
        for (pass, format) in PASSES.into_iter().flat_map(|p| FORMATS.map(|f| (p, f))) {
            for accumulate in [false, true] {
                // Filters in a bucket lie where they come to lie.
                let filters = Address((1 << 30) + format.element_bytes());
                let base = convolution(window);
                let convolution = Convolution { pass, format, accumulate, filters, ..base };
                operation(cudnn, &convolution).unwrap();
                LegacyConvolution::new(cudnn, &convolution).unwrap();
            }
        }
    }
}

/// So that the test above can fail.
#[test]
fn a_convolution_that_does_not_fit_is_refused_with_cudnns_words() {
    let Some(cudnn) = cudnn() else { return };
    let window = Window { output_height: 15, ..some_window() };
    let error = operation(cudnn, &convolution(window)).err().map(|error| error.to_string());
    let error = error.unwrap_or_default();
    assert!(
        error.starts_with("finalising CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR"),
        "{error}"
    );
    assert!(error.contains("CUDNN_STATUS_BAD_PARAM"), "{error}");
}

#[test]
fn numbers_are_read_back_from_descriptors() {
    let Some(cudnn) = cudnn() else { return };
    let operation = operation(cudnn, &convolution(some_window())).unwrap();
    use descriptor::{Attribute, Kind};
    let (tensor, x) = (
        Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR,
        Attribute::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
    );
    let parts = operation.parts(x, tensor, 1).unwrap();
    let [input] = &parts[..] else { panic!("{} inputs", parts.len()) };
    assert_eq!(input.integer(Attribute::CUDNN_ATTR_TENSOR_UNIQUE_ID).unwrap(), 1);
    assert_eq!(input.integer(Attribute::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT).unwrap(), 16);
}

/// `Work`'s definition: activations lie as images × height × width × channels, filters as outputs ×
/// kernel × kernel × inputs of a group.
#[test]
fn strides_are_those_of_channels_that_lie_together() {
    let tensor = Tensor { sizes: [3, 5, 2, 4], alignment: 16 };
    let mut expected = 0;
    for image in 0..3 {
        for row in 0..2 {
            for column in 0..4 {
                for channel in 0..5 {
                    let place = [image, channel, row, column];
                    let at = place.iter().zip(tensor.strides()).map(|(i, s)| i * s).sum::<usize>();
                    assert_eq!(at, expected);
                    expected += 1;
                }
            }
        }
    }
    let [input, filters, output] = tensors(&convolution(some_window())).map(|t| t.sizes);
    assert_eq!(input, [256, 96, 27, 25]);
    assert_eq!(filters, [256, 48, 5, 5]);
    assert_eq!(output, [256, 256, 14, 13]);
}

#[test]
fn keys_stay_as_they_are() {
    let base = convolution(some_window());
    assert_eq!(
        choice::key("NVIDIA H200", 92600, &base),
        "NVIDIA H200; cuDNN 92600; forward; 256 images of 96x27x25 to 256x14x13; kernel 5 stride 2 \
         padding 2 groups 2; f16; aligned 16 16 16"
    );
    let other = Convolution {
        pass: ConvolutionPass::Filters,
        format: NumberFormat::Bf16,
        filters: Address(0x1002),
        output: Address(0x1004),
        accumulate: true,
        ..base
    };
    assert_eq!(
        choice::key("a GPU", 90100, &other),
        "a GPU; cuDNN 90100; filters; 256 images of 96x27x25 to 256x14x13; kernel 5 stride 2 padding \
         2 groups 2; bf16 added; aligned 16 2 4"
    );
}

#[test]
fn keys_differ_where_anything_differs_but_the_address() {
    let base = convolution(some_window());
    let window = base.window;
    let of = |convolution: &Convolution| choice::key("a", 1, convolution);
    let with = |window: Window| Convolution { window, ..base.clone() };
    let others = [
        with(Window { input_channels: 98, ..window }),
        with(Window { input_height: 28, ..window }),
        with(Window { input_width: 26, ..window }),
        with(Window { output_channels: 258, ..window }),
        with(Window { output_height: 15, ..window }),
        with(Window { output_width: 14, ..window }),
        with(Window { kernel: 3, ..window }),
        with(Window { stride: 1, ..window }),
        with(Window { padding: 1, ..window }),
        with(Window { groups: 1, ..window }),
        Convolution { images: 255, ..base.clone() },
        Convolution { pass: ConvolutionPass::Data, ..base.clone() },
        Convolution { pass: ConvolutionPass::Filters, ..base.clone() },
        Convolution { format: NumberFormat::F32, ..base.clone() },
        Convolution { accumulate: true, ..base.clone() },
        Convolution { input: Address(8), ..base.clone() },
        Convolution { filters: Address(8), ..base.clone() },
        Convolution { output: Address(8), ..base.clone() },
    ];
    let mut keys: HashSet<String> = others.iter().map(of).collect();
    keys.extend([of(&base), choice::key("b", 1, &base), choice::key("a", 2, &base)]);
    assert_eq!(keys.len(), others.len() + 3);
    let moved = Convolution { input: Address(16), output: Address(48), ..base.clone() };
    assert_eq!(of(&moved), of(&base));
}

proptest! {
    #[test]
    fn alignments_divide_addresses(address in 1_u64..1 << 48) {
        let base = convolution(some_window());
        let [input, ..] = tensors(&Convolution { input: Address(address), ..base });
        prop_assert!(address.is_multiple_of(input.alignment));
        prop_assert!(input.alignment == 16 || !address.is_multiple_of(2 * input.alignment));
    }
}
