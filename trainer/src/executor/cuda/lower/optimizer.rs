//! The optimizer's step over all tensors, and the tables it reads.

use foretrain_sim::recording::NumberFormat;

use super::super::arguments::optimizer::{
    OptimizerNorms, OptimizerRates, OptimizerUpdate, RuleEntry, TensorEntry, parts, tensor_flags,
};
use super::super::arguments::{Address, Arguments};
use super::super::kernels::format_number;
use super::super::memory::Memory;
use super::super::work::Work;
use crate::loss_scale::LossScaleConfig;
use crate::optimizer::Rule;
use crate::plan::Plan;

/// What an optimizer's step reads and does.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerTables {
    /// What must be written before the first step, and where.
    pub tables: Vec<(Address, Vec<u8>)>,
    /// Judges the gradients: rates, whether the step is skipped, the next loss scale.
    pub judge: Vec<Work>,
    /// New velocities, weights and rounded weights, unless the step is skipped.
    pub update: Vec<Work>,
}

/// Bytes that the optimizer's step reads and writes at least, with activations and gradients of
/// `format`: weights and gradients twice, for the norms and for the update, velocities, new weights,
/// new velocities, and rounded weights.
#[must_use]
pub fn optimizer_bytes(plan: &Plan, format: NumberFormat) -> u64 {
    let elements = plan.parameters().iter().map(|tensor| tensor.elements() as u64).sum::<u64>();
    let single = NumberFormat::F32.element_bytes();
    elements * (5 * single + 3 * format.element_bytes())
}

/// The optimizer's step for gradients of `format` that lie at `gradients`, one place a parameter.
#[must_use]
pub fn tables(
    plan: &Plan,
    memory: &Memory,
    (rule, loss_scale): (&Rule, &LossScaleConfig),
    gradients: &[Address],
    format: NumberFormat,
) -> OptimizerTables {
    let [tensors, part_table, partial, rates, rule_entry] = memory.optimizer;
    let [input, state] = memory.step;
    let sizes: Vec<usize> = plan.parameters().iter().map(|tensor| tensor.elements()).collect();
    let (tensor_of_part, first_parts) = parts(&sizes);
    let mut entries = Vec::new();
    for (index, parameter) in plan.parameters().iter().enumerate() {
        let is_padded =
            memory.padded_filters.is_some_and(|filters| filters.parameter.get() == index);
        let entry = TensorEntry {
            weights: memory.masters[index],
            velocity: memory.velocities[index],
            gradient: gradients[index],
            // Padded filters are rounded apart.
            copy: if is_padded { Address::NULL } else { memory.copies[index] },
            elements: sizes[index] as u64,
            first_part: first_parts[index],
            flags: tensor_flags(rule, parameter.role),
        };
        entries.extend(entry.to_bytes());
    }
    let part_bytes = tensor_of_part.iter().flat_map(|tensor| tensor.to_le_bytes()).collect();
    let gradient_format = format_number(format);
    let blocks = tensor_of_part.len() as u32;
    let norms = OptimizerNorms { tensors, parts: part_table, partial, state, gradient_format };
    let tensor_count = sizes.len() as u32;
    let of_rates =
        OptimizerRates { tensors, partial, rates, input, state, rule: rule_entry, tensor_count };
    let update = OptimizerUpdate {
        tensors,
        parts: part_table,
        rates,
        state,
        rule: rule_entry,
        gradient_format,
    };
    let mut updates = vec![Work::Launch(update.launch(blocks))];
    updates.extend(
        memory.padded_filters.and_then(|filters| super::round(plan, memory, filters.parameter)),
    );
    OptimizerTables {
        tables: vec![
            (tensors, entries),
            (part_table, part_bytes),
            (rule_entry, RuleEntry::new(rule, loss_scale).to_bytes()),
        ],
        judge: vec![Work::Launch(norms.launch(blocks)), Work::Launch(of_rates.launch(1))],
        update: updates,
    }
}

#[cfg(test)]
mod tests {
    use foretrain_sim::workload::Architecture;

    use super::*;

    /// ResNet-50 has 25,557,032 weights (torchvision's count): with two bytes each, 26 bytes of each are
    /// moved, with four 32.
    #[test]
    fn bytes_of_an_update_by_hand() {
        let architecture = Architecture::Resnet50;
        let plan = Plan::new(&architecture.network(architecture.published_size())).unwrap();
        assert_eq!(optimizer_bytes(&plan, NumberFormat::F16), 25_557_032 * 26);
        assert_eq!(optimizer_bytes(&plan, NumberFormat::F32), 25_557_032 * 32);
    }
}
