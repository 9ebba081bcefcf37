//! Biases and sums. Sums are of whole numbers that single precision holds, so that their order does
//! not matter to the expected result.

use proptest::prelude::*;

use super::super::super::arguments::linear::{
    AddBias, ColumnSums, ColumnSumsFinish, column_blocks, column_finish_blocks,
};
use super::super::super::arguments::pointwise::{SquareSums, square_blocks};
use super::*;

/// Narrow, wide, beyond one block's threads; multiples of eight and not.
const SHAPES: [(usize, usize); 10] = [
    (1, 1),
    (2, 8),
    (300, 1),
    (37, 10),
    (700, 64),
    (1, 300),
    (5, 1000),
    (3, 2056),
    (40, 2048),
    (999, 24),
];

/// Whole numbers from −8 to 8.
fn whole_numbers(key: u64, count: usize) -> Vec<f32> {
    numbers(NumberFormat::F32, key, count, 8.4).into_iter().map(f32::round).collect()
}

#[test]
fn a_bias_is_added_to_each_row() {
    for format in FORMATS {
        for (rows, columns) in SHAPES {
            let mut memory = Memory::new((rows + 1) * columns * 4 + (1 << 12));
            let values = numbers(format, 1, rows * columns, 4.0);
            let bias_values = numbers(NumberFormat::F32, 2, columns, 4.0);
            let y = memory.put_elements(format, &values);
            let bias = memory.put(&bias_values);
            run(format, &AddBias { y, bias, rows: rows as u64, columns: columns as u32 }, 3);
            let sum = |(i, value)| rounded(format, value + bias_values[i % columns]);
            let expected: Vec<f32> = values.into_iter().enumerate().map(sum).collect();
            assert_eq!(memory.get_elements(format, y, rows * columns), expected);
        }
    }
}

#[test]
fn columns_are_summed_by_any_number_of_blocks() {
    for format in FORMATS {
        for (rows, columns) in SHAPES {
            let values = whole_numbers(3, rows * columns);
            let mut expected = vec![0.0; columns];
            for row in values.chunks(columns) {
                expected.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            let expected: Vec<f32> = expected.into_iter().map(|sum| rounded(format, sum)).collect();
            let (of_size, columns) = (column_blocks(rows as u64, columns as u32), columns as u32);
            for blocks in [of_size, 1, 2, 11] {
                let partial_bytes = blocks as usize * expected.len() * 4;
                let mut memory = Memory::new(values.len() * 4 + partial_bytes + (1 << 14));
                let from = memory.put_elements(format, &values);
                let partial = memory.take(partial_bytes);
                let bucket = memory.take_elements(format, expected.len() + 1);
                let to = bucket.add(format.element_bytes() as usize);
                run(format, &ColumnSums { from, partial, rows: rows as u64, columns }, blocks);
                let finish = ColumnSumsFinish { partial, to, blocks, columns };
                run(format, &finish, if blocks == 1 { 1 } else { column_finish_blocks(columns) });
                assert_eq!(memory.get_elements(format, to, expected.len()), expected);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_block_has_a_row(rows in 1_u64..10_000_000, columns in 1_u32..10_000) {
        let blocks = column_blocks(rows, columns);
        prop_assert!((1..=512).contains(&blocks) && u64::from(blocks) <= rows);
    }
}

#[test]
fn squares_are_summed_in_double_precision() {
    for format in FORMATS {
        for elements in [1, 7, 8, 255, 2049, 20_000] {
            for offset in [0, 1, 8] {
                let mut memory = Memory::new((elements + offset) * 4 + (1 << 14));
                let values = numbers(format, 4, elements + offset, 1e4);
                let bytes = format.element_bytes() as usize;
                let from = memory.put_elements(format, &values).add(offset * bytes);
                let blocks = square_blocks(elements as u64);
                let partial = memory.take(blocks as usize * 8);
                let arguments = SquareSums {
                    from,
                    elements: elements as u64,
                    partial,
                    format: format_number(format),
                };
                // The format is an argument: kernels of any format read it.
                run(NumberFormat::Bf16, &arguments, blocks);
                let sum: f64 = memory.get::<f64>(partial, blocks as usize).iter().sum();
                let squares = values[offset..].iter().map(|value| f64::from(*value).powi(2));
                let expected: f64 = squares.sum();
                assert!((sum / expected - 1.0).abs() < 1e-12, "{sum} is not {expected}");
            }
        }
    }
    // Squares that leave single precision on either side.
    for size in [1e30_f32, 1e-30] {
        let mut memory = Memory::new(1 << 12);
        let (from, partial) = (memory.put(&[size; 9]), memory.take(8));
        run(NumberFormat::F16, &SquareSums { from, elements: 9, partial, format: 3 }, 1);
        let root = memory.get::<f64>(partial, 1)[0].sqrt();
        assert!((root / (3.0 * f64::from(size)) - 1.0).abs() < 1e-12);
    }
}
