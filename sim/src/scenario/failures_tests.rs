//! What `[failures]` and `[cost]` need, and what they are in a case.

use crate::scenario::{Overrides, Scenario, ScenarioError};

const BASE: &str = r#"name = "test"

[cluster]
node = "dgx-1-v100"

[training]
model = "resnet50"
per_accelerator_batch = 64
precision = "fp16-mixed"

[sweep]
accelerators = [8, 16]
"#;

fn read(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::from_toml(text, Overrides::default())
}

#[test]
fn failures_need_what_they_rest_on() {
    let error = |section: &str| {
        let text = format!("{BASE}[failures]\n{section}");
        read(&text).unwrap_err().to_string()
    };
    let (mtbf, time, restart) =
        ("node_mtbf = \"50000 h\"\n", "checkpoint_time = \"20 s\"\n", "restart_time = \"5 min\"\n");
    for (section, expected) in [
        (String::new(), "`failures.checkpoint_time`: missing: give how long"),
        (format!("{mtbf}{restart}"), "`failures.checkpoint_time`: missing: give how long"),
        (format!("{mtbf}{time}"), "`failures.restart_time`: missing: give the time from a failure"),
        (format!("{time}{restart}"), "`failures.restart_time`: has no effect: nothing fails"),
        (time.to_owned(), "`failures.checkpoint_every`: missing: where nothing fails"),
        (
            format!("{mtbf}{restart}checkpoint_time = \"0 s\"\n"),
            "`failures.checkpoint_every`: missing: checkpoints that take no time have no best",
        ),
        (
            format!("{mtbf}{time}{restart}checkpoint_every = \"0 s\"\n"),
            "17:20: `failures.checkpoint_every`: 0, expected a time above 0",
        ),
        (
            format!("node_mtbf = \"0 h\"\n{time}{restart}"),
            "14:13: `failures.node_mtbf`: 0, expected a time above 0; leave it out",
        ),
        (
            "node_mtbf = 50000\n".to_owned(),
            "`50000` is not a duration: the unit is missing; write it like \"50000 h\"",
        ),
        ("node_mtfb = \"50000 h\"\n".to_owned(), "did you mean `node_mtbf`?"),
    ] {
        let message = error(&section);
        assert!(message.contains(expected), "{section}{message}");
    }
    let failures = |section: &str| {
        let scenario = read(&format!("{BASE}[failures]\n{section}")).unwrap();
        scenario.cases.iter().map(|case| case.failures.unwrap()).collect::<Vec<_>>()
    };
    let found = failures(&format!("{mtbf}{time}{restart}"));
    // One and two nodes.
    assert_eq!([found[0].mtbf_s, found[1].mtbf_s], [Some(1.8e8), Some(0.9e8)]);
    assert_eq!((found[0].checkpoint_s, found[0].restart_s), (20.0, 300.0));
    let calm = failures("checkpoint_every = \"10 min\"\ncheckpoint_time = \"20 s\"\n");
    assert_eq!((calm[0].mtbf_s, calm[0].interval_s), (None, 600.0));
}

#[test]
fn idle_power_is_at_most_power() {
    let text = format!("{BASE}[cost]\nidle_power = \"500 W\"\n");
    assert_eq!(
        read(&text).unwrap_err().to_string(),
        "14:14: `cost.idle_power`: 500 W is more than the power when computing, 437.5 W: give less, \
         or cost.power"
    );
}
