//! A rank's end of the wires: messages in the order of each sender, and failures.
//!
//! A rank that waits beyond the timeout does not know who is to blame: the rank it waits for may
//! itself wait for another. So it calls the roll: it asks all others, each of which answers if it
//! is in a collective, too. Those that do not answer within [`ANSWER_TIME_MAX`] are missing.
//!
//! Whoever gives up says so, and why, to all others, who do the same before they end: a rank that
//! has ended without a word is the one that is to blame. A collective that the one who gave up had
//! completed is completed by the others, too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::error::{Absence, CommunicatorError};
use super::header::{Collective, ElementType, HEADER_BYTES, Kind, Operation, hash};
use super::transport::{Event, Refused, Transport};

/// How long ranks have to answer a roll call; less if the timeout is less.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// How long a full receiver is left alone before the next try.
const RETRY_TIME: Duration = Duration::from_micros(200);

/// More than anybody waits for: longer timeouts would pass the end of the clock.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

type Result<T> = std::result::Result<T, CommunicatorError>;

/// A rank's end of the wires.
#[derive(Debug)]
pub(super) struct Endpoint<T> {
    transport: T,
    timeout: Duration,
    /// Data of each rank that came while another's was awaited.
    early: Vec<VecDeque<Vec<u8>>>,
    /// Ranks that have ended.
    gone: Vec<bool>,
    /// Where each rank is, of those that answered the roll call.
    places: Vec<Option<String>>,
    name: String,
    collective: Collective,
    /// What a rank said that gave up in a later collective than this rank's: its number, and why.
    ahead: Option<(u64, Farewell)>,
    failed: Option<CommunicatorError>,
}

impl<T: Transport> Endpoint<T> {
    pub(super) fn new(transport: T, timeout: Duration) -> Self {
        let world = transport.world() as usize;
        Self {
            transport,
            timeout: timeout.min(TIMEOUT_MAX),
            early: (0..world).map(|_| VecDeque::new()).collect(),
            gone: vec![false; world],
            places: vec![None; world],
            name: "no collective yet".to_owned(),
            collective: Collective::NONE,
            ahead: None,
            failed: None,
        }
    }

    pub(super) fn rank(&self) -> u32 {
        self.transport.rank()
    }

    pub(super) fn world(&self) -> u32 {
        self.transport.world()
    }

    /// Begins a collective.
    pub(super) fn begin(
        &mut self,
        name: &str,
        algorithm: &str,
        (operation, element, bytes): (Operation, ElementType, usize),
    ) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.name.clear();
        self.name.push_str(name);
        self.collective = Collective {
            operation,
            element,
            hash: hash([name, algorithm]),
            number: self.collective.number + 1,
            bytes: bytes as u64,
        };
        match self.ahead.take_if(|(number, _)| *number <= self.collective.number) {
            Some((_, farewell)) => Err(self.give_up_with(farewell)),
            None => Ok(()),
        }
    }

    /// Ends it: all messages have left.
    pub(super) fn end(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        self.transport.flush(deadline).map_err(|to| self.call_roll(to))
    }

    /// Sends so many bytes, which `write` fills in.
    pub(super) fn send(
        &mut self,
        to: u32,
        bytes: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let mut message = self.message(Kind::Data, bytes);
        write(&mut message[HEADER_BYTES..]);
        let mut deadline = None;
        loop {
            match self.transport.try_send(to, message) {
                Ok(()) => return Ok(()),
                // What it said before it ended is waiting.
                Err(Refused::Gone) => {
                    while self.take(Instant::now())? {}
                    return Err(self.has_ended(to));
                }
                Err(Refused::Full(back)) => message = back,
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.timeout);
            let now = Instant::now();
            if now >= deadline {
                return Err(self.call_roll(to));
            }
            // The receiver may be waiting for this rank to take its messages.
            self.take(deadline.min(now + RETRY_TIME))?;
        }
    }

    /// The next message of data from a rank, of so many bytes if that is known. [`data`] is what it
    /// carries; give it back with [`Self::recycle`].
    pub(super) fn receive(&mut self, from: u32, bytes: Option<usize>) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(message) = self.early[from as usize].pop_front() {
                return self.check(from, bytes, message);
            }
            if self.gone[from as usize] {
                return Err(self.has_ended(from));
            }
            if !self.take(deadline)? {
                return Err(self.call_roll(from));
            }
        }
    }

    pub(super) fn recycle(&mut self, message: Vec<u8>) {
        self.transport.recycle(message);
    }

    /// A message that belongs to what this rank is doing.
    fn message(&mut self, kind: Kind, bytes: usize) -> Vec<u8> {
        let mut message = self.transport.buffer();
        // Buffers keep their length, so that only growth costs a filling with zeros.
        message.resize(HEADER_BYTES + bytes, 0);
        self.collective.write(kind, &mut message);
        message
    }

    /// Refuses data of another collective.
    fn check(&mut self, from: u32, bytes: Option<usize>, message: Vec<u8>) -> Result<Vec<u8>> {
        let ours = self.collective;
        let theirs = Collective::read(&message).map_or(Collective::NONE, |(_, theirs)| theirs);
        if theirs == ours && bytes.is_none_or(|bytes| data(&message).len() == bytes) {
            return Ok(message);
        }
        let same = (theirs.operation, theirs.number, theirs.element, theirs.bytes)
            == (ours.operation, ours.number, ours.element, ours.bytes);
        let theirs = match same {
            true => format!("{theirs} of another name or by another algorithm"),
            false => theirs.to_string(),
        };
        Err(self.give_up(CommunicatorError::Mismatch {
            collective: self.name.clone(),
            rank: self.rank(),
            other: from,
            theirs,
            ours: ours.to_string(),
        }))
    }

    /// Takes the next that comes in; says whether anything came before the deadline.
    fn take(&mut self, deadline: Instant) -> Result<bool> {
        let (from, bytes) = match self.transport.receive(deadline) {
            None => return Ok(false),
            Some(Event::Gone(rank)) => {
                self.gone[rank as usize] = true;
                return Ok(true);
            }
            Some(Event::Message { from, bytes }) => (from, bytes),
        };
        let header = Collective::read(&bytes);
        match header.map(|(kind, _)| kind) {
            Some(Kind::Data) => {
                self.early[from as usize].push_back(bytes);
                return Ok(true);
            }
            Some(Kind::RollCall) => {
                self.tell(from, Kind::Present, &self.place());
                self.places[from as usize] = Some(text(data(&bytes)));
            }
            Some(Kind::Present) => self.places[from as usize] = Some(text(data(&bytes))),
            Some(Kind::Failed) => {
                let farewell = Farewell::read(from, data(&bytes));
                let number = header.map_or(0, |(_, theirs)| theirs.number);
                if number <= self.collective.number {
                    return Err(self.give_up_with(farewell));
                }
                self.ahead.get_or_insert((number, farewell));
            }
            None => {
                let collective = self.name.clone();
                let bytes = bytes.len();
                let error = CommunicatorError::Unreadable { collective, from, bytes };
                return Err(self.give_up(error));
            }
        }
        self.recycle(bytes);
        Ok(true)
    }

    /// Where this rank is.
    fn place(&self) -> String {
        format!("`{}` ({})", self.name, self.collective)
    }

    /// Tells a rank something, if it takes it.
    fn tell(&mut self, to: u32, kind: Kind, what: &str) {
        let mut message = self.message(kind, what.len());
        message[HEADER_BYTES..].copy_from_slice(what.as_bytes());
        match self.transport.try_send(to, message) {
            // A rank that is so far behind hears nothing of use.
            Ok(()) | Err(Refused::Full(_)) => {}
            Err(Refused::Gone) => self.gone[to as usize] = true,
        }
    }

    fn tell_all(&mut self, kind: Kind, what: &str) {
        for to in (0..self.world()).filter(|to| *to != self.rank()).collect::<Vec<_>>() {
            self.tell(to, kind, what);
        }
    }

    /// Finds out who is missing when a rank did not do its part in time.
    fn call_roll(&mut self, waits_for: u32) -> CommunicatorError {
        if let Some((_, farewell)) = self.ahead.take() {
            return self.give_up_with(farewell);
        }
        self.places.fill(None);
        self.tell_all(Kind::RollCall, &self.place());
        let others: Vec<u32> = (0..self.world()).filter(|rank| *rank != self.rank()).collect();
        let end = Instant::now() + self.timeout.min(ANSWER_TIME_MAX);
        let absent = loop {
            let answered = |rank: &u32| self.places[*rank as usize].is_some();
            let absent: Vec<u32> = others.iter().copied().filter(|rank| !answered(rank)).collect();
            if absent.is_empty() {
                break absent;
            }
            match self.take(end) {
                Ok(true) => {}
                Ok(false) => break absent,
                Err(error) => return error,
            }
        };
        let collective = self.name.clone();
        let place = self.places[waits_for as usize].take();
        let error = match place.filter(|_| absent.is_empty()) {
            Some(its_place) => {
                let waited = self.timeout;
                CommunicatorError::Stalled { collective, waits_for, its_place, waited }
            }
            None => CommunicatorError::Missing {
                collective,
                missing: absent,
                absence: Absence::Silent(self.timeout),
                noticed_by: self.rank(),
            },
        };
        self.give_up(error)
    }

    fn has_ended(&mut self, rank: u32) -> CommunicatorError {
        if let Some((_, farewell)) = self.ahead.take() {
            return self.give_up_with(farewell);
        }
        self.give_up(CommunicatorError::Missing {
            collective: self.name.clone(),
            missing: vec![rank],
            absence: Absence::Ended,
            noticed_by: self.rank(),
        })
    }

    /// Gives up as another rank did.
    fn give_up_with(&mut self, farewell: Farewell) -> CommunicatorError {
        let collective = self.name.clone();
        self.give_up(farewell.into_error(collective))
    }

    /// Tells everybody, and fails.
    fn give_up(&mut self, error: CommunicatorError) -> CommunicatorError {
        let farewell = Farewell::new(self.rank(), &error);
        self.tell_all(Kind::Failed, &farewell.write());
        self.transport.fail();
        self.failed = Some(error.clone());
        error
    }
}

/// What a message carries.
pub(super) fn data(message: &[u8]) -> &[u8] {
    message.get(HEADER_BYTES..).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a rank that gives up tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Farewell {
    Missing { missing: Vec<u32>, absence: Absence, noticed_by: u32 },
    Other { rank: u32, reason: String },
}

impl Farewell {
    fn new(rank: u32, error: &CommunicatorError) -> Self {
        match error.clone() {
            CommunicatorError::Missing { missing, absence, noticed_by, .. } => {
                Self::Missing { missing, absence, noticed_by }
            }
            CommunicatorError::GaveUp { rank, reason, .. } => Self::Other { rank, reason },
            other => Self::Other { rank, reason: other.to_string() },
        }
    }

    /// `missing <noticed by> <waited in ns, or 0 if ended> <rank> <rank> …`, or `other <rank>
    /// <text>`.
    fn write(&self) -> String {
        match self {
            Self::Missing { missing, absence, noticed_by } => {
                let waited = match absence {
                    Absence::Ended => 0,
                    Absence::Silent(waited) => waited.as_nanos(),
                };
                let ranks: String = missing.iter().map(|rank| format!(" {rank}")).collect();
                format!("missing {noticed_by} {waited}{ranks}")
            }
            Self::Other { rank, reason } => format!("other {rank} {reason}"),
        }
    }

    fn read(from: u32, bytes: &[u8]) -> Self {
        let reason = text(bytes);
        Self::read_missing(&reason)
            .or_else(|| Self::read_other(&reason))
            .unwrap_or(Self::Other { rank: from, reason })
    }

    fn read_missing(text: &str) -> Option<Self> {
        let mut numbers = text.strip_prefix("missing ")?.split(' ').map(str::parse::<u64>);
        let noticed_by = u32::try_from(numbers.next()?.ok()?).ok()?;
        let absence = match numbers.next()?.ok()? {
            0 => Absence::Ended,
            waited => Absence::Silent(Duration::from_nanos(waited)),
        };
        let missing = numbers
            .map(|rank| rank.ok().and_then(|rank| u32::try_from(rank).ok()))
            .collect::<Option<Vec<u32>>>()?;
        Some(Self::Missing { missing, absence, noticed_by })
    }

    fn read_other(text: &str) -> Option<Self> {
        let (rank, reason) = text.strip_prefix("other ")?.split_once(' ')?;
        Some(Self::Other { rank: rank.parse().ok()?, reason: reason.to_owned() })
    }

    fn into_error(self, collective: String) -> CommunicatorError {
        match self {
            Self::Missing { missing, absence, noticed_by } => {
                CommunicatorError::Missing { collective, missing, absence, noticed_by }
            }
            Self::Other { rank, reason } => CommunicatorError::GaveUp { collective, rank, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_read_as_it_was_written() {
        for farewell in [
            Farewell::Missing { missing: vec![2, 7], absence: Absence::Ended, noticed_by: 1 },
            Farewell::Missing {
                missing: vec![0],
                absence: Absence::Silent(Duration::from_millis(1500)),
                noticed_by: 3,
            },
            Farewell::Other { rank: 3, reason: "missing something else".to_owned() },
        ] {
            assert_eq!(Farewell::read(9, farewell.write().as_bytes()), farewell);
        }
        let reason = "neither".to_owned();
        assert_eq!(Farewell::read(9, b"neither"), Farewell::Other { rank: 9, reason });
    }
}
