use super::*;
use crate::figure::axis::{Scale, round_ticks};
use crate::figure::{Kind, draw_runs};

fn run(family: &str, accelerators: f64, published: f64, predicted: f64) -> RunPoint {
    RunPoint {
        family: family.to_owned(),
        accelerators,
        published,
        predicted,
        low: None,
        high: None,
        perfect: None,
    }
}

fn figure_of(points: Vec<RunPoint>) -> RunsFigure {
    RunsFigure {
        title: "runs.csv".to_owned(),
        subtitle: "made by a test".to_owned(),
        x_of_errors: "accelerators".to_owned(),
        unit: "images/s".to_owned(),
        logarithmic: true,
        points,
    }
}

fn svg(figure: &RunsFigure) -> String {
    String::from_utf8(draw_runs(figure, Kind::Svg).unwrap()).unwrap()
}

#[test]
fn the_header_says_how_far_off_the_runs_are() {
    let mut points = vec![
        run("a", 8.0, 100.0, 101.0),
        run("a", 16.0, 200.0, 206.0),
        run("b", 64.0, 400.0, 364.0),
        run("b", 64.0, 0.0, 1.0),
    ];
    points[1].perfect = Some(240.0);
    let figure = figure_of(points);
    let plan = Plan::new(&figure).unwrap();
    assert_eq!(
        plan.summary,
        "3 rows: mean error 4.3 %, median 3.0 %, worst -9.0 % (b, 64 accelerators); \
         perfect scaling: mean 20.0 %; not drawn, for want of a number: 1"
    );
    let svg = svg(&figure);
    for word in ["runs.csv", "made by a test", "mean error 4.3 %", "perfect scaling from"] {
        assert!(svg.contains(word), "{word}");
    }
    assert!(!svg.contains("95 % interval") && !svg.contains("beyond the axis"));
}

#[test]
fn accuracies_are_off_by_points() {
    let figure = RunsFigure {
        unit: "% top-1".to_owned(),
        logarithmic: false,
        ..figure_of(vec![run("a", 256.0, 76.0, 76.5), run("a", 8192.0, 75.0, 74.75)])
    };
    let plan = Plan::new(&figure).unwrap();
    assert!(plan.summary.contains("mean error 0.38 points, median 0.38 points, worst +0.50"));
    assert_eq!(plan.published.scale, Scale::Linear);
    assert_eq!(plan.published.title, "published, % top-1");
    assert!(svg(&figure).contains("up to 1 point off"));
}

#[test]
fn runs_of_one_size_are_side_by_side() {
    let points: Vec<RunPoint> =
        [8.0, 64.0, 8.0, 8.0].map(|count| run("a", count, 100.0, 101.0)).to_vec();
    let plan = Plan::new(&figure_of(points)).unwrap();
    let aside: Vec<i32> = plan.runs.iter().map(|run| run.aside).collect();
    assert_eq!(aside, [-7, 0, 0, 7]);
    let many = Plan::new(&figure_of(vec![run("a", 8.0, 100.0, 101.0); 50])).unwrap();
    assert_eq!((many.runs[0].aside, many.runs[49].aside), (-14, 14));
}

#[test]
fn every_family_looks_different() {
    let looks: Vec<Look> = (0..40).map(look).collect();
    for (index, one) in looks.iter().enumerate() {
        assert!(!looks[..index].contains(one), "{index}");
    }
}

#[test]
fn nothing_is_drawn_of_nothing() {
    assert!(draw_runs(&figure_of(Vec::new()), Kind::Svg).is_err());
    assert!(draw_runs(&figure_of(vec![run("a", 8.0, f64::NAN, 1.0)]), Kind::Svg).is_err());
}

#[test]
fn odd_runs_are_drawn() {
    let mut odd = run("long name ".repeat(20).as_str(), 4320.0, 1e6, 1e6);
    (odd.low, odd.high, odd.perfect) = (Some(0.0), Some(1e300), Some(-5.0));
    for points in [
        vec![run("", 1.0, 1.0, 1.0)],
        vec![run("a", 8.0, 100.0, 100.0); 3],
        vec![run("a", 8.0, 100.0, 0.0), run("b", 8.0, 100.0, 1e30)],
        vec![run("a", 8.0, 1e-300, 1e300), run("b", 1e300, 1e300, 1e-300)],
        vec![run("a", 8.0, 100.0, 110.0), odd],
    ] {
        for (logarithmic, unit) in
            [(true, "images/s"), (true, "minutes"), (true, "epochs"), (false, "% top-1")]
        {
            let unit = unit.to_owned();
            let figure = RunsFigure { logarithmic, unit, ..figure_of(points.clone()) };
            let svg = svg(&figure);
            assert!(!svg.contains("NaN"), "{points:?}");
        }
    }
}

#[test]
fn what_lies_beyond_an_axis_is_said() {
    let figure = figure_of(vec![run("a", 8.0, 100.0, 103.0), run("a", 8.0, 100.0, 1e5)]);
    let plan = Plan::new(&figure).unwrap();
    assert!(plan.beyond);
    assert!(svg(&figure).contains("beyond the axis"));
}

#[test]
fn ticks_do_not_touch() {
    let minutes = vec![run("a", 8.0, 1.0, 1.0), run("a", 8.0, 600.0, 600.0)];
    let figure = RunsFigure { unit: "minutes".to_owned(), ..figure_of(minutes) };
    let ticks = Plan::new(&figure).unwrap().published.ticks;
    assert!(ticks.contains(&20.0) && !ticks.contains(&30.0), "{ticks:?}");
}

#[test]
fn sizes_have_powers_of_two_and_errors_round_ticks() {
    let axis = counts_axis("accelerators", [8.0, 4320.0].into_iter());
    assert_eq!(axis.ticks, [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0]);
    assert_eq!(
        round_ticks((-13.0, 31.0), 9.0),
        [-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
    );
}
