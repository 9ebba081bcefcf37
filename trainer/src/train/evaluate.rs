//! Evaluations, and the batch-norm statistics that ranks have in common.

use super::rank::RankRun;
use super::{Evaluation, News, TrainError, Watch};
use crate::data::sampler::Purpose;
use crate::executor::{LossSum, RunningStatistics};

impl RankRun<'_> {
    /// The running statistics of all batch norms, averaged over the ranks.
    pub(super) fn averaged_statistics(&mut self) -> Result<Vec<RunningStatistics>, TrainError> {
        let norms = self.setup.plan.batch_norms();
        let own = self.replica.running_statistics()?;
        if self.setup.world == 1 || norms.is_empty() {
            return Ok(own);
        }
        let all = own.iter().flat_map(|norm| norm.mean.iter().chain(&norm.variance));
        let mut values: Vec<f32> = all.copied().collect();
        let name = format!("average of running statistics after step {}", self.done);
        let pending = self
            .replica
            .communication()
            .ask(move |all| all.all_reduce(&name, values.as_mut_slice().into()).map(|()| values));
        let mut values = pending.wait()??.into_iter();
        let world = self.setup.world as f32;
        let mut next =
            |channels: usize| values.by_ref().take(channels).map(|sum| sum / world).collect();
        Ok(norms
            .iter()
            .map(|norm| RunningStatistics {
                mean: next(norm.channels),
                variance: next(norm.channels),
            })
            .collect())
    }

    /// Evaluates with the statistics averaged over the ranks; training goes on with its own.
    pub(super) fn evaluate(
        &mut self,
        watch: &mut dyn Watch,
    ) -> Result<Option<Evaluation>, TrainError> {
        let setup = self.setup;
        let Some(eval) = &setup.eval else { return Ok(None) };
        let epoch = self.done as f64 / setup.steps_per_epoch as f64;
        if let Some(logs) = &mut self.logs {
            logs.evaluation_start(epoch)?;
        }
        let averaged = self.averaged_statistics()?;
        let own = self.replica.running_statistics()?;
        self.replica.set_running_statistics(&averaged)?;
        let mut total = LossSum::default();
        let mut images = 0;
        for batch in self.loader((eval, &setup.eval_preparation), Purpose::Evaluation, 0, 0)? {
            let batch = batch?;
            images += batch.labels.len();
            let sum = self.replica.evaluate(&super::rank::tensors(setup, batch)?)?;
            total.loss += sum.loss;
            total.hits += sum.hits;
            total.hits_top5 += sum.hits_top5;
        }
        self.replica.set_running_statistics(&own)?;
        let name = format!("exchange of evaluations after step {}", self.done);
        let own = [total.loss, total.hits as f64, total.hits_top5 as f64, images as f64];
        let [loss, hits, hits_top5, images] = self.sum(name, own)?;
        let evaluation = Evaluation {
            epoch,
            images: images as u64,
            loss: loss / images,
            top1: hits / images,
            top5: hits_top5 / images,
        };
        self.best_top1 = Some(self.best_top1.map_or(evaluation.top1, |b| b.max(evaluation.top1)));
        if let Some(logs) = &mut self.logs {
            logs.evaluation(self.done, &evaluation)?;
        }
        watch.tell(News::Evaluation(evaluation));
        Ok(Some(evaluation))
    }
}
