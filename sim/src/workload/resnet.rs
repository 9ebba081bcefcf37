//! Residual networks of He et al. 2015 (arXiv 1512.03385). Tensor names are torchvision's.
//!
//! - ResNet-50 v1.5: the stride of a downsampling block is in its 3×3 convolution, as torchvision
//!   and MLPerf have it.
//! - ResNet-18: basic blocks of two 3×3 convolutions.
//! - The networks for small images (their section 4.2): a 3×3 stem without pooling, three stages of
//!   16, 32 and 64 channels with n basic blocks each, 6n + 2 layers. Where a stage begins, the
//!   shortcut is a 1×1 convolution with batch normalisation (their option B), as in the larger
//!   networks, instead of padding with zeros (option A).

use super::Size;
use super::network::{Network, NodeIndex, Operation};

fn convolution(channels: u64, kernel: u64, stride: u64) -> Operation {
    let padding = kernel / 2;
    Operation::Convolution { channels, kernel, stride, padding, groups: 1, bias: false }
}

/// 1×1, 3×3, 1×1 convolutions around a shortcut; the output has four times `width` channels.
fn bottleneck(network: &mut Network, name: &str, width: u64, stride: u64, project: bool) {
    let input = network.last();
    let node = |part: &str| format!("{name}.{part}");
    network.then(&node("conv1"), convolution(width, 1, 1));
    network.then(&node("bn1"), Operation::BatchNorm);
    network.then(&node("relu1"), Operation::Relu);
    network.then(&node("conv2"), convolution(width, 3, stride));
    network.then(&node("bn2"), Operation::BatchNorm);
    network.then(&node("relu2"), Operation::Relu);
    network.then(&node("conv3"), convolution(4 * width, 1, 1));
    let main = network.then(&node("bn3"), Operation::BatchNorm);
    let shortcut = if project { shortcut(network, name, input, 4 * width, stride) } else { input };
    network.push(&node("add"), Operation::Add, &[main, shortcut]);
    network.then(&node("relu3"), Operation::Relu);
}

/// Two 3×3 convolutions around a shortcut.
fn basic(network: &mut Network, name: &str, width: u64, stride: u64, project: bool) {
    let input = network.last();
    let node = |part: &str| format!("{name}.{part}");
    network.then(&node("conv1"), convolution(width, 3, stride));
    network.then(&node("bn1"), Operation::BatchNorm);
    network.then(&node("relu1"), Operation::Relu);
    network.then(&node("conv2"), convolution(width, 3, 1));
    let main = network.then(&node("bn2"), Operation::BatchNorm);
    let shortcut = if project { shortcut(network, name, input, width, stride) } else { input };
    network.push(&node("add"), Operation::Add, &[main, shortcut]);
    network.then(&node("relu2"), Operation::Relu);
}

fn shortcut(
    network: &mut Network,
    name: &str,
    input: NodeIndex,
    channels: u64,
    stride: u64,
) -> NodeIndex {
    let node = |part: &str| format!("{name}.downsample.{part}");
    network.push(&node("0"), convolution(channels, 1, stride), &[input]);
    network.then(&node("1"), Operation::BatchNorm)
}

/// The stem for large images: a 7×7 convolution and a max pool, four times smaller after.
fn large_stem(network: &mut Network) {
    network.then("conv1", convolution(64, 7, 2));
    network.then("bn1", Operation::BatchNorm);
    network.then("relu", Operation::Relu);
    network.then("maxpool", Operation::MaxPool { kernel: 3, stride: 2, padding: 1 });
}

fn head(network: &mut Network, classes: u64) {
    network.then("avgpool", Operation::GlobalAveragePool);
    network.then("fc", Operation::Linear { outputs: classes });
    network.then("loss", Operation::Loss);
}

/// Where the blocks of a stage stand: their names and strides.
fn blocks(stage: usize, count: u64) -> impl Iterator<Item = (String, u64, bool)> {
    (0..count).map(move |block| {
        let stride = if stage > 0 && block == 0 { 2 } else { 1 };
        (format!("layer{}.{block}", stage + 1), stride, block == 0)
    })
}

pub(super) fn resnet50(size: Size) -> Network {
    let mut network = Network::new("ResNet-50 v1.5", size.image);
    large_stem(&mut network);
    for (stage, (width, count)) in [(64, 3), (128, 4), (256, 6), (512, 3)].into_iter().enumerate() {
        for (name, stride, first) in blocks(stage, count) {
            bottleneck(&mut network, &name, width, stride, first);
        }
    }
    head(&mut network, size.classes);
    network
}

pub(super) fn resnet18(size: Size) -> Network {
    let mut network = Network::new("ResNet-18", size.image);
    large_stem(&mut network);
    for (stage, width) in [64, 128, 256, 512].into_iter().enumerate() {
        for (name, stride, first) in blocks(stage, 2) {
            basic(&mut network, &name, width, stride, first && stage > 0);
        }
    }
    head(&mut network, size.classes);
    network
}

pub(super) fn small_resnet(blocks_per_stage: u64, size: Size) -> Network {
    let mut network = Network::new("ResNet for small images", size.image);
    network.then("conv1", convolution(16, 3, 1));
    network.then("bn1", Operation::BatchNorm);
    network.then("relu", Operation::Relu);
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for (name, stride, first) in blocks(stage, blocks_per_stage) {
            basic(&mut network, &name, width, stride, first && stage > 0);
        }
    }
    head(&mut network, size.classes);
    network
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;

    const IMAGENET: Size = Size { image: Shape::new(3, 224, 224), classes: 1000 };

    fn resnet50() -> Network {
        super::resnet50(IMAGENET)
    }

    /// torchvision's `resnet18`: 11,689,512 parameters in 62 tensors.
    #[test]
    fn resnet18_has_the_published_size() {
        let network = resnet18(IMAGENET);
        assert_eq!(network.parameter_count(), 11_689_512);
        assert_eq!(network.tensors().count(), 62);
        assert!(network.node_named("layer1.0.downsample.0").is_none());
        assert!(network.node_named("layer2.0.downsample.0").is_some());
    }

    /// He et al., table 6: 20 layers have 0.27 M parameters, to which the two projections add
    /// 16·32 + 32·64 weights and 2·(32 + 64) of their normalisation.
    #[test]
    fn resnet20_has_the_published_size() {
        let network = small_resnet(3, Size { image: Shape::new(3, 32, 32), classes: 10 });
        let stage = |from: u64, to: u64| 9 * (from * to + 5 * to * to) + 2 * 6 * to;
        let stem_and_head = 9 * 3 * 16 + 2 * 16 + 64 * 10 + 10;
        let projections = 16 * 32 + 32 * 64 + 2 * (32 + 64);
        let oracle = stem_and_head + stage(16, 16) + stage(16, 32) + stage(32, 64) + projections;
        assert_eq!(network.parameter_count(), oracle);
        assert_eq!(oracle - projections, 269_722);
        let (_, last) = network.node_named("layer3.2.relu2").unwrap();
        assert_eq!(last.output_shape, Shape::new(64, 8, 8));
    }

    #[test]
    fn has_the_published_size() {
        let network = resnet50();
        assert_eq!(network.parameter_count(), 25_557_032);
        assert_eq!(network.tensors().count(), 161);
        let (_, last) = network.node_named("layer4.2.relu3").unwrap();
        assert_eq!(last.output_shape, Shape::new(2048, 7, 7));
    }

    #[test]
    fn the_stride_is_in_the_3x3_convolution() {
        let network = resnet50();
        let (_, conv2) = network.node_named("layer2.0.conv2").unwrap();
        assert_eq!(conv2.input_shape, Shape::new(128, 56, 56));
        assert_eq!(conv2.output_shape, Shape::new(128, 28, 28));
        let names: Vec<&str> = network.tensors().map(|(_, t)| t.name.as_str()).collect();
        assert!(names.contains(&"layer2.0.downsample.1.bias"));
    }
}
