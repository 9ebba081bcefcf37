//! Files of weights, in the format of safetensors, as PyTorch writes and reads them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::safetensors::Load as _;
use candle_core::{DType, Device, Tensor};
use foretrain_sim::located::nearest_name;
use safetensors::{Dtype, SafeTensors};

use super::{CheckpointError, ModelTensor, TensorKind, durable};

/// Tensors by name, on the CPU.
pub type Tensors = HashMap<String, Tensor>;

/// Writes a file of weights; an old one is replaced only when the new one is complete.
///
/// # Errors
/// When a tensor is not of single precision or 64-bit whole numbers, or the file cannot be written.
pub fn save_weights(path: &Path, tensors: &Tensors) -> Result<(), CheckpointError> {
    durable::replace(path, &encode(tensors)?)
}

/// Reads a file of weights, whoever wrote it: numbers of half, bfloat16 and double precision become
/// single precision, and a batch norm without `num_batches_tracked` has seen none.
///
/// # Errors
/// When the file cannot be read or is no safetensors file; when a tensor is missing, not one of
/// `expected`, or of another shape or type. All that do not fit are named, with the nearest name.
pub fn load_weights(path: &Path, expected: &[ModelTensor]) -> Result<Tensors, CheckpointError> {
    let content = durable::read(path)?;
    let file = parse(path, &content)?;
    let found = file.iter().collect::<BTreeMap<_, _>>();
    let mut problems = names(&found.keys().copied().collect::<Vec<_>>(), expected, true);
    let mut tensors = Tensors::new();
    for tensor in expected {
        let Some(view) = found.get(tensor.name.as_str()) else {
            if tensor.kind == TensorKind::Counter {
                let zero = Tensor::new(0_i64, &Device::Cpu);
                tensors.insert(tensor.name.clone(), zero.map_err(unreadable(path, tensor))?);
            }
            continue;
        };
        let float = matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64);
        let whole = matches!(view.dtype(), Dtype::I64 | Dtype::I32);
        if view.shape() != tensor.shape {
            problems.push(other_shape(tensor, view.shape()));
        } else if !(if tensor.kind == TensorKind::Counter { whole } else { float }) {
            let (name, dtype) = (&tensor.name, view.dtype());
            problems.push(format!("`{name}` holds {dtype}, expected {:?}", tensor.kind.dtype()));
        } else {
            let read = view.load(&Device::Cpu).and_then(|read| read.to_dtype(tensor.kind.dtype()));
            tensors.insert(tensor.name.clone(), read.map_err(unreadable(path, tensor))?);
        }
    }
    if problems.is_empty() {
        return Ok(tensors);
    }
    Err(CheckpointError::Mismatch { path: path.to_owned(), problems })
}

/// The bytes of a file of tensors: the same for the same tensors.
pub(super) fn encode(tensors: &Tensors) -> Result<Vec<u8>, CheckpointError> {
    let error = |tensor: &str, problem: String| {
        let tensor = tensor.to_owned();
        CheckpointError::Tensor { tensor, problem }
    };
    for (name, tensor) in tensors {
        let dtype = tensor.dtype();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::I64) {
            return Err(error(name, format!("it holds {dtype:?}, expected F32, F64 or I64")));
        }
    }
    // Some readers of PyTorch's world ask for this.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(tensors, Some(metadata))
        .map_err(|reason| error("the tensors", reason.to_string()))
}

pub(super) fn parse<'a>(
    path: &Path,
    content: &'a [u8],
) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(content).map_err(|reason| {
        let bytes = content.len();
        let problem = format!("its {bytes} bytes are no safetensors file ({reason})");
        CheckpointError::damaged(path, problem)
    })
}

/// Reads the tensors of a file that was written by [`encode`]; names, shapes and types must be
/// exactly those of `expected`.
pub(super) fn decode(
    path: &Path,
    content: &[u8],
    expected: &[ModelTensor],
) -> Result<Tensors, CheckpointError> {
    let file = parse(path, content)?;
    let found = file.iter().collect::<BTreeMap<_, _>>();
    let mut problems = names(&found.keys().copied().collect::<Vec<_>>(), expected, false);
    let mut tensors = Tensors::new();
    for tensor in expected {
        let Some(view) = found.get(tensor.name.as_str()) else { continue };
        if view.shape() != tensor.shape {
            problems.push(other_shape(tensor, view.shape()));
            continue;
        }
        let read = view.load(&Device::Cpu).map_err(unreadable(path, tensor))?;
        if read.dtype() != tensor.kind.dtype() {
            let (name, found) = (&tensor.name, read.dtype());
            problems.push(format!("`{name}` holds {found:?}, expected {:?}", tensor.kind.dtype()));
        }
        tensors.insert(tensor.name.clone(), read);
    }
    if problems.is_empty() {
        return Ok(tensors);
    }
    Err(CheckpointError::Mismatch { path: path.to_owned(), problems })
}

pub(super) fn unreadable<'a>(
    path: &'a Path,
    tensor: &'a ModelTensor,
) -> impl Fn(candle_core::Error) -> CheckpointError + 'a {
    move |reason| {
        CheckpointError::damaged(path, format!("`{}` cannot be read ({reason})", tensor.name))
    }
}

fn other_shape(tensor: &ModelTensor, found: &[usize]) -> String {
    format!("`{}` has shape {found:?}, expected {:?}", tensor.name, tensor.shape)
}

/// What is missing, with the name that may be meant, and what is too much.
fn names(found: &[&str], expected: &[ModelTensor], counters_may_miss: bool) -> Vec<String> {
    let known: BTreeMap<&str, TensorKind> =
        expected.iter().map(|tensor| (tensor.name.as_str(), tensor.kind)).collect();
    let unexpected: Vec<&str> =
        found.iter().copied().filter(|name| !known.contains_key(name)).collect();
    let is_missing = |tensor: &&ModelTensor| {
        let may_miss = counters_may_miss && tensor.kind == TensorKind::Counter;
        !may_miss && !found.contains(&tensor.name.as_str())
    };
    let mut meant = Vec::new();
    let mut problems = Vec::new();
    for ModelTensor { name, .. } in expected.iter().filter(is_missing) {
        // A prefix, as that of DataParallel, or a misspelling.
        let prefixed = || unexpected.iter().find(|other| other.ends_with(&format!(".{name}")));
        let near = prefixed().copied().or_else(|| nearest_name(name, &unexpected));
        problems.push(match near {
            Some(near) => format!("`{name}` is missing, but there is `{near}`"),
            None => format!("`{name}` is missing"),
        });
        meant.extend(near);
    }
    let unmeant = unexpected.iter().filter(|name| !meant.contains(name));
    problems.extend(unmeant.map(|name| {
        let near = nearest_name(name, &known.keys().copied().collect::<Vec<_>>());
        match near {
            Some(near) => format!("`{name}` is not expected (near `{near}`)"),
            None => format!("`{name}` is not expected"),
        }
    }));
    problems
}
