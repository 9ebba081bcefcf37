//! The part of a rank that comes to another.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::error::TcpError;
use super::hello::{Hello, Reply, Seat};
use super::transport::Connected;
use super::{Meeting, RETRY_TIME};

/// How long one try to connect to rank 0 may take, which may not be there yet.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long a name may have no address: it may be entered as the machine starts.
const RESOLVE_TIME: Duration = Duration::from_secs(10);

/// How much later than the timeout rank 0 says who did not come.
const VERDICT_TIME: Duration = Duration::from_secs(5);

/// Rank 0 as this rank reached it.
#[derive(Debug)]
pub(super) struct Visited {
    pub(super) stream: TcpStream,
    pub(super) address: IpAddr,
}

/// How a try failed.
enum Try {
    /// The next may succeed.
    Again(String),
    /// None will.
    Never(TcpError),
}

/// Comes to rank 0 and waits for the table of all ranks.
///
/// # Errors
/// Nobody answers within the timeout, somebody else does, or the meeting failed.
pub(super) fn master(meeting: &Meeting, own: &Hello) -> Result<(Visited, Vec<Seat>), TcpError> {
    let Meeting { master, timeout, .. } = meeting;
    let start = Instant::now();
    let mut pause = RETRY_TIME;
    loop {
        let reason = match addresses(meeting) {
            Ok(addresses) => match try_all(meeting, own, &addresses, start + *timeout) {
                Ok(found) => return Ok(found),
                Err(Try::Never(error)) => return Err(error),
                Err(Try::Again(reason)) => reason,
            },
            Err(error) if start.elapsed() >= RESOLVE_TIME.min(*timeout) => {
                let (host, reason) = (master.address.clone(), error.to_string());
                return Err(TcpError::Resolve { host, reason });
            }
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= *timeout {
            return Err(TcpError::NoAnswer { master: master.clone(), waited: *timeout, reason });
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

fn addresses(meeting: &Meeting) -> io::Result<Vec<SocketAddr>> {
    let found = (meeting.master.address.as_str(), meeting.master.port).to_socket_addrs()?;
    let addresses: Vec<_> = found.collect();
    match addresses.is_empty() {
        true => Err(io::ErrorKind::NotFound.into()),
        false => Ok(addresses),
    }
}

fn try_all(
    meeting: &Meeting,
    own: &Hello,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<(Visited, Vec<Seat>), Try> {
    let mut last = Try::Again("there was no time for a try".to_owned());
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        let stream = match connect(*address, left.min(CONNECT_TIME)) {
            Ok(stream) => stream,
            Err(error) => {
                last = Try::Again(error.to_string());
                continue;
            }
        };
        match ask(meeting, own, &stream) {
            Ok(seats) => return Ok((Visited { stream, address: address.ip() }, seats)),
            Err(failed) => last = failed,
        }
    }
    Err(last)
}

fn connect(address: SocketAddr, time: Duration) -> io::Result<TcpStream> {
    // It refuses to try for no time.
    let stream = TcpStream::connect_timeout(&address, time.max(RETRY_TIME))?;
    // On one machine the system may choose the port that it connects to: both ends are the same.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Rank 0 waits for the others for the timeout at most, from now at the latest, and knows who is
/// missing: its verdict is worth waiting for.
fn ask(meeting: &Meeting, own: &Hello, stream: &TcpStream) -> Result<Vec<Seat>, Try> {
    let closed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "it takes connections and does not answer".to_owned()
        }
        io::ErrorKind::UnexpectedEof => "it closed the connection without an answer".to_owned(),
        _ => error.to_string(),
    };
    let reply = stream
        .set_read_timeout(Some(meeting.timeout + VERDICT_TIME))
        .and_then(|()| {
            let mut to = stream;
            to.write_all(&own.write())
        })
        .and_then(|()| Reply::read(stream))
        .map_err(|error| Try::Again(closed(error)))?;
    let place = meeting.master.to_string();
    let reason = match reply {
        Ok(Reply::Table(seats)) if seats.len() == own.world as usize => return Ok(seats),
        Ok(Reply::Refused(reason)) => {
            let by = format!("rank 0 at {place}");
            return Err(Try::Never(TcpError::Refused { by, reason }));
        }
        Ok(Reply::Table(_) | Reply::Welcome) => "it sends another reply than rank 0".to_owned(),
        Err(reason) => reason,
    };
    Err(Try::Never(TcpError::Foreign { place, reason }))
}

/// Connects to another rank and says who this is.
///
/// # Errors
/// It cannot be reached.
pub(super) fn peer(
    own: &Hello,
    rank: u32,
    seat: &Seat,
    address: IpAddr,
    deadline: Instant,
) -> Result<TcpStream, TcpError> {
    let place = SocketAddr::new(address, seat.machine.port);
    let left = deadline.saturating_duration_since(Instant::now());
    let stream = connect(place, left).and_then(|stream| {
        (&stream).write_all(&own.write())?;
        Ok(stream)
    });
    stream.map_err(|error| unreachable(rank, seat, place.to_string(), error.to_string()))
}

/// Waits until it says that the connection stands.
///
/// # Errors
/// It says something else, or nothing.
pub(super) fn welcome(peer: &Connected, seat: &Seat, timeout: Duration) -> Result<(), TcpError> {
    let stream = &peer.stream;
    let place =
        stream.peer_addr().map_or_else(|_| "its port".to_owned(), |place| place.to_string());
    let reply =
        stream.set_read_timeout(Some(timeout + VERDICT_TIME)).and_then(|()| Reply::read(stream));
    let reason = match reply {
        Ok(Ok(Reply::Welcome)) => return Ok(()),
        Ok(Ok(Reply::Refused(reason))) => {
            return Err(TcpError::Refused { by: format!("rank {}", peer.rank), reason });
        }
        Ok(Ok(Reply::Table(_))) => "it sends another reply than a rank".to_owned(),
        Ok(Err(reason)) => reason,
        Err(error) => error.to_string(),
    };
    Err(unreachable(peer.rank, seat, place, reason))
}

fn unreachable(rank: u32, seat: &Seat, place: String, reason: String) -> TcpError {
    TcpError::Unreachable { rank, host: seat.machine.host.clone(), place, reason }
}
