//! The formulas against runs drawn at random, against each other, and where they are known by hand.

use proptest::prelude::*;

use super::*;
use crate::random::Streams;

const HOUR: f64 = 3600.0;

fn failures(mtbf_s: f64, interval_s: f64, checkpoint_s: f64, restart_s: f64) -> Failures {
    Failures { mtbf_s: Some(mtbf_s), interval_s, checkpoint_s, restart_s }
}

/// The interval of the least wall-clock time, found by halving: the derivative of
/// (e^((τ+δ)/M) − 1)/τ is 0 where (1 − x)·e^(x + δ/M) = 1, with x = τ/M.
fn best_interval_s(checkpoint_s: f64, mtbf_s: f64) -> f64 {
    let excess = |x: f64| (1.0 - x) * (x + checkpoint_s / mtbf_s).exp() - 1.0;
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if excess(middle) > 0.0 { low = middle } else { high = middle }
    }
    low * mtbf_s
}

#[test]
fn without_failures_there_are_only_checkpoints() {
    let calm = Failures { mtbf_s: None, interval_s: 600.0, checkpoint_s: 60.0, restart_s: 300.0 };
    let run = calm.run(6000.0);
    // Ten segments, the last without a checkpoint.
    assert_eq!((run.wall_s, run.checkpoint_s), (6540.0, 540.0));
    assert_eq!((run.interruptions, run.restart_s, run.deviation_s), (0.0, 0.0, 0.0));
    assert_eq!(calm.goodput(), 600.0 / 660.0);
    assert_eq!(calm.interval_95_s(&run, &Streams::new(1)), (6540.0, 6540.0));
    let free = Failures { checkpoint_s: 0.0, ..calm };
    assert_eq!((free.goodput(), free.run(6000.0).wall_s), (1.0, 6000.0));
    // Rare failures come to the same.
    let rare = failures(1e15, 600.0, 60.0, 300.0).run(6000.0);
    assert!((rare.wall_s - 6540.0).abs() < 1e-6, "{}", rare.wall_s);
}

#[test]
fn many_segments_are_dalys_complete_model() {
    let (m, tau, delta, restart) = (24.0 * HOUR, 2.0 * HOUR, 300.0, 600.0);
    let work = 500.0 * HOUR;
    let daly = m * (restart / m).exp() * (((tau + delta) / m).exp() - 1.0) * work / tau;
    let run = failures(m, tau, delta, restart).run(work);
    // All but the checkpoint that the last segment does not write.
    assert!(run.wall_s < daly && run.wall_s > daly - 1.5 * delta, "{} {daly}", run.wall_s);
    assert!((failures(m, tau, delta, restart).goodput() - work / daly).abs() < 1e-12);
}

#[test]
fn optima_by_hand() {
    // δ = 5 min, M = 24 h: Young √(2·300·86400) = 7200 s; Daly 7200·(1 + 1/72 + 1/5184) − 300.
    assert_eq!(young_interval_s(300.0, 86_400.0), 7200.0);
    let daly = daly_interval_s(300.0, 86_400.0);
    assert!((daly - 7_001.388_888_9).abs() < 1e-6, "{daly}");
    assert!((best_interval_s(300.0, 86_400.0) / daly - 1.0).abs() < 1e-4);
    assert_eq!(daly_interval_s(300.0, 100.0), 100.0);
}

/// Mean, deviation, checkpoints, restarts and interruptions of drawn runs are those of the formulas,
/// within four standard errors.
#[test]
fn drawn_runs_agree_with_the_formulas() {
    let cases = [
        // Usual; without restart; M near τ; M below τ; without checkpoints' cost; one segment.
        (failures(24.0 * HOUR, 2.0 * HOUR, 300.0, 600.0), 100.0 * HOUR),
        (failures(10.0 * HOUR, HOUR, 60.0, 0.0), 30.5 * HOUR),
        (failures(HOUR, 0.9 * HOUR, 300.0, 1200.0), 10.0 * HOUR),
        (failures(HOUR, 2.0 * HOUR, 600.0, 300.0), 7.0 * HOUR),
        (failures(HOUR, 0.25 * HOUR, 0.0, HOUR), 5.0 * HOUR),
        (failures(5.0 * HOUR, 100.0 * HOUR, 300.0, 600.0), 8.0 * HOUR),
    ];
    for (case, (failures, work_s)) in cases.into_iter().enumerate() {
        let mut stream = Streams::new(7).stream(&format!("case {case}"), "test");
        let runs: Vec<Replayed> =
            (0..20_000).map(|_| failures.replay(work_s, &mut stream)).collect();
        let count = runs.len() as f64;
        let expected = failures.run(work_s);
        let agree = |what: &str, of: &dyn Fn(&Replayed) -> f64, expected: f64| {
            let mean = runs.iter().map(of).sum::<f64>() / count;
            let variance = runs.iter().map(|run| (of(run) - mean).powi(2)).sum::<f64>() / count;
            let error = (variance / count).sqrt();
            let off = (mean - expected).abs();
            assert!(off <= 4.0 * error + 1e-9, "case {case}: {what} {mean} ± {error}, {expected}");
        };
        agree("wall", &|run| run.wall_s, expected.wall_s);
        agree("checkpoints", &|run| run.checkpoint_s, expected.checkpoint_s);
        agree("restarts", &|run| run.restart_s, expected.restart_s);
        agree("interruptions", &|run| run.interruptions as f64, expected.interruptions);
        let squared = |run: &Replayed| (run.wall_s - expected.wall_s).powi(2);
        agree("variance", &squared, expected.deviation_s.powi(2));
    }
}

#[test]
fn several_nodes_fail_like_one_that_fails_more_often() {
    // The first failure of eight nodes, each drawn by itself.
    let node = failures(80.0 * HOUR, HOUR, 60.0, 60.0);
    let mut streams: Vec<_> =
        (0..8).map(|node| Streams::new(3).stream(&format!("node {node}"), "test")).collect();
    let draws = 20_000;
    let mean = (0..draws)
        .map(|_| {
            let firsts = streams.iter_mut().map(|stream| node.next_failure_s(stream));
            firsts.fold(f64::INFINITY, f64::min)
        })
        .sum::<f64>()
        / f64::from(draws);
    // The standard deviation of an exponential distribution is its mean.
    assert!((mean / (10.0 * HOUR) - 1.0).abs() < 4.0 / f64::from(draws).sqrt(), "{mean}");
}

#[test]
fn intervals_hold_the_mean_and_meet_where_the_method_changes() {
    let streams = Streams::new(1);
    // About 190 and 210 interruptions: drawn, and by the gamma distribution.
    let often = failures(HOUR, 0.2 * HOUR, 60.0, 120.0);
    let at = |hours: f64| {
        let run = often.run(hours * HOUR);
        let (low, high) = often.interval_95_s(&run, &streams);
        (run.interruptions, low / run.wall_s, high / run.wall_s)
    };
    let (drawn, fitted) = (at(155.0), at(172.0));
    assert!(drawn.0 < 200.0 && fitted.0 > 200.0, "{drawn:?} {fitted:?}");
    assert!((drawn.1 - fitted.1).abs() < 0.005 && (drawn.2 - fitted.2).abs() < 0.005);
    assert!(drawn.1 < 1.0 && drawn.2 > 1.0);
    // A segment that hardly ever ends takes a geometric number of attempts.
    let hard = failures(HOUR, 10.0 * HOUR, 60.0, 60.0);
    let run = hard.run(7.0 * HOUR);
    assert!(run.interruptions > 1000.0);
    let (low, high) = hard.interval_95_s(&run, &streams);
    assert!((low / run.wall_s - 0.0253).abs() < 0.01, "{}", low / run.wall_s);
    assert!((high / run.wall_s - 3.689).abs() < 0.05, "{}", high / run.wall_s);
    // Failures that mostly do not happen leave the lowest where it would be without.
    let rare = failures(1000.0 * HOUR, HOUR, 60.0, 120.0);
    let run = rare.run(10.0 * HOUR);
    assert_eq!(rare.interval_95_s(&run, &streams).0, 10.0 * HOUR + 9.0 * 60.0);
}

#[test]
fn hopeless_runs_are_infinite_and_nothing_else() {
    let run = failures(1.0, 1e6, 1e6, 1e6).run(1e9);
    assert_eq!((run.wall_s, run.deviation_s), (f64::INFINITY, f64::INFINITY));
    assert_eq!(failures(1.0, 1e6, 1e6, 1e6).goodput(), 0.0);
    // No segment ends in a checkpoint, so that its infinite time does not count.
    let run = failures(HOUR, 1e9, 60.0, 60.0).run(HOUR);
    assert!(run.wall_s.is_finite() && run.checkpoint_s == 0.0, "{run:?}");
}

#[test]
fn the_spread_is_continuous_where_its_series_ends() {
    let (below, above) = (spread(0.03 - 1e-12), spread(0.03 + 1e-12));
    assert!((below / above - 1.0).abs() < 1e-9, "{below} {above}");
    assert!((spread(1e-6) / (1e-18 / 3.0) - 1.0).abs() < 2e-6);
}

proptest! {
    #[test]
    fn goodput_falls_with_everything_that_is_bad(
        mtbf_h in 0.5_f64..1000.0, interval_min in 1.0_f64..240.0, checkpoint_s in 1.0_f64..600.0,
        restart_s in 1.0_f64..3600.0, worse in 1.01_f64..3.0, work_h in 1.0_f64..100.0,
    ) {
        let base = failures(mtbf_h * HOUR, interval_min * 60.0, checkpoint_s, restart_s);
        let goodput = |failures: Failures| work_h * HOUR / failures.run(work_h * HOUR).wall_s;
        for worsened in [
            Failures { mtbf_s: Some(mtbf_h * HOUR / worse), ..base },
            Failures { restart_s: restart_s * worse, ..base },
        ] {
            prop_assert!(worsened.goodput() < base.goodput());
            prop_assert!(goodput(worsened) < goodput(base));
        }
        let slower = Failures { checkpoint_s: checkpoint_s * worse, ..base };
        prop_assert!(slower.goodput() < base.goodput());
        // A run of one segment writes no checkpoint.
        prop_assert!(goodput(slower) <= goodput(base));
        prop_assert!(goodput(base) > 0.0 && goodput(base) < 1.0);
    }

    #[test]
    fn dalys_interval_is_best(mtbf_h in 0.1_f64..1000.0, share in 1e-5_f64..0.5, restart_s in 0.0_f64..3600.0) {
        let mtbf_s = mtbf_h * HOUR;
        let checkpoint_s = share * mtbf_s;
        let goodput = |interval_s| failures(mtbf_s, interval_s, checkpoint_s, restart_s).goodput();
        let daly = daly_interval_s(checkpoint_s, mtbf_s);
        let at_daly = goodput(daly);
        prop_assert!(at_daly >= goodput(young_interval_s(checkpoint_s, mtbf_s)));
        for factor in [0.5, 0.8, 1.25, 2.0] {
            prop_assert!(at_daly >= goodput(factor * daly));
        }
        let best = goodput(best_interval_s(checkpoint_s, mtbf_s));
        prop_assert!(at_daly <= best * (1.0 + 1e-9) && at_daly >= 0.999 * best, "{at_daly} {best}");
    }

    #[test]
    fn times_add_up(
        mtbf_h in 0.5_f64..100.0, interval_min in 1.0_f64..240.0, checkpoint_s in 0.0_f64..600.0,
        restart_s in 0.0_f64..3600.0, work_h in 0.1_f64..100.0, seed in 0_u64..1000,
    ) {
        let failures = failures(mtbf_h * HOUR, interval_min * 60.0, checkpoint_s, restart_s);
        let work_s = work_h * HOUR;
        let run = failures.run(work_s);
        let lost = run.wall_s - run.work_s - run.checkpoint_s - run.restart_s;
        prop_assert!(lost > -1e-9 * run.wall_s, "{lost}");
        let drawn = failures.replay(work_s, &mut Streams::new(seed).stream("run", "test"));
        let lost = drawn.wall_s - work_s - drawn.checkpoint_s - drawn.restart_s;
        prop_assert!(lost > -1e-9 * drawn.wall_s, "{lost}");
    }
}
