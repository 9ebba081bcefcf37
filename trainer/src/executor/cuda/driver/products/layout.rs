//! Matrices that lie row by row, told to a library that counts column by column.
//!
//! Memory that holds a matrix row by row holds its transpose column by column. So `out = left × right`
//! is asked for as `outᵀ = rightᵀ × leftᵀ`, on the same memory, in BLAS's terms
//! `D = op(A) × op(B)` with `A` in the memory of `right` and `B` in that of `left`.

use foretrain_sim::recording::NumberFormat;

use super::super::super::arguments::Address;
use super::super::super::work::Product;

/// A matrix as it lies, column by column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    /// Numbers in a column.
    pub(super) rows: usize,
    /// Columns.
    pub(super) columns: usize,
    /// Numbers from one column's first to the next one's.
    pub(super) leading_dimension: usize,
    /// Whether its transpose is multiplied.
    pub(super) transposed: bool,
    /// What its address is a multiple of, in bytes.
    pub(super) alignment: u32,
}

/// What of a product its algorithm depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// In the memory of the right matrix.
    pub(super) a: Stored,
    /// In the memory of the left matrix.
    pub(super) b: Stored,
    /// In the memory of the result.
    pub(super) d: Stored,
    /// Whether the result is added to what is there.
    pub(super) accumulate: bool,
    /// The format of everything.
    pub(super) format: NumberFormat,
}

/// The largest alignment that makes a difference.
const MOST_ALIGNMENT: u64 = 256;

/// The largest power of two that divides an address, up to a limit.
pub(super) fn alignment(address: Address) -> u32 {
    let lowest = (address.0 | MOST_ALIGNMENT).trailing_zeros();
    1 << lowest
}

impl Shape {
    pub(super) fn new(product: &Product) -> Self {
        let Product { rows, columns, depth, .. } = *product;
        Self {
            a: stored((columns, depth), product.right_transposed, product.right),
            b: stored((depth, rows), product.left_transposed, product.left),
            d: stored((columns, rows), false, product.out),
            accumulate: product.accumulate,
            format: product.format,
        }
    }
}

/// How a matrix lies of which `(rows, columns)` are multiplied.
fn stored(multiplied: (usize, usize), transposed: bool, address: Address) -> Stored {
    let (rows, columns) = if transposed { (multiplied.1, multiplied.0) } else { multiplied };
    Stored { rows, columns, leading_dimension: rows, transposed, alignment: alignment(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLAS's definition: entry `(i, j)` of `op(X)`, with `X` column by column.
    fn entry(memory: &[i64], stored: Stored, i: usize, j: usize) -> i64 {
        let (i, j) = if stored.transposed { (j, i) } else { (i, j) };
        assert!(i < stored.rows && j < stored.columns);
        memory[i + j * stored.leading_dimension]
    }

    /// `D = op(A) × op(B)` by BLAS's definition.
    fn blas(shape: &Shape, a: &[i64], b: &[i64], depth: usize) -> Vec<i64> {
        let mut d = vec![i64::MIN; shape.d.leading_dimension * shape.d.columns];
        for i in 0..shape.d.rows {
            for j in 0..shape.d.columns {
                let terms = (0..depth).map(|k| entry(a, shape.a, i, k) * entry(b, shape.b, k, j));
                d[i + j * shape.d.leading_dimension] = terms.sum();
            }
        }
        d
    }

    /// The definition in [`Product`]: row by row, `rows × depth` times `depth × columns`.
    fn rows_by_columns(product: &Product, left: &[i64], right: &[i64]) -> Vec<i64> {
        let Product { rows, columns, depth, .. } = *product;
        let mut out = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                out.push(
                    (0..depth)
                        .map(|k| {
                            let l = if product.left_transposed {
                                k * rows + row
                            } else {
                                row * depth + k
                            };
                            let right_at = if product.right_transposed {
                                column * depth + k
                            } else {
                                k * columns + column
                            };
                            left[l] * right[right_at]
                        })
                        .sum(),
                );
            }
        }
        out
    }

    #[test]
    fn the_transposed_question_has_the_same_answer() {
        let numbers = |count: usize, seed: i64| -> Vec<i64> {
            (0..count as i64).map(|i| (i * 7 + seed) % 11 - 5).collect()
        };
        for sizes in 0..64 {
            let [rows, columns, depth] = [sizes % 4 + 1, sizes / 4 % 4 + 1, sizes / 16 + 1];
            for transposed in 0..4 {
                let product = Product {
                    rows,
                    columns,
                    depth,
                    left: Address(256),
                    left_transposed: transposed & 1 != 0,
                    right: Address(512),
                    right_transposed: transposed & 2 != 0,
                    out: Address(1024),
                    accumulate: false,
                    format: NumberFormat::F32,
                };
                let (left, right) = (numbers(rows * depth, 3), numbers(depth * columns, 8));
                assert_eq!(
                    blas(&Shape::new(&product), &right, &left, depth),
                    rows_by_columns(&product, &left, &right),
                    "{product:?}"
                );
            }
        }
    }

    #[test]
    fn alignments_are_what_divides_the_address() {
        for address in 1..5000_u64 {
            let largest = (0..9).map(|power| 1 << power).filter(|n| address % n == 0).max();
            assert_eq!(Some(u64::from(alignment(Address(address)))), largest);
        }
    }
}
