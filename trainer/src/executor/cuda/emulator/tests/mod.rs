//! That the emulator is one, and that both languages mean the same.

mod batch_norm;
mod dropout;
mod executor;
mod input;
mod linear;
mod loss;
mod optimizer;
mod pool;
mod step;

use foretrain_sim::random::place_uniform;

use super::super::arguments::all_kernels;
use super::super::arguments::pointwise::{Cast, Relu, ReluBackward};
use super::*;

/// So many numbers between −`size` and `size`, as a format has them.
fn numbers(format: NumberFormat, key: u64, count: usize, size: f32) -> Vec<f32> {
    let number = |place| rounded(format, (place_uniform(key, place) as f32 * 2.0 - 1.0) * size);
    (0..count as u64).map(number).collect()
}

/// A number as a format has it.
fn rounded(format: NumberFormat, value: f32) -> f32 {
    match format {
        NumberFormat::F16 => f16::from_f32(value).to_f32(),
        NumberFormat::Bf16 => bf16::from_f32(value).to_f32(),
        NumberFormat::F32 => value,
    }
}

/// Half the distance of a format's numbers around 1.
fn precision(format: NumberFormat) -> f64 {
    match format {
        NumberFormat::F16 => 2.0_f64.powi(-11),
        NumberFormat::Bf16 => 2.0_f64.powi(-8),
        NumberFormat::F32 => 2.0_f64.powi(-24),
    }
}

#[test]
fn both_languages_mean_the_same_arguments() {
    for format in FORMATS {
        let emulator = Emulator::new(format);
        for (kernel, bytes) in all_kernels() {
            assert_eq!(emulator.argument_bytes(kernel), bytes, "{kernel}");
        }
    }
}

#[test]
fn relu_and_its_gradient_by_hand() {
    for format in FORMATS {
        let mut memory = Memory::new(1 << 12);
        let x = [-2.0, -0.0, 0.0, 0.5, 3.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let x = memory.put_elements(format, &x);
        let y = memory.take_elements(format, 8);
        run(format, &Relu { x, y, vectors: 1 }, 3);
        let got = memory.get_elements(format, y, 8);
        assert!(got[5].is_nan());
        let expected = [0.0, 0.0, 0.0, 0.5, 3.0, 0.0, f32::INFINITY, 0.0];
        assert_eq!([&got[..5], &[0.0], &got[6..]].concat(), expected);
        let dy = memory.put_elements(format, &[1.0; 8]);
        let dx = memory.put_elements(format, &[0.25; 8]);
        for (accumulate, there) in [(1, 0.25), (0, 0.0)] {
            run(format, &ReluBackward { y, dy, dx, vectors: 1, accumulate }, 1);
            let got = memory.get_elements(format, dx, 8);
            let passed = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0];
            assert_eq!(got, passed.map(|passed| there + passed), "{format:?}");
        }
    }
}

/// `half` is the reference: every half is widened and rounded back, and the numbers half way between
/// two neighbours, and just beside, are rounded as it rounds.
#[test]
fn formats_are_those_of_the_half_crate() {
    for format in [NumberFormat::F16, NumberFormat::Bf16] {
        let round = |value: f32| match format {
            NumberFormat::F16 => f16::from_f32(value).to_f32(),
            _ => bf16::from_f32(value).to_f32(),
        };
        let widen = |bits: u16| match format {
            NumberFormat::F16 => f16::from_bits(bits).to_f32(),
            _ => bf16::from_bits(bits).to_f32(),
        };
        let mut values = Vec::new();
        for bits in 0..=0x7fff_u16 {
            let (low, high) = (widen(bits), widen(bits + u16::from(bits < 0x7fff)));
            let half_way = f32::midpoint(low, high);
            values.extend([low, half_way, half_way.next_up(), half_way.next_down()]);
        }
        values.extend(values.clone().iter().map(|value| -value));
        let mut memory = Memory::new(values.len() * 8 + (1 << 12));
        let from = memory.put(&values);
        let to = memory.take_elements(format, values.len());
        let wide = Cast {
            from,
            to,
            elements: values.len() as u64,
            from_format: 3,
            to_format: format_number(format),
        };
        run(NumberFormat::F32, &wide, 2);
        let got = memory.get_elements(format, to, values.len());
        for (value, got) in values.iter().zip(got) {
            let expected = round(*value);
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{value}: {got}, {expected}"
            );
        }
    }
}
