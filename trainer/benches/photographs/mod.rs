//! Stand-ins for photographs, for measuring without a dataset: 500 × 375 JPEG files, quality 90,
//! 4:2:0, 106 KB on average, like the files of ImageNet.
//!
//! Photographs have more in low frequencies than in high ones, and edges between surfaces. So here
//! are octaves of noise whose amplitude falls by a quarter while the frequency doubles, coloured by
//! a slower noise, darkened where another one is below zero, plus grain, as a sensor adds it.

use foretrain_trainer::data::source::{Payload, Source, Synthetic, SyntheticShape};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

const WIDTH: usize = 500;
const HEIGHT: usize = 375;
/// From 4 to 512 periods across a picture.
const OCTAVES: usize = 8;

/// Random numbers in [−1, 1), one for each point of a lattice.
struct Lattice(Vec<f32>);

impl Lattice {
    const SIDE: usize = 128;

    fn new(seed: u64) -> Self {
        let side = Self::SIDE as u32;
        let shape =
            SyntheticShape { samples: 1, classes: 1, width: side, height: side, channels: 3 };
        let Payload::Raw(noise) = Synthetic::new(seed, shape).unwrap().read(0).unwrap().payload
        else {
            unreachable!("synthetic images are raw")
        };
        Self(noise.data().iter().map(|&byte| f32::from(byte) / 128.0 - 1.0).collect())
    }

    fn at(&self, x: usize, y: usize, plane: usize) -> f32 {
        self.0[((y % Self::SIDE) * Self::SIDE + x % Self::SIDE) * 3 + plane]
    }

    /// Between the points, smoothly.
    fn between(&self, x: f32, y: f32, plane: usize) -> f32 {
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (column, row) = (x as usize, y as usize);
        let (right, down) = (smooth(x.fract()), smooth(y.fract()));
        let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let along = |row| mix(self.at(column, row, plane), self.at(column + 1, row, plane), right);
        mix(along(row), along(row + 1), down)
    }

    /// The sum of the first `octaves`, in about −1 to 1.
    fn fractal(&self, x: f32, y: f32, octaves: usize, plane: usize) -> f32 {
        let octave = |octave: usize| {
            let frequency = (1_u32 << octave) as f32;
            self.between(x * frequency + 7.3, y * frequency + 3.1, plane)
                * 0.75_f32.powi(octave as i32)
        };
        (0..octaves).map(octave).sum()
    }
}

/// One picture; each `seed` gives another.
pub(crate) fn photograph(seed: u64) -> Vec<u8> {
    let lattice = Lattice::new(seed);
    let mut data = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for row in 0..HEIGHT {
        for column in 0..WIDTH {
            let (x, y) = (4.0 * column as f32 / WIDTH as f32, 4.0 * row as f32 / WIDTH as f32);
            let surface = if lattice.fractal(x, y, 5, 1) > 0.0 { 150.0 } else { 85.0 };
            let light = surface + 60.0 * lattice.fractal(x, y, OCTAVES, 0);
            let hue = 30.0 * lattice.fractal(x, y, 4, 2);
            let grain = 52.0 * lattice.at(column, row + column / Lattice::SIDE * 31, 2);
            for channel in [light + hue, light, light - hue] {
                data.push((channel + grain) as u8);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 90);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&data, WIDTH as u16, HEIGHT as u16, ColorType::Rgb).unwrap();
    file
}
