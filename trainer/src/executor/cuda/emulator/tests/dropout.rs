//! Dropout against that of the CPU, whose decisions it must share.

use proptest::prelude::*;

use super::super::super::arguments::optimizer::StepInput;
use super::super::super::arguments::pointwise::Dropout;
use super::*;
use crate::executor::cpu::{self, Element, Target};
use foretrain_sim::random::place_bits;

/// What the CPU makes of these elements, added to `there` if there is something.
fn on_cpu<E: Element<Real = f32>>(
    dropout: cpu::Dropout,
    from: &[f32],
    there: Option<&[f32]>,
) -> Vec<f32> {
    let elements = |values: &[f32]| values.iter().map(|value| E::from_real(*value)).collect();
    let (from, mut to): (Vec<E>, Vec<E>) = (elements(from), elements(there.unwrap_or(from)));
    dropout.apply(&from, Target { values: &mut to, accumulate: there.is_some() });
    to.into_iter().map(E::to_real).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_same_elements_are_kept_as_on_the_cpu(
        rate in prop_oneof![Just(0.0), Just(0.5), 0.0..1.0],
        dropout_key: u64,
        instruction in 0_u64..200,
        first_image in 0_u64..100_000,
        (images, vectors_per_image) in (1_usize..4, 1_usize..120),
        accumulate: bool,
        blocks in 1_u32..4,
    ) {
        let elements_per_image = 8 * vectors_per_image;
        let elements = images * elements_per_image;
        let on_cpu_with = cpu::Dropout {
            rate,
            key: place_bits(dropout_key, instruction),
            first: first_image * elements_per_image as u64,
        };
        let input = StepInput {
            learning_rate: f64::NAN,
            dropout_key,
            first_image,
            reciprocal_batch: f32::NAN,
        };
        for format in FORMATS {
            let from = numbers(format, 1, elements, 3.0);
            let there = numbers(format, 2, elements, 3.0);
            let mut memory = Memory::new(elements * 8 + (1 << 12));
            let to = memory.put_elements(format, &there);
            let arguments = Dropout {
                from: memory.put_elements(format, &from),
                to,
                vectors: (elements / 8) as u64,
                input: memory.put(&input.to_bytes()),
                instruction,
                elements_per_image: elements_per_image as u64,
                rate,
                accumulate: accumulate.into(),
            };
            run(format, &arguments, blocks);
            let on_cpu = match format {
                NumberFormat::F16 => on_cpu::<f16>,
                NumberFormat::Bf16 => on_cpu::<bf16>,
                NumberFormat::F32 => on_cpu::<f32>,
            };
            let expected = on_cpu(on_cpu_with, &from, accumulate.then_some(&there));
            prop_assert_eq!(memory.get_elements(format, to, elements), expected);
        }
    }
}
