//! The graph of a network: nodes in forward order, shapes per image, parameter tensors.

use std::borrow::Cow;
use std::sync::Arc;

/// A tensor's shape for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Feature maps.
    pub channels: u64,
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
}

impl Shape {
    /// A shape; vectors have height and width 1.
    #[must_use]
    pub const fn new(channels: u64, height: u64, width: u64) -> Self {
        Self { channels, height, width }
    }

    /// The number of elements.
    #[must_use]
    pub const fn elements(self) -> u64 {
        self.channels * self.height * self.width
    }

    fn window(self, channels: u64, kernel: u64, stride: u64, padding: u64) -> Self {
        let size = |size: u64| (size + 2 * padding - kernel) / stride + 1;
        Self { channels, height: size(self.height), width: size(self.width) }
    }
}

/// What a node computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The images themselves.
    Input,
    /// A square convolution.
    Convolution {
        /// Output channels.
        channels: u64,
        /// Rows and columns of the filter.
        kernel: u64,
        /// Step of the filter.
        stride: u64,
        /// Zeros added on each side.
        padding: u64,
        /// Independent groups of channels.
        groups: u64,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Normalisation of each channel over the batch, with scale and shift.
    BatchNorm,
    /// max(x, 0).
    Relu,
    /// The largest value of each window.
    MaxPool {
        /// Rows and columns of the window.
        kernel: u64,
        /// Step of the window.
        stride: u64,
        /// Padding on each side.
        padding: u64,
    },
    /// The mean of each channel.
    GlobalAveragePool,
    /// The sum of two inputs.
    Add,
    /// A fully connected layer.
    Linear {
        /// Outputs.
        outputs: u64,
    },
    /// Random zeroing in training.
    Dropout,
    /// Softmax and cross-entropy with the labels.
    Loss,
    /// Whatever was measured; only its time and its parameters are known.
    Measured,
}

/// One parameter tensor, whose gradient is one unit of communication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterTensor {
    /// The name as torchvision (or the published network) spells it, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<u64>,
}

impl ParameterTensor {
    /// The number of parameters.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A node's place in [`Network::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub(crate) usize);

impl NodeIndex {
    /// The position in forward order.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// One operation of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, such as `layer1.0.conv1`.
    pub name: String,
    /// What it computes.
    pub operation: Operation,
    /// The nodes it reads.
    pub inputs: Vec<NodeIndex>,
    /// The shape of its first input, for one image.
    pub input_shape: Shape,
    /// The shape of its output, for one image.
    pub output_shape: Shape,
    /// Its parameter tensors.
    pub parameters: Vec<ParameterTensor>,
}

impl Node {
    /// The number of parameters.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(ParameterTensor::elements).sum()
    }
}

/// A network: nodes in forward order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    name: Cow<'static, str>,
    /// Shared between clones: points of a sweep are many, and networks few.
    nodes: Arc<Vec<Node>>,
}

impl Network {
    pub(crate) fn new(name: &'static str, input: Shape) -> Self {
        let node = Node {
            name: "input".to_owned(),
            operation: Operation::Input,
            inputs: Vec::new(),
            input_shape: input,
            output_shape: input,
            parameters: Vec::new(),
        };
        Self { name: Cow::Borrowed(name), nodes: Arc::new(vec![node]) }
    }

    /// A network of which only measurements are known: what its layers are called, and their
    /// parameter tensors, in forward order. Before the first there is a node `input`.
    #[must_use]
    pub fn measured(name: &str, input: Shape, layers: Vec<(String, Vec<ParameterTensor>)>) -> Self {
        let mut network = Self::new("", input);
        network.name = Cow::Owned(name.to_owned());
        for (name, parameters) in layers {
            let node = Node {
                name,
                operation: Operation::Measured,
                inputs: vec![network.last()],
                input_shape: input,
                output_shape: input,
                parameters,
            };
            Arc::make_mut(&mut network.nodes).push(node);
        }
        network
    }

    /// The name people call it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes in forward order; each reads only earlier ones.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The shape of one input image.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].input_shape
    }

    /// All parameters.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.nodes.iter().map(Node::parameter_count).sum()
    }

    /// Every parameter tensor in forward order, with the node it belongs to.
    pub fn tensors(&self) -> impl Iterator<Item = (NodeIndex, &ParameterTensor)> {
        self.nodes.iter().enumerate().flat_map(|(index, node)| {
            node.parameters.iter().map(move |tensor| (NodeIndex(index), tensor))
        })
    }

    /// The place of the node at `position` in forward order.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn index(&self, position: usize) -> NodeIndex {
        assert!(position < self.nodes.len(), "{} has no node {position}", self.name);
        NodeIndex(position)
    }

    /// The node called `name`.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<(NodeIndex, &Node)> {
        let position = self.nodes.iter().position(|node| node.name == name)?;
        Some((NodeIndex(position), &self.nodes[position]))
    }

    /// The node added last.
    pub(crate) fn last(&self) -> NodeIndex {
        NodeIndex(self.nodes.len() - 1)
    }

    /// Appends a node; shapes and parameters follow from its operation.
    pub(crate) fn push(
        &mut self,
        name: &str,
        operation: Operation,
        inputs: &[NodeIndex],
    ) -> NodeIndex {
        let input = self.nodes[inputs[0].0].output_shape;
        Arc::make_mut(&mut self.nodes).push(Node {
            name: name.to_owned(),
            operation,
            inputs: inputs.to_vec(),
            input_shape: input,
            output_shape: output_shape(operation, input),
            parameters: parameters(name, operation, input),
        });
        self.last()
    }

    /// Appends a node that reads the node added last.
    pub(crate) fn then(&mut self, name: &str, operation: Operation) -> NodeIndex {
        let last = self.last();
        self.push(name, operation, &[last])
    }
}

fn output_shape(operation: Operation, input: Shape) -> Shape {
    match operation {
        Operation::Convolution { channels, kernel, stride, padding, .. } => {
            input.window(channels, kernel, stride, padding)
        }
        Operation::MaxPool { kernel, stride, padding } => {
            input.window(input.channels, kernel, stride, padding)
        }
        Operation::GlobalAveragePool => Shape::new(input.channels, 1, 1),
        Operation::Linear { outputs } => Shape::new(outputs, 1, 1),
        Operation::Loss => Shape::new(1, 1, 1),
        Operation::Input
        | Operation::BatchNorm
        | Operation::Relu
        | Operation::Add
        | Operation::Dropout
        | Operation::Measured => input,
    }
}

fn parameters(name: &str, operation: Operation, input: Shape) -> Vec<ParameterTensor> {
    let tensor = |suffix: &str, shape: &[u64]| ParameterTensor {
        name: format!("{name}.{suffix}"),
        shape: shape.to_vec(),
    };
    match operation {
        Operation::Convolution { channels, kernel, groups, bias, .. } => {
            let mut tensors =
                vec![tensor("weight", &[channels, input.channels / groups, kernel, kernel])];
            if bias {
                tensors.push(tensor("bias", &[channels]));
            }
            tensors
        }
        Operation::BatchNorm => {
            vec![tensor("weight", &[input.channels]), tensor("bias", &[input.channels])]
        }
        Operation::Linear { outputs } => {
            vec![tensor("weight", &[outputs, input.elements()]), tensor("bias", &[outputs])]
        }
        _ => Vec::new(),
    }
}
