//! Each law against its equation, with numbers worked out by hand.

use super::super::*;
use super::fitted;

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9 * expected.abs(), "{found} {expected}");
}

/// 30 · (1 + 30,000/60,000) · (10⁻⁴/5·10⁻⁵)^0.04 + 8/2 = 45 · 1.028113826656067 + 4.
#[test]
fn epochs_follow_their_equation() {
    let recipe = EpochsRecipe { warm_up_epochs: 8.0, weight_decay: 1e-4 };
    let found = epochs::epochs(&[30.0, 60_000.0, 0.04], 30_000.0, &recipe);
    close(found, 50.265_122_199_523_01);
}

/// u = 90/(1 + 65,536/65,536) = 45, so 81 − 5·0.5^−0.3 = 81 − 5·1.231144413344916; momentum loses
/// 4·2² more, half precision 0.1, no warm-up 1·8, decay 3·1, vanishing gradients 2.
#[test]
fn accuracy_follows_its_equation() {
    let parameters = [81.0, 63.0, 64.0, 5.0, 0.3, 65_536.0, 4.0, 2.0, 0.1, 1.0, 3.0, 2.0];
    let training = |recipe| Training { recipe, batch: 65_536.0, epochs: 90.0 };
    let top1 = |recipe| accuracy::top1(&parameters, &training(recipe));
    let lars = Recipe::usual(Model::Resnet50, Optimizer::Lars);
    close(top1(lars), 74.844_277_933_275_42);
    close(top1(Recipe { optimizer: Optimizer::Momentum, ..lars }), 58.844_277_933_275_42);
    close(top1(Recipe { precision: Precision::Half, ..lars }), 74.744_277_933_275_42);
    let worst = Recipe {
        warm_up: false,
        decay_on_bias_and_norm: true,
        precision: Precision::Half,
        loss_scaling: false,
        ..lars
    };
    close(top1(worst), 61.744_277_933_275_42);
    close(top1(Recipe { model: Model::Alexnet, ..lars }), 56.844_277_933_275_42);
}

/// T = 42 epochs, 2 of warm-up, power 2, B = 10,000 = B1, e = 22: s = ¼, z = 1 + 40/3·(1 − ⅛) =
/// 38/3, z0 = 2·1; F = 83 − 6·(42/1.25/90)^−0.2; y = (F − 40/4)·(1 − e^(−19/3)).
#[test]
fn the_curve_follows_its_equation() {
    let parameters =
        [83.0, 6.0, 0.2, 40_000.0, 40.0, 1.0, 1.0, 10_000.0, -1.0, 30.0, 0.6, 0.5, 44.0, 2.0];
    let schedule = Schedule::Polynomial { warm_up_epochs: 2.0, epochs: 42.0, power: 2.0 };
    let course = Course { optimizer: Optimizer::Lars, schedule, batch: 10_000.0 };
    let end = 83.0 - 6.0 * (42.0 / 1.25 / 90.0_f64).powf(-0.2);
    close(curve::final_top1(&parameters, &course), end);
    let expected = (end - 10.0) * (1.0 - (-19.0_f64 / 3.0).exp());
    close(curve::top1(&parameters, &course, 22.0), expected);
    let momentum = Course { optimizer: Optimizer::Momentum, ..course };
    close(curve::final_top1(&parameters, &momentum), end + 0.5);
}

/// A single known run of the same recipe takes the level with it: weight (τ² + τ₂²)/(τ² + τ₂² + σ²).
#[test]
fn an_anchor_sets_the_level() {
    let law = fitted().accuracy;
    let recipe = Recipe::usual(Model::Resnet50, Optimizer::Lars);
    let training = Training { recipe, batch: 512.0, epochs: 90.0 };
    let level = law.final_top1(&training, None);
    let anchor = Anchor { training, top1_percent: level.value + 1.0 };
    let known = law.final_top1(&training, Some(&anchor));
    let spread = law.level_spread.powi(2) + law.recipe_spread.powi(2);
    close(known.value - level.value, spread / (spread + law.residual.powi(2)));
    assert!(known.high - known.low < 0.5 * (level.high - level.low));
}

/// Jia et al.: 90 epochs at 65,536 images reach 75.8 %; momentum with linear scaling fails there.
#[test]
fn momentum_fails_where_lars_does_not() {
    let fitted = fitted();
    let top1 = |optimizer, batch| {
        let recipe = Recipe::usual(Model::Resnet50, optimizer);
        fitted.final_top1(&Training { recipe, batch, epochs: 90.0 }, None).value
    };
    assert!(top1(Optimizer::Lars, 65_536.0) > 74.5);
    assert!(top1(Optimizer::Momentum, 65_536.0) < 65.0);
    assert!(top1(Optimizer::Momentum, 8192.0) > 75.0);
}

#[test]
fn what_was_not_fitted_says_so() {
    let fitted = fitted();
    assert!(fitted.epochs_to_target(32_768.0).extrapolated.is_empty());
    assert!(matches!(
        fitted.epochs_to_target(262_144.0).extrapolated[..],
        [Extrapolation::Batch { .. }]
    ));
    let recipe = Recipe::usual(Model::Resnet50, Optimizer::Lars);
    let training = Training { recipe, batch: 32_768.0, epochs: 90.0 };
    assert!(fitted.final_top1(&training, None).extrapolated.is_empty());
    let long = Training { epochs: 1000.0, ..training };
    assert!(matches!(
        fitted.final_top1(&long, None).extrapolated[..],
        [Extrapolation::Epochs { .. }]
    ));
    let cold = Training { recipe: Recipe { warm_up: false, ..recipe }, ..training };
    let why = fitted.final_top1(&cold, None).extrapolated;
    assert!(why[0].to_string().contains("without warm-up"), "{why:?}");
    let steps = Schedule::Steps { warm_up_epochs: 5.0 };
    let course = Course { optimizer: Optimizer::Lars, schedule: steps, batch: 4096.0 };
    assert!(!fitted.curve(&course, 10.0).extrapolated.is_empty());
}

#[test]
fn laws_are_the_same_after_writing_and_reading() {
    let fitted = fitted();
    let text = serde_json::to_string(&fitted).unwrap();
    assert_eq!(serde_json::from_str::<Convergence>(&text).unwrap(), fitted);
}
