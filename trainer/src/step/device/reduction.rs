//! What sums the gradients of devices over the ranks.

use std::fmt;
use std::time::Instant;

use foretrain_sim::recording::EventKind;

use super::super::StepError;
use crate::executor::cuda::device::{Device, DeviceError};

/// Sums the buckets of a step over all ranks, where they lie in the device's memory.
pub trait Reduction<D: Device>: fmt::Debug + Send {
    /// Whether what it gives to the device can be captured as a part of the step.
    fn can_be_captured(&self) -> bool;

    /// Whether it marks the moments that [`begin`](Self::begin) is given; else it notes
    /// [`events`](Self::events) by the host's clock.
    fn marks_moments(&self) -> bool;

    /// A step begins; `start` is the moment from which times of its recording count.
    fn begin_step(&mut self, step: u64, start: Instant);

    /// Begins to sum a bucket, once the work that was given to the device before has been done.
    ///
    /// # Errors
    /// The device failed, or a rank is missing.
    fn begin(
        &mut self,
        device: &mut D,
        bucket: usize,
        moments: Option<&[D::Moment; 2]>,
    ) -> Result<(), StepError>;

    /// Lets the work that is given to the device from now on wait for all sums.
    ///
    /// # Errors
    /// The device failed, or a rank is missing.
    fn join(&mut self, device: &mut D) -> Result<(), StepError>;

    /// Waits for the end of the step, after which `has_ended` asks; so that a rank that is missing is
    /// noticed.
    ///
    /// # Errors
    /// That of `has_ended`, or a rank is missing.
    fn wait(
        &mut self,
        has_ended: &mut dyn FnMut() -> Result<bool, DeviceError>,
    ) -> Result<(), StepError> {
        while !has_ended()? {
            // Sleeping would take longer than the smallest steps.
            std::thread::yield_now();
        }
        Ok(())
    }

    /// What happened to the buckets of the step, by the host's clock.
    fn events(&mut self) -> Vec<EventKind> {
        Vec::new()
    }
}

/// One rank alone, whose gradients are the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alone;

impl<D: Device> Reduction<D> for Alone {
    fn can_be_captured(&self) -> bool {
        true
    }

    fn marks_moments(&self) -> bool {
        true
    }

    fn begin_step(&mut self, _: u64, _: Instant) {}

    fn begin(
        &mut self,
        device: &mut D,
        _: usize,
        moments: Option<&[D::Moment; 2]>,
    ) -> Result<(), StepError> {
        for moment in moments.into_iter().flatten() {
            device.mark(moment)?;
        }
        Ok(())
    }

    fn join(&mut self, _: &mut D) -> Result<(), StepError> {
        Ok(())
    }
}
