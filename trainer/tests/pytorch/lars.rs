//! Ten steps of LARS on a ResNet-8: executor and optimizer together, on one rank and on two.

use foretrain_sim::workload::Architecture;
use foretrain_trainer::executor::Mode;
use foretrain_trainer::optimizer::{
    Gradient, Lars, LarsForm, Optimizer, Rule, TensorState, Values,
};
use serde_json::Value;

use crate::rank::{Rank, Task};
use crate::{distance, fixture, number, numbers};

const STEPS: usize = 10;
const BATCH: usize = 8;

const TASK: Task = Task {
    architecture: Architecture::SmallResnet { blocks_per_stage: 1 },
    side: 16,
    classes: 10,
    batch: BATCH,
    span: 0,
};

/// A tensor's name and elements.
type Named = (String, Vec<f32>);

fn optimizer(settings: &Value, form: LarsForm) -> Optimizer {
    let lars = Lars {
        momentum: number(&settings["momentum"]),
        weight_decay: number(&settings["weight_decay"]),
        coefficient: number(&settings["coefficient"]),
        form,
        ..Lars::default()
    };
    Optimizer::new(Rule::Lars(lars)).unwrap()
}

/// Trains executors that share weights; gives the mean loss of each step and rank and the weights
/// by name, in PyTorch's order.
fn train(ranks: &mut [Rank<f32>], settings: &Value, form: LarsForm) -> (Vec<Vec<f64>>, Vec<Named>) {
    let rates = numbers(&settings["rates"]);
    assert_eq!(rates.len(), STEPS);
    let mut optimizer = optimizer(settings, form);
    let plan = std::sync::Arc::clone(&ranks[0].plan);
    let mut weights: Vec<Named> = plan
        .parameters()
        .iter()
        .map(|parameter| {
            let values = crate::formula::parameter(&parameter.name, &parameter.shape);
            (parameter.name.clone(), values.into_iter().map(|value| value as f32).collect())
        })
        .collect();
    let global_batch: usize = ranks.iter().map(|rank| rank.batch).sum();
    let mut losses = Vec::new();
    for lr in rates {
        let mut first = 0;
        let mut gradients: Vec<Vec<f32>> = Vec::new();
        let mut of_ranks = Vec::new();
        for rank in &mut *ranks {
            rank.load(first);
            first += rank.batch;
            for (id, (_, weights)) in plan.parameter_ids().zip(&weights) {
                let exact: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
                rank.set_weights(id, &exact);
            }
            rank.forward(Mode::Train);
            of_ranks.push(rank.loss());
            rank.backward(1.0 / global_batch as f64);
            let own = plan.parameter_ids().map(|id| rank.gradient(id));
            if gradients.is_empty() {
                gradients = own.map(|own| own.into_iter().map(|g| g as f32).collect()).collect();
            } else {
                for (sum, own) in gradients.iter_mut().zip(own) {
                    sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own as f32);
                }
            }
        }
        losses.push(of_ranks);
        let roles = plan.parameters().iter().map(|parameter| parameter.role);
        let mut tensors: Vec<_> = weights
            .iter_mut()
            .zip(&gradients)
            .zip(roles)
            .map(|(((name, weights), gradient), role)| TensorState {
                name,
                role,
                weights,
                gradient: Gradient { values: Values::F32(gradient), scale: 1.0 },
            })
            .collect();
        optimizer.step(&mut tensors, lr).unwrap();
    }
    (losses, weights)
}

/// PyTorch's own single precision is within 3e-7 of its double precision in every tensor.
fn check_weights(weights: &[Named], case: &Value) {
    for (name, weights) in weights {
        let weights: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
        let found = distance(&weights, &case[name]);
        assert!(found < 1e-5, "{name}: {found:e} of the norm");
    }
}

fn check_losses(losses: &[Vec<f64>], case: &Value) {
    for (step, (found, expected)) in
        losses.iter().zip(case["losses_f64"].as_array().unwrap()).enumerate()
    {
        let expected = numbers(expected);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let error = (found / expected - 1.0).abs();
            assert!(error < 1e-5, "step {step}: loss {found}, expected {expected}");
        }
    }
}

fn check_running(rank: &Rank<f32>, prefix: &str, case: &Value) {
    for norm in rank.plan.batch_norms() {
        for part in ["running_mean", "running_var"] {
            let name = format!("{}.{part}", norm.name);
            let found = distance(&rank.running(&name), &case[format!("{prefix} {name}")]);
            assert!(found < 1e-5, "{name}: {found:e} of the norm");
        }
    }
}

fn one_rank(case: &str, form: LarsForm) {
    let fixture = fixture("lars");
    let mut ranks = [Rank::new(TASK)];
    let (losses, weights) = train(&mut ranks, &fixture["settings"], form);
    let case = &fixture[case];
    check_losses(&losses, case);
    check_weights(&weights, case);
    check_running(&ranks[0], "rank 0", case);
}

#[test]
fn one_rank_trains_as_pytorch() {
    one_rank("with_decay", LarsForm::WithDecay);
}

#[test]
fn one_rank_trains_as_pytorch_with_the_other_denominator() {
    one_rank("without_decay", LarsForm::WithoutDecay);
}

#[test]
fn two_ranks_train_as_pytorch() {
    let fixture = fixture("lars");
    let mut ranks = [Rank::new(TASK), Rank::new(TASK)];
    let (losses, weights) = train(&mut ranks, &fixture["settings"], LarsForm::WithDecay);
    let case = &fixture["with_decay_2_ranks"];
    check_losses(&losses, case);
    check_weights(&weights, case);
    check_running(&ranks[0], "rank 0", case);
    check_running(&ranks[1], "rank 1", case);
}

/// One executor whose batch norms share statistics among 8 images computes what two ranks of 8 do.
/// Its running statistics follow the mean of the two.
#[test]
fn one_rank_with_a_span_trains_as_two_ranks() {
    let fixture = fixture("lars");
    let mut ranks = [Rank::new(Task { batch: 2 * BATCH, span: BATCH, ..TASK })];
    let (losses, weights) = train(&mut ranks, &fixture["settings"], LarsForm::WithDecay);
    let case = &fixture["with_decay_2_ranks"];
    for (found, expected) in losses.iter().zip(case["losses_f64"].as_array().unwrap()) {
        let mean = numbers(expected).iter().sum::<f64>() / 2.0;
        assert!((found[0] / mean - 1.0).abs() < 1e-5, "loss {}, expected {mean}", found[0]);
    }
    check_weights(&weights, case);
    // The mean of running means is the running mean of means: so the probe is the ranks' mean.
    for norm in ranks[0].plan.batch_norms() {
        for part in ["running_mean", "running_var"] {
            let name = format!("{}.{part}", norm.name);
            let rows = [0, 1].map(|rank| &case[format!("rank {rank} {name}")]);
            let probe = rows.iter().map(|row| number(&row["probe"])).sum::<f64>() / 2.0;
            let found = crate::formula::summary(&ranks[0].running(&name)).probe;
            let norm = number(&rows[0]["norm"]);
            assert!((found - probe).abs() < 1e-5 * norm, "{name}: {found}, expected {probe}");
        }
    }
}
