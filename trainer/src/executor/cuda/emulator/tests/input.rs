//! Images and filters on their way in, against their definitions.

use super::super::super::arguments::input::{
    NormaliseImages, PadFilters, TakeImages, UnpadFilters,
};
use super::*;

/// Rows of `channels` as rows of `padded`, rounded, with zeros for what is missing.
fn padded_rows(format: NumberFormat, rows: &[f32], channels: usize, padded: usize) -> Vec<f32> {
    let row = |row: &[f32]| {
        let value = |channel| row.get(channel).map_or(0.0, |value| rounded(format, *value));
        (0..padded).map(value).collect::<Vec<_>>()
    };
    rows.chunks(channels).flat_map(row).collect()
}

/// Numbers of rows and channels, and channels in memory.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 4), (3, 3, 4), (7, 3, 8), (1000, 3, 4), (5, 4, 4), (9, 6, 8), (11, 9, 12)];

#[test]
fn images_and_filters_are_rounded_and_filled_up_with_zeros() {
    for format in FORMATS {
        for (rows, channels, padded) in SHAPES {
            let mut memory = Memory::new(rows * padded * 8 + rows * channels * 4 + (1 << 12));
            let values = numbers(NumberFormat::F32, 1, rows * channels, 100.0);
            let from = memory.put(&values);
            let expected = padded_rows(format, &values, channels, padded);
            let sizes = (rows as u64, channels as u32, padded as u32);
            for blocks in [1, 3] {
                let to = memory.take_elements(format, rows * padded);
                let (pixels, channels, padded) = sizes;
                run(format, &TakeImages { from, to, pixels, channels, padded }, blocks);
                assert_eq!(memory.get_elements(format, to, expected.len()), expected);
            }
            let mut memory = Memory::new(rows * padded * 8 + rows * channels * 4 + (1 << 12));
            let from = memory.put(&values);
            let to = memory.take_elements(format, rows * padded);
            let (rows, channels, padded) = sizes;
            run(format, &PadFilters { from, to, rows, channels, padded }, 2);
            assert_eq!(memory.get_elements(format, to, expected.len()), expected);
        }
    }
}

#[test]
fn gradients_of_filters_lose_what_was_filled_up() {
    for format in FORMATS {
        for (rows, channels, padded) in SHAPES {
            let mut memory = Memory::new(rows * padded * 8 + (1 << 12));
            let values = numbers(format, 2, rows * padded, 100.0);
            let from = memory.put_elements(format, &values);
            // In a bucket, a tensor begins where the one before ends.
            let bucket = memory.take_elements(format, rows * channels + 1);
            let to = bucket.add(format.element_bytes() as usize);
            let arguments = UnpadFilters {
                from,
                to,
                rows: rows as u64,
                channels: channels as u32,
                padded: padded as u32,
            };
            run(format, &arguments, 2);
            let expected: Vec<f32> =
                values.chunks(padded).flat_map(|row| row[..channels].to_vec()).collect();
            assert_eq!(memory.get_elements(format, to, rows * channels), expected);
        }
    }
}

#[test]
fn bytes_become_numbers_by_the_factor_and_offset_of_their_channel() {
    let (factors, offsets) = ([0.017, 0.5, -0.25, 3.0], [-2.1, 0.25, 60.0, -1.5]);
    for format in FORMATS {
        for (pixels, channels, padded) in
            [(1, 1, 4), (86, 3, 4), (87, 3, 8), (700, 3, 4), (65, 4, 4), (128, 2, 12)]
        {
            let mut memory = Memory::new(pixels * padded * 4 + pixels * channels + (1 << 12));
            let bytes: Vec<u8> = (0..pixels * channels).map(|i| (i * 37 % 256) as u8).collect();
            let from = memory.put(&bytes);
            let to = memory.take_elements(format, pixels * padded);
            let arguments = NormaliseImages {
                from,
                to,
                pixels: pixels as u64,
                channels: channels as u32,
                padded: padded as u32,
                factor_0: factors[0],
                factor_1: factors[1],
                factor_2: factors[2],
                factor_3: factors[3],
                offset_0: offsets[0],
                offset_1: offsets[1],
                offset_2: offsets[2],
                offset_3: offsets[3],
            };
            run(format, &arguments, 2);
            let value = |(i, byte): (usize, &u8)| {
                f32::from(*byte) * factors[i % channels] + offsets[i % channels]
            };
            let values: Vec<f32> = bytes.iter().enumerate().map(value).collect();
            let expected = padded_rows(format, &values, channels, padded);
            assert_eq!(memory.get_elements(format, to, expected.len()), expected);
        }
    }
}
