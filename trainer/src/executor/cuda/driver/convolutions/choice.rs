//! Which algorithm is used for a convolution, and what that depends on.

use serde::{Deserialize, Serialize};

use super::super::super::work::{Convolution, ConvolutionPass};
use super::graph::tensors;

/// A setting of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Knob {
    /// cuDNN's number of the setting.
    pub(super) kind: i32,
    /// What it is set to.
    pub(super) value: i64,
}

/// An algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Method {
    /// One of cuDNN's engines.
    Engine {
        /// Its number.
        index: i64,
        /// Its settings.
        knobs: Vec<Knob>,
    },
    /// One of the older functions' algorithms.
    Legacy {
        /// Its number.
        algorithm: i32,
        /// The number of the kind of arithmetic that it may use.
        math_type: i32,
        /// Memory that it needs.
        workspace_bytes: usize,
    },
}

/// Who proposed an algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Source {
    /// cuDNN, among the engines that it expects to be fast.
    ExpectedFast,
    /// cuDNN, among the engines that it keeps for cases without a fast one.
    Fallback,
    /// cuDNN's older functions.
    Legacy,
}

/// The algorithm that was the fastest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Choice {
    /// The algorithm.
    pub(super) method: Method,
    /// Who proposed it.
    pub(super) source: Source,
    /// How long it took, in microseconds.
    pub(super) microseconds: f64,
}

/// All that a choice depends on, as text: addresses only by what they are multiples of.
pub(super) fn key(device: &str, cudnn_version: usize, convolution: &Convolution) -> String {
    let pass = match convolution.pass {
        ConvolutionPass::Forward => "forward",
        ConvolutionPass::Data => "data",
        ConvolutionPass::Filters => "filters",
    };
    let w = &convolution.window;
    let [x, f, y] = tensors(convolution).map(|tensor| tensor.alignment);
    format!(
        "{device}; cuDNN {cudnn_version}; {pass}; {} images of {}x{}x{} to {}x{}x{}; kernel {} stride \
         {} padding {} groups {}; {}{}; aligned {x} {f} {y}",
        convolution.images,
        w.input_channels,
        w.input_height,
        w.input_width,
        w.output_channels,
        w.output_height,
        w.output_width,
        w.kernel,
        w.stride,
        w.padding,
        w.groups,
        convolution.format.name(),
        if convolution.accumulate { " added" } else { "" },
    )
}
