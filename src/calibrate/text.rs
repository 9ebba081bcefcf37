//! A profile for people.

use foretrain_sim::profile::{Estimate, LinkProfile, Profile};
use foretrain_sim::units::Bytes;

use crate::table::{plain, right};

/// What a profile says.
pub(super) fn summary(profile: &Profile) -> String {
    let mut text = head(profile);
    if let Some(compute) = &profile.compute {
        let parameters = compute.parameter_count();
        text += &format!(
            "\n{}: {} layers, {parameters} parameters, {}, {}\n",
            compute.network,
            compute.layers.len(),
            compute.precision.name(),
            compute.optimizer
        );
        let mut table = plain();
        table.set_header(
            [
                "batch",
                "forward ms",
                "backward ms",
                "update ms",
                "host ms",
                "images/s alone",
                "steps",
            ]
            .map(right),
        );
        for times in &compute.batches {
            let step_us = times.host_us.value
                + times.forward_us.value
                + times.backward_us.value
                + times.optimizer_us.value;
            table.add_row(
                [
                    times.batch.to_string(),
                    ms(times.forward_us),
                    ms(times.backward_us),
                    ms(times.optimizer_us),
                    ms(times.host_us),
                    format!("{:.1}", times.batch as f64 / step_us * 1e6),
                    times.steps.to_string(),
                ]
                .map(|cell| right(&cell)),
            );
        }
        text += &format!("{}\n", table.trim_fmt());
        if let Some(slowdown) = compute.overlap_slowdown {
            text += &format!(
                "backward takes {:.3} times as long while buckets travel ({:.3} to {:.3})\n",
                slowdown.value, slowdown.low, slowdown.high
            );
        }
    }
    for (name, link) in
        [("inside nodes", &profile.links.intra_node), ("between nodes", &profile.links.inter_node)]
    {
        if let Some(link) = link {
            text += &format!("\nMessages {name}\n{}", link_text(link));
        }
    }
    text + &others(profile)
}

fn head(profile: &Profile) -> String {
    let (machine, origin) = (&profile.machine, &profile.origin);
    let nodes = machine.ranks.div_ceil(machine.ranks_per_node.max(1));
    format!(
        "Profile of {}\nforetrain {}, {}, {}, {} rank{} on {nodes} node{}, seed {}\n",
        machine.device,
        profile.foretrain,
        origin.procedure,
        origin.measured,
        machine.ranks,
        if machine.ranks == 1 { "" } else { "s" },
        if nodes == 1 { "" } else { "s" },
        origin.seed
    )
}

fn link_text(link: &LinkProfile) -> String {
    let mut table = plain();
    table.set_header(["from", "latency us", "GB/s"].map(right));
    let number = |estimate: Estimate| {
        format!("{:.4} ({:.4} to {:.4})", estimate.value, estimate.low, estimate.high)
    };
    for range in &link.ranges {
        table.add_row(
            [
                Bytes::new(range.from_bytes).to_string(),
                number(range.latency_us),
                number(range.gbyte_per_s),
            ]
            .map(|cell| right(&cell)),
        );
    }
    let held = link.held_out;
    format!(
        "{}\nsizes left out of the fit: {:.1} % median error, {:.1} % at most, of {}\n",
        table.trim_fmt(),
        held.median_percent,
        held.max_percent,
        held.points
    )
}

fn others(profile: &Profile) -> String {
    let mut text = String::new();
    if let Some(jitter) = &profile.jitter {
        text += &format!(
            "\nCompute varies by {:.2} % ({:.2} to {:.2}) from step to step, {} of {} steps fits best \
             (distance {:.3}, probability {:.2}), correlation of neighbours {:.2}\n",
            100.0 * jitter.variation.value,
            100.0 * jitter.variation.low,
            100.0 * jitter.variation.high,
            jitter.best,
            jitter.steps,
            jitter.ks_distance,
            jitter.ks_probability,
            jitter.autocorrelation
        );
    }
    if let Some(input) = &profile.input {
        text += &format!(
            "One worker takes {:.1} us an image ({:.1} to {:.1}), {}\n",
            input.decode_us_per_image.value,
            input.decode_us_per_image.low,
            input.decode_us_per_image.high,
            input.data
        );
    }
    if let Some(noise) = &profile.gradient_noise {
        text += &format!(
            "Gradient noise scale {:.0} images ({:.0} to {:.0}) in steps {} to {}\n",
            noise.scale_images.value,
            noise.scale_images.low,
            noise.scale_images.high,
            noise.steps.0,
            noise.steps.1
        );
    }
    let (collectives, steps) = (&profile.collectives, &profile.steps);
    let points: usize = collectives.iter().map(|collective| collective.points.len()).sum();
    if points + steps.len() > 0 {
        text += &format!(
            "Not fitted, for `foretrain verify`: {points} all-reduces, {} kinds of steps\n",
            steps.len()
        );
    }
    text
}

fn ms(estimate: Estimate) -> String {
    format!("{:.3} ± {:.3}", estimate.value / 1e3, (estimate.high - estimate.low) / 2e3)
}
