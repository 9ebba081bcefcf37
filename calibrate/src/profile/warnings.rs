//! What was seen of the machine, as warnings.

use foretrain_sim::units::Bytes;

use super::Fitting;
use crate::measurements::Observation;

impl Fitting<'_> {
    /// Warns of what was seen meanwhile.
    pub(super) fn observations(&mut self) {
        for observation in &self.measurements.observations {
            match observation {
                Observation::ClockThrottled { before_mhz, lowest_mhz } => {
                    let message = format!(
                        "the clock fell from {before_mhz:.0} to {lowest_mhz:.0} MHz: cool the machine, \
                         or fix its clocks, and calibrate again"
                    );
                    self.warn("clock-throttled", "processor", message);
                }
                Observation::OtherProcess { who, share } => {
                    let message = format!(
                        "{who} used {:.0} % of the processors: calibrate on a machine that does \
                         nothing else",
                        100.0 * share
                    );
                    self.warn("other-process", "processor", message);
                }
                Observation::SizesLeftOut { about, largest_bytes } => {
                    let message = format!(
                        "sizes above {} would have taken too long and were left out: give more time",
                        Bytes::new(*largest_bytes)
                    );
                    self.warn("sizes-left-out", about, message);
                }
                Observation::NotMeasured { what } => {
                    self.warn("not-measured", "all-reduce", what);
                }
                Observation::TrainingSizes { scope } => {
                    let message = "messages of training alone say nothing of latency, which is taken as 0: \
                                   forecasts of more ranks or smaller buckets are too fast; measure \
                                   messages of all sizes";
                    self.warn("training-sizes", scope, message);
                }
                Observation::Traced { about, what } => self.warn("traced", about, what),
            }
        }
    }
}
