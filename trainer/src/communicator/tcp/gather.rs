//! The part of a rank that listens: those who come, and who they are.

use std::io::{self, Read};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::error::{TcpError, TurnedAway};
use super::hello::{GREETING_BYTES, HELLO_BYTES, Hello, Reply, Seat, check_greeting};
use super::transport::Connected;

/// Between two looks for who comes.
const LOOK_TIME: Duration = Duration::from_millis(1);

/// How long somebody who comes has to say who it is.
const HELLO_TIME: Duration = Duration::from_secs(10);

/// How long somebody who goes has to hear why.
const REPLY_TIME: Duration = Duration::from_secs(1);

/// Of those turned away, how many are named.
const NAMED_MAX: usize = 4;

/// A rank that has come.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) hello: Hello,
    pub(super) stream: TcpStream,
    address: IpAddr,
}

impl Guest {
    pub(super) fn seat(&self) -> Seat {
        Seat { address: self.address, machine: self.hello.machine.clone() }
    }

    pub(super) fn connected(self) -> Connected {
        Connected { rank: self.hello.rank, stream: self.stream }
    }

    /// Whether it has ended since.
    fn has_gone(&self) -> bool {
        let is_open = self.stream.set_nonblocking(true).is_ok()
            && self
                .stream
                .peek(&mut [0])
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_err() || !is_open
    }
}

/// Somebody who has come and not said everything yet.
struct Caller {
    stream: TcpStream,
    address: IpAddr,
    since: Instant,
    bytes: [u8; HELLO_BYTES],
    filled: usize,
}

/// What a caller turned out to be.
enum Found {
    /// It goes on speaking.
    Nothing,
    Rank(Hello),
    /// It is of no rank of this program; why.
    Foreign(String),
}

impl Caller {
    fn new(stream: TcpStream, address: IpAddr) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, address, since: Instant::now(), bytes: [0; HELLO_BYTES], filled: 0 })
    }

    fn look(&mut self) -> Found {
        while self.filled < HELLO_BYTES {
            match (&self.stream).read(&mut self.bytes[self.filled..]) {
                Ok(0) => return Found::Foreign("it said nothing and left".to_owned()),
                Ok(bytes) => self.filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Found::Foreign(error.to_string()),
            }
        }
        if self.filled >= GREETING_BYTES
            && let Some(greeting) = self.bytes.first_chunk()
            && let Err(why) = check_greeting(greeting)
        {
            return Found::Foreign(why);
        }
        if self.filled == HELLO_BYTES {
            let hello = Hello::read(&self.bytes);
            return hello.map_or_else(|error| Found::Foreign(error.to_string()), Found::Rank);
        }
        match self.since.elapsed() > HELLO_TIME {
            true => Found::Foreign("it does not say who it is".to_owned()),
            false => Found::Nothing,
        }
    }

    /// Somebody who has said everything, as one that waits for a reply.
    fn into_guest(self, hello: Hello) -> io::Result<Guest> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(REPLY_TIME))?;
        Ok(Guest { hello, stream: self.stream, address: self.address })
    }
}

/// All ranks above `own`'s, in order, as they come to `listener`, which is `place` for messages.
///
/// # Errors
/// They do not come within the timeout, there are two of one, or one is of another world. Those who
/// have come hear why.
pub(super) fn gather(
    listener: &TcpListener,
    own: &Hello,
    place: &str,
    timeout: Duration,
) -> Result<Vec<Guest>, TcpError> {
    let mut hall = Hall { own, guests: Vec::new(), turned_away: TurnedAway::default() };
    let result = hall.fill(listener, place, timeout);
    if let Err(error) = &result {
        let reply = Reply::Refused(error.to_string());
        hall.guests.iter().for_each(|guest| reply.send(&guest.stream));
    }
    result?;
    hall.guests.sort_by_key(|guest| guest.hello.rank);
    Ok(hall.guests)
}

/// Where ranks gather.
struct Hall<'a> {
    own: &'a Hello,
    guests: Vec<Guest>,
    turned_away: TurnedAway,
}

impl Hall<'_> {
    fn fill(
        &mut self,
        listener: &TcpListener,
        place: &str,
        timeout: Duration,
    ) -> Result<(), TcpError> {
        let own = self.own.rank;
        let failed = |error: io::Error| TcpError::listen(own, place, &error);
        listener.set_nonblocking(true).map_err(failed)?;
        let deadline = Instant::now() + timeout;
        let mut callers: Vec<Caller> = Vec::new();
        while !self.is_complete() {
            match listener.accept() {
                Ok((stream, from)) => {
                    callers.extend(Caller::new(stream, from.ip().to_canonical()));
                    continue;
                }
                Err(error) if may_pass(&error) => {}
                Err(error) => return Err(failed(error)),
            }
            let mut waiting = Vec::with_capacity(callers.len());
            for mut caller in callers {
                match caller.look() {
                    Found::Nothing => waiting.push(caller),
                    Found::Foreign(why) => self.turn_away(format!("{} ({why})", caller.address)),
                    Found::Rank(hello) => {
                        if let Ok(guest) = caller.into_guest(hello) {
                            self.admit(guest)?;
                        }
                    }
                }
            }
            callers = waiting;
            if Instant::now() >= deadline && !self.is_complete() {
                let missing = self.missing();
                let turned_away = std::mem::take(&mut self.turned_away);
                let (place, waited) = (place.to_owned(), timeout);
                return Err(TcpError::Missing { place, missing, waited, turned_away });
            }
            std::thread::sleep(LOOK_TIME);
        }
        Ok(())
    }

    /// Whether all are there, and have not left again while others were awaited.
    fn is_complete(&mut self) -> bool {
        if self.missing().is_empty() {
            self.guests.retain(|guest| !guest.has_gone());
        }
        self.missing().is_empty()
    }

    fn missing(&self) -> Vec<u32> {
        let mut is_here = vec![false; self.own.world as usize];
        self.guests.iter().for_each(|guest| is_here[guest.hello.rank as usize] = true);
        (self.own.rank + 1..self.own.world).filter(|rank| !is_here[*rank as usize]).collect()
    }

    fn turn_away(&mut self, who: String) {
        if self.turned_away.0.len() < NAMED_MAX {
            self.turned_away.0.push(who);
        }
    }

    fn admit(&mut self, guest: Guest) -> Result<(), TcpError> {
        let (own, hello) = (self.own, &guest.hello);
        if hello.job != own.job {
            let host = &own.machine.host;
            let reason = format!("this is rank {} of another job, on {host}", own.rank);
            Reply::Refused(reason).send(&guest.stream);
            let Hello { rank, machine, .. } = hello;
            self.turn_away(format!("rank {rank} of another job, on {}", machine.host));
            return Ok(());
        }
        let error = if hello.world != own.world {
            TcpError::Worlds {
                rank: format!("rank {} on {}", hello.rank, hello.machine.host),
                theirs: hello.world,
                own: own.rank,
                ours: own.world,
            }
        } else if let Some(other) = self.same_rank(hello.rank) {
            let first = other.to_owned();
            let second = hello.machine.host.clone();
            TcpError::SameRank { rank: hello.rank, first, second }
        } else if hello.rank < own.rank || hello.rank >= own.world {
            let who = format!("{} (it says it is rank {})", guest.address, hello.rank);
            self.turn_away(who);
            return Ok(());
        } else {
            self.guests.push(guest);
            return Ok(());
        };
        // It hears why with the others.
        self.guests.push(guest);
        Err(error)
    }

    /// The host of another process that is this rank, unless that has ended and this is its
    /// successor.
    fn same_rank(&mut self, rank: u32) -> Option<&str> {
        let is_it = |guest: &Guest| guest.hello.rank == rank;
        self.guests.retain(|guest| !is_it(guest) || !guest.has_gone());
        if rank == self.own.rank {
            return Some(&self.own.machine.host);
        }
        self.guests.iter().find(|guest| is_it(guest)).map(|guest| guest.hello.machine.host.as_str())
    }
}

/// Whether an error of accepting is of one connection, or of none, and not of the listener.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset)
}
