//! The search against an exhaustive one by `simulate`, and what must follow from other prices and limits.

use proptest::prelude::*;

use super::*;
use crate::forecast::{Forecast, forecast};
use crate::scenario::spec::Objective;
use crate::scenario::{Overrides, Scenario};

/// Two kinds of machines, several of everything that can be chosen; `{}` are keys of `[plan]`.
const SPACE: &str = r#"
name = "test"
[training]
model = "resnet50"
precision = "fp16-mixed"
evaluate_every_epochs = 4
[convergence]
[failures]
node_mtbf = "300 h"
checkpoint_time = "20 s"
restart_time = "5 min"
[jitter]
variation = "2 %"
[simulation]
steps = 10
warmup_steps = 2
[sweep]
epochs = [60, 90]
optimizer = ["momentum", "lars"]
algorithm = ["ring", "hierarchical"]
threshold = ["1 MiB", "16 MiB"]
group = [8]
per_accelerator_batch = [16, 64]

[[variant]]
name = "P40"
[variant.cluster]
node = "8x-p40-pcie"
[variant.compute]
anchor = "218 images/s at 64"
[variant.cost]
price = "P40_PRICE"
[variant.sweep]
accelerators = [4, 8, 16, 64]

[[variant]]
name = "V100"
[variant.cluster]
node = "dgx-1-v100"
[variant.compute]
anchor = "1427 images/s at 192"
[variant.cost]
price = "V100_PRICE"
[variant.sweep]
accelerators = [2, 8, 32]

[plan]
"#;

fn text(p40_usd: f64, v100_usd: f64, goals: &str) -> String {
    let priced = SPACE.replace("P40_PRICE", &format!("{p40_usd:.3} USD/h"));
    priced.replace("V100_PRICE", &format!("{v100_usd:.3} USD/h")) + goals
}

fn search(text: &str) -> Plan {
    let space = Scenario::space(text, Overrides::default(), &|_| Err(String::new())).unwrap();
    plan(&space, |_| {}).unwrap()
}

fn everything(text: &str) -> Forecast {
    let scenario = Scenario::from_toml(text, Overrides::default()).unwrap();
    forecast(&scenario, Engine::Folded, || {}).unwrap()
}

/// What identifies a candidate, and what it is judged by.
type Seen = (Option<String>, u32, u64, u64, u64, u64, u64);

fn of_point(point: &Point) -> Seen {
    (
        point.variant.clone(),
        point.accelerators,
        point.global_batch,
        point.epochs.unwrap().to_bits(),
        point.time_to_train_min.unwrap().to_bits(),
        point.cost_usd.unwrap().to_bits(),
        point.top1_percent.unwrap().to_bits(),
    )
}

fn of_planned(planned: &Planned) -> Seen {
    (
        planned.variant.clone(),
        planned.accelerators,
        planned.global_batch,
        planned.epochs.to_bits(),
        planned.time_to_train_min.to_bits(),
        planned.cost_usd.to_bits(),
        planned.top1_percent.unwrap().to_bits(),
    )
}

/// By the definition: no other point is at least as fast, cheap and accurate and not the same.
fn frontier_of(points: &[Point]) -> Vec<Seen> {
    let judged =
        |p: &Point| (p.time_to_train_min.unwrap(), p.cost_usd.unwrap(), p.top1_percent.unwrap());
    let mut kept: Vec<Seen> = points
        .iter()
        .filter(|point| {
            let (minutes, cost, top1) = judged(point);
            !points.iter().map(judged).any(|other| {
                other.0 <= minutes
                    && other.1 <= cost
                    && other.2 >= top1
                    && other != (minutes, cost, top1)
            })
        })
        .map(of_point)
        .collect();
    kept.sort();
    kept.dedup();
    kept
}

#[test]
fn the_search_finds_what_an_exhaustive_one_finds() {
    for (goals, minimize) in [
        ("", Objective::Time),
        ("minimize = \"cost\"", Objective::Cost),
        ("minimize = \"cost\"\ndeadline = \"20 h\"\ntop1_min = \"75 %\"", Objective::Cost),
        ("budget = \"900 USD\"\ntop1_min = \"75.5 %\"", Objective::Time),
        ("budget = \"1 USD\"", Objective::Time),
    ] {
        let text = text(2.07, 3.06, goals);
        let (found, all) = (search(&text), everything(&text));
        assert_eq!(found.goals.minimize, minimize);
        let GoalsNote { deadline_min, budget_usd, top1_min_percent, .. } = found.goals;
        let accurate =
            |p: &Point| top1_min_percent.is_none_or(|least| p.top1_percent.unwrap() >= least);
        let points: Vec<Point> = all.points.iter().filter(|p| accurate(p)).cloned().collect();
        let mut frontier: Vec<Seen> = found.frontier.iter().map(of_planned).collect();
        frontier.sort();
        assert_eq!(frontier, frontier_of(&points), "{goals}");
        for variant in ["P40", "V100"] {
            let of_one = |name: &Option<String>| name.as_deref() == Some(variant);
            let points: Vec<Point> =
                points.iter().filter(|p| of_one(&p.variant)).cloned().collect();
            let of_variant = found.frontiers.iter().filter(|planned| of_one(&planned.variant));
            let mut frontier: Vec<Seen> = of_variant.map(of_planned).collect();
            frontier.sort();
            assert_eq!(frontier, frontier_of(&points), "{goals} {variant}");
            for planned in found.fastest.iter().filter(|planned| of_one(&planned.variant)) {
                let of_count = points.iter().filter(|p| p.accelerators == planned.accelerators);
                let least =
                    of_count.map(|p| p.time_to_train_min.unwrap()).fold(f64::INFINITY, f64::min);
                assert_eq!(planned.time_to_train_min, least, "{goals} {variant}");
            }
        }
        let kept = points.iter().filter(|p| {
            deadline_min.is_none_or(|most| p.time_to_train_min.unwrap() <= most)
                && budget_usd.is_none_or(|most| p.cost_usd.unwrap() <= most)
        });
        let judged = |p: &Point| match minimize {
            Objective::Time => (p.time_to_train_min.unwrap(), p.cost_usd.unwrap()),
            Objective::Cost => (p.cost_usd.unwrap(), p.time_to_train_min.unwrap()),
        };
        let best = kept.min_by(|a, b| {
            judged(a)
                .partial_cmp(&judged(b))
                .unwrap()
                .then(b.top1_percent.partial_cmp(&a.top1_percent).unwrap())
        });
        assert_eq!(found.best.as_ref().map(of_planned), best.map(of_point), "{goals}");
        assert_eq!(found.best_point.as_ref().map(of_point), best.map(of_point), "{goals}");
        let effort = found.effort;
        assert_eq!(effort.candidates as usize, all.points.len());
        let looked = effort.ruled_out_by_accuracy
            + effort.ruled_out_by_compute
            + effort.ruled_out_by_a_step
            + effort.simulated;
        assert_eq!(effort.impossible + looked, effort.candidates);
    }
}

/// A variation so large that chance leaves nothing of a bound, with failures.
#[test]
fn bounds_of_nothing_rule_out_nothing() {
    let wild = text(2.07, 3.06, "minimize = \"cost\"")
        .replace("variation = \"2 %\"", "variation = \"60 %\"")
        .replace("steps = 10", "steps = 2")
        .replace("algorithm = [\"ring\", \"hierarchical\"]", "algorithm = [\"ring\"]")
        .replace("threshold = [\"1 MiB\", \"16 MiB\"]", "threshold = [\"16 MiB\"]");
    let (found, all) = (search(&wild), everything(&wild));
    let mut frontier: Vec<Seen> = found.frontier.iter().map(of_planned).collect();
    frontier.sort();
    assert_eq!(frontier, frontier_of(&all.points));
}

/// Bounds are of use: most candidates of a larger space are never simulated.
#[test]
fn bounds_rule_out_most_candidates() {
    let space = text(2.07, 3.06, "top1_min = \"75 %\"")
        .replace("variation = \"2 %\"", "variation = \"0.5 %\"")
        .replace(
            "per_accelerator_batch = [16, 64]",
            "per_accelerator_batch = [4, 8, 16, 32, 64, 128]",
        )
        .replace("algorithm = [\"ring\"", "algorithm = [\"halving-doubling\", \"tree\", \"ring\"");
    let Effort { candidates, simulated, .. } = search(&space).effort;
    assert!(simulated * 2 < candidates, "{simulated} of {candidates}");
}

#[test]
fn what_is_left_open_is_chosen_from_lists() {
    let open = r#"
name = "open"
[cluster]
node = "dgx-1-v100"
available = 48
[training]
model = "resnet50"
global_batch = 1536
precision = "fp16-mixed"
[compute]
anchor = "1427 images/s at 192"
[convergence]
[simulation]
steps = 1
"#;
    let space = Scenario::space(open, Overrides::default(), &|_| Err(String::new())).unwrap();
    let offer = &space.offers[0];
    assert_eq!(offer.accelerators, [1, 2, 4, 8, 16, 32, 48]);
    assert_eq!((offer.optimizers.len(), offer.thresholds.len(), offer.epochs.len()), (2, 4, 10));
    assert_eq!(offer.groups, [Some(8), Some(16), Some(32)]);
    let found = plan(&space, |_| {}).unwrap();
    // 6 counts above one, 2 optimizers, 4 thresholds, 10 epochs; 2 algorithms in 3 groups and 3 without.
    assert_eq!(found.effort.candidates, 2 * 10 * (6 * 4 * (2 * 3 + 3) + 1));
    // 1,536 images do not fit one or two V100 of 16 GiB, and 1,536 / 48 is whole.
    assert_eq!(found.best.as_ref().unwrap().accelerators, 48);
    assert!(found.neighbours.iter().any(|n| n.choice == "accelerators" && n.instead == "32"));
    let by_batch = open.replace("global_batch = 1536\n", "");
    let space = Scenario::space(&by_batch, Overrides::default(), &|_| Err(String::new())).unwrap();
    assert_eq!(space.offers[0].batches.len(), 11);
}

#[test]
fn neighbours_are_no_better_and_say_why() {
    let found =
        search(&text(2.07, 3.06, "minimize = \"cost\"\ndeadline = \"20 h\"\ntop1_min = \"75 %\""));
    let best = found.best.unwrap();
    assert!(found.neighbours.len() >= 5, "{:?}", found.neighbours);
    for neighbour in &found.neighbours {
        assert!(!neighbour.loses.is_empty());
        let Some(planned) = &neighbour.planned else { continue };
        let keeps = planned.time_to_train_min <= 1200.0 && planned.top1_percent.unwrap() >= 75.0;
        assert!(!keeps || planned.cost_usd >= best.cost_usd, "{neighbour:?}");
        assert_eq!(
            keeps,
            neighbour.loses.starts_with("costs") || neighbour.loses.starts_with("makes")
        );
    }
}

#[test]
fn what_cannot_be_planned_is_named() {
    let error = |text: &str| {
        Scenario::space(text, Overrides::default(), &|_| Err(String::new()))
            .unwrap_err()
            .to_string()
    };
    let good = text(2.0, 3.0, "");
    for (from, to, expected) in [
        ("[plan]\n", "[plan]\ndeadline = \"0 s\"\n", "`plan.deadline`: expected more than 0"),
        ("[plan]\n", "[plan]\ntop1_min = \"100 %\"\n", "`plan.top1_min`: expected less than 100 %"),
        ("[convergence]\n", "", "training.epochs"),
        ("[plan]\n", "[plan]\nbudget = \"5\"\n", "the unit is missing"),
        ("epochs = [60, 90]\n", "", ""),
    ] {
        let text = good.replace(from, to);
        if expected.is_empty() {
            assert!(Scenario::space(&text, Overrides::default(), &|_| Err(String::new())).is_ok());
        } else if expected == "training.epochs" {
            // With epochs, accuracy is not needed, unless a least one is asked for.
            let asked = text.replace("[plan]\n", "[plan]\ntop1_min = \"75 %\"\n");
            assert!(
                error(&asked).contains("accuracy is not forecast without a section [convergence]")
            );
            let neither = text.replace("epochs = [60, 90]\n", "");
            assert!(error(&neither).contains("`training.epochs`: missing"), "{}", error(&neither));
        } else {
            assert!(error(&text).contains(expected), "{}", error(&text));
        }
    }
    for wrong in ["epochs = [60, -5]", "epochs = [60, 0]", "epochs = [60, nan]", "epochs = [2e6]"] {
        let message = error(&good.replace("epochs = [60, 90]", wrong));
        assert!(message.contains("`sweep.epochs`") && message.contains("above 0"), "{message}");
    }
    let of_eight = good.replace("218 images/s at 64", "1700 images/s at 64 on 8");
    let message = error(&of_eight);
    assert!(
        message.contains("`compute.anchor`") && message.contains("tell all-reduces apart"),
        "{message}"
    );
    let unknown = good
        .replace("epochs = [60, 90]\n", "")
        .replace("[convergence]\n", "[convergence]\nreference = \"60 epochs at 512\"\n")
        .replace("[plan]\n", "[plan]\ntop1_min = \"75 %\"\n");
    let message = error(&unknown);
    assert!(
        message.contains("`plan.top1_min`: the accuracy of convergence.reference"),
        "{message}"
    );
    // Which all-reduces have groups is not known before one is chosen.
    let open = good.replace("algorithm = [\"ring\", \"hierarchical\"]\n", "");
    let space = Scenario::space(&open, Overrides::default(), &|_| Err(String::new())).unwrap();
    assert_eq!(space.offers[0].groups, [Some(8)]);
    let nothing = good.replace("accelerators = [4, 8, 16, 64]", "");
    assert!(error(&nothing).contains("`cluster.available`: missing"), "{}", error(&nothing));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// A higher price of one machine, a later deadline, a larger budget, less accuracy: each moves the
    /// answer in the direction that it must.
    #[test]
    fn answers_move_in_the_expected_direction(
        p40 in 0.5..4.0f64, v100 in 1.0..8.0f64, dearer in 1.1..3.0f64,
        deadline_h in 4.0..60.0f64, later in 1.05..3.0f64,
        budget in 150.0..2000.0f64, top1 in 74.0..76.0f64, less in 0.1..1.0f64,
    ) {
        let cost = |p40: f64, hours: f64, top1: f64| {
            let goals = format!("minimize = \"cost\"\ndeadline = \"{hours:.2} h\"\ntop1_min = \"{top1:.3} %\"");
            search(&text(p40, v100, &goals)).best
        };
        let first = cost(p40, deadline_h, top1);
        for (easier, what) in [
            (cost(p40, deadline_h * later, top1), "a later deadline"),
            (cost(p40, deadline_h, top1 - less), "less accuracy"),
            (cost(p40 / dearer, deadline_h, top1), "a lower price"),
        ] {
            if let Some(first) = &first {
                let easier = easier.expect(what);
                prop_assert!(easier.cost_usd <= first.cost_usd, "{what}");
            }
        }
        // A dearer machine is chosen only if it was before, and the answer costs no less.
        let dear = cost(p40 * dearer, deadline_h, top1);
        if let (Some(first), Some(dear)) = (&first, &dear) {
            prop_assert!(dear.cost_usd >= first.cost_usd);
            prop_assert!(dear.variant.as_deref() != Some("P40") || first.variant.as_deref() == Some("P40"));
        }
        let time = |budget: f64| {
            search(&text(p40, v100, &format!("budget = \"{budget:.2} USD\"\ntop1_min = \"{top1:.3} %\""))).best
        };
        if let Some(few) = time(budget) {
            let more = time(budget * dearer).expect("a larger budget");
            prop_assert!(more.time_to_train_min <= few.time_to_train_min);
        }
    }
}
