//! Measures a machine that is made up from known numbers, and prints the raw measurements:
//!
//! ```text
//! cargo run --workspace --example synthetic > measurements.json
//! foretrain calibrate --from measurements.json -o profile.json
//! ```

use std::io::Write as _;
use std::time::Duration;

use foretrain_calibrate::measure::synthetic::{Synthetic, Truth};
use foretrain_calibrate::measure::{NobodyLooks, Parts, Procedure, StepVariant};
use foretrain_sim::collective::{Algorithm, AlgorithmName};
use foretrain_sim::profile::{AllReduceEntry, FusionEntry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ring = AllReduceEntry::plain(AlgorithmName::Ring);
    let hierarchical = AllReduceEntry::from(Algorithm::hierarchical(2));
    let fusion = FusionEntry::Threshold { threshold_bytes: 512 << 10 };
    let procedure = Procedure {
        parts: Parts::default(),
        batches: vec![8, 16],
        batch: 8,
        sizes: (10..26).step_by(2).flat_map(|power| [1 << power, 3 << power]).collect(),
        collectives: vec![ring, hierarchical],
        variants: StepVariant::product(
            &[ring, hierarchical],
            &[fusion.clone(), FusionEntry::OneBucket],
            &[false, true],
        ),
        usual: (ring, fusion),
        warmup_steps: 2,
        steps: 10,
        jitter_steps: 50,
        repeats: (9, 9),
        narrow: 0.01,
        time: Duration::from_secs(3600),
        seed: 1,
        command: "the example synthetic of foretrain-calibrate".to_owned(),
        measured: "2026-11-28".to_owned(),
        usd_per_accelerator_hour: None,
        watts_per_accelerator: None,
    };
    let mut machine = Synthetic::new(Truth::small(), 1);
    let measurements = procedure.run(&mut machine, &mut NobodyLooks)?;
    std::io::stdout().write_all(measurements.to_json()?.as_bytes())?;
    Ok(())
}
