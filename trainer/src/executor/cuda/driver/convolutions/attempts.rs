//! What became of the algorithms that were proposed for a convolution, to say why there is none.

use super::super::super::device::DeviceError;

/// Where an algorithm drops out, in the order in which they are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The convolution cannot be described.
    Describing,
    /// cuDNN cannot be asked for proposals.
    Proposing,
    /// What it notes about its numbers is not wanted, or cannot be read.
    Noting,
    /// It cannot be made ready.
    Planning,
    /// It needs more workspace than it gets.
    Workspace,
    /// It fails when it runs.
    Running,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Describing,
        Self::Proposing,
        Self::Noting,
        Self::Planning,
        Self::Workspace,
        Self::Running,
    ];

    const fn happened(self) -> &'static str {
        match self {
            Self::Describing => "descriptions failed",
            Self::Proposing => "lists of proposals failed",
            Self::Noting => "refused for what they note of their numbers",
            Self::Planning => "could not be planned",
            Self::Workspace => "needed too much workspace",
            Self::Running => "failed to run",
        }
    }
}

/// How many dropped out at a stage, and the first error.
#[derive(Debug, Clone, Default)]
struct Dropped {
    count: usize,
    first: Option<String>,
}

/// All attempts for one convolution.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    proposed: usize,
    dropped: [Dropped; Stage::ALL.len()],
}

impl Attempts {
    pub(super) const fn proposed(&mut self, count: usize) {
        self.proposed += count;
    }

    /// One dropped out, without an error.
    pub(super) fn dropped(&mut self, stage: Stage) {
        self.at(stage).count += 1;
    }

    /// One dropped out by an error. The first one of a stage is kept: later ones often follow from it.
    pub(super) fn failed(&mut self, stage: Stage, error: &DeviceError) {
        let dropped = self.at(stage);
        dropped.count += 1;
        dropped.first.get_or_insert_with(|| error.to_string());
    }

    /// The value of a result; its error is counted.
    pub(super) fn keep<T>(&mut self, stage: Stage, result: Result<T, DeviceError>) -> Option<T> {
        result.inspect_err(|error| self.failed(stage, error)).ok()
    }

    const fn at(&mut self, stage: Stage) -> &mut Dropped {
        &mut self.dropped[stage as usize]
    }

    /// How many were proposed, and how many of them dropped out.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.proposed, self.dropped.iter().map(|dropped| dropped.count).sum())
    }

    /// All of it in a sentence.
    pub(super) fn sentence(&self) -> String {
        let mut sentence = format!("cuDNN proposes {}", self.proposed);
        for (stage, dropped) in Stage::ALL.iter().zip(&self.dropped) {
            if dropped.count > 0 {
                sentence += &format!(", {} {}", dropped.count, stage.happened());
            }
            if let Some(first) = &dropped.first {
                sentence += &format!(" (first: {first})");
            }
        }
        sentence
    }
}

/// Whether an error of CUDA, by its number, leaves a context in which nothing works any more.
pub(super) const fn is_final(error: u32) -> bool {
    // Illegal address, illegal instruction, misaligned address, invalid address space, launch failed.
    matches!(error, 700 | 715 | 716 | 717 | 719)
}

#[cfg(test)]
mod tests {
    use cudarc::driver::sys::CUresult;

    use super::*;

    fn error(problem: &str) -> DeviceError {
        DeviceError::Call { call: "a call".to_owned(), problem: problem.to_owned() }
    }

    #[test]
    fn every_stage_says_how_many_and_the_first_error() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.sentence(), "cuDNN proposes 0");
        attempts.proposed(4);
        attempts.proposed(3);
        assert_eq!(attempts.keep(Stage::Describing, Ok(1)), Some(1));
        attempts.failed(Stage::Running, &error("late"));
        attempts.dropped(Stage::Noting);
        attempts.dropped(Stage::Noting);
        assert_eq!(attempts.keep::<()>(Stage::Planning, Err(error("one"))), None);
        assert_eq!(attempts.keep::<()>(Stage::Planning, Err(error("two"))), None);
        assert_eq!(
            attempts.sentence(),
            "cuDNN proposes 7, 2 refused for what they note of their numbers, 2 could not be planned \
             (first: a call failed: one), 1 failed to run (first: a call failed: late)"
        );
    }

    #[test]
    fn each_stage_is_counted_at_its_own_place() {
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, place);
            let mut attempts = Attempts::default();
            attempts.dropped(stage);
            assert_eq!(attempts.sentence(), format!("cuDNN proposes 0, 1 {}", stage.happened()));
        }
    }

    #[test]
    fn errors_are_final_by_the_drivers_numbers() {
        for error in [
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
            CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
            CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
            CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
            CUresult::CUDA_ERROR_LAUNCH_FAILED,
        ] {
            assert!(is_final(error as u32), "{error:?}");
        }
        for error in [
            CUresult::CUDA_SUCCESS,
            CUresult::CUDA_ERROR_OUT_OF_MEMORY,
            CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
        ] {
            assert!(!is_final(error as u32), "{error:?}");
        }
    }
}
