//! From the nodes of a network to instructions.

use std::collections::HashMap;

use foretrain_sim::workload::{Network, Node, NodeIndex, Operation};

use super::memory;
use super::{
    BatchNormInfo, Buffer, BufferId, GradientTarget, Instruction, Kind, Operand, Output, Parameter,
    ParameterId, Plan, Window,
};

/// Why a network cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No instruction covers the node there.
    #[error("node `{node}`: {problem}")]
    Node {
        /// The node.
        node: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Nodes that one instruction covers.
struct Fused {
    /// In forward order; the last one's output is the instruction's.
    nodes: Vec<NodeIndex>,
    /// The node whose output is added, if the instruction has an `Add`.
    residual: Option<NodeIndex>,
    relu: bool,
}

pub(super) fn plan(network: &Network) -> Result<Plan, PlanError> {
    let groups = fuse(network)?;
    let builder = Builder::new(network, groups.len());
    builder.build(&groups)
}

/// How many nodes read each node.
fn readers(network: &Network) -> Vec<usize> {
    let mut readers = vec![0; network.nodes().len()];
    for node in network.nodes() {
        for input in &node.inputs {
            readers[input.get()] += 1;
        }
    }
    readers
}

/// Puts a batch norm together with the `Add` that reads it and the ReLU that reads that.
///
/// A batch norm goes with an `Add` only as its first input: the second is the residual.
fn fuse(network: &Network) -> Result<Vec<Fused>, PlanError> {
    let nodes = network.nodes();
    let readers = readers(network);
    let mut taken = vec![false; nodes.len()];
    // Where an instruction with an `Add` begins, by the node that ends it.
    let mut groups: Vec<(usize, Fused)> = Vec::new();
    let only_reader = |index: usize, wanted: fn(&Node, usize) -> bool| {
        let position = nodes.iter().position(|node| wanted(node, index));
        position.filter(|_| readers[index] == 1)
    };
    for (index, node) in nodes.iter().enumerate().skip(1) {
        if taken[index] {
            continue;
        }
        let mut fused = Fused { nodes: vec![network.index(index)], residual: None, relu: false };
        let mut last = index;
        match node.operation {
            Operation::BatchNorm => {
                let is_sum = |reader: &Node, of: usize| {
                    reader.operation == Operation::Add && reader.inputs[0].get() == of
                };
                if let Some(sum) = only_reader(last, is_sum) {
                    fused.residual = Some(nodes[sum].inputs[1]);
                    fused.nodes.push(network.index(sum));
                    last = sum;
                }
                let is_relu = |reader: &Node, of: usize| {
                    reader.operation == Operation::Relu && reader.inputs[0].get() == of
                };
                if let Some(relu) = only_reader(last, is_relu) {
                    fused.relu = true;
                    fused.nodes.push(network.index(relu));
                    last = relu;
                }
            }
            Operation::Add => {
                let problem = "a sum must follow the batch norm that is its first input";
                return Err(PlanError::Node { node: node.name.clone(), problem });
            }
            _ => {}
        }
        for member in &fused.nodes {
            taken[member.get()] = true;
        }
        groups.push((last, fused));
    }
    groups.sort_by_key(|(last, _)| *last);
    Ok(groups.into_iter().map(|(_, fused)| fused).collect())
}

struct Builder<'a> {
    network: &'a Network,
    moments: usize,
    buffers: Vec<Buffer>,
    /// The buffer of each node's output, and of its gradient.
    values: HashMap<NodeIndex, BufferId>,
    gradients: HashMap<NodeIndex, BufferId>,
    /// The first parameter of each node.
    first_parameter: Vec<usize>,
}

impl<'a> Builder<'a> {
    fn new(network: &'a Network, instructions: usize) -> Self {
        let mut first_parameter = Vec::new();
        let mut count = 0;
        for node in network.nodes() {
            first_parameter.push(count);
            count += node.parameters.len();
        }
        Self {
            network,
            moments: 2 * instructions,
            buffers: Vec::new(),
            values: HashMap::new(),
            gradients: HashMap::new(),
            first_parameter,
        }
    }

    fn node(&self, index: NodeIndex) -> &'a Node {
        &self.network.nodes()[index.get()]
    }

    fn buffer(&mut self, name: String, elements: u64, moment: usize) -> BufferId {
        let elements = elements as usize;
        self.buffers.push(Buffer { name, elements, offset: 0, lifetime: moment..=moment });
        BufferId(self.buffers.len() - 1)
    }

    /// Notes that `buffer` is used at `moment`.
    fn used(&mut self, buffer: BufferId, moment: usize) {
        let lifetime = &mut self.buffers[buffer.get()].lifetime;
        *lifetime = *lifetime.start().min(&moment)..=*lifetime.end().max(&moment);
    }

    fn build(mut self, groups: &[Fused]) -> Result<Plan, PlanError> {
        let nodes = self.network.nodes();
        let input = self.network.index(0);
        let images = self.buffer("images".to_owned(), nodes[0].output_shape.elements(), 0);
        self.values.insert(input, images);
        let mut instructions = Vec::new();
        let (mut batch_norms, mut pools) = (Vec::new(), 0);
        let mut classes = None;
        for (moment, fused) in groups.iter().enumerate() {
            if classes.is_some() {
                let node = self.node(fused.nodes[0]).name.clone();
                return Err(PlanError::Node { node, problem: "nothing can follow the loss" });
            }
            let head = self.node(fused.nodes[0]);
            let kind = self.kind(fused, moment, batch_norms.len(), pools)?;
            match head.operation {
                Operation::BatchNorm => batch_norms.push(BatchNormInfo {
                    name: head.name.clone(),
                    channels: head.input_shape.channels as usize,
                }),
                Operation::MaxPool { .. } => pools += 1,
                Operation::Loss => classes = Some(head.input_shape.elements() as usize),
                _ => {}
            }
            let nodes = fused.nodes.clone();
            instructions.push(Instruction { name: self.name(fused), nodes, kind });
        }
        let Some(classes) = classes else {
            let node = self.network.name().to_owned();
            return Err(PlanError::Node { node, problem: "the network has no loss at its end" });
        };
        mark_accumulation(&mut instructions);
        let arena_elements = memory::place(&mut self.buffers);
        let parameters = nodes
            .iter()
            .flat_map(|node| {
                let new = |tensor| Parameter::new(tensor, node.operation, node.input_shape);
                node.parameters.iter().map(new)
            })
            .collect();
        Ok(Plan {
            instructions,
            buffers: self.buffers,
            parameters,
            batch_norms,
            images,
            image_shape: nodes[0].output_shape,
            classes,
            arena_elements,
        })
    }

    /// `layer1.0.bn3+add+relu3`: the later nodes without what they share with the first.
    fn name(&self, fused: &Fused) -> String {
        let mut name = self.node(fused.nodes[0]).name.clone();
        for node in &fused.nodes[1..] {
            let part = &self.node(*node).name;
            name.push('+');
            name.push_str(part.rsplit('.').next().unwrap_or(part));
        }
        name
    }

    /// The operand that is the output of `node`, read forward at `moment`, and backward if
    /// `kept`; its gradient is written backward.
    fn operand(&mut self, node: NodeIndex, moment: usize, kept: bool) -> Operand {
        let buffer = self.values[&node];
        let backward = self.moments - 1 - moment;
        self.used(buffer, moment);
        if kept {
            self.used(buffer, backward);
        }
        let gradient = self.gradients.get(&node).copied().map(|gradient| {
            self.used(gradient, backward);
            GradientTarget { buffer: gradient, accumulate: false }
        });
        Operand { buffer, gradient }
    }

    /// The output of `node`, written at `moment`, and read backward if `kept`.
    fn output(&mut self, node: NodeIndex, moment: usize, kept: bool) -> Output {
        let (name, elements) = (&self.node(node).name, self.node(node).output_shape.elements());
        let backward = self.moments - 1 - moment;
        let buffer = self.buffer(name.clone(), elements, moment);
        if kept {
            self.used(buffer, backward);
        }
        let gradient = self.buffer(format!("gradient of {name}"), elements, backward);
        self.values.insert(node, buffer);
        self.gradients.insert(node, gradient);
        Output { buffer, gradient }
    }

    fn kind(
        &mut self,
        fused: &Fused,
        moment: usize,
        batch_norm: usize,
        pool: usize,
    ) -> Result<Kind, PlanError> {
        let head = fused.nodes[0];
        let tail = fused.nodes[fused.nodes.len() - 1];
        let node = self.node(head);
        let parameter = |place: usize| ParameterId(self.first_parameter[head.get()] + place);
        let (first, second) = (parameter(0), parameter(1));
        let window =
            |sizes, groups| Window::new(node.input_shape, node.output_shape, sizes, groups);
        let source = node.inputs.first().copied().unwrap_or(head);
        Ok(match node.operation {
            Operation::Convolution { kernel, stride, padding, groups, bias, .. } => {
                Kind::Convolution {
                    window: window((kernel, stride, padding), groups),
                    input: self.operand(source, moment, true),
                    output: self.output(tail, moment, false),
                    weight: first,
                    bias: bias.then_some(second),
                }
            }
            Operation::BatchNorm => Kind::BatchNorm {
                number: batch_norm,
                shape: node.input_shape,
                input: self.operand(source, moment, true),
                residual: fused.residual.map(|residual| self.operand(residual, moment, false)),
                relu: fused.relu,
                output: self.output(tail, moment, fused.relu),
                scale: first,
                shift: second,
            },
            Operation::Relu => Kind::Relu {
                input: self.operand(source, moment, false),
                output: self.output(tail, moment, true),
            },
            Operation::Dropout => Kind::Dropout {
                input: self.operand(source, moment, false),
                output: self.output(tail, moment, false),
            },
            Operation::MaxPool { kernel, stride, padding } => Kind::MaxPool {
                number: pool,
                window: window((kernel, stride, padding), 1),
                input: self.operand(source, moment, false),
                output: self.output(tail, moment, false),
            },
            Operation::GlobalAveragePool => Kind::GlobalAveragePool {
                shape: node.input_shape,
                input: self.operand(source, moment, false),
                output: self.output(tail, moment, false),
            },
            Operation::Linear { outputs } => Kind::Linear {
                inputs: node.input_shape.elements() as usize,
                outputs: outputs as usize,
                input: self.operand(source, moment, true),
                output: self.output(tail, moment, false),
                weight: first,
                bias: second,
            },
            Operation::Loss => Kind::Loss { input: self.operand(source, moment, true) },
            Operation::Measured => {
                let problem =
                    "a layer that is known by its time only can be simulated, not computed";
                return Err(PlanError::Node { node: node.name.clone(), problem });
            }
            Operation::Input | Operation::Add => {
                let problem = "expected only at the start, or after a batch norm";
                return Err(PlanError::Node { node: node.name.clone(), problem });
            }
        })
    }
}

/// Backward goes from the last instruction to the first: who comes first to a gradient stores, all
/// others add.
fn mark_accumulation(instructions: &mut [Instruction]) {
    let mut written = std::collections::HashSet::new();
    let mut mark = |operand: &mut Operand| {
        if let Some(target) = &mut operand.gradient {
            target.accumulate = !written.insert(target.buffer);
        }
    };
    for instruction in instructions.iter_mut().rev() {
        match &mut instruction.kind {
            Kind::BatchNorm { input, residual, .. } => {
                mark(input);
                residual.iter_mut().for_each(&mut mark);
            }
            Kind::Convolution { input, .. }
            | Kind::Relu { input, .. }
            | Kind::Dropout { input, .. }
            | Kind::MaxPool { input, .. }
            | Kind::GlobalAveragePool { input, .. }
            | Kind::Linear { input, .. }
            | Kind::Loss { input } => mark(input),
        }
    }
}
