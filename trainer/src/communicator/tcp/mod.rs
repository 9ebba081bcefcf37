//! Ranks as processes that find each other over TCP, on one machine or several, without a library.
//!
//! # How ranks meet
//!
//! Rank 0 listens where the [`Meeting`] says; the others come there, as often as it takes within the
//! timeout, and say who they are and where they listen themselves. When all have come, each gets the
//! table of all addresses. Then every rank connects to all below it, but for rank 0, whose
//! connection it has: each pair has one connection, on which messages go both ways.
//!
//! - A rank's address is the one that rank 0 sees. Ranks on rank 0's machine, which it may see as
//!   `127.0.0.1`, are where others reached rank 0.
//! - Ranks listen on all addresses of their machine, because its name may stand for another address
//!   there than elsewhere; where the host of rank 0 is `localhost` or a loopback address, on that
//!   one only.
//! - Whoever comes and is of another job, by the hash of what the job is called, is turned away.
//!   That is for mistakes, not for enemies: nothing is encrypted or authenticated, as with MPI and
//!   NCCL. Use it in networks whose machines trust each other.
//! - Waiting for all to come, and then for all connections, takes the timeout each at the most. A
//!   name that the system takes long to resolve is not cut short.
//!
//! # Messages
//!
//! A message is its length in bytes, 64 bits little-endian, and its bytes. What claims to be longer
//! than 1 TiB is garbage, and ends the connection; memory grows with what has come, not with what is
//! claimed.
//!
//! Each connection has a thread that reads and one that writes. If a rank does not take its messages,
//! its readers wait, then the system's buffers fill, and then its senders are refused more.
//!
//! # How it ends
//!
//! A rank that ends, however, is seen by all others at once, as its connections end; a machine that
//! loses its power or its network is silent, and missed after the timeout. Dropping the transport
//! waits until what was sent has been taken by the others, for at most [`FAREWELL_TIME`].

mod error;
mod gather;
mod hello;
mod outbox;
mod transport;
mod visit;

#[cfg(test)]
pub(super) mod tests;

pub use error::{TcpError, TurnedAway};
pub use transport::TcpTransport;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::header::hash;
use crate::launch::Master;
use gather::{Guest, gather};
use hello::{Hello, Machine, Reply, Seat};
use transport::Connected;

/// How long the drop of a transport waits for what was sent to be taken.
pub const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// How long a port may be taken by what just ends.
const PORT_TIME: Duration = Duration::from_secs(2);

/// Between two tries.
const RETRY_TIME: Duration = Duration::from_millis(50);

/// Who meets, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// This rank.
    pub rank: u32,
    /// How many ranks there are.
    pub world: u32,
    /// Where rank 0 listens.
    pub master: Master,
    /// What the job is called, the same on all its ranks and another on those of other jobs.
    pub job: String,
    /// How long ranks wait for each other.
    pub timeout: Duration,
}

impl TcpTransport {
    /// Meets the other ranks.
    ///
    /// # Errors
    /// They do not come, or cannot be reached; others come; there are two of one; they do not agree.
    pub fn connect(meeting: &Meeting) -> Result<Self, TcpError> {
        let Meeting { rank, world, ref master, .. } = *meeting;
        if rank >= world || master.port == 0 {
            return Err(TcpError::Impossible { rank, world, port: master.port });
        }
        if rank > 0 {
            return come(meeting);
        }
        // Nobody comes.
        if world == 1 {
            return Self::start(0, 1, Vec::new());
        }
        receive(meeting, &listen(meeting, master.port)?)
    }
}

/// Rank 0's part.
fn receive(meeting: &Meeting, listener: &TcpListener) -> Result<TcpTransport, TcpError> {
    let own = hello(meeting, meeting.master.port);
    let place = meeting.master.to_string();
    let guests = gather(listener, &own, &place, meeting.timeout)?;
    let own_seat = Seat { address: Ipv4Addr::UNSPECIFIED.into(), machine: own.machine.clone() };
    let seats = std::iter::once(own_seat).chain(guests.iter().map(Guest::seat)).collect();
    let table = Reply::Table(seats);
    for guest in &guests {
        table.send(&guest.stream);
    }
    let local = guests.iter().filter(|guest| guest.hello.machine.identity == own.machine.identity);
    let local_ranks = 1 + local.count() as u32;
    TcpTransport::start(0, local_ranks, guests.into_iter().map(Guest::connected).collect())
}

/// The part of the others.
fn come(meeting: &Meeting) -> Result<TcpTransport, TcpError> {
    let listener = listen(meeting, 0)?;
    let place = listener.local_addr();
    let place = place.map_err(|error| TcpError::listen(meeting.rank, "any port", &error))?;
    let own = hello(meeting, place.port());
    let (master, seats) = visit::master(meeting, &own)?;
    let deadline = Instant::now() + meeting.timeout;
    let mut connected = vec![Connected { rank: 0, stream: master.stream }];
    // To all below first, and only then for those above and for answers: nobody waits in a circle.
    for (rank, seat) in (1..meeting.rank).zip(&seats[1..]) {
        let address = match seat.address.is_loopback() {
            true => master.address,
            false => seat.address,
        };
        let stream = visit::peer(&own, rank, seat, address, deadline)?;
        connected.push(Connected { rank, stream });
    }
    let guests = gather(&listener, &own, &format!("rank {}", own.rank), meeting.timeout)?;
    for guest in &guests {
        Reply::Welcome.send(&guest.stream);
    }
    for peer in &connected[1..] {
        visit::welcome(peer, &seats[peer.rank as usize], meeting.timeout)?;
    }
    connected.extend(guests.into_iter().map(Guest::connected));
    let local = seats.iter().filter(|seat| seat.machine.identity == own.machine.identity);
    TcpTransport::start(meeting.rank, local.count() as u32, connected)
}

fn hello(meeting: &Meeting, port: u16) -> Hello {
    let job = hash([meeting.job.as_str()]);
    Hello { rank: meeting.rank, world: meeting.world, job, machine: Machine::this(port) }
}

/// Listens on this port of all addresses, or of the loopback where all ranks are there; on any free
/// port if it is 0.
fn listen(meeting: &Meeting, port: u16) -> Result<TcpListener, TcpError> {
    let address = meeting.master.address.as_str();
    let given = address.parse::<IpAddr>().ok().filter(IpAddr::is_loopback);
    let addresses: &[IpAddr] = match given {
        Some(loopback) => &[loopback],
        None if address == "localhost" => {
            &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        }
        // The first is for both, where there is IPv6 at all.
        None => &[IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
    };
    let end = Instant::now() + PORT_TIME.min(meeting.timeout);
    loop {
        let error = match bind(addresses, port) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::AddrInUse || Instant::now() >= end {
            return Err(TcpError::listen(meeting.rank, format!("port {port}"), &error));
        }
        std::thread::sleep(RETRY_TIME);
    }
}

/// Listens on the first of the addresses that this machine has.
fn bind(addresses: &[IpAddr], port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpListener::bind(SocketAddr::new(*address, port)) {
            // Another address would be one that nobody comes to.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => last = error,
            result => return result,
        }
    }
    Err(last)
}
