//! Matrix products, with cuBLASLt.

#![expect(unsafe_code, reason = "cuBLASLt is called through pointers")]

mod layout;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::CudaStream;
use foretrain_sim::recording::NumberFormat;

use self::layout::{Shape, Stored};
use super::super::device::DeviceError;
use super::super::work::Product;
use super::called;
use super::memory::DeviceMemory;

/// What NVIDIA recommends for Hopper, and more than others need.
const WORKSPACE_BYTES: usize = 32 << 20;

/// `CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE`: where a sum is cut, its parts stay in single precision.
const REDUCTION_SCHEMES: u32 = 2;

/// `CUBLAS_OP_N` and `CUBLAS_OP_T`.
const AS_IT_IS: i32 = 0;
const TRANSPOSED: i32 = 1;

/// Matrix products on one stream.
pub(super) struct Products {
    handle: sys::cublasLtHandle_t,
    stream: Arc<CudaStream>,
    workspace: Option<DeviceMemory>,
    prepared: HashMap<Shape, Multiplication>,
}

// SAFETY: the handle and the descriptors are used by their owner only, in one thread at a time.
unsafe impl Send for Products {}

impl Products {
    /// cuBLASLt's version, as it counts.
    pub(super) fn version() -> u64 {
        // SAFETY: the library is open.
        unsafe { sys::cublasLtGetVersion() as u64 }
    }

    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self, DeviceError> {
        let handle = result::create_handle().map_err(called("cublasLtCreate"))?;
        let (stream, prepared) = (Arc::clone(stream), HashMap::new());
        Ok(Self { handle, stream, workspace: None, prepared })
    }

    /// Chooses an algorithm for each product and runs it once, so that it is loaded.
    pub(super) fn prepare(&mut self, products: &[&Product]) -> Result<(), DeviceError> {
        for product in products {
            if self.workspace.is_none() {
                let memory = DeviceMemory::new(self.stream.context(), WORKSPACE_BYTES)?;
                self.workspace = Some(memory);
            }
            let shape = Shape::new(product);
            if !self.prepared.contains_key(&shape) {
                let multiplication = Multiplication::new(self.handle, &shape).map_err(|error| {
                    called(&format!("choosing an algorithm for {product:?}"))(error)
                })?;
                self.prepared.insert(shape, multiplication);
                self.run(product)?;
            }
        }
        Ok(())
    }

    pub(super) fn run(&self, product: &Product) -> Result<(), DeviceError> {
        let shape = Shape::new(product);
        let prepared = self.prepared.get(&shape).zip(self.workspace.as_ref());
        let (multiplication, workspace) = prepared.ok_or_else(|| DeviceError::Call {
            call: "cublasLtMatmul".to_owned(),
            problem: format!("{product:?} was not prepared"),
        })?;
        let (one, zero) = (1.0_f32, 0.0_f32);
        let beta = if product.accumulate { &raw const one } else { &raw const zero };
        let out = product.out.0 as *mut c_void;
        // SAFETY: handle and descriptors are alive; factors are numbers of the host, as is the
        // default; the caller gives matrices of these shapes in memory of this GPU, whose
        // alignments are those for which the algorithm was chosen, as they are in its key.
        unsafe {
            result::matmul(
                self.handle,
                multiplication.description.0,
                (&raw const one).cast(),
                beta.cast(),
                product.right.0 as *const c_void,
                multiplication.a.0,
                product.left.0 as *const c_void,
                multiplication.b.0,
                out.cast_const(),
                multiplication.d.0,
                out,
                multiplication.d.0,
                &raw const multiplication.algorithm,
                workspace.address().0 as *mut c_void,
                workspace.bytes(),
                self.stream.cu_stream().cast(),
            )
        }
        .map_err(|error| called(&format!("cublasLtMatmul of {product:?}"))(error))
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        if self.stream.context().bind_to_thread().is_ok() {
            // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
            let _ = unsafe { result::destroy_handle(self.handle) };
        }
    }
}

/// The description of a product.
struct Description(sys::cublasLtMatmulDesc_t);

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

impl Description {
    fn new(shape: &Shape) -> Result<Self, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as A;
        // TensorFloat-32 would be another compute type.
        let single = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description =
            Self(result::create_matmul_desc(single, sys::cudaDataType_t::CUDA_R_32F)?);
        for (attribute, stored) in
            [(A::CUBLASLT_MATMUL_DESC_TRANSA, shape.a), (A::CUBLASLT_MATMUL_DESC_TRANSB, shape.b)]
        {
            let operation = if stored.transposed { TRANSPOSED } else { AS_IT_IS };
            // SAFETY: the attribute is a number of 32 bits.
            unsafe {
                result::set_matmul_desc_attribute(
                    description.0,
                    attribute,
                    (&raw const operation).cast(),
                    size_of_val(&operation),
                )?;
            }
        }
        Ok(description)
    }
}

/// How a matrix lies.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

impl Layout {
    fn new(stored: Stored, format: NumberFormat) -> Result<Self, CublasError> {
        let format = match format {
            NumberFormat::F16 => sys::cudaDataType_t::CUDA_R_16F,
            NumberFormat::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
            NumberFormat::F32 => sys::cudaDataType_t::CUDA_R_32F,
        };
        let (rows, columns) = (stored.rows as u64, stored.columns as u64);
        let leading = stored.leading_dimension as i64;
        Ok(Self(result::create_matrix_layout(format, rows, columns, leading)?))
    }
}

/// What an algorithm must observe.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

impl Preference {
    fn new(shape: &Shape) -> Result<Self, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as A;
        let preference = Self(result::create_matmul_pref()?);
        let workspace = WORKSPACE_BYTES as u64;
        // SAFETY: the attribute is a number of 64 bits.
        unsafe {
            result::set_matmul_pref_attribute(
                preference.0,
                A::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const workspace).cast(),
                size_of_val(&workspace),
            )?;
        }
        for (attribute, value) in [
            (A::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, REDUCTION_SCHEMES),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.a.alignment),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.b.alignment),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.d.alignment),
            (A::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.d.alignment),
        ] {
            // SAFETY: the attribute is a number of 32 bits.
            unsafe {
                result::set_matmul_pref_attribute(
                    preference.0,
                    attribute,
                    (&raw const value).cast(),
                    size_of_val(&value),
                )?;
            }
        }
        Ok(preference)
    }
}

/// A product that has been prepared.
struct Multiplication {
    description: Description,
    a: Layout,
    b: Layout,
    d: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Multiplication {
    fn new(handle: sys::cublasLtHandle_t, shape: &Shape) -> Result<Self, CublasError> {
        let description = Description::new(shape)?;
        let [a, b, d] = [shape.a, shape.b, shape.d].map(|stored| Layout::new(stored, shape.format));
        let (a, b, d) = (a?, b?, d?);
        let preference = Preference::new(shape)?;
        // SAFETY: all of them are alive.
        let chosen = unsafe {
            result::get_matmul_algo_heuristic(
                handle,
                description.0,
                a.0,
                b.0,
                d.0,
                d.0,
                preference.0,
            )?
        };
        Ok(Self { description, a, b, d, algorithm: chosen.algo })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::arguments::Address;
    use super::super::libraries;
    use super::super::search::Library;
    use super::*;

    #[test]
    fn products_are_described_without_a_gpu() {
        if libraries::for_tests(Library::CublasLt).is_none() {
            return;
        }
        assert!(Products::version() >= 120_000);
        for format in super::super::super::emulator::FORMATS {
            for transposed in [false, true] {
                let shape = Shape::new(&Product {
                    rows: 256,
                    columns: 1000,
                    depth: 2048,
                    left: Address(4096),
                    left_transposed: transposed,
                    right: Address(2),
                    right_transposed: !transposed,
                    out: Address(1 << 20),
                    accumulate: transposed,
                    format,
                });
                Description::new(&shape).unwrap();
                Preference::new(&shape).unwrap();
                for stored in [shape.a, shape.b, shape.d] {
                    Layout::new(stored, format).unwrap();
                }
            }
        }
    }
}
