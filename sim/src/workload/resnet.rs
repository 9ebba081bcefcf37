//! ResNet-50 v1.5: He et al. 2015 (arXiv 1512.03385) with the stride of a downsampling block in its
//! 3×3 convolution, as torchvision and MLPerf have it. Tensor names are torchvision's.

use super::network::{Network, NodeIndex, Operation, Shape};

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
    let shortcut =
        if project { shortcut(network, &node("downsample"), input, width, stride) } else { input };
    network.push(&node("add"), Operation::Add, &[main, shortcut]);
    network.then(&node("relu3"), Operation::Relu);
}

fn shortcut(
    network: &mut Network,
    name: &str,
    input: NodeIndex,
    width: u64,
    stride: u64,
) -> NodeIndex {
    network.push(&format!("{name}.0"), convolution(4 * width, 1, stride), &[input]);
    network.then(&format!("{name}.1"), Operation::BatchNorm)
}

pub(super) fn resnet50() -> Network {
    let mut network = Network::new("ResNet-50 v1.5", Shape::new(3, 224, 224));
    network.then("conv1", convolution(64, 7, 2));
    network.then("bn1", Operation::BatchNorm);
    network.then("relu", Operation::Relu);
    network.then("maxpool", Operation::MaxPool { kernel: 3, stride: 2, padding: 1 });
    for (stage, (width, blocks)) in [(64, 3), (128, 4), (256, 6), (512, 3)].into_iter().enumerate()
    {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            bottleneck(&mut network, &name, width, stride, block == 0);
        }
    }
    network.then("avgpool", Operation::GlobalAveragePool);
    network.then("fc", Operation::Linear { outputs: 1000 });
    network.then("loss", Operation::Loss);
    network
}

#[cfg(test)]
mod tests {
    use super::*;

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
