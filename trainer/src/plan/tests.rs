//! What a plan promises, for all networks that there are.

use std::collections::{HashMap, HashSet};

use foretrain_sim::compute::{ComputeSource, ComputeTimes, LayerTime};
use foretrain_sim::fusion::{Fusion, gradients};
use foretrain_sim::units::{Bytes, SimDuration};
use foretrain_sim::workload::{Architecture, Network, Size};
use proptest::prelude::*;

use super::buckets::Buckets;
use super::*;
use crate::optimizer::Role;

fn published() -> Vec<Network> {
    let architectures = [
        Architecture::Resnet50,
        Architecture::Resnet18,
        Architecture::SmallResnet { blocks_per_stage: 3 },
        Architecture::Alexnet,
        Architecture::AlexnetBn { after_pool5: true },
        Architecture::AlexnetBn { after_pool5: false },
    ];
    architectures.into_iter().map(|a| a.network(a.published_size())).collect()
}

fn resnet50() -> (Network, Plan) {
    let network = Architecture::Resnet50.network(Architecture::Resnet50.published_size());
    let plan = Plan::new(&network).unwrap();
    (network, plan)
}

fn small(blocks_per_stage: u64, side: u64, classes: u64) -> Network {
    let size = Size { image: Shape::new(3, side, side), classes };
    Architecture::SmallResnet { blocks_per_stage }.network(size)
}

fn operands(kind: &Kind) -> Vec<Operand> {
    match *kind {
        Kind::BatchNorm { input, residual, .. } => [input].into_iter().chain(residual).collect(),
        Kind::Convolution { input, .. }
        | Kind::Relu { input, .. }
        | Kind::Dropout { input, .. }
        | Kind::MaxPool { input, .. }
        | Kind::GlobalAveragePool { input, .. }
        | Kind::Linear { input, .. }
        | Kind::Loss { input } => vec![input],
    }
}

fn output(kind: &Kind) -> Option<Output> {
    match *kind {
        Kind::Convolution { output, .. }
        | Kind::BatchNorm { output, .. }
        | Kind::Relu { output, .. }
        | Kind::Dropout { output, .. }
        | Kind::MaxPool { output, .. }
        | Kind::GlobalAveragePool { output, .. }
        | Kind::Linear { output, .. } => Some(output),
        Kind::Loss { .. } => None,
    }
}

/// Buffers that backward of an instruction reads besides the gradient of its output: what its
/// derivative needs (x of a product or normalisation, y of a ReLU).
fn kept(kind: &Kind) -> Vec<BufferId> {
    match *kind {
        Kind::Convolution { input, .. } | Kind::Linear { input, .. } | Kind::Loss { input } => {
            vec![input.buffer]
        }
        Kind::BatchNorm { input, relu, output, .. } => {
            [input.buffer].into_iter().chain(relu.then_some(output.buffer)).collect()
        }
        Kind::Relu { output, .. } => vec![output.buffer],
        Kind::Dropout { .. } | Kind::MaxPool { .. } | Kind::GlobalAveragePool { .. } => vec![],
    }
}

/// Walks the moments of a step as an executor does, and notes who has written where last: whatever
/// is read must still be there, whole.
fn walk(plan: &Plan) {
    /// Elements and by whom they were last written.
    struct Memory<'a> {
        plan: &'a Plan,
        written: HashMap<BufferId, std::ops::Range<usize>>,
    }
    impl Memory<'_> {
        fn range(&self, buffer: BufferId) -> std::ops::Range<usize> {
            let buffer = &self.plan.buffers()[buffer.get()];
            buffer.offset..buffer.offset + buffer.elements
        }
        /// Whatever lies there is lost.
        fn write(&mut self, buffer: BufferId) {
            let new = self.range(buffer);
            self.written.retain(|_, old| old.end <= new.start || new.end <= old.start);
            self.written.insert(buffer, new);
        }
        #[track_caller]
        fn read(&self, buffer: BufferId, by: &str) {
            let name = &self.plan.buffers()[buffer.get()].name;
            assert!(self.written.contains_key(&buffer), "{by} reads `{name}`, which is lost");
        }
    }
    let mut memory = Memory { plan, written: HashMap::new() };
    memory.write(plan.images());
    for Instruction { name, kind, .. } in plan.instructions() {
        operands(kind).iter().for_each(|operand| memory.read(operand.buffer, name));
        if let Some(output) = output(kind) {
            memory.write(output.buffer);
            operands(kind).iter().for_each(|operand| memory.read(operand.buffer, name));
        }
    }
    let mut stored = HashSet::new();
    for Instruction { name, kind, .. } in plan.instructions().iter().rev() {
        let reads: Vec<BufferId> =
            kept(kind).into_iter().chain(output(kind).map(|output| output.gradient)).collect();
        reads.iter().for_each(|&buffer| memory.read(buffer, name));
        for target in operands(kind).iter().filter_map(|operand| operand.gradient) {
            if target.accumulate {
                assert!(stored.contains(&target.buffer), "{name} adds before anything is stored");
                memory.read(target.buffer, name);
            } else {
                assert!(stored.insert(target.buffer), "{name} stores over what others added");
                memory.write(target.buffer);
            }
        }
        // Kernels read and write at the same time.
        reads.iter().for_each(|&buffer| memory.read(buffer, name));
    }
    let gradients = plan.instructions().iter().filter_map(|i| output(&i.kind));
    for output in gradients {
        assert!(stored.contains(&output.gradient), "the gradient of a buffer is never written");
    }
}

/// The most elements that are alive at one moment: no arena can be smaller.
fn lower_bound(plan: &Plan) -> usize {
    let alive = |moment| {
        let buffers = plan.buffers().iter();
        buffers.filter(|b| b.lifetime.contains(&moment)).map(|b| b.elements).sum::<usize>()
    };
    (0..plan.moments()).map(alive).max().unwrap()
}

fn check_memory(plan: &Plan) {
    for (index, one) in plan.buffers().iter().enumerate() {
        assert!(*one.lifetime.end() < plan.moments());
        assert!(one.offset + one.elements <= plan.arena_elements());
        for other in &plan.buffers()[..index] {
            let together = one.lifetime.start() <= other.lifetime.end()
                && other.lifetime.start() <= one.lifetime.end();
            let apart = one.offset + one.elements <= other.offset
                || other.offset + other.elements <= one.offset;
            assert!(!together || apart, "`{}` and `{}` overlap", one.name, other.name);
        }
    }
    assert!(plan.arena_elements() >= lower_bound(plan));
}

#[test]
fn resnet50_is_53_convolutions_with_what_follows_them() {
    let (_, plan) = resnet50();
    let count = |wanted: fn(&Kind) -> bool| {
        plan.instructions().iter().filter(|instruction| wanted(&instruction.kind)).count()
    };
    assert_eq!(count(|kind| matches!(kind, Kind::Convolution { bias: None, .. })), 53);
    assert_eq!(count(|kind| matches!(kind, Kind::BatchNorm { .. })), 53);
    // The last of each of 16 blocks has the sum and the ReLU after it; the four of the projections
    // have neither.
    let residual =
        |kind: &Kind| matches!(kind, Kind::BatchNorm { residual: Some(_), relu: true, .. });
    assert_eq!(count(residual), 16);
    assert_eq!(count(|kind| matches!(kind, Kind::BatchNorm { relu: false, .. })), 4);
    assert_eq!(count(|kind| matches!(kind, Kind::MaxPool { .. })), 1);
    assert_eq!(count(|kind| matches!(kind, Kind::GlobalAveragePool { .. })), 1);
    assert_eq!(count(|kind| matches!(kind, Kind::Linear { .. })), 1);
    assert_eq!(count(|kind| matches!(kind, Kind::Loss { .. })), 1);
    assert_eq!(plan.instructions().len(), 53 + 53 + 4);
    let names: Vec<&str> = plan.instructions().iter().map(|i| i.name.as_str()).collect();
    assert!(names.contains(&"bn1+relu"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("layer1.0.bn3+")), "{names:?}");
    assert_eq!((plan.classes(), plan.image_shape()), (1000, Shape::new(3, 224, 224)));
}

#[test]
fn parameters_are_the_networks() {
    for network in published() {
        let plan = Plan::new(&network).unwrap();
        assert_eq!(plan.parameter_ids().len(), plan.parameters().len());
        let elements: usize = plan.parameters().iter().map(Parameter::elements).sum();
        assert_eq!(elements as u64, network.parameter_count(), "{}", network.name());
        let tensors: Vec<_> = network.tensors().map(|(_, tensor)| tensor).collect();
        assert_eq!(plan.parameters().len(), tensors.len());
        let mut seen = HashSet::new();
        for instruction in plan.instructions() {
            for id in instruction.kind.parameters() {
                assert!(seen.insert(id), "{} is of two instructions", instruction.name);
            }
        }
        assert_eq!(seen.len(), tensors.len(), "{}", network.name());
        for (parameter, tensor) in plan.parameters().iter().zip(tensors) {
            assert_eq!(parameter.name, tensor.name);
            let role = match (parameter.name.contains("bn"), parameter.shape.len()) {
                (_, 2 | 4) => Role::Weight,
                (true, _) => Role::BatchNorm,
                _ if parameter.name.contains("downsample.1") => Role::BatchNorm,
                _ => Role::Bias,
            };
            assert_eq!(parameter.role, role, "{}", parameter.name);
        }
    }
}

#[test]
fn nothing_is_lost_that_is_still_read() {
    for network in published() {
        let plan = Plan::new(&network).unwrap();
        check_memory(&plan);
        walk(&plan);
    }
}

/// Memory is shared, and what is left unused between buffers is little.
#[test]
fn arenas_are_near_the_lower_bound() {
    for network in published() {
        let plan = Plan::new(&network).unwrap();
        let sum: usize = plan.buffers().iter().map(|buffer| buffer.elements).sum();
        let (arena, bound) = (plan.arena_elements(), lower_bound(&plan));
        println!("{}: {arena} elements, {bound} at least, {sum} in all", network.name());
        assert!(arena < sum * 7 / 10, "{}: {arena} of {sum}", network.name());
        assert!(arena < bound * 11 / 10, "{}: {arena}, at least {bound}", network.name());
        // What the simulator says of the same networks, which computes ReLUs in place.
        let (arena, peak) = (arena as u64, network.peak_elements());
        assert!(peak <= arena, "{}: {arena}, simulated {peak}", network.name());
        assert!(arena < peak * 115 / 100, "{}: {arena}, simulated {peak}", network.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn small_resnets_lose_nothing(blocks in 1_u64..=9, side in 1_u64..=40, classes in 1_u64..=200) {
        let plan = Plan::new(&small(blocks, side, classes)).unwrap();
        check_memory(&plan);
        walk(&plan);
    }

    #[test]
    fn networks_for_small_images_lose_nothing(side in 1_u64..=70, with_bottlenecks: bool) {
        let size = Size { image: Shape::new(3, side, side + 5), classes: 10 };
        let architecture =
            if with_bottlenecks { Architecture::Resnet50 } else { Architecture::Resnet18 };
        let plan = Plan::new(&architecture.network(size)).unwrap();
        check_memory(&plan);
        walk(&plan);
    }

    /// Both orders have the same elements, each once.
    #[test]
    fn orders_go_there_and_back(
        [groups, outputs, inputs, positions] in [1_usize..=3, 1..=4, 1..=4, 1..=9],
        linear: bool,
    ) {
        let (shape, layout) = if linear {
            let layout = ParameterLayout::Linear { outputs, channels: inputs, pixels: positions };
            (vec![outputs, inputs * positions], layout)
        } else {
            let layout = ParameterLayout::Convolution { groups, outputs, inputs, positions };
            (vec![groups * outputs, inputs, positions, 1], layout)
        };
        let parameter = Parameter { name: "w".to_owned(), role: Role::Weight, shape, layout };
        let outside: Vec<usize> = (0..parameter.elements()).collect();
        let inside = parameter.from_torch(&outside);
        prop_assert_eq!(parameter.to_torch(&inside), outside.clone());
        let mut sorted = inside;
        sorted.sort_unstable();
        prop_assert_eq!(sorted, outside);
    }
}

#[test]
fn orders_by_hand() {
    let name = "w".to_owned();
    // Two filters of two channels and 1 × 2 pixels: inside, a pixel's channel has all outputs.
    let layout = ParameterLayout::Convolution { groups: 1, outputs: 2, inputs: 2, positions: 2 };
    let shape = vec![2, 2, 1, 2];
    let filters = Parameter { name: name.clone(), role: Role::Weight, shape, layout };
    // The name says output, channel, position.
    let outside = ["000", "001", "010", "011", "100", "101", "110", "111"];
    let inside = ["000", "100", "010", "110", "001", "101", "011", "111"];
    assert_eq!(filters.from_torch(&outside), inside);
    assert_eq!(filters.to_torch(&inside), outside);
    assert_eq!(filters.fan_in(), 4);
    // Two groups of one filter each: one group after the other.
    let layout = ParameterLayout::Convolution { groups: 2, outputs: 1, inputs: 1, positions: 2 };
    let shape = vec![2, 1, 1, 2];
    let grouped = Parameter { name: name.clone(), role: Role::Weight, shape, layout };
    assert_eq!(grouped.from_torch(&["a0", "a1", "b0", "b1"]), ["a0", "a1", "b0", "b1"]);
    // Two outputs of two channels of two pixels, flattened channels first.
    let layout = ParameterLayout::Linear { outputs: 2, channels: 2, pixels: 2 };
    let matrix = Parameter { name, role: Role::Weight, shape: vec![2, 4], layout };
    assert_eq!(matrix.from_torch(&outside), inside);
    assert_eq!(matrix.fan_in(), 4);
}

fn rules(network: &Network) -> Vec<Fusion> {
    let node = network.nodes()[network.nodes().len() / 2].name.clone();
    vec![
        Fusion::Tensor,
        Fusion::OneBucket,
        Fusion::Threshold(Bytes::new(1)),
        Fusion::Threshold(Bytes::new(4 << 20)),
        Fusion::Threshold(Bytes::new(1 << 40)),
        Fusion::Segments(vec![node]),
        Fusion::Segments(vec![network.nodes()[1].name.clone(), "no such node".to_owned()]),
    ]
}

#[test]
fn buckets_are_the_simulators() {
    for network in published() {
        let plan = Plan::new(&network).unwrap();
        let layers = vec![LayerTime::default(); network.nodes().len()];
        let (optimizer, source) = (SimDuration::ZERO, ComputeSource::Roofline);
        let times = ComputeTimes { layers, optimizer, source };
        for element_bytes in [2, 4] {
            let simulated = gradients(&network, &times, element_bytes);
            for rule in rules(&network) {
                let expected = rule.static_buckets(&simulated).unwrap();
                let buckets = Buckets::new(&plan, &network, &rule, element_bytes).unwrap();
                assert_eq!(buckets.all().len(), expected.len(), "{rule:?}");
                let mut placed = HashSet::new();
                for (number, (bucket, expected)) in buckets.all().iter().zip(expected).enumerate() {
                    assert_eq!(Bytes::new(bucket.elements as u64 * element_bytes), expected.bytes);
                    let names =
                        bucket.gradients.iter().map(|(id, _)| &plan.parameters()[id.get()].name);
                    let simulated = simulated[expected.gradients].iter().map(|g| &g.tensor);
                    assert!(names.eq(simulated), "{rule:?}");
                    let mut next = 0;
                    for &(id, offset) in &bucket.gradients {
                        assert_eq!(offset, next, "gradients lie one after the other");
                        next += plan.parameters()[id.get()].elements();
                        let place = buckets.place(id);
                        assert_eq!((place.bucket, place.offset), (number, offset));
                        assert!(placed.insert(id), "a gradient has two places");
                    }
                    assert_eq!(next, bucket.elements);
                }
                assert_eq!(placed.len(), plan.parameters().len());
            }
        }
    }
}

/// Backward writes gradients in the order of the buckets, but those of a batch norm with a sum come
/// before those of the projection that it adds, though its node is before the projection's: the
/// sum is at its end. So a bucket that ends in between is ready before the one in front of it.
#[test]
fn backward_writes_gradients_in_the_order_of_buckets() {
    for network in published() {
        let plan = Plan::new(&network).unwrap();
        let buckets = Buckets::new(&plan, &network, &Fusion::Tensor, 4).unwrap();
        let mut next = 0;
        let mut ahead = HashSet::new();
        for instruction in plan.instructions().iter().rev() {
            let mut own: Vec<usize> =
                instruction.kind.parameters().map(|id| buckets.place(id).bucket).collect();
            own.sort_unstable();
            if matches!(instruction.kind, Kind::BatchNorm { residual: Some(_), .. }) {
                ahead.extend(own);
                continue;
            }
            for place in own {
                while ahead.remove(&next) {
                    next += 1;
                }
                assert_eq!(place, next, "{} in {}", instruction.name, network.name());
                next += 1;
            }
        }
        assert!(ahead.is_empty());
    }
}

#[test]
fn buckets_that_depend_on_the_clock_are_refused() {
    let network = small(1, 8, 10);
    let plan = Plan::new(&network).unwrap();
    let rule = Fusion::Cycle { threshold: Bytes::new(1 << 20), cycle: SimDuration::from_ps(1) };
    let error = Buckets::new(&plan, &network, &rule, 4).unwrap_err().to_string();
    assert!(error.contains("cycle time"), "{error}");
    let (latency, bandwidth) = (SimDuration::from_ps(1), "1 GB/s".parse().unwrap());
    let rule = Fusion::MgWfbp { latency, bandwidth };
    let error = Buckets::new(&plan, &network, &rule, 4).unwrap_err().to_string();
    assert!(error.contains("when gradients are ready"), "{error}");
}
