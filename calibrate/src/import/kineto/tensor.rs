//! Shapes and types of tensors, as events have them.

use foretrain_sim::recording::NumberFormat;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::ImportError;
use super::document::Event;

/// A type of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    /// Bytes of one number.
    pub bytes: u64,
    /// Its format, if networks are trained in it.
    pub format: Option<NumberFormat>,
}

impl ElementType {
    /// By the name that C++ has (`Input type` of operations) or PyTorch (`dtype` of collectives).
    pub(super) fn named(name: &str) -> Option<Self> {
        let (bytes, format) = match name {
            "float" | "Float" => (4, Some(NumberFormat::F32)),
            "c10::Half" | "Half" => (2, Some(NumberFormat::F16)),
            "c10::BFloat16" | "BFloat16" => (2, Some(NumberFormat::Bf16)),
            "double" | "Double" | "long int" | "long" | "Long" => (8, None),
            "int" | "Int" => (4, None),
            "unsigned char" | "signed char" | "bool" | "Byte" | "Char" | "Bool" => (1, None),
            _ => return None,
        };
        Some(Self { bytes, format })
    }
}

/// A tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) elements: u64,
    pub(super) kind: ElementType,
}

impl Tensor {
    pub(super) fn bytes(self) -> u64 {
        self.elements.saturating_mul(self.kind.bytes)
    }
}

/// One input of an operation: the sizes of a tensor, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Dims {
    Tensor(Vec<u64>),
    List(Vec<Dims>),
    Other(IgnoredAny),
}

impl Dims {
    fn first(&self) -> Option<&[u64]> {
        match self {
            Self::Tensor(sizes) => Some(sizes),
            Self::List(list) => list.first()?.first(),
            Self::Other(_) => None,
        }
    }
}

/// The sizes of the tensors that an operation was given, in order; empty where there was none.
pub(super) fn shapes(event: &Event<'_>) -> Vec<Vec<u64>> {
    let parsed = event.args.dims.and_then(|raw| serde_json::from_str::<Vec<Dims>>(raw.get()).ok());
    let sizes = |dims: Dims| match dims {
        Dims::Tensor(sizes) => sizes,
        Dims::List(_) | Dims::Other(_) => Vec::new(),
    };
    parsed.unwrap_or_default().into_iter().map(sizes).collect()
}

/// Numbers in the first tensor, or in the first of a list of tensors.
pub(super) fn elements(event: &Event<'_>) -> Option<u64> {
    let dims: Vec<Dims> = serde_json::from_str(event.args.dims?.get()).ok()?;
    let sizes = dims.first()?.first()?;
    sizes.iter().try_fold(1_u64, |product, size| product.checked_mul(*size))
}

/// The type of the first tensor; none of a list of tensors.
pub(super) fn element_type(event: &Event<'_>) -> Option<ElementType> {
    let types: Vec<&str> = serde_json::from_str(event.args.types?.get()).ok()?;
    ElementType::named(types.first()?)
}

/// A text that stands alone.
pub(super) fn text(raw: Option<&RawValue>) -> Option<&str> {
    serde_json::from_str(raw?.get()).ok()
}

/// The first tensor that an operation was given.
pub(super) fn tensor(event: &Event<'_>) -> Result<Tensor, ImportError> {
    let missing = |what: &str, mend: &str| {
        ImportError::new(format!("{} has {what}: {mend}", event.name)).with_key("args")
    };
    let elements = elements(event)
        .ok_or_else(|| missing("no `Input Dims` of a tensor", "record with record_shapes=True"))?;
    let kind = element_type(event).ok_or_else(|| {
        missing("no `Input type` that is known", "record with record_shapes=True, in usual formats")
    })?;
    Ok(Tensor { elements, kind })
}
