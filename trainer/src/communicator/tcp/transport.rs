//! Messages over the connections of ranks that have met.

use std::convert::Infallible;
use std::io::{self, BufReader, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::super::transport::{Event, Pool, Refused, Transport};
use super::outbox::Outbox;
use super::{FAREWELL_TIME, TcpError};

/// What claims to be a longer message is garbage.
const MESSAGE_BYTES_MAX: u64 = 1 << 40;

/// How much memory a message gets before as much has come.
const STEP_BYTES: usize = 1 << 26;

/// What is read ahead, so that a short message takes one call of the system.
const AHEAD_BYTES: usize = 1 << 16;

/// A connection to another rank.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) rank: u32,
    pub(super) stream: TcpStream,
}

/// The transport of a rank that is a process.
#[derive(Debug)]
pub struct TcpTransport {
    rank: u32,
    local_ranks: u32,
    /// None at its own place, and while it is dropped.
    peers: Vec<Option<Peer>>,
    inbox: Option<Receiver<Event>>,
    /// Keeps the inbox open.
    _own: SyncSender<Event>,
    pool: Arc<Mutex<Pool>>,
    /// Closed when all threads have ended, each of which holds its sender.
    ended: Receiver<Infallible>,
}

/// Another rank.
#[derive(Debug)]
struct Peer {
    link: Arc<Link>,
    threads: Vec<JoinHandle<()>>,
}

/// A connection as its threads share it.
#[derive(Debug)]
struct Link {
    rank: u32,
    stream: TcpStream,
    outbox: Outbox,
    /// Everything that it sent is in the inbox, and that it has ended.
    is_gone: AtomicBool,
}

impl TcpTransport {
    /// Ranks on this machine, this one included.
    #[must_use]
    pub const fn local_ranks(&self) -> u32 {
        self.local_ranks
    }

    /// The transport of a rank that has connections to all others.
    pub(super) fn start(
        rank: u32,
        local_ranks: u32,
        connected: Vec<Connected>,
    ) -> Result<Self, TcpError> {
        let world = connected.len() as u32 + 1;
        // As many as wait for ranks that are threads.
        let (own, inbox) = sync_channel(4 * world as usize + 16);
        let (alive, ended) = channel();
        let mut transport = Self {
            rank,
            local_ranks,
            peers: (0..world).map(|_| None).collect(),
            inbox: Some(inbox),
            _own: own.clone(),
            pool: Arc::new(Mutex::new(Pool::new(world))),
            ended,
        };
        for Connected { rank, stream } in connected {
            let setup = |error: io::Error| TcpError::Setup { rank, reason: error.to_string() };
            stream
                .set_nodelay(true)
                .and_then(|()| stream.set_nonblocking(false))
                .and_then(|()| stream.set_read_timeout(None))
                .and_then(|()| stream.set_write_timeout(None))
                .map_err(setup)?;
            let is_gone = AtomicBool::new(false);
            let link = Arc::new(Link { rank, stream, outbox: Outbox::default(), is_gone });
            let peer = transport.peers[rank as usize]
                .insert(Peer { link: Arc::clone(&link), threads: Vec::with_capacity(2) });
            let (reading, inbox) = (Arc::clone(&link), own.clone());
            let pool = Arc::clone(&transport.pool);
            let read = move || reading.read_all(&inbox, &pool);
            peer.threads.push(spawn(format!("tcp-from-{rank}"), &alive, read).map_err(setup)?);
            let pool = Arc::clone(&transport.pool);
            let write = move || link.write_all(&pool);
            peer.threads.push(spawn(format!("tcp-to-{rank}"), &alive, write).map_err(setup)?);
        }
        Ok(transport)
    }
}

fn spawn(
    name: String,
    alive: &Sender<Infallible>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let alive = alive.clone();
    std::thread::Builder::new().name(name).spawn(move || {
        work();
        drop(alive);
    })
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Puts all that comes into the inbox, until the connection ends.
    fn read_all(&self, inbox: &SyncSender<Event>, pool: &Mutex<Pool>) {
        let mut stream = BufReader::with_capacity(AHEAD_BYTES, &self.stream);
        while let Ok(bytes) = read_message(&mut stream, || lock(pool).take()) {
            if inbox.send(Event::Message { from: self.rank, bytes }).is_err() {
                // This rank has ended. What is left unread would cut off what it still sends.
                let _ = io::copy(&mut stream, &mut io::sink());
                break;
            }
        }
        let _ = inbox.send(Event::Gone(self.rank));
        self.is_gone.store(true, Ordering::Release);
        self.outbox.abandon();
        // Wakes its writer, and tells the other that all of its messages have been taken.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Writes what is in the outbox, until that is closed.
    fn write_all(&self, pool: &Mutex<Pool>) {
        while let Some(message) = self.outbox.next() {
            let written = write_message(&self.stream, &message);
            lock(pool).give(message);
            if written.is_err() {
                // That the other is gone is for the reader to say, after what came before.
                self.outbox.abandon();
            }
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Sends the length of a message and its bytes.
fn write_message(mut to: impl Write, message: &[u8]) -> io::Result<()> {
    let length = (message.len() as u64).to_le_bytes();
    let mut parts = [IoSlice::new(&length), IoSlice::new(message)];
    let mut left = &mut parts[..];
    while !left.is_empty() {
        match to.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => IoSlice::advance_slices(&mut left, bytes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The next message, in a buffer of any length and content.
fn read_message(mut from: impl Read, buffer: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let bytes = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut message = buffer();
    message.truncate(bytes);
    let mut filled = 0;
    while filled < bytes {
        let end = bytes.min(filled + STEP_BYTES);
        if message.len() < end {
            message.resize(end, 0);
        }
        from.read_exact(&mut message[filled..end])?;
        filled = end;
    }
    Ok(message)
}

impl Transport for TcpTransport {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn world(&self) -> u32 {
        self.peers.len() as u32
    }

    fn buffer(&mut self) -> Vec<u8> {
        lock(&self.pool).take()
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        lock(&self.pool).give(buffer);
    }

    fn try_send(&mut self, to: u32, message: Vec<u8>) -> Result<(), Refused> {
        let Some(peer) = &self.peers[to as usize] else { return Err(Refused::Gone) };
        if peer.link.is_gone.load(Ordering::Acquire) {
            return Err(Refused::Gone);
        }
        peer.link.outbox.put(message).map_err(Refused::Full)
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.inbox.as_ref()?.recv_timeout(left).ok()
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), u32> {
        let late = self.peers.iter().flatten().find(|peer| !peer.link.outbox.flush(deadline));
        late.map_or(Ok(()), |peer| Err(peer.link.rank))
    }

    fn fail(&mut self) {}
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        // Readers throw away what comes from now on.
        self.inbox = None;
        let peers: Vec<Peer> = self.peers.iter_mut().filter_map(Option::take).collect();
        peers.iter().for_each(|peer| peer.link.outbox.close());
        // Writers end when everything is written, readers when the others have taken it and end
        // their side, too.
        let _ = self.ended.recv_timeout(FAREWELL_TIME);
        for peer in peers {
            // Wakes whoever still waits.
            let _ = peer.link.stream.shutdown(Shutdown::Both);
            for thread in peer.threads {
                // A panic has been reported by its hook.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let mut wire = Vec::new();
        for message in [&b""[..], b"a", &[7; 100_000]] {
            write_message(&mut wire, message).unwrap();
        }
        let mut from = &wire[..];
        // Whatever is in the buffer.
        for buffer in [vec![], vec![1; 10], vec![1; 200_000]] {
            for message in [&b""[..], b"a", &[7; 100_000]] {
                assert_eq!(read_message(&mut from, || buffer.clone()).unwrap(), message);
            }
            from = &wire[..];
        }
    }

    #[test]
    fn garbage_is_no_message_and_takes_no_memory() {
        let read = |bytes: &[u8]| read_message(bytes, Vec::new).unwrap_err().kind();
        assert_eq!(read(b"HTTP/1.1 400 Bad"), io::ErrorKind::InvalidData);
        assert_eq!(read(&(MESSAGE_BYTES_MAX + 1).to_le_bytes()), io::ErrorKind::InvalidData);
        // A tebibyte is claimed, and does not come.
        assert_eq!(read(&MESSAGE_BYTES_MAX.to_le_bytes()), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(b"\x01"), io::ErrorKind::UnexpectedEof);
    }
}
