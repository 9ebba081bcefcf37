//! Where ranks meet that have no other way to find each other.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::{LaunchError, parse};

const ADDRESS: &str = "MASTER_ADDR";
const PORT: &str = "MASTER_PORT";
const EXPECTED_PORT: &str = "a port, 1 to 65535";

/// The first port of Slurm's jobs, and how many they share.
const SLURM_PORT: u16 = 15_000;
const SLURM_PORTS: u64 = 10_000;

/// Where ranks meet that have no other way to find each other; as text `HOST:PORT`, with an IPv6
/// address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// The host of rank 0.
    pub address: String,
    /// A free port there.
    pub port: u16,
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port } = self;
        match address.contains(':') {
            true => write!(f, "[{address}]:{port}"),
            false => write!(f, "{address}:{port}"),
        }
    }
}

/// A text that says no place to meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place to meet: expected HOST:PORT, such as node0:29500 or [fd00::1]:29500")]
pub struct NoPlace(
    /// The text.
    String,
);

impl FromStr for Master {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let parts = text.rsplit_once(':').and_then(|(address, port)| {
            let address = match address.strip_prefix('[') {
                Some(bracketed) => bracketed.strip_suffix(']')?,
                // Else it is not clear where an IPv6 address ends.
                None => Some(address).filter(|address| !address.contains(':'))?,
            };
            let port = port.parse::<NonZeroU16>().ok()?.get();
            (!address.is_empty()).then(|| Self { address: address.to_owned(), port })
        });
        parts.ok_or_else(|| NoPlace(text.to_owned()))
    }
}

/// What `MASTER_ADDR` and `MASTER_PORT` say, both or neither.
pub(super) fn from_variables(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Master>, LaunchError> {
    match (variable(ADDRESS), variable(PORT)) {
        (None, None) => Ok(None),
        (Some(address), Some(port)) => Ok(Some(Master { address, port: port_number(&port)? })),
        (Some(_), None) => Err(LaunchError::HalfSet { present: ADDRESS, missing: PORT }),
        (None, Some(_)) => Err(LaunchError::HalfSet { present: PORT, missing: ADDRESS }),
    }
}

/// Torchrun's: the variables, or the port after theirs where torchrun itself listens on that one, as
/// it says by `TORCHELASTIC_USE_AGENT_STORE`.
pub(super) fn of_torchrun(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Master>, LaunchError> {
    let master = from_variables(&variable)?;
    let is_taken = variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True");
    Ok(master.map(|master| match is_taken {
        true => Master { port: master.port.checked_add(1).unwrap_or(master.port - 1), ..master },
        false => master,
    }))
}

/// Slurm's: the variables; for one that is not there, the first node of the step, and a port that
/// follows from the number of the job. Nothing if Slurm does not say them in a way that is
/// understood.
pub(super) fn of_slurm(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Master>, LaunchError> {
    let nodes = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"];
    let first = || nodes.iter().find_map(|name| first_node(&variable(name)?));
    let of_job = || {
        let job: u64 = variable("SLURM_JOB_ID")?.parse().ok()?;
        u16::try_from(job % SLURM_PORTS).ok().map(|last_digits| SLURM_PORT + last_digits)
    };
    let port = match variable(PORT) {
        Some(port) => Some(port_number(&port)?),
        None => of_job(),
    };
    let address = variable(ADDRESS).or_else(first);
    Ok(address.zip(port).map(|(address, port)| Master { address, port }))
}

fn port_number(text: &str) -> Result<u16, LaunchError> {
    parse::<NonZeroU16>(PORT, text, EXPECTED_PORT).map(NonZeroU16::get)
}

/// The first node of a list such as `login,rack[1-2]node[007-9,12]`: of each range of numbers the
/// first.
fn first_node(list: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = list.trim();
    loop {
        let Some(end) = rest.find(['[', ',']) else {
            name.push_str(rest);
            break;
        };
        name.push_str(&rest[..end]);
        if rest[end..].starts_with(',') {
            break;
        }
        let (ranges, after) = rest[end + 1..].split_once(']')?;
        let first = ranges.split(['-', ',']).next()?;
        if first.is_empty() || !first.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        name.push_str(first);
        rest = after;
    }
    (!name.is_empty() && !name.contains(']')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_of_slurms_lists() {
        for (list, first) in [
            ("node0", Some("node0")),
            ("alpha,beta", Some("alpha")),
            ("node[3-5,7],other", Some("node3")),
            ("node[7,3-5]", Some("node7")),
            ("node[007-012]", Some("node007")),
            ("rack[1-2]node[01-16]", Some("rack1node01")),
            ("gpu[02-03]-ib.cluster,cpu[1-9]", Some("gpu02-ib.cluster")),
            ("login,node[1-2]", Some("login")),
            ("", None),
            (",node1", None),
            ("node[1-2", None),
            ("node[]", None),
            ("node[a-b]", None),
            ("node1]", None),
        ] {
            assert_eq!(first_node(list).as_deref(), first, "{list}");
        }
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        for (text, address, port) in [
            ("node0:29500", "node0", 29500),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("[fd00::1]:65535", "fd00::1", 65535),
        ] {
            let master: Master = text.parse().unwrap();
            assert_eq!(master, Master { address: address.to_owned(), port });
            assert_eq!(master.to_string(), text);
        }
        for text in ["node0", "node0:", ":29500", "node0:0", "node0:65536", "fd00::1:80", "[::1:80"]
        {
            let error = text.parse::<Master>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no place to meet: ")), "{error}");
        }
    }
}
