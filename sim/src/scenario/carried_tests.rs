use super::*;
use crate::profile::{BatchTimes, ComputeProfile, Estimate, LayerEntry, Profile, TensorEntry};
use crate::recording::NumberFormat;
use crate::scenario::{NamedProfile, Overrides, Scenario};

const LAUNCH: SimDuration = SimDuration::from_ps(5_000_000);

/// A device 1.4 times as slow as its roofline.
fn times(name: &str, batch: u64) -> ComputeTimes {
    let accelerator = Catalogue::shipped().accelerator(name).unwrap();
    Roofline::new(accelerator, Precision::Fp16Mixed, Optimizer::Lars)
        .unwrap()
        .with_kernels(Kernels::Separate, LAUNCH)
        .times(&NetworkName::Resnet50.network(), batch, 1.4)
}

/// What calibration would find on an A100.
fn profile() -> Profile {
    let network = NetworkName::Resnet50.network();
    let batch = |batch: u64| {
        let times = times("a100-sxm4-80gb", batch);
        let us = |pick: fn(&LayerTime) -> SimDuration| {
            times.layers[1..].iter().map(|layer| pick(layer).as_us()).collect::<Vec<f64>>()
        };
        BatchTimes {
            batch,
            steps: 10,
            host_us: Estimate::exact(0.0),
            forward_us: Estimate::exact(times.forward().as_us()),
            backward_us: Estimate::exact(times.backward().as_us()),
            optimizer_us: Estimate::exact(times.optimizer.as_us()),
            layer_forward_us: us(|layer| layer.forward),
            layer_backward_us: us(|layer| layer.backward),
        }
    };
    let layer = |node: &crate::workload::Node| LayerEntry {
        name: node.name.clone(),
        operation: "any".to_owned(),
        tensors: node
            .parameters
            .iter()
            .map(|tensor| TensorEntry { name: tensor.name.clone(), elements: tensor.elements() })
            .collect(),
    };
    let compute = ComputeProfile {
        network: network.name().to_owned(),
        input: [3, 224, 224],
        precision: NumberFormat::F16,
        wire: None,
        optimizer: "lars".to_owned(),
        layers: network.nodes()[1..].iter().map(layer).collect(),
        batches: vec![batch(16), batch(64)],
        overlap_slowdown: None,
    };
    let mut profile = crate::profile::tests::profile();
    profile.compute = Some(compute);
    profile
}

fn read(accelerator: &str, compute: &str, batch: u64, profile: &Profile) -> Result<Case, String> {
    let text = format!(
        "name = \"carried\"\nprofile = \"p\"\n[cluster]\naccelerators = 1\naccelerators_per_node = 1\n\
         accelerator = \"{accelerator}\"\n[training]\nmodel = \"resnet50\"\n\
         per_accelerator_batch = {batch}\n[compute]\n{compute}\n"
    );
    let named = |_: &str| Ok(NamedProfile { profile: profile.clone(), hash: "h".to_owned() });
    Scenario::with_profiles(&text, Overrides::default(), &named)
        .map(|scenario| scenario.cases[0].clone())
        .map_err(|error| error.to_string())
}

use crate::scenario::Case;

#[test]
fn layers_of_one_device_become_those_of_another() {
    let compute = "measured_on = \"a100-sxm4-80gb\"\nlaunch_time = \"5 us\"";
    for batch in [16, 64] {
        for accelerator in ["v100-sxm2-16gb", "h100-sxm5-80gb", "a100-sxm4-80gb"] {
            let case = read(accelerator, compute, batch, &profile()).unwrap();
            let expected = times(accelerator, batch);
            for (found, expected) in case.compute.layers.iter().zip(&expected.layers) {
                // Profiles are in microseconds, layers in picoseconds.
                let near = |a: SimDuration, b: SimDuration| a.as_ps().abs_diff(b.as_ps()) <= 5;
                assert!(near(found.forward, expected.forward), "{found:?} {expected:?}");
                assert!(near(found.backward, expected.backward), "{found:?} {expected:?}");
            }
            assert!(case.compute.optimizer.as_ps().abs_diff(expected.optimizer.as_ps()) <= 5);
            assert!(case.sources.iter().any(|source| source.value.contains("carried over")));
        }
    }
}

#[test]
fn what_cannot_be_carried_says_why() {
    let error =
        |accelerator: &str, compute: &str| read(accelerator, compute, 16, &profile()).unwrap_err();
    let unknown = error("v100-sxm2-16gb", "measured_on = \"a100\"");
    assert!(unknown.contains("compute.measured_on`: unknown accelerator `a100`"), "{unknown}");
    let gaudi = error("gaudi", "measured_on = \"a100-sxm4-80gb\"");
    assert!(gaudi.contains("no peak rate of Habana Gaudi"), "{gaudi}");
    let mut other = profile();
    if let Some(compute) = &mut other.compute {
        compute.layers[3].name = "something".to_owned();
    }
    let layer = read("v100-sxm2-16gb", "measured_on = \"a100-sxm4-80gb\"", 16, &other).unwrap_err();
    assert!(layer.contains("the profile's layer `something` is none of ResNet-50"), "{layer}");
    let launch = error("v100-sxm2-16gb", "launch = \"graph\"");
    assert!(launch.contains("given beside a profile"), "{launch}");
}
