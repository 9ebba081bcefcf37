//! `foretrain calibrate`: measure this machine or cluster, fit, and write a profile.

mod config;
mod measure;
mod text;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use foretrain_calibrate::import::recordings;
use foretrain_calibrate::measurements::Measurements;
use foretrain_calibrate::profile;
use foretrain_sim::profile::{FileHash, Profile};
use foretrain_sim::recording::Recording;
use foretrain_sim::scenario::text_hash;

use crate::cli::{CalibrateArguments, ReportFormat};
use crate::failure::{Failure, complain};
use crate::output::{self, OutputFile};
use crate::ranks;

pub(crate) fn run(arguments: &CalibrateArguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.from {
        let files = Files::create(&arguments.output)?;
        let name = output::shown(path);
        let mut measurements = Measurements::read(&output::read_text(path)?)
            .map_err(|error| Failure::Invalid(format!("{name}: {error}")))?;
        said(arguments, &mut measurements);
        return files.finish(&measurements, &name, Kept::Already, arguments.format);
    }
    if !arguments.recordings.is_empty() {
        let files = Files::create(&arguments.output)?;
        let mut recordings = Vec::new();
        for path in &arguments.recordings {
            let name = output::shown(path);
            let recording = Recording::read(&output::read_text(path)?)
                .map_err(|error| Failure::Invalid(format!("{name}: {error}")))?;
            recordings.push((name, recording));
        }
        let mut measurements = recordings::read(&recordings, &command(), arguments.seed)
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        said(arguments, &mut measurements);
        return files.finish(&measurements, "the recordings", Kept::Already, arguments.format);
    }
    let launch = ranks::find(&arguments.launch)?;
    // Only one rank writes; the others need no place to.
    let files = match launch.rank {
        0 => Some(Files::create(&arguments.output)?),
        _ => None,
    };
    let (place, config) = config::read(arguments.config.as_deref())?;
    let measured = measure::measure(arguments, &launch, &place, config)?;
    match (files, measured) {
        (Some(files), Some(measurements)) => {
            files.finish(&measurements, &place, Kept::Nowhere, arguments.format)
        }
        _ => Ok(()),
    }
}

/// What the command line says beside what was measured.
fn said(arguments: &CalibrateArguments, measurements: &mut Measurements) {
    let price = arguments.price.map(|price| price.get());
    let power = arguments.power.map(|power| power.get());
    measurements.usd_per_accelerator_hour = price.or(measurements.usd_per_accelerator_hour);
    measurements.watts_per_accelerator = power.or(measurements.watts_per_accelerator);
}

/// The command as it was typed, without the program's folder.
pub(crate) fn command() -> String {
    let mut words = std::env::args();
    words.next();
    let quoted = words.map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{word}'") }
    });
    std::iter::once("foretrain".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// The date and time.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Where measurements are that turn out to say too little for a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In the file that they came from.
    Already,
    /// Nowhere but here, so they are written all the same.
    Nowhere,
}

/// The profile, and the raw measurements beside it.
pub(crate) struct Files {
    profile: OutputFile,
    raw: OutputFile,
    raw_name: String,
}

impl Files {
    /// Opens both.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let raw_path = raw_path(path);
        let raw_name = raw_path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            profile: OutputFile::create(path)?,
            raw: OutputFile::create(&raw_path)?,
            raw_name,
        })
    }

    /// Fits, writes both and says what came out; if the measurements are refused, only why.
    pub(crate) fn finish(
        self,
        measurements: &Measurements,
        place: &str,
        kept: Kept,
        format: ReportFormat,
    ) -> Result<(), Failure> {
        let Self { profile: profile_file, raw, raw_name } = self;
        let failed = |error: serde_json::Error| {
            Failure::Runtime(format!("failed to write the measurements: {error}"))
        };
        let raw_text = measurements.to_json().map_err(failed)?;
        let hash = FileHash { file: raw_name.clone(), sha256: text_hash(&raw_text) };
        let fitted = profile::fit(measurements, Some(hash))
            .map_err(|refused| refused.to_string())
            .and_then(|profile| match profile.check() {
                Ok(()) => Ok(profile),
                Err(error) => Err(error.to_string()),
            });
        let profile = match (fitted, kept) {
            (Ok(profile), _) => profile,
            (Err(reason), Kept::Already) => {
                return Err(Failure::Refused(format!("{place}: {reason}; no profile was written")));
            }
            (Err(reason), Kept::Nowhere) => {
                raw.finish(raw_text.as_bytes())?;
                return Err(Failure::Refused(format!(
                    "{place}: {reason}; no profile was written, the measurements are in {raw_name}"
                )));
            }
        };
        let text = profile.to_json().map_err(failed)?;
        raw.finish(raw_text.as_bytes())?;
        profile_file.finish(text.as_bytes())?;
        warn(&profile);
        match format {
            ReportFormat::Table => output::print(&text::summary(&profile)),
            ReportFormat::Json => output::print(&text),
        }
    }
}

fn warn(profile: &Profile) {
    for warning in &profile.warnings {
        complain(&format!("warning: {}: {}", warning.about, warning.message));
    }
}

/// `profile.json` becomes `profile.measurements.json`; what does not end in `.json` keeps its end.
fn raw_path(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|extension| extension == "json") {
        return path.with_extension("measurements.json");
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".measurements.json");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_measurements_have_a_name_of_their_own() {
        let name = |path: &str| raw_path(Path::new(path)).display().to_string();
        assert_eq!(name("a/profile.json"), "a/profile.measurements.json");
        assert_eq!(name("run.1"), "run.1.measurements.json");
        assert_eq!(name("run.2"), "run.2.measurements.json");
    }
}
