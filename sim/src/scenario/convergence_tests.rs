//! What a scenario may ask of accuracy, and what it is told where nothing is known.

use super::*;
use crate::convergence::Convergence;
use crate::forecast::{Engine, Forecast, WarningCode, forecast};
use crate::profile::{Estimate, GradientNoise};

const BASE: &str = r#"
name = "test"
[cluster]
node = "dgx-1-v100"
[training]
model = "resnet50"
per_accelerator_batch = 64
precision = "fp16-mixed"
optimizer = "lars"
[simulation]
steps = 1
[sweep]
accelerators = [8, 64]
"#;

fn run(text: &str) -> Result<Forecast, String> {
    let scenario =
        Scenario::from_toml(text, Overrides::default()).map_err(|error| error.to_string())?;
    Ok(forecast(&scenario, Engine::Folded, || {}).unwrap())
}

fn with(convergence: &str) -> Result<Forecast, String> {
    run(&format!("{BASE}[convergence]\n{convergence}"))
}

fn epochs(text: &str) -> String {
    BASE.replace("optimizer =", &format!("epochs = {text}\noptimizer ="))
}

#[test]
fn accuracy_is_forecast_only_where_it_is_asked_for() {
    let without = run(&epochs("90")).unwrap();
    let with = run(&format!("{}[convergence]\n", epochs("90"))).unwrap();
    for (without, with) in without.points.iter().zip(&with.points) {
        assert_eq!((without.top1_percent, without.epochs_low), (None, None));
        assert_eq!(without.time_to_train_min, with.time_to_train_min);
        assert_eq!(
            (with.epochs, with.epochs_low, with.epochs_high),
            (Some(90.0), Some(90.0), Some(90.0))
        );
        let (low, value, high) = (
            with.top1_percent_low.unwrap(),
            with.top1_percent.unwrap(),
            with.top1_percent_high.unwrap(),
        );
        assert!(
            low < value && value < high && (72.0..80.0).contains(&value),
            "{low} {value} {high}"
        );
        let minutes = with.time_to_train_min.unwrap();
        assert!(with.time_to_train_min_low.unwrap() < minutes);
        assert!(with.time_to_train_min_high.unwrap() > minutes);
    }
    assert!(with.inputs.iter().any(|input| input.what == "accuracy"));
}

/// Epochs of the law at 512 and at 4,096 images; minutes are of these epochs.
#[test]
fn a_target_says_how_many_epochs_are_needed() {
    let target = with("target_top1 = \"75.9 %\"").unwrap();
    for point in &target.points {
        let law = Convergence::shipped().epochs_to_target(point.global_batch as f64);
        assert_eq!(point.epochs, Some(law.value));
        assert_eq!((point.epochs_low, point.epochs_high), (Some(law.low), Some(law.high)));
        assert_eq!(point.top1_percent, Some(75.9));
        let given = run(&epochs(&format!("{}", law.value))).unwrap();
        let same = given.points.iter().find(|other| other.global_batch == point.global_batch);
        assert_eq!(same.unwrap().time_to_train_min, point.time_to_train_min);
        // Slow and long, and fast and short: wider than either alone.
        assert!(
            point.time_to_train_min_high.unwrap() / point.time_to_train_min.unwrap()
                > law.high / law.value
        );
    }
    let none = with("target_top1 = \"88 %\"").unwrap();
    assert_eq!((none.points[0].epochs, none.points[0].time_to_train_min), (None, None));
    assert!(none.warnings.iter().any(|warning| warning.code == WarningCode::TargetNotReached));
}

#[test]
fn ones_own_run_and_critical_batch_do_without_published_laws() {
    let text = "reference = \"12 epochs at 512\"\ncritical_batch = \"4096 images\"";
    let own =
        run(&format!("{}[convergence]\n{text}", BASE.replace("resnet50", "resnet18"))).unwrap();
    let epochs: Vec<f64> = own.points.iter().map(|point| point.epochs.unwrap()).collect();
    assert!((epochs[0] - 12.0).abs() < 1e-9 && (epochs[1] - 12.0 * 2.0 / 1.125).abs() < 1e-9);
    assert_eq!((own.points[0].top1_percent, own.points[0].critical_batch), (None, Some(4096.0)));
}

/// An anchor sets the level: half a point more of it, nearly half a point more of the forecast.
#[test]
fn an_anchor_sets_the_level() {
    let of = |anchor: &str| {
        let text = format!("{}[convergence]\nanchor = \"{anchor}\"", epochs("90"));
        run(&text).unwrap().points[1].clone()
    };
    let (low, high) = (of("75.5 % at 256 for 90 epochs"), of("76.0 % at 256 for 90 epochs"));
    let moved = high.top1_percent.unwrap() - low.top1_percent.unwrap();
    assert!((0.4..0.5).contains(&moved), "{moved}");
    let free = run(&format!("{}[convergence]\n", epochs("90"))).unwrap();
    let width = |point: &crate::forecast::Point| {
        point.top1_percent_high.unwrap() - point.top1_percent_low.unwrap()
    };
    assert!(width(&low) < 0.6 * width(&free.points[1]));
}

#[test]
fn contradictions_and_the_unknown_are_named() {
    let of_ones_own = "reference = \"9 epochs at 256\"\nanchor = \"76 % at 256 for 90 epochs\"";
    for (text, expected) in [
        (with(of_ones_own), "`convergence.anchor`: has no effect beside convergence.reference"),
        (with(""), "nothing says when training ends"),
        (with("target_top1 = \"120 %\""), "expected above 0 % and below 100 %"),
        (with("target_top1 = 75.9"), "the unit is missing"),
        (with("critical_batch = \"lots\""), "expected `published` or a number"),
        (
            run(&format!("{}[convergence]\ntarget_top1 = \"75.9 %\"", epochs("90"))),
            "leave one of them out",
        ),
        (
            run(&format!("{}[convergence]\nreference = \"9 epochs at 256\"", epochs("90"))),
            "leave one of them out",
        ),
        (
            run(&format!(
                "{}[convergence]\ntarget_top1 = \"70 %\"",
                BASE.replace("resnet50", "resnet18")
            )),
            "`convergence.target_top1`: no published law is of ResNet-18",
        ),
        (
            run(&format!(
                "{}[convergence]\nreference = \"9 epochs at 256\"",
                BASE.replace("resnet50", "resnet18")
            )),
            "`convergence.critical_batch`: no critical batch of ResNet-18 is known",
        ),
        (
            run(&format!(
                "{}[convergence]\ntarget_top1 = \"75.9 %\"",
                BASE.replace("optimizer", "images = 60000\noptimizer")
            )),
            "of ImageNet's 1281167 images, not of 60000",
        ),
    ] {
        let message = text.unwrap_err();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

/// What LARS loses by decay of biases and batch norm is LARS's.
#[test]
fn momentum_does_not_pay_for_what_only_lars_is_known_to_lose() {
    let of = |optimizer: &str, decay: bool| {
        let text = epochs("90").replace("\"lars\"", &format!("\"{optimizer}\""));
        let text = format!("{text}[convergence]\ndecay_bias_and_batch_norm = {decay}");
        run(&text).unwrap().points[1].top1_percent.unwrap()
    };
    assert_eq!(of("momentum", true), of("momentum", false));
    assert!(of("lars", true) < of("lars", false));
}

#[test]
fn epochs_and_optimizers_are_swept() {
    let text =
        format!("{BASE}epochs = [45, 90]\noptimizer = [\"momentum\", \"lars\"]\n[convergence]\n");
    let points = run(&text).unwrap().points;
    assert_eq!(points.len(), 8);
    let first = &points[0];
    assert_eq!(first.series, "momentum, 45 epochs");
    assert!(points[2].top1_percent > first.top1_percent);
}

/// The gradient noise scale of a profile is the critical batch, unless the scenario has its own; one
/// whose interval reaches below 0 is none.
#[test]
fn a_profile_gives_the_critical_batch() {
    let profiled = |low: f64, convergence: &str| {
        let mut profile = crate::profile::tests::profile();
        let scale_images = Estimate { value: 40.0, low, high: 60.0 };
        profile.gradient_noise =
            Some(GradientNoise { scale_images, steps: (20, 29), batches: (8, 16) });
        let text = format!(
            "name = \"p\"\nprofile = \"p.json\"\n[cluster]\naccelerators_per_node = 1\naccelerators = 4\n\
             [training]\nper_accelerator_batch = 12\n[convergence]\nreference = \"12 epochs at 16\"\n{convergence}"
        );
        let named =
            |_: &str| Ok(NamedProfile { profile: profile.clone(), hash: "a hash".to_owned() });
        let scenario = Scenario::with_profiles(&text, Overrides::default(), &named);
        scenario.map(|scenario| forecast(&scenario, Engine::Folded, || {}).unwrap())
    };
    let found = profiled(20.0, "").unwrap();
    let point = &found.points[0];
    assert_eq!(point.critical_batch, Some(40.0));
    let epochs = |critical: f64| 12.0 * (1.0 + 48.0 / critical) / (1.0 + 16.0 / critical);
    assert!((point.epochs.unwrap() - epochs(40.0)).abs() < 1e-9);
    assert!((point.epochs_low.unwrap() - epochs(60.0)).abs() < 1e-9);
    assert!((point.epochs_high.unwrap() - epochs(20.0)).abs() < 1e-9);
    let source = found.inputs.iter().find(|input| input.what == "critical batch").unwrap();
    assert!(source.from.contains("gradient noise scale of the profile, steps 20 to 29"));
    let own = profiled(20.0, "critical_batch = \"80 images\"").unwrap();
    assert_eq!(own.points[0].critical_batch, Some(80.0));
    let unknown = profiled(-1.0, "").unwrap_err().to_string();
    assert!(
        unknown.contains("`convergence.critical_batch`: the profile's gradient noise"),
        "{unknown}"
    );
}
