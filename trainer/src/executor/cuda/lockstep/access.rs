//! Buffers, gradients and statistics on a device, as the host sees them.

use foretrain_sim::recording::NumberFormat;
use half::{bf16, f16};

use super::super::arguments::Address;
use super::super::device::Device;
use super::super::executor::DeviceExecutor;
use super::super::filters::{from_device, to_device};
use crate::executor::ExecutorError;
use crate::plan::{BufferId, ParameterId};

/// A number as `format` has it: the nearest, of two the even one.
#[must_use]
pub fn rounded(format: NumberFormat, value: f32) -> f32 {
    match format {
        NumberFormat::F16 => f16::from_f32(value).to_f32(),
        NumberFormat::Bf16 => bf16::from_f32(value).to_f32(),
        NumberFormat::F32 => value,
    }
}

fn encode(format: NumberFormat, values: &[f32]) -> Vec<u8> {
    match format {
        NumberFormat::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        NumberFormat::Bf16 => {
            values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()
        }
        NumberFormat::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

fn decode(format: NumberFormat, bytes: &[u8]) -> Vec<f32> {
    let halves = bytes.as_chunks::<2>().0.iter();
    match format {
        NumberFormat::F16 => halves.map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        NumberFormat::Bf16 => halves.map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        NumberFormat::F32 => {
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        }
    }
}

impl<D: Device> DeviceExecutor<D> {
    /// What lies in a buffer of the plan, of the images of this pass, images without the channels that
    /// they are padded with.
    ///
    /// # Errors
    /// The device failed.
    pub fn read_buffer(&mut self, buffer: BufferId) -> Result<Vec<f32>, ExecutorError> {
        let at = self.memory().buffer(buffer);
        let elements = self.memory().elements(buffer) * self.images();
        if buffer != self.plan().images() {
            return self.read_elements(at, elements);
        }
        let (channels, padded) = self.memory().image_channels;
        let values = self.read_elements(at, elements / channels * padded)?;
        Ok(values.chunks_exact(padded).flat_map(|pixel| &pixel[..channels]).copied().collect())
    }

    /// Puts numbers, rounded, into a buffer of the plan.
    ///
    /// # Errors
    /// There are not as many as the buffer has for the images of this pass, or the device failed.
    pub fn write_buffer(&mut self, buffer: BufferId, values: &[f32]) -> Result<(), ExecutorError> {
        let expected = self.memory().elements(buffer) * self.images();
        if values.len() != expected {
            let (what, found) = ("numbers of a buffer", values.len());
            return Err(ExecutorError::Size { what, expected, found });
        }
        let at = self.memory().buffer(buffer);
        if buffer != self.plan().images() {
            return self.write_elements(at, values);
        }
        let (channels, padded) = self.memory().image_channels;
        let zeros = || std::iter::repeat_n(0.0, padded - channels);
        let pixels = values.chunks_exact(channels);
        let values: Vec<f32> =
            pixels.flat_map(|pixel| pixel.iter().copied().chain(zeros())).collect();
        self.write_elements(at, &values)
    }

    /// The gradient of a parameter, in the order inside.
    ///
    /// # Errors
    /// The device failed.
    pub fn read_gradient(&mut self, parameter: ParameterId) -> Result<Vec<f32>, ExecutorError> {
        let at = self.memory().gradients[parameter.get()];
        let elements = self.plan().parameters()[parameter.get()].elements();
        let values = self.read_elements(at, elements)?;
        Ok(from_device(&self.plan().parameters()[parameter.get()], &values))
    }

    /// Puts numbers, rounded and in the order inside, where the gradient of a parameter goes.
    ///
    /// # Errors
    /// There are not as many as the parameter has, or the device failed.
    pub fn write_gradient(
        &mut self,
        parameter: ParameterId,
        values: &[f32],
    ) -> Result<(), ExecutorError> {
        let tensor = &self.plan().parameters()[parameter.get()];
        let (expected, found) = (tensor.elements(), values.len());
        if found != expected {
            return Err(ExecutorError::Size { what: "numbers of a gradient", expected, found });
        }
        let values = to_device(tensor, values);
        let at = self.memory().gradients[parameter.get()];
        self.write_elements(at, &values)
    }

    /// Mean and 1 / √(v + ε) of each channel, for each group of images there is room for, as the last
    /// training pass of a batch norm left them.
    ///
    /// # Errors
    /// The device failed.
    pub fn group_statistics(
        &mut self,
        batch_norm: usize,
    ) -> Result<Vec<[Vec<f32>; 2]>, ExecutorError> {
        let norm = &self.memory().norms[batch_norm];
        let (channels, groups) = (norm.channels, norm.groups.clone());
        let group = |[mean, inverse]: [Address; 2]| {
            Ok([self.floats(mean, channels)?, self.floats(inverse, channels)?])
        };
        groups.into_iter().map(group).collect()
    }

    fn read_elements(&mut self, at: Address, elements: usize) -> Result<Vec<f32>, ExecutorError> {
        let format = self.memory().format;
        let mut bytes = vec![0; elements * format.element_bytes() as usize];
        self.device().read(at, &mut bytes)?;
        Ok(decode(format, &bytes))
    }

    fn write_elements(&mut self, at: Address, values: &[f32]) -> Result<(), ExecutorError> {
        let bytes = encode(self.memory().format, values);
        Ok(self.device().write(at, &bytes)?)
    }
}
