//! The text of the kernels, for one format of elements each.

use std::fmt::Write as _;

use foretrain_sim::recording::NumberFormat;

/// The files in the order in which they are compiled, as one text.
const FILES: [(&str, &str); 9] = [
    ("common.h", include_str!("common.h")),
    ("rows.h", include_str!("rows.h")),
    ("pointwise.cu", include_str!("pointwise.cu")),
    ("batch_norm.cu", include_str!("batch_norm.cu")),
    ("pool.cu", include_str!("pool.cu")),
    ("loss.cu", include_str!("loss.cu")),
    ("linear.cu", include_str!("linear.cu")),
    ("input.cu", include_str!("input.cu")),
    ("optimizer.cu", include_str!("optimizer.cu")),
];

/// The number that stands for a format in the kernels.
#[must_use]
pub const fn format_number(format: NumberFormat) -> u32 {
    match format {
        NumberFormat::F16 => 1,
        NumberFormat::Bf16 => 2,
        NumberFormat::F32 => 3,
    }
}

/// All kernels as one text of C.
///
/// To be compiled with `ELEMENT` defined as [`format_number`] of the activations' format.
#[must_use]
pub fn source() -> String {
    let mut source = String::new();
    for (name, text) in FILES {
        // Messages of the compiler name the file and its line.
        let _ = writeln!(source, "#line 1 \"{name}\"\n{text}");
    }
    source
}
