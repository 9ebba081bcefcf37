//! Which tensors a network's file of weights holds: torchvision's `state_dict`.

use candle_core::DType;
use foretrain_sim::workload::{Network, Operation};

/// What a tensor is, which decides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    /// It has a gradient. Single precision.
    Parameter,
    /// The running mean or variance of a batch norm. Single precision.
    Statistic,
    /// How many batches a batch norm has seen. A whole number of 64 bits.
    Counter,
}

/// One tensor of a network's file of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTensor {
    /// Its name in torchvision, such as `layer1.0.bn1.running_mean`.
    pub name: String,
    /// Its dimensions: filters are outputs × inputs per group × rows × columns, matrices outputs ×
    /// inputs, counters have none.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: TensorKind,
}

impl TensorKind {
    /// The type of its elements.
    #[must_use]
    pub const fn dtype(self) -> DType {
        match self {
            Self::Parameter | Self::Statistic => DType::F32,
            Self::Counter => DType::I64,
        }
    }
}

impl ModelTensor {
    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All tensors of `network`, in forward order, each batch norm's statistics after its parameters.
#[must_use]
pub fn model_tensors(network: &Network) -> Vec<ModelTensor> {
    let mut tensors = Vec::new();
    for node in network.nodes() {
        for parameter in &node.parameters {
            let shape = parameter.shape.iter().map(|&size| size as usize).collect();
            let (name, kind) = (parameter.name.clone(), TensorKind::Parameter);
            tensors.push(ModelTensor { name, shape, kind });
        }
        if node.operation == Operation::BatchNorm {
            let channels = vec![node.input_shape.channels as usize];
            for (suffix, shape, kind) in [
                ("running_mean", channels.clone(), TensorKind::Statistic),
                ("running_var", channels, TensorKind::Statistic),
                ("num_batches_tracked", Vec::new(), TensorKind::Counter),
            ] {
                let name = format!("{}.{suffix}", node.name);
                tensors.push(ModelTensor { name, shape, kind });
            }
        }
    }
    tensors
}
