//! Fits of the laws of convergence to published runs, and how well runs are foretold that were
//! left out.
//!
//! All read text, never a file: the published measurements as CSV.

pub mod accuracy;
mod accuracy_rows;
pub mod curves;
pub mod epochs;
mod error;
mod least_squares;
mod report;
mod rows;
#[cfg(test)]
mod tests;

pub use error::FitError;
pub use least_squares::{Prior, Solution, fit};
pub use report::{Case, Figures, NotPredicted, Report};
pub use rows::{
    ACCURACY_COLUMNS, AccuracyRow, CURVES_COLUMNS, EPOCHS_COLUMNS, EpochsRow, Evaluation, Run,
    read_accuracy, read_curves, read_epochs,
};

use super::table::Table;
use foretrain_sim::convergence::Convergence;

/// The texts of the published measurements.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// `epochs_to_target.csv`.
    pub epochs_to_target: &'a str,
    /// `accuracy.csv`.
    pub accuracy: &'a str,
    /// `accuracy_curves.csv`.
    pub accuracy_curves: &'a str,
}

impl Published<'static> {
    /// Those that come with this version.
    pub const SHIPPED: Self = Self {
        epochs_to_target: include_str!("../../../../scenarios/published/epochs_to_target.csv"),
        accuracy: include_str!("../../../../scenarios/published/accuracy.csv"),
        accuracy_curves: include_str!("../../../../scenarios/published/accuracy_curves.csv"),
    };
}

/// Fits all laws.
///
/// # Errors
/// A row cannot be read, or a fit does not end.
pub fn fit_convergence(published: Published<'_>) -> Result<Convergence, FitError> {
    let runs = read_curves(&Table::read(published.accuracy_curves)?)?;
    let epochs = epochs::fit_epochs(
        &read_epochs(&Table::read(published.epochs_to_target)?)?,
        &epochs::ends(&runs),
        epochs::Model::Covariates,
    )?;
    let rows = read_accuracy(&Table::read(published.accuracy)?)?;
    let accuracy = accuracy::fit_accuracy(&rows)?.law;
    let curve = curves::fit_curves(&runs)?;
    Ok(Convergence { epochs, accuracy, curve })
}
