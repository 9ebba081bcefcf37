//! What a scenario asks of accuracy: epochs to a target, or the accuracy after given epochs.

use std::sync::LazyLock;

use super::machine::InputSource;
use super::problem::Problem;
use super::spec::ScenarioSpec;
use crate::compute::{Optimizer, Precision};
use crate::convergence::{
    self, Anchor, Convergence, CriticalBatch, CriticalBatchSource, Goal, Model, Outcome, Question,
    Recipe, Training,
};
use crate::profile::Profile;
use crate::workload::{Network, NetworkName, Shape};

/// The published laws are of ImageNet; training sets within this part of its size are taken for it.
const SAME_IMAGES: f64 = 0.01;

/// What is known of a point once its batch and network are.
pub(super) struct Trained<'a> {
    pub(super) network: &'a Network,
    pub(super) precision: Precision,
    pub(super) optimizer: Optimizer,
    pub(super) images: u64,
    pub(super) imagenet_images: u64,
    pub(super) global_batch: u64,
}

/// What training needs and reaches, and where that is from; none if the scenario does not ask.
///
/// # Errors
/// Keys contradict each other, or no law says what is asked.
pub(super) fn outcome(
    spec: &ScenarioSpec,
    profile: Option<&Profile>,
    trained: &Trained<'_>,
    epochs: Option<f64>,
) -> Result<Option<(Outcome, Vec<InputSource>)>, Problem> {
    let Some(asked) = &spec.convergence else { return Ok(None) };
    let target = match asked.target_top1 {
        None => None,
        Some(target) if target.get() > 0.0 && target.get() < 1.0 => Some(target.percent()),
        Some(target) => {
            let problem = format!("{target}, expected above 0 % and below 100 %");
            return Err(Problem::new("convergence.target_top1", problem));
        }
    };
    let goal = match (epochs, asked.reference, target) {
        (Some(_), Some(_), _) => {
            let problem = "given beside training.epochs: known epochs at one batch say how many others \
                           need; leave one of them out";
            return Err(Problem::new("convergence.reference", problem));
        }
        (Some(_), None, Some(_)) => {
            let problem = "given beside training.epochs: the target says how many epochs are needed; \
                           leave one of them out";
            return Err(Problem::new("convergence.target_top1", problem));
        }
        (Some(epochs), None, None) => Goal::Epochs(epochs),
        (None, Some(known), top1_percent) => Goal::AsKnown { known, top1_percent },
        (None, None, Some(target)) => Goal::Top1(target),
        (None, None, None) => {
            let problem = "nothing says when training ends: give training.epochs, for the accuracy \
                           after them, or convergence.target_top1, for the epochs to it";
            return Err(Problem::new("convergence", problem));
        }
    };
    let (critical_batch, critical_from) = critical_batch(asked.critical_batch, profile)?;
    let recipe = recipe(spec, trained);
    let is_imagenet =
        (trained.images as f64 / trained.imagenet_images as f64 - 1.0).abs() < SAME_IMAGES;
    let recipe = recipe.filter(|_| is_imagenet);
    let of_laws = [
        ("convergence.anchor", asked.anchor.is_some()),
        ("convergence.warm_up", asked.warm_up.is_some()),
        ("convergence.decay_bias_and_batch_norm", asked.decay_bias_and_batch_norm.is_some()),
        ("convergence.loss_scaling", asked.loss_scaling.is_some()),
    ];
    let known = matches!(goal, Goal::AsKnown { .. });
    if let Some((key, _)) = of_laws.iter().find(|(_, given)| *given && known) {
        let problem = "has no effect beside convergence.reference, which is of one's own recipe: leave it \
                       out";
        return Err(Problem::new(key, problem));
    }
    let anchor = match (asked.anchor, recipe) {
        (None, _) => None,
        (Some(known), Some(of_point)) => {
            let optimizer = known.optimizer.unwrap_or(of_point.optimizer);
            let recipe = Recipe { optimizer, ..Recipe::usual(of_point.model, optimizer) };
            let recipe = Recipe { precision: of_point.precision, ..recipe };
            let training = Training { recipe, batch: known.batch, epochs: known.epochs };
            Some(Anchor { training, top1_percent: known.top1_percent })
        }
        (Some(_), None) => None,
    };
    let question = Question { recipe, anchor, goal, critical_batch };
    let laws = Convergence::shipped();
    let Some(outcome) = question.at(laws, trained.global_batch as f64) else {
        return Err(no_law(spec, trained, is_imagenet, goal));
    };
    let mut sources = sources(laws, &question, &outcome, target);
    if let Some(from) = critical_from {
        let CriticalBatch { images, low, high } = outcome.critical_batch;
        let value = format!("{images:.0} images ({low:.0} to {high:.0})");
        sources.push(InputSource { what: "critical batch", value, from });
    }
    Ok(Some((outcome, sources)))
}

fn no_law(spec: &ScenarioSpec, trained: &Trained<'_>, is_imagenet: bool, goal: Goal) -> Problem {
    let name = trained.network.name();
    let what = match (goal, is_imagenet) {
        (Goal::AsKnown { .. }, _) => {
            let problem = format!(
                "no critical batch of {name} is known: give one, such as \"4000 images\", or a profile \
                 that measured the gradient noise scale"
            );
            return Problem::new("convergence.critical_batch", problem);
        }
        (_, true) => {
            format!("no published law is of {name}, only of resnet50, alexnet, alexnet-bn")
        }
        (_, false) => format!(
            "published laws are of ImageNet's {} images, not of {}",
            trained.imagenet_images, trained.images
        ),
    };
    let key = match spec.convergence.as_ref().and_then(|asked| asked.target_top1) {
        Some(_) => "convergence.target_top1",
        None => "convergence",
    };
    let advice = "give convergence.reference, the epochs that your own run needed, such as \"12 epochs \
                  at 256\"";
    Problem::new(key, format!("{what}: {advice}"))
}

/// The user's own critical batch, and where it is from: what the scenario says, else what the
/// profile measured.
fn critical_batch(
    asked: Option<CriticalBatchSource>,
    profile: Option<&Profile>,
) -> Result<(Option<CriticalBatch>, Option<String>), Problem> {
    match asked {
        Some(CriticalBatchSource::Published) => Ok((None, None)),
        Some(CriticalBatchSource::Own(own)) => Ok((Some(own), Some("scenario".to_owned()))),
        None => {
            let Some(noise) = profile.and_then(|profile| profile.gradient_noise.as_ref()) else {
                return Ok((None, None));
            };
            let scale = noise.scale_images;
            if !(scale.low > 0.0 && scale.value.is_finite() && scale.high.is_finite()) {
                let problem = format!(
                    "the profile's gradient noise scale is {:.0} images, from {:.0} to {:.0}: too little is \
                     known; record more steps, or say \"published\" or one's own",
                    scale.value, scale.low, scale.high
                );
                return Err(Problem::new("convergence.critical_batch", problem));
            }
            let from = format!(
                "gradient noise scale of the profile, steps {} to {}, in place of the published one",
                noise.steps.0, noise.steps.1
            );
            let own = CriticalBatch { images: scale.value, low: scale.low, high: scale.high };
            Ok((Some(own), Some(from)))
        }
    }
}

/// The networks that published laws are of, by what tells networks apart. They are built once: a search
/// asks thousands of times.
fn known_networks() -> &'static [(Model, (Shape, u64)); 3] {
    static KNOWN: LazyLock<[(Model, (Shape, u64)); 3]> = LazyLock::new(|| {
        [
            (Model::Resnet50, NetworkName::Resnet50),
            (Model::Alexnet, NetworkName::Alexnet),
            (Model::AlexnetBn, NetworkName::AlexnetBn),
        ]
        .map(|(model, name)| {
            let network = name.network();
            (model, (network.input_shape(), network.parameter_count()))
        })
    });
    &KNOWN
}

/// The recipe in the words of the published laws; none where they are of no such network.
fn recipe(spec: &ScenarioSpec, trained: &Trained<'_>) -> Option<Recipe> {
    let asked = spec.convergence.as_ref()?;
    let shape = (trained.network.input_shape(), trained.network.parameter_count());
    let (model, _) = known_networks().iter().find(|(_, known)| *known == shape)?;
    let optimizer = match trained.optimizer {
        Optimizer::Momentum => convergence::Optimizer::Momentum,
        Optimizer::Lars => convergence::Optimizer::Lars,
        Optimizer::RmspropWarmUp => convergence::Optimizer::RmspropWarmUp,
    };
    let precision = match trained.precision {
        Precision::Fp32 | Precision::Tf32 => convergence::Precision::Single,
        Precision::Fp16Mixed | Precision::Bf16Mixed => convergence::Precision::Half,
    };
    Some(Recipe {
        model: *model,
        optimizer,
        warm_up: asked.warm_up.unwrap_or(true),
        // What others lose by it is not known.
        decay_on_bias_and_norm: asked.decay_bias_and_batch_norm.unwrap_or(false)
            && trained.optimizer == Optimizer::Lars,
        precision,
        // bfloat16 has the exponents of single precision, in which nothing vanishes.
        loss_scaling: asked.loss_scaling.unwrap_or(true)
            || trained.precision == Precision::Bf16Mixed,
    })
}

/// What the outcome rests on.
fn sources(
    laws: &Convergence,
    question: &Question,
    outcome: &Outcome,
    target: Option<f64>,
) -> Vec<InputSource> {
    let mut sources = Vec::new();
    match question.goal {
        Goal::AsKnown { known, .. } => sources.push(InputSource {
            what: "epochs",
            value: format!("{known}, by the critical batch"),
            from: "scenario".to_owned(),
        }),
        Goal::Top1(_) => {
            let target = target.unwrap_or_default();
            let (by, from) = if outcome.by_law_of_epochs {
                ("by MLPerf's tuned recipes", &laws.epochs.source)
            } else {
                ("by the law of accuracy", &laws.accuracy.source)
            };
            let value = format!("as many as {target:.1} % top-1 needs, {by}");
            sources.push(InputSource { what: "epochs", value, from: from.clone() });
        }
        Goal::Epochs(_) => {
            let value = "power law of useful epochs, less what the recipe loses".to_owned();
            let from = laws.accuracy.source.clone();
            sources.push(InputSource { what: "accuracy", value, from });
        }
    }
    if let Some(anchor) = question.anchor {
        let Training { batch, epochs, .. } = anchor.training;
        let value = format!("{} % at {batch} for {epochs} epochs", anchor.top1_percent);
        sources.push(InputSource { what: "accuracy's level", value, from: "scenario".to_owned() });
    }
    sources
}
