//! The JSON of a trace, packed or not, and the events of it that matter.
//!
//! Times are decimal numbers of microseconds with three decimals. They are read from the text: a
//! double holds today's 13 digits before the point to a nanosecond, and those of longer uptimes no
//! more.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::ImportError;

/// What a trace holds unpacked, at most: a limit where a broken or malicious file has none.
const BYTES_MAX: u64 = 4 << 30;

/// The latest moment and the longest event that are taken for one, in nanoseconds; sums of them stay
/// far from the end of 64 bits.
pub(super) const MOMENT_NS_MAX: i64 = 4_000_000_000_000_000_000;
const EVENT_NS_MAX: i64 = 100_000_000_000_000;

/// What a file has beside its events.
#[derive(Deserialize)]
pub(super) struct Document<'a> {
    #[serde(rename = "baseTimeNanoseconds", default)]
    pub(super) base_ns: i64,
    #[serde(rename = "distributedInfo")]
    pub(super) distributed: Option<Distributed>,
    pub(super) host_name: Option<String>,
    #[serde(rename = "deviceProperties", default)]
    pub(super) devices: Vec<Device>,
    #[serde(rename = "traceEvents", borrow)]
    pub(super) events: Events<'a>,
}

/// Who of whom this is.
#[derive(Default, Deserialize)]
pub(super) struct Distributed {
    #[serde(default)]
    pub(super) rank: u32,
    pub(super) world_size: Option<u32>,
    pub(super) backend: Option<String>,
    pub(super) nccl_version: Option<String>,
}

/// An accelerator.
#[derive(Deserialize)]
pub(super) struct Device {
    pub(super) name: Option<String>,
    #[serde(rename = "totalGlobalMem")]
    pub(super) memory_bytes: Option<u64>,
}

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    /// An operation of PyTorch on the host.
    Operation,
    /// A stretch that somebody named: steps, passes, transfers of gloo.
    Annotation,
    /// A call of the accelerator's library.
    Runtime,
    /// A kernel.
    Kernel,
    /// A copy or a fill that the accelerator does.
    Memory,
}

/// A stretch of something.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) category: Category,
    /// Process and thread together, numbered as they come.
    pub(super) thread: u32,
    /// Nanoseconds after the trace's base.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) args: Args<'a>,
}

/// What an event says of itself, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Args<'a> {
    pub(super) sequence: Option<i64>,
    pub(super) correlation: Option<i64>,
    pub(super) external: Option<i64>,
    pub(super) elements: Option<u64>,
    pub(super) collective: Option<&'a RawValue>,
    pub(super) dtype: Option<&'a RawValue>,
    pub(super) dims: Option<&'a RawValue>,
    pub(super) types: Option<&'a RawValue>,
}

/// The events of a file that matter.
#[derive(Debug, Default)]
pub(super) struct Events<'a> {
    pub(super) all: Vec<Event<'a>>,
    /// Whether categories have the names that they had before PyTorch 1.12.
    pub(super) old: bool,
}

/// `bytes` as they are, or unpacked.
pub(super) fn unpacked(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ImportError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut text = Vec::new();
    let read = MultiGzDecoder::new(bytes).take(BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| {
        ImportError::new(format!(
            "the file begins as gzip does but cannot be unpacked ({error}): it is not whole; copy it \
             again"
        ))
    })?;
    if text.len() as u64 == BYTES_MAX {
        return Err(ImportError::new(format!(
            "unpacked it has {} GiB or more: record fewer steps",
            BYTES_MAX >> 30
        )));
    }
    Ok(Cow::Owned(text))
}

/// Reads what is unpacked.
pub(super) fn parse(text: &[u8]) -> Result<Document<'_>, ImportError> {
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        Some(b'[') => {
            let problem = "this is a bare list of events, expected the object with `traceEvents` that \
                           export_chrome_trace of torch.profiler writes";
            return Err(ImportError::new(problem));
        }
        _ => {
            let problem = "this is neither JSON nor gzip, expected a trace that export_chrome_trace of \
                           torch.profiler wrote (.json or .json.gz)";
            return Err(ImportError::new(problem));
        }
    }
    serde_json::from_slice(text).map_err(|error| {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
        let problem = if error.is_eof() {
            "the JSON is cut short: the profiled program did not end, or the file is not whole; record \
             or copy it again"
                .to_owned()
        } else if error.is_syntax() {
            format!(
                "this is not JSON: {message} at column {}; some versions of PyTorch write broken \
                 values: mend the line by hand, or record with another version",
                error.column()
            )
        } else {
            format!("this is not a trace of torch.profiler: {message}")
        };
        ImportError::at(error.line().max(1), problem)
    })
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(borrow)]
    ph: Option<&'a RawValue>,
    #[serde(borrow)]
    cat: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    pid: Option<&'a RawValue>,
    #[serde(borrow)]
    tid: Option<&'a RawValue>,
    #[serde(borrow)]
    ts: Option<&'a RawValue>,
    #[serde(borrow)]
    dur: Option<&'a RawValue>,
    #[serde(borrow, default)]
    args: Args<'a>,
}

impl<'a> RawEvent<'a> {
    fn category(&self) -> Option<Category> {
        if self.ph?.get() != "\"X\"" {
            return None;
        }
        Some(match self.cat?.get() {
            "\"cpu_op\"" => Category::Operation,
            "\"user_annotation\"" => Category::Annotation,
            "\"cuda_runtime\"" | "\"cuda_driver\"" => Category::Runtime,
            "\"kernel\"" => Category::Kernel,
            "\"gpu_memcpy\"" | "\"gpu_memset\"" => Category::Memory,
            _ => return None,
        })
    }

    fn is_old(&self) -> bool {
        self.cat.is_some_and(|category| matches!(category.get(), "\"Operator\"" | "\"Kernel\""))
    }

    fn thread(&self) -> (&'a str, &'a str) {
        let text = |value: Option<&'a RawValue>| value.map_or("", RawValue::get);
        (text(self.pid), text(self.tid))
    }

    fn into_event(self, category: Category, thread: u32) -> Result<Event<'a>, String> {
        let start = self.ts.and_then(|ts| nanoseconds(ts.get()));
        let start = start.filter(|start| (0..=MOMENT_NS_MAX).contains(start));
        let took = self.dur.map_or(Some(0), |took| nanoseconds(took.get()));
        let took = took.filter(|took| (0..=EVENT_NS_MAX).contains(took));
        let (Some(start), Some(took)) = (start, took) else {
            let text = |value: Option<&RawValue>| value.map_or("nothing", RawValue::get).to_owned();
            return Err(format!(
                "an event {} begins at {} and takes {}, expected microseconds",
                self.name,
                text(self.ts),
                text(self.dur)
            ));
        };
        Ok(Event { name: self.name, category, thread, start, end: start + took, args: self.args })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Events<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Reader<'a> {
            type Value = Events<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of events")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Events<'a>, A::Error> {
                let mut events = Events::default();
                let mut threads: HashMap<(&str, &str), u32> = HashMap::new();
                while let Some(raw) = list.next_element::<RawEvent<'a>>()? {
                    events.old |= raw.is_old();
                    let Some(category) = raw.category() else { continue };
                    let next = threads.len() as u32;
                    let thread = *threads.entry(raw.thread()).or_insert(next);
                    let event = raw.into_event(category, thread).map_err(de::Error::custom)?;
                    events.all.push(event);
                }
                Ok(events)
            }
        }
        deserializer.deserialize_seq(Reader(std::marker::PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Key {
    #[serde(rename = "Sequence number")]
    Sequence,
    #[serde(rename = "correlation")]
    Correlation,
    #[serde(rename = "External id")]
    External,
    #[serde(rename = "In msg nelems")]
    Elements,
    #[serde(rename = "Collective name")]
    Collective,
    #[serde(rename = "dtype")]
    Dtype,
    // Until 2.0 some had a capital.
    #[serde(rename = "Input Dims", alias = "Input dims")]
    Dims,
    #[serde(rename = "Input type", alias = "Input Type")]
    Types,
    #[serde(other)]
    Other,
}

/// By hand, because versions of PyTorch write other types and the same key twice.
impl<'de: 'a, 'a> Deserialize<'de> for Args<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Reader<'a> {
            type Value = Args<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of arguments")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Args<'a>, E> {
                Ok(Args::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Args<'a>, A::Error> {
                let mut args = Args::default();
                while let Some(key) = map.next_key::<Key>()? {
                    let value: &'a RawValue = map.next_value()?;
                    match key {
                        Key::Sequence => args.sequence = value.get().parse().ok(),
                        Key::Correlation => args.correlation = value.get().parse().ok(),
                        Key::External => args.external = value.get().parse().ok(),
                        Key::Elements => args.elements = value.get().parse().ok(),
                        Key::Collective => args.collective = Some(value),
                        Key::Dtype => args.dtype = Some(value),
                        Key::Dims => args.dims = Some(value),
                        Key::Types => args.types = Some(value),
                        Key::Other => {}
                    }
                }
                Ok(args)
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}

/// Microseconds as text in whole nanoseconds; decimals beyond the third are cut.
fn nanoseconds(text: &str) -> Option<i64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if text.contains(['e', 'E']) {
        let ns = 1e3 * text.parse::<f64>().ok()?;
        return (ns.abs() <= MOMENT_NS_MAX as f64).then(|| ns.round() as i64);
    }
    let mut ns: i64 = whole.parse::<i64>().ok()?.checked_mul(1000)?;
    let mut digits = decimals.bytes();
    for worth in [100, 10, 1] {
        let digit = digits.next().unwrap_or(b'0');
        let value = i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        ns = ns.checked_add(worth * value)?;
    }
    Some(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact() {
        for (text, ns) in [
            ("5013914245548.367", Some(5_013_914_245_548_367)),
            ("50139142455481.367", Some(50_139_142_455_481_367)),
            ("1748736000000000", Some(1_748_736_000_000_000_000)),
            ("0.5", Some(500)),
            ("2.0009", Some(2000)),
            ("1.5e3", Some(1_500_000)),
            ("1e300", None),
            ("\"7\"", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(nanoseconds(text), ns, "{text}");
        }
    }
}
