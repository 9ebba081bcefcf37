//! What can be wrong with fits.

use crate::published::table::Problem;

/// A fit that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// A row that cannot be read.
    #[error(transparent)]
    Row(#[from] Problem),
    /// Nothing to fit.
    #[error("no row to fit {what} to: give published runs")]
    NoRows {
        /// What was to be fitted.
        what: &'static str,
    },
    /// The residuals are not finite where the search starts.
    #[error("the residuals of {what} are not finite at the priors' means")]
    NotFinite {
        /// What was to be fitted.
        what: &'static str,
    },
    /// The search did not end.
    #[error("the fit of {what} did not converge in {iterations} iterations")]
    NotConverged {
        /// What was to be fitted.
        what: &'static str,
        /// After how many.
        iterations: usize,
    },
}
