//! Outputs, and what a ReLU lets pass, forward and backward.

use super::*;

#[test]
fn outputs_are_their_equation_on_every_grid() {
    for format in FORMATS {
        for (case, (rows, channels)) in SIZES.into_iter().enumerate() {
            let mut layer = Layer::new(format, (rows, channels), &numbers(9, rows * channels));
            let [relu, with_residual] = [case % 2, case / 2 % 2].map(|flag| flag == 1);
            let [scale, shift] = [20, 21].map(|seed| numbers(seed, channels));
            let residual = if with_residual { layer.put(22) } else { Address::NULL };
            let arguments = BatchNormApply {
                x: layer.x,
                residual,
                y: layer.memory.take_elements(format, rows * channels),
                scale: layer.memory.put(&scale),
                shift: layer.memory.put(&shift),
                vectors: (rows * channels / 8) as u64,
                channels: channels as u32,
                relu: u32::from(relu),
            };
            let x = wide(&layer.elements(layer.x));
            let residual =
                if with_residual { wide(&layer.elements(residual)) } else { vec![0.0; x.len()] };
            let mut found = Vec::new();
            for grid in [arguments.grid(), 1, 4] {
                run(format, &arguments, grid);
                found.push(bits(&layer.elements(arguments.y)));
            }
            assert!(found.iter().all(|other| *other == found[0]));
            for (index, y) in layer.elements(arguments.y).into_iter().enumerate() {
                let [scale, shift] = [&scale, &shift].map(|of| f64::from(of[index % channels]));
                let sum = x[index] * scale + shift + residual[index];
                let expected = if relu { sum.max(0.0) } else { sum };
                let size = (x[index] * scale).abs() + shift.abs() + residual[index].abs();
                // Three roundings in single precision, then one to the format.
                let allowed =
                    rounding(format) * expected.abs() + 3.0 * 2.0_f64.powi(-24) * size + SMALLEST;
                assert!((f64::from(y) - expected).abs() <= allowed, "{format:?}: {y} {expected}");
            }
        }
    }
}

#[test]
fn a_relu_lets_pass_what_is_no_number() {
    for format in FORMATS {
        let x = [-1.0, 0.0, 1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 2.0];
        let mut layer = Layer::new(format, (1, 8), &x);
        let y = layer.memory.take_elements(format, 8);
        let [scale, shift] = [1.0_f32, 0.0].map(|value| layer.memory.put(&[value; 8]));
        let (x, residual) = (layer.x, Address::NULL);
        let apply =
            BatchNormApply { x, residual, y, scale, shift, vectors: 1, channels: 8, relu: 1 };
        run(format, &apply, 1);
        let got = layer.elements(y);
        assert!(got[3].is_nan());
        assert_eq!([&got[..3], &got[4..]].concat(), [0.0, 0.0, 1.0, f32::INFINITY, 0.0, 0.0, 2.0]);
        // And so do gradients, where they are wanted: b = c = 0 leaves a z.
        let dy = layer.memory.put_elements(format, &[0.5; 8]);
        let dx = layer.memory.take_elements(format, 8);
        let x = layer.memory.put_elements(format, &[0.0; 8]);
        let arguments = BatchNormGradientApply {
            x,
            y,
            dy,
            mean: shift,
            coefficients: layer.memory.put(&[[1.0_f32; 8], [0.0; 8], [0.0; 8]].concat()),
            dx,
            d_residual: Address::NULL,
            vectors: 1,
            channels: 8,
            accumulate: 0,
            accumulate_residual: 0,
        };
        run(format, &arguments, 1);
        assert_eq!(layer.elements(dx), [0.0, 0.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.5]);
    }
}
