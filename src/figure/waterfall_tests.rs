use super::*;
use crate::figure::{Kind, draw_waterfalls};

fn waterfall(perfect_ms: f64, parts: &[(&str, f64)]) -> Waterfall {
    let ms = perfect_ms + parts.iter().map(|part| part.1).sum::<f64>();
    Waterfall {
        title: "64 accelerators".to_owned(),
        perfect_ms,
        perfect_images_per_s: 1e6 / perfect_ms,
        parts: parts.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect(),
        ms,
        images_per_s: 1e6 / ms,
    }
}

fn svg(waterfalls: &[Waterfall]) -> String {
    let svg = draw_waterfalls("one & two", "made by a test", waterfalls, Kind::Svg);
    String::from_utf8(svg.unwrap()).unwrap()
}

#[test]
fn each_part_begins_where_the_one_above_ends() {
    let one = waterfall(20.0, &[("launches", 2.0), ("input wait", -1.0), ("start", 4.0)]);
    let plan = Plan::new("", "", &[one]).unwrap();
    let ends: Vec<(f64, f64)> = plan.panels[0].rows.iter().map(|row| (row.from, row.to)).collect();
    assert_eq!(ends, [(0.0, 100.0), (100.0, 110.0), (110.0, 105.0), (105.0, 125.0), (0.0, 125.0)]);
    let colors: Vec<RGBColor> = plan.panels[0].rows.iter().map(|row| row.color).collect();
    assert_eq!(colors, [IDEAL, SLOWER, FASTER, SLOWER, FORECAST]);
    let numbers: Vec<(&str, &str)> =
        plan.panels[0].rows.iter().map(|r| (r.ms.as_str(), r.percent.as_str())).collect();
    assert_eq!(
        numbers,
        [
            ("20.00", "100.0 %"),
            ("+2.00", "+10.0 %"),
            ("-1.00", "-5.0 %"),
            ("+4.00", "+20.0 %"),
            ("25.00", "125.0 %")
        ]
    );
    assert_eq!(plan.panels[0].title, "64 accelerators: 80.0 % of perfect scaling");
}

#[test]
fn numbers_have_as_many_digits_as_their_parts_need() {
    let one = waterfall(2000.0, &[("launches", 0.5), ("start", -0.001)]);
    let rows = &Plan::new("", "", &[one]).unwrap().panels[0].rows;
    let numbers: Vec<(&str, &str)> =
        rows.iter().map(|row| (row.ms.as_str(), row.percent.as_str())).collect();
    assert_eq!(numbers[..2], [("2,000.00", "100.00 %"), ("+0.50", "+0.03 %")]);
    assert_eq!(numbers[2..], [("0.00", "0.00 %"), ("2,000.50", "100.02 %")]);
}

#[test]
fn what_the_parts_leave_out_is_the_rest() {
    let mut one = waterfall(10.0, &[("launches", 1.0)]);
    one.ms = 13.0;
    let plan = Plan::new("", "", &[one]).unwrap();
    let names: Vec<&str> = plan.panels[0].rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["perfect scaling", "launches", "rest", "forecast"]);
}

#[test]
fn whole_bars_are_cut_where_the_parts_are_small() {
    let near = Plan::new("", "", &[waterfall(10.0, &[("launches", 1.0)])]).unwrap();
    let far = Plan::new("", "", &[waterfall(10.0, &[("launches", 9.0)])]).unwrap();
    assert!(near.is_cut() && !far.is_cut());
    assert_eq!(far.range.0, 0.0);
    assert!(near.ticks.iter().all(|tick| (near.range.0..=near.range.1).contains(tick)));
    assert!(svg(&[waterfall(10.0, &[("launches", 1.0)])]).contains("cut here"));
}

#[test]
fn a_figure_has_its_words() {
    let svg = svg(&[waterfall(10.0, &[("launches", 1.0)]), waterfall(4000.0, &[("wait", 1.0)])]);
    for word in ["one &amp; two", "made by a test", "100,000 images/s", "+1.00", "4,000", "wait"] {
        assert!(svg.contains(word), "{word}");
    }
}

#[test]
fn odd_waterfalls_are_drawn_or_refused() {
    let long = "a very long name ".repeat(9);
    for one in [
        waterfall(10.0, &[]),
        waterfall(10.0, &[(long.as_str(), 0.0), ("", -0.0)]),
        waterfall(10.0, &[("faster than nothing", -12.0)]),
        waterfall(1e-3, &[("far", 1e3)]),
    ] {
        assert!(!svg(&[one]).contains("NaN"));
    }
    for one in [
        waterfall(0.0, &[("x", 1.0)]),
        waterfall(f64::NAN, &[]),
        waterfall(1.0, &[("x", f64::INFINITY)]),
    ] {
        assert!(draw_waterfalls("", "", &[one], Kind::Svg).is_err());
    }
    assert!(draw_waterfalls("", "", &[], Kind::Svg).is_err());
}
