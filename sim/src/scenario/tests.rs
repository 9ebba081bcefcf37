//! Errors say where, what was expected and how to mend it; variants and sweeps make the points.

use super::*;
use crate::collective::{Algorithm, Method};
use crate::fusion::{Fusion, gradients};
use crate::units::Bytes;
use crate::units::SimTime;

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

/// The error of `BASE` with `from` replaced by `to`.
fn error(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    read(&BASE.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn the_base_is_good() {
    let scenario = read(BASE).unwrap();
    let points: Vec<(u32, u32, u64)> =
        scenario.cases.iter().map(|c| (c.accelerators, c.nodes, c.global_batch)).collect();
    assert_eq!(points, [(8, 1, 512), (16, 2, 1024)]);
}

#[test]
fn misspelt_keys_and_values_are_found() {
    assert_eq!(
        error("per_accelerator_batch", "per_acelerator_batch"),
        "8:1: `training.per_acelerator_batch`: unknown key `per_acelerator_batch`: did you mean \
         `per_accelerator_batch`? Expected one of model, per_accelerator_batch, global_batch, \
         epochs, images, precision, optimizer, evaluate_every_epochs, evaluation_images, \
             last_batch, epoch_start, evaluation_start, batch_norm_group"
    );
    assert_eq!(
        error("\"resnet50\"", "\"resnet-50\""),
        "7:9: `training.model`: unknown value `resnet-50`: did you mean `resnet50`? Expected one \
         of resnet50, resnet18, alexnet, alexnet-bn"
    );
    assert_eq!(
        error("[training]", "[trainning]"),
        "6:2: `trainning`: unknown key `trainning`: did you mean `training`? Expected one of name, \
         source, profile, cluster, accelerator, training, compute, allreduce, fusion, input, jitter, \
         convergence, cost, failures, plan, simulation, sweep, variant, published"
    );
    let message = error("\"dgx-1-v100\"", "\"dgx1-v100\"");
    assert!(
        message.starts_with(
            "4:8: `cluster.node`: unknown node `dgx1-v100`: did you mean `dgx-1-v100`?"
        ),
        "{message}"
    );
}

#[test]
fn quantities_need_their_unit() {
    let text = format!("{BASE}[fusion]\nthreshold = 64\n");
    assert_eq!(
        read(&text).unwrap_err().to_string(),
        "14:13: `fusion.threshold`: `64` is not a size: the unit is missing; write it like \
         \"64 MiB\""
    );
    let text = format!("{BASE}[fusion]\nthreshold = \"64 Mb\"\n");
    let message = read(&text).unwrap_err().to_string();
    assert!(message.contains("unknown unit `Mb`, expected one of B, KiB"), "{message}");
    let text = format!("{BASE}[compute]\nanchor = \"1376 images/s\"\n");
    let message = read(&text).unwrap_err().to_string();
    assert!(
        message.starts_with("14:10: `compute.anchor`: `1376 images/s` is not an anchor"),
        "{message}"
    );
}

#[test]
fn impossible_values_are_refused_where_they_stand() {
    assert_eq!(
        error("per_accelerator_batch = 64", "per_accelerator_batch = 4096"),
        "8:25: `training.per_accelerator_batch`: 4096 images of ResNet-50 v1.5 need at least \
         154.2 GiB, NVIDIA Tesla V100 SXM2 16GB has 16 GiB; at most 418 can fit"
    );
    assert_eq!(
        error("per_accelerator_batch = 64", "global_batch = 1000"),
        "8:16: `training.global_batch`: 1000 images do not divide over 16 accelerators; 992 do"
    );
    let text = format!("{BASE}[allreduce]\nalgorithm = \"hierarchical\"\ngroup = 5\n");
    assert_eq!(
        read(&text).unwrap_err().to_string(),
        "15:9: `allreduce.group`: groups of 5 do not divide 8 ranks; groups that do: 2, 4, 8"
    );
    let swept = |to: &str| error("accelerators = [8, 16]", to);
    assert!(
        swept("accelerators = [0]").starts_with("12:17: `sweep.accelerators[0]`: 0 accelerators")
    );
    assert!(
        swept("accelerators = [8, 9999999]").starts_with("12:20: `sweep.accelerators[1]`: 9999999")
    );
    assert_eq!(
        swept("accelerators = [8, 16, 16]"),
        "12:24: `sweep.accelerators[2]`: expected increasing numbers, each once"
    );
    let message = swept("accelerators = [8]\nper_accelerator_batch = [32, 100000]");
    assert!(
        message.starts_with("13:30: `sweep.per_accelerator_batch[1]`: 100000 images"),
        "{message}"
    );
    let message = swept("accelerators = [8]\ngroup = [2]");
    assert!(message.starts_with("13:9: `sweep.group`: has no effect"), "{message}");
    let many: Vec<String> = (1..=200).map(|n| n.to_string()).collect();
    let many = many.join(", ");
    let message = swept(&format!("accelerators = [{many}]\nper_accelerator_batch = [{many}]"));
    assert!(message.contains("`sweep`: 40000 points, expected at most 10000"), "{message}");
    for (section, problem) in [
        ("[simulation]\nsteps = 0\n", "`simulation.steps`: 0, expected at least 1"),
        ("[jitter]\nvariation = \"150 %\"\n", "expected at most 100 %"),
        ("[jitter]\nslow_ranks = [{ rank = 0, factor = \"20 %\" }]\n", "20 % slower is \"1.2 x\""),
        ("[input]\ndecode = \"0 images/s\"\n", "expected a rate above 0"),
        ("[fusion]\nrule = \"cycle\"\ncycle_time = \"0 ms\"\n", "expected a time above 0"),
        ("[allreduce]\nalgorithm = \"hybrid\"\n", "`allreduce.ring_from`: missing"),
        (
            "[fusion]\nrule = \"segments\"\nafter = [\"layer1.0.conv9\"]\n",
            "did you mean `layer1.0.conv1`?",
        ),
        ("[simulation]\nwarmup_steps = 4294967295\n", "expected at most 1000000 steps"),
        ("[simulation]\nsteps = -5\n", "integer `-5`: expected a whole number without a unit"),
        (
            "[accelerator]\nmatrix_rate = \"0 TFLOP/s\"\n",
            "`accelerator.matrix_rate`: missing or zero",
        ),
        (
            "[jitter]\nvariation = \"1 %\"\n[compute]\nanchor = \"0.001 images/s at 64\"\n",
            "look for a rate",
        ),
        ("[fusion]\nrule = \"cycle\"\ncycle_time = \"5000 h\"\n", "more simulated time"),
        ("[input]\nhost_link = \"1 B/s, 0 us\"\n", "more simulated time"),
        (
            "[compute]\nanchor = \"1376 images/s at 64\"\n[accelerator]\nmemory_bandwidth = \"1 B/s\"\n",
            "more simulated time",
        ),
        ("[compute]\nanchor = \"1000000000 images/s at 64\"\n", "less than a microsecond"),
        ("[cost]\nprice = \"3 EUR/h\"\n", "unknown unit `EUR/h`"),
    ] {
        let message = read(&format!("{BASE}{section}")).unwrap_err().to_string();
        assert!(message.contains(problem), "{section}: {message}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let cases = [
        ("node = \"dgx-1-v100\"\n", "`cluster.accelerator`: missing: name an accelerator"),
        ("model = \"resnet50\"\n", "`training.model`: missing: expected one of resnet50"),
        ("per_accelerator_batch = 64\n", "missing: give it or training.global_batch"),
        ("accelerators = [8, 16]\n", "`cluster.accelerators`: missing: give a number here or"),
        ("name = \"test\"\n", "the key `name` is missing: give it"),
    ];
    for (line, problem) in cases {
        let message = error(line, "");
        assert!(message.contains(problem), "{line}: {message}");
    }
}

#[test]
fn text_that_is_not_toml_is_located() {
    let message = error("[sweep]", "[sweep");
    assert!(message.starts_with("11:"), "{message}");
    assert!(message.contains("this is not TOML"), "{message}");
}

#[test]
fn columns_count_characters() {
    let text = BASE.replacen("\"test\"", "\"té\"\nsource = \"é\" # ü", 1);
    assert!(read(&text).is_ok());
    let text = BASE.replacen("name = \"test\"", "\"é\" = 1", 1);
    assert!(read(&text).unwrap_err().to_string().starts_with("1:1: "));
}

#[test]
fn variants_merge_key_by_key_and_errors_point_into_them() {
    let variants = r#"
[[variant]]
name = "two NICs"
[variant.cluster]
nics_per_node = 2

[[variant]]
name = "A100"
[variant.cluster]
node = "dgx-a100"
[variant.sweep]
accelerators = [32]
"#;
    let scenario = read(&format!("{BASE}{variants}")).unwrap();
    let points: Vec<(Option<&str>, u32)> =
        scenario.cases.iter().map(|c| (c.variant.as_deref(), c.accelerators)).collect();
    assert_eq!(points, [(Some("two NICs"), 8), (Some("two NICs"), 16), (Some("A100"), 32)]);
    let broken = variants.replace("node = \"dgx-a100\"", "node = \"dgx-b100\"");
    let message = read(&format!("{BASE}{broken}")).unwrap_err().to_string();
    assert!(message.starts_with("22:8: `cluster.node`: unknown node `dgx-b100`"), "{message}");
    assert!(message.ends_with("(variant `A100`)"), "{message}");
    let broken = variants.replace("nics_per_node", "nics");
    let message = read(&format!("{BASE}{broken}")).unwrap_err().to_string();
    assert!(
        message.starts_with("17:1: `variant[0].cluster.nics`: unknown key `nics`"),
        "{message}"
    );
    let twice = variants.replace("\"A100\"", "\"two NICs\"");
    let message = read(&format!("{BASE}{twice}")).unwrap_err().to_string();
    assert!(message.contains("two variants are called `two NICs`"), "{message}");
}

#[test]
fn a_sweep_is_a_product_with_one_curve_for_each_combination() {
    let text = BASE.replace(
        "accelerators = [8, 16]",
        "accelerators = [8, 16]\nalgorithm = [\"ring\", \"hierarchical\"]\nthreshold = [\"1 MiB\", \"4 MiB\"]",
    );
    let scenario = read(&text).unwrap();
    let series: Vec<&str> = scenario.cases.iter().map(|case| case.series.as_str()).collect();
    assert_eq!(
        series,
        [
            "ring, threshold 1 MiB",
            "ring, threshold 1 MiB",
            "ring, threshold 4 MiB",
            "ring, threshold 4 MiB",
            "hierarchical, threshold 1 MiB",
            "hierarchical, threshold 1 MiB",
            "hierarchical, threshold 4 MiB",
            "hierarchical, threshold 4 MiB",
        ]
    );
    let Method::Strategy(strategy) = &scenario.cases[7].method else { panic!("not a strategy") };
    assert_eq!(strategy.algorithm, Algorithm::hierarchical(8));
    assert_eq!(scenario.cases[7].fusion, Fusion::Threshold(Bytes::new(4 << 20)));
}

#[test]
fn mg_wfbp_takes_the_latency_of_the_all_reduce() {
    let text = r#"
name = "merged"
[cluster]
accelerators_per_node = 4
intra_node_link = "50 GB/s, 3 us"
[accelerator]
title = "our chip"
compute_units = 64
matrix_rate = "100 TFLOP/s"
memory = "32 GiB"
memory_bandwidth = "1 TB/s"
board_power = "200 W"
[training]
model = "resnet50"
per_accelerator_batch = 64
[fusion]
rule = "mg-wfbp"
[sweep]
accelerators = [1, 2, 4]
overlap = [true, false]
"#;
    let scenario = read(text).unwrap();
    let mut timed = Vec::new();
    for case in &scenario.cases {
        let Fusion::MgWfbp { latency, bandwidth } = case.fusion else {
            // All gradients are ready at once, or nothing is sent.
            assert_eq!(case.fusion, Fusion::OneBucket);
            assert!(!case.overlap || case.accelerators == 1);
            continue;
        };
        assert!(case.overlap);
        // A ring of n: 2(n−1) · (3 us + S / n / 50 GB/s), so that a = 2(n−1) · 3 us and
        // 1/b = 50 GB/s · n / (2(n−1)); messages carry whole bytes and take whole picoseconds.
        let n = f64::from(case.accelerators);
        let (a_us, gbyte_per_s) = (6.0 * (n - 1.0), 50.0 * n / (2.0 * (n - 1.0)));
        assert!((latency.as_us() - a_us).abs() < 1e-4, "{latency}");
        let relative = bandwidth.bytes_per_s() as f64 / 1e9 / gbyte_per_s - 1.0;
        assert!(relative.abs() < 1e-6, "{bandwidth}");
        assert!(case.sources.iter().any(|source| source.what == "fusion"));
        // More than one bucket, and fewer than tensors.
        let gradients = gradients(&case.model, &case.compute, case.wire_element_bytes);
        let buckets = case.fusion.static_buckets(&gradients).unwrap();
        assert!(buckets.len() > 1 && buckets.len() < gradients.len(), "{}", buckets.len());
        timed.push(case.accelerators);
    }
    assert_eq!(timed, [2, 4]);
    let message =
        read(&text.replace("overlap = [true, false]", "threshold = [\"1 MiB\"]")).unwrap_err();
    assert!(message.to_string().contains("only the fusion rules threshold and cycle"), "{message}");
}

/// NCCL's times are no line, and a graph's come from another engine: both give some line.
#[test]
fn mg_wfbp_times_every_kind_of_all_reduce() {
    let flowing =
        BASE.replace("node = \"dgx-1-v100\"", "node = \"dgx-a100\"\ncontention = \"max-min\"");
    let nccl = format!("{BASE}[allreduce]\nalgorithm = \"nccl\"\n");
    for text in [BASE, &flowing, &nccl] {
        let scenario = read(&format!("{text}[fusion]\nrule = \"mg-wfbp\"\n")).unwrap();
        for case in &scenario.cases {
            let Fusion::MgWfbp { latency, bandwidth } = case.fusion else {
                panic!("{:?}", case.fusion);
            };
            assert!((1.0..1000.0).contains(&latency.as_us()), "{latency}");
            assert!((1e9..1e12).contains(&(bandwidth.bytes_per_s() as f64)), "{bandwidth}");
        }
    }
}

#[test]
fn published_points_give_one_quantity() {
    let point = |quantities: &str| {
        let published = format!("[[published]]\naccelerators = 8\n{quantities}source = \"x\"\n");
        read(&format!("{BASE}{published}")).map(|scenario| scenario.published.len())
    };
    assert_eq!(point("images_per_s = \"10 images/s\"\n"), Ok(1));
    let both = "images_per_s = \"10 images/s\"\nstep_time = \"1 ms\"\n";
    for wrong in ["", both] {
        let message = point(wrong).unwrap_err().to_string();
        assert!(message.starts_with("13:1: `published[0]`: expected exactly one of"), "{message}");
    }
    let message = point("images_per_s = \"0 images/s\"\n").unwrap_err().to_string();
    assert!(message.contains("expected values above 0"), "{message}");
    let message = point("variant = \"x\"\nstep_time = \"1 ms\"\n").unwrap_err().to_string();
    assert!(message.contains("unknown variant `x`"), "{message}");
}

#[test]
fn an_accelerator_can_be_described() {
    let text = r#"
name = "own"
[cluster]
accelerators = 4
accelerators_per_node = 4
intra_node_link = "50 GB/s, 3 us"
[accelerator]
title = "our chip"
compute_units = 64
matrix_rate = "100 TFLOP/s"
memory = "32 GiB"
memory_bandwidth = "1 TB/s"
board_power = "200 W"
[training]
model = "alexnet-bn"
per_accelerator_batch = 128
"#;
    let scenario = read(text).unwrap();
    assert_eq!(scenario.cases[0].sources[0].value, "our chip");
    let message = read(&text.replace("memory = \"32 GiB\"\n", "")).unwrap_err().to_string();
    assert!(message.contains("`accelerator.memory`: missing"), "{message}");
    let message = read(&text.replace("accelerators = 4\n", "accelerators = 8\n")).unwrap_err();
    assert!(message.to_string().contains("`cluster.inter_node_link`: missing"), "{message}");
}

#[test]
fn overrides_win() {
    let overrides = Overrides { seed: Some(7), steps: Some(3) };
    let scenario = Scenario::from_toml(BASE, overrides).unwrap();
    assert_eq!((scenario.cases[0].seed, scenario.cases[0].steps), (7, 3));
}

/// Large clusters are not refused for what they could not do: the bounds are those of the buckets there
/// are, and of the links that messages share.
#[test]
fn large_clusters_on_graphs_are_simulated() {
    let scenario = |cluster: &str, allreduce: &str, steps: u32| {
        let text = format!(
            "name = \"large\"\n[cluster]\n{cluster}\n[training]\nmodel = \"resnet50\"\n\
             per_accelerator_batch = 16\n[allreduce]\n{allreduce}\n[simulation]\nsteps = {steps}"
        );
        Scenario::from_toml(&text, Overrides::default())
    };
    let p40 = "node = \"8x-p40-pcie\"\naccelerators";
    let a100 = "node = \"dgx-a100\"\naccelerators";
    let (switch, hierarchical) =
        ("fabric = { kind = \"single-switch\" }", "algorithm = \"hierarchical\"");
    for (cluster, allreduce, steps) in [
        (format!("{p40} = 4096\n{switch}"), hierarchical, 100),
        (
            format!("{p40} = 512\n{switch}\ninter_node_link = \"1 Gbit/s, 20 us\""),
            hierarchical,
            100,
        ),
        (format!("{a100} = 16\ncontention = \"max-min\""), "algorithm = \"ring\"", 20_000),
        (format!("{a100} = 1024\ncontention = \"max-min\""), hierarchical, 10),
    ] {
        let result = scenario(&cluster, allreduce, steps);
        assert!(result.is_ok(), "{cluster}: {}", result.unwrap_err());
    }
    let key = |cluster: &str, allreduce: &str| {
        scenario(cluster, allreduce, 1).unwrap_err().key.unwrap_or_default()
    };
    let twelve = "node = \"dgx-a100\"\naccelerators = 12";
    assert_eq!(key(twelve, "algorithm = \"in-network\""), "cluster.accelerators");
    assert_eq!(key(twelve, "channels = 65"), "allreduce.channels");
    let sixteen = "node = \"dgx-a100\"\naccelerators = 16";
    assert_eq!(key(sixteen, "algorithm = \"nccl\"\nchannels = 4"), "allreduce.channels");
    assert_eq!(key(twelve, "algorithm = \"nccl\""), "allreduce.algorithm");
    let torus =
        "\nnode_topology = { kind = \"switch\" }\nfabric = { kind = \"torus\", sizes = [2, 3] }";
    assert_eq!(key(&format!("{sixteen}{torus}"), "algorithm = \"ring\""), "cluster.fabric");
    let many = "node = \"dgx-a100\"\naccelerators = 16\naccelerators_per_node = 3000000000";
    assert_eq!(key(many, "algorithm = \"ring\""), "cluster.accelerators_per_node");
}

/// A scenario that rests on a profile, which is that of `profile/tests.rs`.
fn profiled(text: &str) -> Result<Scenario, String> {
    let named = |name: &str| match name {
        "p.json" => Ok(NamedProfile {
            profile: crate::profile::tests::profile(),
            hash: "a hash".to_owned(),
        }),
        _ => Err(format!("{name}: there is no such file")),
    };
    Scenario::with_profiles(text, Overrides::default(), &named).map_err(|error| error.to_string())
}

const PROFILED: &str = "name = \"p\"\nprofile = \"p.json\"\n[cluster]\naccelerators_per_node = 1\n\
                        accelerators = 4\n[training]\nper_accelerator_batch = 12\n";

#[test]
fn a_profile_says_what_the_scenario_does_not() {
    let scenario = profiled(PROFILED).unwrap();
    assert_eq!(scenario.profile_hashes, ["a hash"]);
    let case = &scenario.cases[0];
    assert_eq!(case.model.name(), "two layers");
    assert_eq!(case.compute.source, crate::compute::ComputeSource::Profile);
    // Batch 12 lies between 8 and 16: 5 + 13 + 30 forward, 25 + 65 backward, 30 for the update.
    assert_eq!(case.compute.step().as_us(), 168.0);
    assert_eq!((case.jitter.variation, case.extrapolated_batches), (0.02, None));
    // A ring of 4 sends quarters of 640 bytes: 6 (10 us + 160 B / 1 GB/s).
    let plan = case.all_reduce(Bytes::new(640)).unwrap();
    let ends = crate::collective::replay_arrays(&plan.schedule, &plan.network, &[SimTime::ZERO; 4]);
    assert_eq!(ends[0].since(SimTime::ZERO).as_us(), 60.96);
    let sources: Vec<&str> = case.sources.iter().map(|source| source.what).collect();
    assert_eq!(sources, ["accelerator", "inter-node link", "compute times", "jitter"]);
    // What the scenario gives counts more.
    let given = PROFILED
        .replace("accelerators = 4", "accelerators = 4\ninter_node_link = \"1 GB/s, 1 us\"");
    let case = profiled(&(given + "[jitter]\nvariation = \"5 %\"\n")).unwrap().cases.remove(0);
    assert_eq!(case.jitter.variation, 0.05);
    assert!(matches!(case.network, Interconnect::TwoLevel(_)));
    let far = profiled(&PROFILED.replace("batch = 12", "batch = 32")).unwrap();
    assert_eq!(far.cases[0].extrapolated_batches, Some((8, 16)));
    let forecast = crate::forecast::forecast(&far, crate::forecast::Engine::Events, || {}).unwrap();
    assert_eq!(forecast.foretrain.profile_hash.as_deref(), Some("a hash"));
    let warned = &forecast.warnings[0].message;
    assert!(warned.starts_with("the profile was measured at batches 8 to 16"), "{warned}");
}

#[test]
fn a_scenario_that_contradicts_its_profile_is_refused() {
    let refused = |from: &str, to: &str| profiled(&PROFILED.replace(from, to)).unwrap_err();
    let error = refused("p.json", "q.json");
    assert_eq!(error, "2:11: `profile`: q.json: there is no such file");
    let batch = "per_accelerator_batch = 12";
    for (line, problem) in [
        (
            "model = \"resnet50\"",
            "ResNet-50 v1.5 has 25557032 parameters and images of [3, 224, 224], and the profile's two",
        ),
        ("precision = \"bf16-mixed\"", "the profile was measured in f32"),
        ("optimizer = \"momentum\"", "the profile was measured with lars"),
    ] {
        let error = refused(batch, &format!("{batch}\n{line}"));
        assert!(error.contains(problem), "{error}");
    }
    let anchored = profiled(&format!("{PROFILED}[compute]\nanchor = \"100 images/s at 8\"\n"));
    assert!(anchored.unwrap_err().contains("given beside a profile"));
    // Links inside nodes were not measured.
    let error = refused("accelerators_per_node = 1", "accelerators_per_node = 2");
    assert!(
        error.contains("`cluster.intra_node_link`: missing, and the profile has not measured it")
    );
    // Where no profiles can be read, that is said.
    let error = Scenario::from_toml(PROFILED, Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("profiles cannot be read here"), "{error}");
}
