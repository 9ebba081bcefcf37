//! Predictions beside what was published, and how far apart they are.

use foretrain_calibrate::published::table::Unread;
use foretrain_sim::collective::nccl::{NcclAlgorithm, NcclVersion, Protocol};
use serde::Serialize;

use super::predict::{PREDICTOR, Prediction};
use super::rows::Row;

/// Everything that is reported.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) foretrain: Made,
    pub(super) cases: Vec<Case>,
    /// In the order of the file.
    pub(super) sets: Vec<SetErrors>,
    pub(super) not_predicted: Vec<NotPredicted>,
    /// None where no row could be predicted.
    pub(super) mean_abs_error_percent: Option<f64>,
    pub(super) median_abs_error_percent: Option<f64>,
    pub(super) max_abs_error_percent: Option<f64>,
}

/// What made the report.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    pub(super) version: &'static str,
    pub(super) published: String,
    pub(super) predictor: &'static str,
}

/// A published value and its prediction.
#[derive(Debug, Serialize)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) set: String,
    pub(super) line: u64,
    pub(super) quantity: &'static str,
    pub(super) published: f64,
    pub(super) predicted: f64,
    /// Of the published value: positive where the prediction is larger.
    pub(super) error_percent: f64,
    pub(super) accelerators: u32,
    pub(super) message_bytes: u64,
    pub(super) algorithm: NcclAlgorithm,
    pub(super) protocol: Protocol,
    pub(super) nccl_version: NcclVersion,
}

/// The errors of a set.
#[derive(Debug, Serialize)]
pub(super) struct SetErrors {
    pub(super) set: String,
    pub(super) cases: usize,
    pub(super) mean_abs_error_percent: f64,
    pub(super) median_abs_error_percent: f64,
    pub(super) max_abs_error_percent: f64,
    /// With its sign.
    pub(super) worst_error_percent: f64,
    pub(super) worst_id: String,
}

/// A row without a prediction.
#[derive(Debug, Serialize)]
pub(super) struct NotPredicted {
    pub(super) line: u64,
    pub(super) id: String,
    pub(super) set: String,
    pub(super) reason: String,
}

impl Report {
    pub(super) fn new(
        published: &str,
        rows: &[(Row, Result<Prediction, String>)],
        unread_rows: Vec<Unread>,
    ) -> Self {
        let mut cases = Vec::new();
        let unread =
            |Unread { line, id, reason }| NotPredicted { line, id, set: String::new(), reason };
        let mut not_predicted: Vec<NotPredicted> = unread_rows.into_iter().map(unread).collect();
        for (row, prediction) in rows {
            match case(row, prediction) {
                Ok(case) => cases.push(case),
                Err(reason) => not_predicted.push(NotPredicted {
                    line: row.line,
                    id: row.id.clone(),
                    set: row.set.clone(),
                    reason,
                }),
            }
        }
        let errors: Vec<f64> = cases.iter().map(Case::abs_error_percent).collect();
        Self {
            foretrain: Made {
                version: env!("CARGO_PKG_VERSION"),
                published: published.to_owned(),
                predictor: PREDICTOR,
            },
            sets: sets(&cases),
            mean_abs_error_percent: mean(&errors),
            median_abs_error_percent: median(&errors),
            max_abs_error_percent: errors.iter().copied().reduce(f64::max),
            cases,
            not_predicted,
        }
    }

    /// The cases of a set.
    pub(super) fn of<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a Case> {
        self.cases.iter().filter(move |case| case.set == set)
    }
}

impl Case {
    fn abs_error_percent(&self) -> f64 {
        self.error_percent.abs()
    }
}

fn case(row: &Row, prediction: &Result<Prediction, String>) -> Result<Case, String> {
    let &Prediction { time_us, algorithm, protocol, nccl_version } = prediction.as_ref()?;
    let published = row.time_us.ok_or("time_us: not given")?;
    Ok(Case {
        id: row.id.clone(),
        set: row.set.clone(),
        line: row.line,
        quantity: "time_us",
        published,
        predicted: time_us,
        error_percent: 100.0 * (time_us - published) / published,
        accelerators: row.accelerators.unwrap_or_default(),
        message_bytes: row.message_bytes,
        algorithm,
        protocol,
        nccl_version,
    })
}

fn sets(cases: &[Case]) -> Vec<SetErrors> {
    let mut names: Vec<&str> = Vec::new();
    for case in cases {
        if !names.contains(&case.set.as_str()) {
            names.push(&case.set);
        }
    }
    let errors = |name: &str| {
        let of: Vec<&Case> = cases.iter().filter(|case| case.set == name).collect();
        let errors: Vec<f64> = of.iter().map(|case| case.abs_error_percent()).collect();
        let worst =
            of.iter().max_by(|a, b| a.abs_error_percent().total_cmp(&b.abs_error_percent()))?;
        Some(SetErrors {
            set: name.to_owned(),
            cases: of.len(),
            mean_abs_error_percent: mean(&errors)?,
            median_abs_error_percent: median(&errors)?,
            max_abs_error_percent: worst.abs_error_percent(),
            worst_error_percent: worst.error_percent,
            worst_id: worst.id.clone(),
        })
    };
    names.into_iter().filter_map(errors).collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { sorted[sorted.len() / 2 - 1] } else { upper };
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::{file, rows};
    use super::*;

    fn report(times: [&str; 4]) -> Report {
        let row = |index: usize, set: &str| {
            let time = times[index];
            format!("{index},{set},a,8,1,l,,,,,,1,{time}")
        };
        let text = file(&[row(0, "x"), row(1, "y"), row(2, "x"), row(3, "x")].join("\n"));
        let prediction = Prediction {
            time_us: 100.0,
            algorithm: NcclAlgorithm::Ring,
            protocol: Protocol::Ll,
            nccl_version: NcclVersion::V2_20,
        };
        let mut rows: Vec<_> =
            rows(&text).unwrap().into_iter().map(|row| (row, Ok(prediction))).collect();
        if times[1].is_empty() {
            rows[0].1 = Err("no".to_owned());
        }
        Report::new("file", &rows, Vec::new())
    }

    #[test]
    fn errors_are_of_the_published_value() {
        // 100 against 50, 80, 200 and 125: +100 %, +25 %, −50 %, −20 %.
        let report = report(["50", "80", "200", "125"]);
        let errors: Vec<f64> = report.cases.iter().map(|case| case.error_percent).collect();
        assert_eq!(errors, [100.0, 25.0, -50.0, -20.0]);
        assert_eq!(report.mean_abs_error_percent, Some(195.0 / 4.0));
        assert_eq!(report.median_abs_error_percent, Some(37.5));
        assert_eq!(report.max_abs_error_percent, Some(100.0));
        let x = &report.sets[0];
        assert_eq!((x.set.as_str(), x.cases, x.worst_id.as_str()), ("x", 3, "0"));
        assert_eq!((x.median_abs_error_percent, x.worst_error_percent), (50.0, 100.0));
        assert_eq!(report.of("y").count(), 1);
    }

    #[test]
    fn what_is_not_predicted_is_listed() {
        let report = report(["50", "", "100", "100"]);
        let listed: Vec<(u64, &str)> =
            report.not_predicted.iter().map(|row| (row.line, row.reason.as_str())).collect();
        assert_eq!(listed, [(2, "no"), (3, "time_us: not given")]);
        assert_eq!(report.mean_abs_error_percent, Some(0.0));
        assert_eq!(median(&[]), None);
    }
}
