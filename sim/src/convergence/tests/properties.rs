//! What holds of any run.

use proptest::prelude::*;

use super::super::*;
use super::fitted;

fn batch() -> impl Strategy<Value = f64> {
    (5.0..12.5_f64).prop_map(f64::exp)
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let model = prop_oneof![Just(Model::Resnet50), Just(Model::Alexnet), Just(Model::AlexnetBn)];
    let optimizer = prop_oneof![
        Just(Optimizer::Momentum),
        Just(Optimizer::Lars),
        Just(Optimizer::RmspropWarmUp)
    ];
    (model, optimizer, any::<[bool; 4]>()).prop_map(
        |(model, optimizer, [warm_up, decay_on_bias_and_norm, half, loss_scaling])| Recipe {
            model,
            optimizer,
            warm_up,
            decay_on_bias_and_norm,
            precision: if half { Precision::Half } else { Precision::Single },
            loss_scaling,
        },
    )
}

fn course() -> impl Strategy<Value = Course> {
    let schedule = prop_oneof![
        (0.0..40.0_f64, 1.0..60.0_f64, 0.5..3.0_f64).prop_map(|(warm_up_epochs, more, power)| {
            Schedule::Polynomial { warm_up_epochs, epochs: warm_up_epochs + more, power }
        }),
        (0.0..10.0_f64).prop_map(|warm_up_epochs| Schedule::Steps { warm_up_epochs }),
    ];
    let optimizer = prop_oneof![Just(Optimizer::Momentum), Just(Optimizer::Lars)];
    (schedule, optimizer, batch()).prop_map(|(schedule, optimizer, batch)| Course {
        optimizer,
        schedule,
        batch,
    })
}

fn ordered(forecast: &Forecast) -> bool {
    forecast.low <= forecast.value && forecast.value <= forecast.high
}

proptest! {
    #[test]
    fn a_larger_batch_never_needs_fewer_epochs(a in batch(), b in batch()) {
        let law = fitted().epochs;
        let (small, large) = (law.epochs_to_target(a.min(b)), law.epochs_to_target(a.max(b)));
        prop_assert!(small.value <= large.value);
        prop_assert!(ordered(&small) && ordered(&large));
        let inside = law.batches.contains(a.min(b));
        prop_assert_eq!(small.extrapolated.is_empty(), inside);
    }

    /// E0'·(1 + B/Bc') says the same as the law with its usual recipe.
    #[test]
    fn the_usual_recipe_has_the_simple_law(batch in batch()) {
        let law = fitted().epochs;
        let simple = law.small_batch_epochs() * (1.0 + batch / law.critical_batch());
        prop_assert!((law.epochs_to_target(batch).value / simple - 1.0).abs() < 1e-9);
    }

    #[test]
    fn more_epochs_or_a_smaller_batch_never_lose_accuracy(
        recipe in recipe(),
        batch in batch(),
        epochs in 1.0..500.0_f64,
        more in 1.0..3.0_f64,
        larger in 1.0..3.0_f64,
    ) {
        let fitted = fitted();
        let top1 = |batch, epochs| {
            fitted.final_top1(&Training { recipe, batch, epochs }, None)
        };
        let middle = top1(batch, epochs);
        prop_assert!(ordered(&middle));
        prop_assert!(top1(batch, epochs * more).value >= middle.value);
        prop_assert!(top1(batch * larger, epochs).value <= middle.value);
    }

    #[test]
    fn an_anchor_keeps_the_interval_in_order(
        recipe in recipe(),
        batch in batch(),
        top1_percent in 40.0..85.0_f64,
    ) {
        let training = Training { recipe, batch, epochs: 90.0 };
        let small = Training { batch: 256.0, ..training };
        let anchor = Anchor { training: small, top1_percent };
        prop_assert!(ordered(&fitted().final_top1(&training, Some(&anchor))));
    }

    #[test]
    fn a_curve_stays_a_percentage_and_ends_at_its_final_accuracy(
        course in course(),
        part in 0.0..1.0_f64,
    ) {
        let law = fitted().curve;
        let end = course.schedule.epochs();
        let at = law.top1(&course, end * part);
        prop_assert!(ordered(&at) && at.low >= 0.0 && at.high <= 100.0, "{:?}", at);
        prop_assert!(ordered(&law.top1_towards(&course, &at, end * part)));
        let values = law.posterior.values();
        let last = curve::final_top1(&values, &course);
        prop_assert!(curve::top1(&values, &course, end) <= last.max(0.0));
        // Long runs have learnt all there is to learn.
        let travelled = course.schedule.travelled(end);
        let slowness = values[6] * (1.0 + course.batch / values[7]);
        if travelled > 8.0 * slowness
            && matches!(course.schedule, Schedule::Polynomial { .. })
        {
            prop_assert!(last - curve::top1(&values, &course, end) < 0.05);
        }
    }
}
