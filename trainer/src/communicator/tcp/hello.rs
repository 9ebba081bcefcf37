//! What ranks say to each other as they meet.
//!
//! All begins with [`MAGIC`] and [`VERSION`], numbers are little-endian, texts are padded with
//! zeros. A rank that comes says [`Hello`] and gets a [`Reply`]:
//!
//! ```text
//! hello   magic 7, version 1, rank 4, world 4, job 8, port 2, machine 8, host 64
//! reply   magic 7, version 1, kind 1, bytes 4, what it carries
//!         kind 1, table: for each rank its address 16 (IPv6), port 2, machine 8, host 64
//!         kind 2, welcome: nothing
//!         kind 3, refused: a text that says why
//! ```

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr};

use super::super::header::hash;

const MAGIC: &[u8; 7] = b"foretcp";
/// Of all that ranks send each other, as they meet and later.
const VERSION: u8 = 1;
/// Magic and version.
pub(super) const GREETING_BYTES: usize = 8;
const HOST_BYTES: usize = 64;
pub(super) const HELLO_BYTES: usize = GREETING_BYTES + 4 + 4 + 8 + MACHINE_BYTES;
/// Port, machine, host.
const MACHINE_BYTES: usize = 2 + 8 + HOST_BYTES;
const SEAT_BYTES: usize = 16 + MACHINE_BYTES;
/// More than the table of any world: what claims to be longer is none.
const REPLY_BYTES_MAX: u32 = 1 << 26;

/// What a process says that comes to a meeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) rank: u32,
    pub(super) world: u32,
    /// The hash of what the job is called.
    pub(super) job: u64,
    pub(super) machine: Machine,
}

/// Where a rank can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// On which it listens.
    pub(super) port: u16,
    /// The same for ranks that share a machine: the hash of the host's name and of the boot of its
    /// system, so that neither containers nor copies of a machine with the same name are taken for
    /// one.
    pub(super) identity: u64,
    /// The name of the host, cut at [`HOST_BYTES`].
    pub(super) host: String,
}

/// A rank as others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    /// As rank 0 sees it.
    pub(super) address: IpAddr,
    pub(super) machine: Machine,
}

/// What it hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// All are there; where each rank is.
    Table(Vec<Seat>),
    /// The connection stands.
    Welcome,
    /// It does not belong here, or the meeting has failed.
    Refused(String),
}

impl Machine {
    /// This one.
    pub(super) fn this(port: u16) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let host = read("/proc/sys/kernel/hostname")
            .or_else(|| std::env::var("HOSTNAME").ok())
            .map_or_else(|| "unnamed host".to_owned(), |name| name.trim().to_owned());
        let boot = read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { port, identity: hash([host.as_str(), &boot]), host }
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.port.to_le_bytes());
        to.extend(self.identity.to_le_bytes());
        let mut end = self.host.len().min(HOST_BYTES);
        while !self.host.is_char_boundary(end) {
            end -= 1;
        }
        let start = to.len();
        to.extend(&self.host.as_bytes()[..end]);
        to.resize(start + HOST_BYTES, 0);
    }

    fn read(from: &mut &[u8]) -> io::Result<Self> {
        let port = u16::from_le_bytes(take(from)?);
        let identity = u64::from_le_bytes(take(from)?);
        let host: [u8; HOST_BYTES] = take(from)?;
        let end = host.iter().position(|byte| *byte == 0).unwrap_or(HOST_BYTES);
        Ok(Self { port, identity, host: String::from_utf8_lossy(&host[..end]).into_owned() })
    }
}

impl Hello {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = greeting();
        bytes.extend(self.rank.to_le_bytes());
        bytes.extend(self.world.to_le_bytes());
        bytes.extend(self.job.to_le_bytes());
        self.machine.write(&mut bytes);
        bytes
    }

    /// Reads what follows a greeting that was checked.
    pub(super) fn read(bytes: &[u8; HELLO_BYTES]) -> io::Result<Self> {
        let mut from = &bytes[GREETING_BYTES..];
        Ok(Self {
            rank: u32::from_le_bytes(take(&mut from)?),
            world: u32::from_le_bytes(take(&mut from)?),
            job: u64::from_le_bytes(take(&mut from)?),
            machine: Machine::read(&mut from)?,
        })
    }
}

impl Reply {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut carried = Vec::new();
        let kind = match self {
            Self::Table(seats) => {
                for Seat { address, machine } in seats {
                    let address = match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped(),
                        IpAddr::V6(address) => *address,
                    };
                    carried.extend(address.octets());
                    machine.write(&mut carried);
                }
                1
            }
            Self::Welcome => 2,
            Self::Refused(reason) => {
                carried.extend(reason.as_bytes());
                3
            }
        };
        let mut bytes = greeting();
        bytes.push(kind);
        bytes.extend((carried.len() as u32).to_le_bytes());
        bytes.extend(carried);
        bytes
    }

    /// Reads one, its greeting first: `Ok(Err(why))` if the sender is no rank of this program.
    ///
    /// # Errors
    /// The connection ended or the time was over before all had come.
    pub(super) fn read(mut from: impl Read) -> io::Result<Result<Self, String>> {
        let mut greeting = [0; GREETING_BYTES];
        from.read_exact(&mut greeting)?;
        if let Err(why) = check_greeting(&greeting) {
            return Ok(Err(why));
        }
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let mut rest = &head[1..];
        let bytes = u32::from_le_bytes(take(&mut rest)?);
        if bytes > REPLY_BYTES_MAX {
            return Ok(Err(format!("it sends a reply of {bytes} bytes")));
        }
        let mut carried = vec![0; bytes as usize];
        from.read_exact(&mut carried)?;
        Ok(match head[0] {
            1 if carried.len().is_multiple_of(SEAT_BYTES) => carried
                .chunks(SEAT_BYTES)
                .map(read_seat)
                .collect::<io::Result<_>>()
                .map(Self::Table),
            2 => Ok(Self::Welcome),
            3 => Ok(Self::Refused(String::from_utf8_lossy(&carried).into_owned())),
            kind => return Ok(Err(format!("it sends a reply of kind {kind}, {bytes} bytes long"))),
        }
        .map_err(|error| error.to_string()))
    }

    /// Sends it, as far as the other takes it: whoever has ended need not know.
    pub(super) fn send(&self, mut to: impl Write) {
        let _ = to.write_all(&self.write());
    }
}

/// Whether these bytes begin what a rank of this program says.
///
/// # Errors
/// Why not.
pub(super) fn check_greeting(bytes: &[u8; GREETING_BYTES]) -> Result<(), String> {
    let (magic, version) = (&bytes[..MAGIC.len()], bytes[MAGIC.len()]);
    if magic != MAGIC {
        return Err("it says something else than a rank would".to_owned());
    }
    if version != VERSION {
        return Err(format!("it speaks version {version}, this program version {VERSION}"));
    }
    Ok(())
}

fn greeting() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    bytes
}

fn read_seat(mut from: &[u8]) -> io::Result<Seat> {
    let octets: [u8; 16] = take(&mut from)?;
    let address = IpAddr::V6(Ipv6Addr::from(octets)).to_canonical();
    Ok(Seat { address, machine: Machine::read(&mut from)? })
}

/// The first bytes of what is left.
fn take<const BYTES: usize>(from: &mut &[u8]) -> io::Result<[u8; BYTES]> {
    let (first, rest) =
        from.split_first_chunk().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    *from = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(host: &str) -> Machine {
        Machine { port: 40_123, identity: u64::MAX - 7, host: host.to_owned() }
    }

    #[test]
    fn what_is_written_is_read() {
        for host in ["", "node7.cluster", &"n".repeat(HOST_BYTES)] {
            let hello = Hello { rank: 3, world: 1 << 20, job: 1 << 60, machine: machine(host) };
            let bytes: [u8; HELLO_BYTES] = hello.write().try_into().unwrap();
            check_greeting(bytes.first_chunk().unwrap()).unwrap();
            assert_eq!(Hello::read(&bytes).unwrap(), hello);
        }
        let seat =
            |address: &str| Seat { address: address.parse().unwrap(), machine: machine("a") };
        for reply in [
            Reply::Table(vec![seat("10.0.0.7"), seat("fd00::1"), seat("127.0.0.1")]),
            Reply::Welcome,
            Reply::Refused("two processes are rank 3".to_owned()),
        ] {
            let bytes = reply.write();
            assert_eq!(Reply::read(&bytes[..]).unwrap().unwrap(), reply);
            for end in 0..bytes.len() {
                assert!(Reply::read(&bytes[..end]).is_err(), "{end} bytes of {reply:?}");
            }
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let mut bytes = Vec::new();
        machine(&format!("{}ö", "n".repeat(HOST_BYTES - 1))).write(&mut bytes);
        let read = Machine::read(&mut &bytes[..]).unwrap();
        assert_eq!(read.host, "n".repeat(HOST_BYTES - 1));
    }

    #[test]
    fn others_are_told_apart() {
        let refused = |bytes: &[u8]| Reply::read(bytes).unwrap().unwrap_err();
        assert_eq!(refused(b"HTTP/1.1 400"), "it says something else than a rank would");
        assert_eq!(refused(b"foretcp\x02"), "it speaks version 2, this program version 1");
        assert_eq!(refused(b"foretcp\x01\x04\0\0\0\0"), "it sends a reply of kind 4, 0 bytes long");
        assert_eq!(
            refused(b"foretcp\x01\x01\x01\0\0\0\0"),
            "it sends a reply of kind 1, 1 bytes long"
        );
        assert!(
            refused(b"foretcp\x01\x01\xff\xff\xff\xff").starts_with("it sends a reply of 42949")
        );
    }

    #[test]
    fn a_machine_knows_itself() {
        let (one, other) = (Machine::this(1), Machine::this(2));
        assert_eq!((one.identity, &one.host), (other.identity, &other.host));
        assert!(!one.host.is_empty() && one.port == 1);
    }
}
