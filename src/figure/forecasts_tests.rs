use foretrain_sim::forecast::{Engine, forecast};
use foretrain_sim::scenario::{Overrides, Scenario};

use super::*;

fn forecast_of(published: &str) -> Forecast {
    let text = format!(
        r#"
        name = "test"
        [cluster]
        node = "dgx-1-v100"
        [training]
        model = "resnet50"
        per_accelerator_batch = 32
        [simulation]
        steps = 1
        [sweep]
        accelerators = [8, 64]
        algorithm = ["ring", "hierarchical"]
        {published}
        "#
    );
    let scenario = Scenario::from_toml(&text, Overrides::default()).unwrap();
    forecast(&scenario, Engine::Arrays, || {}).unwrap()
}

#[test]
fn a_published_point_beside_several_curves_has_no_curves_colour() {
    let point = "[[published]]\naccelerators = 64\nsource = \"x\"\n";
    let forecast = forecast_of(&format!("{point}images_per_s = \"9000 images/s\""));
    let figure = figure(std::slice::from_ref(&forecast));
    let marks = &figure.panels[0].marks;
    assert_eq!(marks.len(), 2);
    assert!(marks.iter().all(|mark| *mark == Mark::diamond(style::INK, 64.0, 9000.0)));
    assert_eq!(figure.legend.len(), 4);
}

#[test]
fn an_efficiency_relative_to_eight_is_drawn_relative_to_one() {
    let point = "[[published]]\naccelerators = 64\nsource = \"x\"\n";
    let relative = "scaling_efficiency = \"90 %\"\nrelative_to = 8";
    let forecast = forecast_of(&format!("{point}{relative}"));
    let figure = figure(std::slice::from_ref(&forecast));
    let of_eight = forecast.points[0].scaling_efficiency;
    let drawn = figure.panels[1].marks[0].y;
    assert!((drawn - 90.0 * of_eight).abs() < 1e-9, "{drawn}");
}

/// A sweep of batches on 64 accelerators by two recipes, with an accuracy published of one.
fn of_batches() -> Forecast {
    let text = r#"
        name = "test"
        [cluster]
        node = "dgx-1-v100"
        accelerators = 64
        [training]
        model = "resnet50"
        epochs = 90
        [simulation]
        steps = 1
        [convergence]
        [sweep]
        global_batch = [2048, 1024, 8192]
        [[variant]]
        name = "LARS, slow"
        training = { optimizer = "lars" }
        [[variant]]
        name = "momentum"
        training = { optimizer = "momentum" }
        [[published]]
        accelerators = 64
        variant = "momentum"
        per_accelerator_batch = 32
        top1 = "76 %"
        source = "You et al., a paper"
        "#;
    let scenario = Scenario::from_toml(text, Overrides::default()).unwrap();
    forecast(&scenario, Engine::Folded, || {}).unwrap()
}

#[test]
fn batches_on_as_many_accelerators_run_along_curves() {
    let forecast = of_batches();
    let figure = figure(std::slice::from_ref(&forecast));
    let accuracy = &figure.panels[0];
    assert_eq!((accuracy.title.as_str(), accuracy.wide), ("Accuracy against global batch", true));
    let batches = |curve: &Curve| curve.points.iter().map(|at| at.0).collect::<Vec<f64>>();
    assert_eq!(accuracy.curves.len(), 2);
    assert!(accuracy.curves.iter().all(|curve| batches(curve) == [1024.0, 2048.0, 8192.0]));
    assert_eq!(accuracy.bands.len(), 2);
    for (band, curve) in accuracy.bands.iter().zip(&accuracy.curves) {
        let inside = |(&(_, low, high), &(_, top1)): (&(f64, f64, f64), &(f64, f64))| {
            low <= top1 && top1 <= high
        };
        assert!(band.points.iter().zip(&curve.points).all(inside));
    }
    let marks: Vec<(f64, f64)> = accuracy.marks.iter().map(|mark| (mark.x, mark.y)).collect();
    assert_eq!(marks, [(2048.0, 76.0)]);
    assert_eq!(accuracy.marks[0].color, accuracy.curves[1].color);
    let names: Vec<&str> = figure.legend.iter().map(|entry| entry.2.as_str()).collect();
    let shared = ["perfect scaling", "published, You et al.", "95 % interval"];
    assert_eq!(names, [&["LARS, slow", "momentum"][..], &shared].concat());
    let time = &figure.panels[1];
    assert_eq!((time.title.as_str(), time.bands.len()), ("Time to train", 2));
    assert!(figure.panels.iter().all(|panel| panel.x.title.starts_with("global batch")));
}

#[test]
fn an_interval_without_an_upper_end_goes_up_to_the_axis() {
    let mut forecast = of_batches();
    forecast.points.iter_mut().for_each(|point| point.time_to_train_min_high = None);
    let figure = figure(std::slice::from_ref(&forecast));
    assert!(figure.panels[1].bands[0].points.iter().all(|point| point.2 == f64::INFINITY));
    assert!(figure.panels[1].y.range.1.is_finite());
    let svg = crate::figure::draw(std::slice::from_ref(&forecast), crate::figure::Kind::Svg);
    let svg = String::from_utf8(svg.unwrap()).unwrap();
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn prices_add_cost_against_time() {
    let text = |sweep: &str| {
        format!(
            r#"
            name = "test"
            [cluster]
            node = "dgx-1-v100"
            [training]
            model = "resnet50"
            per_accelerator_batch = 32
            epochs = 90
            [cost]
            [simulation]
            steps = 1
            [sweep]
            accelerators = [8, 64]
            {sweep}
            "#
        )
    };
    for (sweep, panels) in [("", 6), ("algorithm = [\"ring\", \"tree\"]", 4)] {
        let scenario = Scenario::from_toml(&text(sweep), Overrides::default()).unwrap();
        let forecast = forecast(&scenario, Engine::Folded, || {}).unwrap();
        let figure = figure(std::slice::from_ref(&forecast));
        assert_eq!(figure.panels.len(), panels);
        let cost =
            figure.panels.iter().find(|panel| panel.title.starts_with("Cost against")).unwrap();
        let point = &forecast.points[0];
        let place = (point.time_to_train_min.unwrap(), point.cost_usd.unwrap());
        assert_eq!(cost.curves[0].points[0], place);
        assert!(cost.notes.iter().any(|note| note.at == place && note.lines == ["8"]));
    }
}
