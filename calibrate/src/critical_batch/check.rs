//! What can be asked: configurations that the law is about.

use foretrain_trainer::config::{DeviceName, ModelName, Transport};
use foretrain_trainer::optimizer::Rule;
use foretrain_trainer::schedule::{Decay, Schedule, WarmupShape};

use super::{CriticalBatchError, Question, Study};

impl Study {
    /// Checks a question.
    ///
    /// # Errors
    /// It says what does not fit, and how to mend it.
    pub fn new(question: Question) -> Result<Self, CriticalBatchError> {
        let config = &question.config;
        let wrong = |key: &str, problem: &str| {
            Err(CriticalBatchError::Input(format!("`{key}`: {problem}")))
        };
        let training = &config.training;
        let Some(target) = training.target_top1 else {
            return wrong(
                "training.target_top1",
                "epochs to which accuracy? give one, such as \"85 %\"",
            );
        };
        if config.communication.transport != Transport::Threads {
            return wrong(
                "communication.transport",
                "here all ranks are threads of this process: leave it out",
            );
        }
        if training.device == DeviceName::Paced {
            return wrong("training.device", "a paced device learns nothing: take another");
        }
        let ranks = training.ranks.unwrap_or(1);
        if ranks < 2 {
            return wrong(
                "training.ranks",
                "the noise of gradients is what ranks differ by: take at least 2",
            );
        }
        if training.steps_max.is_some() {
            return wrong("training.steps_max", "a run goes on to its target here: leave it out");
        }
        if training.evaluate_every == 0.0 {
            return wrong(
                "training.evaluate_every",
                "0, but the target is looked for by evaluations: give the epochs from one to the \
                 next, such as 0.25",
            );
        }
        if !matches!(config.optimizer, Rule::Momentum(_)) {
            return wrong(
                "optimizer.rule",
                "LARS sets the length of its steps by norms of gradients, noise included, of which \
                 the law knows nothing: take \"momentum\", best with momentum = 0",
            );
        }
        if !matches!(config.schedule.decay, Decay::Constant(_)) {
            return wrong(
                "schedule.decay",
                "where the rate falls, epochs to the target follow its plan and not the batch: take \
                 { kind = \"constant\" }",
            );
        }
        if config.schedule.warmup.shape != WarmupShape::None && config.schedule.warmup.epochs > 0.0
        {
            return wrong(
                "schedule.warmup",
                "the law is of a constant rate: take { shape = \"none\" }",
            );
        }
        if config.network.model != ModelName::Alexnet && config.network.batch_norm_span.is_none() {
            return wrong(
                "network.batch_norm_span",
                "without it every batch trains another function: give a number that divides the \
                 images of a rank at all batches, such as 16",
            );
        }
        if question.seeds == 0 {
            return Err(CriticalBatchError::Input("0 seeds, expected at least 1".to_owned()));
        }
        let own = training.global_batch;
        let span = if config.network.model == ModelName::Alexnet {
            1
        } else {
            config.network.batch_norm_span.unwrap_or(1)
        };
        let unit = span.saturating_mul(ranks);
        for (index, &batch) in question.batches.iter().enumerate() {
            let problem = if batch == own {
                "is the configuration's own, at which everything is measured: leave it out"
                    .to_owned()
            } else if question.batches[..index].contains(&batch) {
                "is there twice".to_owned()
            } else if batch == 0 || !batch.is_multiple_of(unit) {
                format!(
                    "is no multiple of {unit}: {ranks} ranks with {span} images normalised together"
                )
            } else {
                continue;
            };
            return Err(CriticalBatchError::Input(format!("batch {batch} {problem}")));
        }
        let learning_rate = Schedule::new(config.schedule(), u64::from(own), 1)
            .map_err(|value| {
                CriticalBatchError::Input(format!("`schedule.{}`: {}", value.key, value.need))
            })?
            .peak();
        Ok(Self { target: target.get(), ranks, learning_rate, question })
    }
}
