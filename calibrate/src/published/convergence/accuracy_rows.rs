//! What published words say of a training.

use super::rows::AccuracyRow;
use foretrain_sim::convergence::{Model, Optimizer, Precision, Recipe, Training};

/// Epochs of a recipe that has an anchor and does not say how many: those of Goyal et al., which
/// both runs then share, so that the loss against the anchor hardly depends on it.
const USUAL_EPOCHS: f64 = 90.0;

/// Images per accelerator where the source has no batch: the power of two that fills 16 to 32 GB.
const USUAL_BATCH: f64 = 256.0;

/// On so many accelerators the batch is far below the critical one, whatever it is exactly.
const FEW_ACCELERATORS: f64 = 16.0;

/// Up to this batch, LARS and momentum reach the same (Goyal et al., arXiv 1706.02677, abstract),
/// so that the optimizer may stay unknown.
const ANY_OPTIMIZER: f64 = 8192.0;

/// Above this batch, momentum with linear scaling fails.
const LARGEST_MOMENTUM: f64 = 16_384.0;

/// A run that the law can describe.
#[derive(Debug, Clone)]
pub(super) struct Known<'a> {
    pub(super) row: &'a AccuracyRow,
    pub(super) training: Training,
    /// Whose recipe it is: runs of a group share a level.
    pub(super) group: (Model, &'a str),
    /// Whether it is its recipe's anchor, or has none.
    pub(super) sets_level: bool,
    own_schedule: bool,
}

impl Known<'_> {
    /// Whether it is as its authors recommend: no part left out, no schedule of its own, and a
    /// batch at which its optimizer is meant to work.
    pub(super) fn is_unmodified(&self) -> bool {
        !self.training.recipe.is_ablation() && !self.own_schedule && !self.is_too_large()
    }

    /// Whether momentum with linear scaling fails at its batch.
    pub(super) fn is_too_large(&self) -> bool {
        self.training.recipe.optimizer.scales_linearly() && self.training.batch > LARGEST_MOMENTUM
    }
}

/// What the row says, or why it says too little; `rows` are all, among which its anchor is.
pub(super) fn known<'a>(
    row: &'a AccuracyRow,
    rows: &'a [AccuracyRow],
) -> Result<Known<'a>, &'static str> {
    if row.notes.contains("quoted in the introduction") {
        return Err("another paper's result, quoted without its recipe");
    }
    let model = match row.model.as_str() {
        "resnet50" => Model::Resnet50,
        "alexnet" => Model::Alexnet,
        "alexnet-bn" => Model::AlexnetBn,
        _ => return Err("a model without a law"),
    };
    let few = row.accelerators.filter(|&count| count <= FEW_ACCELERATORS);
    let batch = row.batch.or(few.map(|count| count * USUAL_BATCH));
    let batch = batch.ok_or("the source does not say the global batch")?;
    let usual = (!row.anchor.is_empty()).then_some(USUAL_EPOCHS);
    let epochs = row.epochs.or(usual).ok_or("the source does not say how many epochs")?;
    let optimizer = match row.optimizer.as_str() {
        "" if batch <= ANY_OPTIMIZER => Optimizer::Momentum,
        "" => return Err("the source does not say the optimizer, which matters at this batch"),
        words if words.contains("lars") => Optimizer::Lars,
        words if words.contains("rmsprop") => Optimizer::RmspropWarmUp,
        words if words.contains("sgd") || words.contains("momentum") => Optimizer::Momentum,
        _ => return Err("an optimizer without a law: of second order, or unknown"),
    };
    let half = row.precision.starts_with("fp16") || row.precision.starts_with("bf16");
    let recipe = Recipe {
        model,
        optimizer,
        warm_up: !row.notes.contains("no warmup"),
        decay_on_bias_and_norm: row.notes.contains("decay still on"),
        precision: if half { Precision::Half } else { Precision::Single },
        loss_scaling: row.precision != "fp16-pure",
    };
    let anchor = rows.iter().find(|other| !row.anchor.is_empty() && other.id == row.anchor);
    Ok(Known {
        row,
        training: Training { recipe, batch, epochs },
        group: (model, anchor.map_or(row.source.as_str(), |anchor| anchor.source.as_str())),
        sets_level: anchor.is_none_or(|anchor| anchor.id == row.id),
        own_schedule: row.optimizer.contains("cyclic"),
    })
}
