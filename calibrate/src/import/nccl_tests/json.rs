//! The JSON that nccl-tests write.

use serde::Deserialize;
use serde_json::Value;

use super::printed::Printed;
use super::run::{Place, RankEntry, RawRow, RawRun, Side};
use super::text::nccl_version;
use super::{ElementType, ImportError};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    args: Vec<Option<String>>,
    nccl_version: Option<u64>,
    config: Config,
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Config {
    nthreads: u32,
    ngpus: u32,
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    rank: u32,
    #[serde(default)]
    group: i64,
    hostname: String,
    #[serde(default)]
    device_info: String,
}

#[derive(Deserialize)]
struct Entry {
    size: u64,
    count: u64,
    #[serde(rename = "type")]
    type_name: String,
    redop: Option<String>,
    out_of_place: Option<Half>,
    in_place: Option<Half>,
}

#[derive(Deserialize)]
struct Half {
    time: Option<Value>,
    cpu_time: Option<Value>,
    alg_bw: Option<Value>,
    bus_bw: Option<Value>,
    nwrong: Option<f64>,
}

pub(super) fn read(text: &str) -> Result<RawRun, ImportError> {
    let Document { args, nccl_version: version, config, results } = serde_json::from_str(text)
        .map_err(|error: serde_json::Error| {
            let problem = if error.is_eof() {
                "the JSON is cut short: the run did not end, or the file is not whole".to_owned()
            } else {
                format!("this is not what nccl-tests write with -J: {error}")
            };
            ImportError::at(error.line().max(1), problem)
        })?;
    let program = args.into_iter().next().flatten();
    let rows = results.into_iter().enumerate().map(|(index, entry)| entry.row(index));
    Ok(RawRun {
        place: Place::Key("results".to_owned()),
        program: program.map(|path| path.rsplit('/').next().unwrap_or(&path).to_owned()),
        tests_version: None,
        nccl_version: version.map(nccl_version),
        ranks: config.ranks(),
        rows: rows.collect::<Result<_, _>>()?,
        out_of_bounds: None,
    })
}

impl Config {
    /// The first rank of each process is listed: `parseRankInfo` reads one line of each.
    fn ranks(self) -> Vec<RankEntry> {
        let of_process = self.nthreads.saturating_mul(self.ngpus).max(1);
        let firsts_only = self.devices.iter().all(|device| device.rank.is_multiple_of(of_process));
        let count = if firsts_only { of_process } else { 1 };
        let entry = |device: Device| RankEntry {
            rank: device.rank,
            group: device.group,
            host: device.hostname,
            device: device.device_info,
            count,
        };
        self.devices.into_iter().map(entry).collect()
    }
}

impl Entry {
    fn row(self, index: usize) -> Result<RawRow, ImportError> {
        let place = format!("results[{index}]");
        let element_type = ElementType::named(&self.type_name).ok_or_else(|| {
            ImportError::new(format!("unknown element type `{}`", self.type_name))
                .with_key(format!("{place}.type"))
        })?;
        let side = |half: Option<Half>, name: &str| {
            half.map(|half| half.side(&format!("{place}.{name}"))).transpose()
        };
        let sides = [side(self.out_of_place, "out_of_place")?, side(self.in_place, "in_place")?];
        let reduction = self.redop.filter(|name| name != "none" && !name.is_empty());
        let (bytes, count) = (self.size, self.count);
        Ok(RawRow { place: Place::Key(place), bytes, count, element_type, reduction, sides })
    }
}

impl Half {
    fn side(self, place: &str) -> Result<Side, ImportError> {
        if self.time.is_none() && self.cpu_time.is_some() {
            let problem = "times of the CPU (-C), which say nothing of the collective: measure \
                           without -C";
            return Err(ImportError::new(problem).with_key(format!("{place}.cpu_time")));
        }
        let number = |key: &str, value: Option<Value>| match value {
            None => Ok(None),
            Some(value) => {
                value.as_f64().and_then(Printed::with_six_decimals).map(Some).ok_or_else(|| {
                    let problem = format!("{value}, expected a number of at least 0");
                    ImportError::new(problem).with_key(format!("{place}.{key}"))
                })
            }
        };
        Ok(Side {
            time: number("time", self.time)?,
            algorithm: number("alg_bw", self.alg_bw)?,
            bus: number("bus_bw", self.bus_bw)?,
            wrong: self.nwrong.map(|wrong| wrong as u64),
        })
    }
}
