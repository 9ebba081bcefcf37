//! What of convolutions can be told without a GPU.

use std::collections::HashSet;

use foretrain_sim::recording::NumberFormat;
use foretrain_sim::workload::Architecture;
use proptest::prelude::*;

use super::super::libraries;
use super::super::search::Library;
use super::descriptor::{Attribute as A, Kind, Unfinished};
use super::engine::Target;
use super::graph::{Tensor, operation, tensors};
use super::ready::Staging;
use super::*;
use crate::executor::cuda::arguments::Address;
use crate::executor::cuda::emulator::FORMATS;
use crate::executor::cuda::work::ConvolutionPass;
use crate::plan::{Kind as Node, Plan as NetworkPlan, Window};

const PASSES: [ConvolutionPass; 3] =
    [ConvolutionPass::Forward, ConvolutionPass::Data, ConvolutionPass::Filters];

fn cudnn() -> Option<&'static Cudnn> {
    libraries::for_tests(Library::Cudnn)?;
    Some(functions::open().unwrap())
}

fn windows(architecture: Architecture) -> Vec<Window> {
    let plan = NetworkPlan::new(&architecture.network(architecture.published_size())).unwrap();
    let windows = plan.instructions().iter().filter_map(|instruction| match instruction.kind {
        Node::Convolution { window, .. } => Some(window),
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
    // After the status's number come the words on what is wrong.
    assert!(error.contains("): "), "{error}");
}

#[test]
fn numbers_are_read_back_from_descriptors() {
    let Some(cudnn) = cudnn() else { return };
    use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
    let kind = Type::CUDNN_TYPE_KNOB_TYPE;
    let knob = Unfinished::new(cudnn, Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)
        .and_then(|knob| knob.choice(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, kind, 13))
        .and_then(|knob| knob.integers(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &[1 << 20]))
        .and_then(Unfinished::finish)
        .unwrap();
    assert_eq!(knob.chosen(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, kind), Ok(13));
    assert_eq!(knob.integer(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE), Ok(1 << 20));
    assert!(knob.integer(A::CUDNN_ATTR_ENGINE_GLOBAL_INDEX).is_err());
}

/// A GPU like the H200, by the figures that NVIDIA has published: cuDNN proposes engines for it
/// without one.
fn described_gpu(cudnn: &'static Cudnn) -> Option<Target> {
    if cudnn.version() < 90800 {
        println!("skipped: cuDNN describes GPUs since 9.8");
        return None;
    }
    let json = serde_json::json!({
        "deviceName": "NVIDIA H200",
        "cudaDeviceId": 0,
        "deviceVer": 900,
        "driverVer": 13000,
        "smCountOrigin": 0,
        "multiProcessorCount": 132,
        "smClockRateKHz": 1_980_000,
        "memClockRateKHz": 3_201_000,
        "l2CacheSize": 50 << 20,
        "totalGlobalMem": 141_000_000_000_u64,
        "maxGridSize": [i32::MAX, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64],
        "regsPerBlock": 65536,
        "maxRegistersPerSM": 65536,
        "warpSize": 32,
        "maxSharedMemoryPerBlock": 48 << 10,
        "maxSharedMemoryPerBlockOptin": 227 << 10,
        "reservedSharedMemoryPerBlock": 1 << 10,
        "oversizedSharedMemoryPerBlock": 0,
        "maxCtasPerSM": 32,
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": 2048,
        "pciDeviceId": 0,
        "isTccDriver": 0,
        "supportCoopLaunch": 1,
    });
    let device = Unfinished::new(cudnn, Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)
        .and_then(|device| {
            device.characters(A::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, &json.to_string())
        })
        .and_then(Unfinished::finish);
    match device {
        Ok(device) => Some(Target { cudnn, handle: std::ptr::null_mut(), device: Some(device) }),
        // Other versions may ask for other figures.
        Err(error) => {
            assert_ne!(cudnn.version() / 100, 926, "{error}");
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn every_convolution_of_resnet_50_has_engines_that_can_be_restored() {
    let Some(target) = cudnn().and_then(described_gpu) else { return };
    let windows: HashSet<Window> = windows(Architecture::Resnet50).into_iter().collect();
    for (window, pass) in windows.iter().flat_map(|w| PASSES.map(|pass| (*w, pass))) {
        for (format, accumulate) in FORMATS.iter().flat_map(|f| [false, true].map(|a| (*f, a))) {
            let base = convolution(window);
            let convolution = Convolution { pass, format, accumulate, ..base };
            let graph = graph::graph(&target, &convolution).unwrap();
            let limits = Limits { format, workspace_bytes: MOST_WORKSPACE_BYTES, candidates: 3 };
            let mut attempts = Attempts::default();
            let mut plans = Vec::new();
            for heuristic in [Heuristic::CUDNN_HEUR_MODE_A, Heuristic::CUDNN_HEUR_MODE_FALLBACK] {
                if plans.is_empty() {
                    plans = engine::candidates(&target, &graph, heuristic, limits, &mut attempts);
                }
            }
            assert!(!plans.is_empty(), "{convolution:?}: {}", attempts.sentence());
            assert!(plans.len() <= 3);
            for plan in plans {
                let again = engine::restored(&target, &graph, plan.engine, &plan.knobs).unwrap();
                assert_eq!(again.workspace_bytes, plan.workspace_bytes, "{convolution:?}");
                assert!(plan.workspace_bytes <= MOST_WORKSPACE_BYTES);
            }
            assert!(engine::restored(&target, &graph, 1 << 20, &[]).is_err());
            engine::places(target.cudnn, [256, 512, 1024], 0).unwrap();
        }
    }
}

#[test]
fn each_proposal_becomes_a_plan_or_is_counted_where_it_drops_out() {
    let Some(target) = cudnn().and_then(described_gpu) else { return };
    let heuristic = Heuristic::CUDNN_HEUR_MODE_A;
    let window = windows(Architecture::Resnet50)[2];
    for (pass, format) in PASSES.into_iter().flat_map(|p| FORMATS.map(|f| (p, f))) {
        let convolution = Convolution { pass, format, ..convolution(window) };
        let graph = graph::graph(&target, &convolution).unwrap();
        let proposed = engine::expected_fast(&target, &graph).unwrap().len();
        assert!(proposed > 0);
        for workspace_bytes in [0, MOST_WORKSPACE_BYTES] {
            let limits = Limits { format, workspace_bytes, candidates: usize::MAX };
            let mut attempts = Attempts::default();
            let plans = engine::candidates(&target, &graph, heuristic, limits, &mut attempts);
            assert!(plans.iter().all(|plan| plan.workspace_bytes <= workspace_bytes));
            let dropped = proposed - plans.len();
            assert_eq!(attempts.counts(), (proposed, dropped), "{}", attempts.sentence());
        }
    }
}

/// Why filters are staged: without that cuDNN would have only engines that it keeps for lack of a
/// better one.
#[test]
fn filters_of_half_precision_are_staged_because_engines_need_it() {
    let Some(target) = cudnn().and_then(described_gpu) else { return };
    for pass in PASSES {
        let unaligned = Convolution {
            pass,
            filters: Address(0x1002),
            ..convolution(windows(Architecture::Resnet50)[1])
        };
        let proposals = |convolution: &Convolution| {
            let graph = graph::graph(&target, convolution).unwrap();
            engine::expected_fast(&target, &graph).unwrap().len()
        };
        assert_eq!(proposals(&unaligned), 0);
        assert!(proposals(&staged(&unaligned, Address(0x2000)).0) > 0);
    }
}

#[test]
fn staged_filters_are_copied_where_they_are_read_and_where_they_are_written() {
    let window = some_window();
    let bytes = 256 * 48 * 5 * 5 * 2;
    let cases = [
        (ConvolutionPass::Forward, false, true, false),
        (ConvolutionPass::Forward, true, true, false),
        (ConvolutionPass::Data, false, true, false),
        (ConvolutionPass::Data, true, true, false),
        (ConvolutionPass::Filters, false, false, true),
        (ConvolutionPass::Filters, true, true, true),
    ];
    for (pass, accumulate, before, after) in cases {
        let aligned = Convolution { pass, accumulate, ..convolution(window) };
        assert_eq!(staged_bytes(&aligned), 0);
        assert_eq!(staged(&aligned, Address(256)), (aligned.clone(), None));
        let (filters, stage) = (Address(0x1002), Address(0x2000));
        let unaligned = Convolution { filters, ..aligned };
        assert_eq!(staged_bytes(&unaligned), bytes);
        let staging = Staging { filters, stage, bytes, before, after };
        let there = Convolution { filters: stage, ..unaligned.clone() };
        assert_eq!(staged(&unaligned, stage), (there, Some(staging)));
    }
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
