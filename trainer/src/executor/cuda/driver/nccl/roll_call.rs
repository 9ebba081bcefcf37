//! Who is missing, after NCCL failed.

use super::error::NcclError;
use crate::communicator::Communicator;

/// The same on all ranks, wherever they failed.
const ROLL_CALL: &str = "roll call after a failure of NCCL";

/// Asks through the hosts which ranks are missing; to be called by every rank after a failure. Returns
/// the failure with what was found out: the missing ranks, or where each rank failed if all answer.
#[must_use]
pub fn who_is_missing(host: &mut dyn Communicator, failure: NcclError) -> NcclError {
    if matches!(failure, NcclError::Host(_)) {
        // The hosts have said all that they know.
        return failure;
    }
    let place = failure.collective().unwrap_or("no collective").to_owned();
    let failure = Box::new(failure);
    match host.all_gather(ROLL_CALL, place.as_bytes()) {
        Err(host) => NcclError::Missing { failure, host },
        Ok(places) => {
            let places = places.iter().map(|place| String::from_utf8_lossy(place).into_owned());
            NcclError::AllAnswer { failure, places: places.collect() }
        }
    }
}
