//! Matrix products, by the `gemm` crate, behind a safe face.

use super::element::Real;

/// A matrix to read: element (i, j) is at `i × row_stride + j × column_stride`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows one after the other.
    pub(super) const fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows that begin `row_stride` elements apart, of which `columns` are used.
    pub(super) const fn strided(
        data: &'a [T],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose.
    pub(super) const fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Whether every element is inside the data.
    const fn fits(&self) -> bool {
        fits(self.data.len(), [self.rows, self.columns], [self.row_stride, self.column_stride])
    }
}

const fn fits(length: usize, sizes: [usize; 2], strides: [usize; 2]) -> bool {
    sizes[0] == 0
        || sizes[1] == 0
        || (sizes[0] - 1) * strides[0] + (sizes[1] - 1) * strides[1] < length
}

/// A matrix to write: rows that begin `row_stride` elements apart, of which `columns` are written.
#[derive(Debug)]
pub(super) struct MatrixMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// Rows one after the other.
    pub(super) const fn new(data: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns }
    }

    /// Rows that begin `row_stride` elements apart.
    pub(super) const fn strided(
        data: &'a mut [T],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        Self { data, rows, columns, row_stride }
    }
}

/// `out = left × right`, or `out += left × right` with `accumulate`; on this thread.
///
/// The order in which an element's products are summed depends on the sizes only.
///
/// # Panics
/// If sizes do not match, or a matrix reaches beyond its data.
pub(super) fn multiply<T: Real>(
    out: MatrixMut<'_, T>,
    accumulate: bool,
    left: Matrix<'_, T>,
    right: Matrix<'_, T>,
) {
    assert_eq!((out.rows, out.columns, left.columns), (left.rows, right.columns, right.rows));
    assert!(left.fits() && right.fits());
    assert!(out.row_stride >= out.columns);
    assert!(fits(out.data.len(), [out.rows, out.columns], [out.row_stride, 1]));
    // SAFETY: all elements that are read or written lie inside the slices (asserted), those
    // written do not overlap each other (a row is not longer than its stride), `out` is borrowed
    // alone, and lengths of slices fit isize.
    #[expect(unsafe_code, reason = "the gemm crate takes pointers")]
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            left.columns,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// C(i, j) = Σ_k A(i, k) B(k, j), on small whole numbers, whose sums are exact.
        #[test]
        fn products_by_their_definition(
            (rows, depth, columns) in (1_usize..20, 0_usize..40, 1_usize..20),
            transpose_left: bool,
            transpose_right: bool,
            accumulate: bool,
            padding in 0_usize..5,
        ) {
            let value = |index: usize| ((index * 7 + 3) % 11) as f64 - 5.0;
            let left: Vec<f64> = (0..rows * depth).map(value).collect();
            let right: Vec<f64> = (0..depth * columns).map(|index| value(index + 1)).collect();
            let a = if transpose_left {
                Matrix::new(&left, depth, rows).transposed()
            } else {
                Matrix::new(&left, rows, depth)
            };
            let b = if transpose_right {
                Matrix::new(&right, columns, depth).transposed()
            } else {
                Matrix::new(&right, depth, columns)
            };
            let at = |matrix: &Matrix<'_, f64>, i: usize, j: usize| {
                matrix.data[i * matrix.row_stride + j * matrix.column_stride]
            };
            let stride = columns + padding;
            let mut out = vec![2.0; rows * stride];
            multiply(MatrixMut::strided(&mut out, rows, columns, stride), accumulate, a, b);
            for i in 0..rows {
                for j in 0..stride {
                    let product: f64 = (0..depth).map(|k| at(&a, i, k) * at(&b, k, j.min(columns - 1))).sum();
                    let before = if accumulate { 2.0 } else { 0.0 };
                    let expected = if j < columns { before + product } else { 2.0 };
                    prop_assert_eq!(out[i * stride + j], expected);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "left.fits()")]
    fn a_matrix_beyond_its_data_is_refused() {
        let mut out = [0.0_f32; 4];
        multiply(
            MatrixMut::new(&mut out, 2, 2),
            false,
            Matrix::new(&[0.0; 3], 2, 2),
            Matrix::new(&[0.0; 4], 2, 2),
        );
    }
}
