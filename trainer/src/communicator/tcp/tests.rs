//! Ranks that meet, and those that do not.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::super::transport::{Event, Refused, Transport};
use super::*;

/// Long enough that only a fault passes it.
const PATIENCE: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(300);

/// A place to meet, and its listener, which makes sure that nobody else takes the port.
fn place() -> (Master, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (Master { address: "127.0.0.1".to_owned(), port }, listener)
}

fn meeting(rank: u32, world: u32, master: &Master) -> Meeting {
    let (master, job) = (master.clone(), "test".to_owned());
    Meeting { rank, world, master, job, timeout: PATIENCE }
}

/// What becomes of those who meet: the first as rank 0 at the place's listener, the others there.
fn meet(meetings: Vec<Meeting>, listener: &TcpListener) -> Vec<Result<TcpTransport, TcpError>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = meetings
            .into_iter()
            .enumerate()
            .map(|(index, meeting)| {
                scope.spawn(move || match index {
                    0 => receive(&meeting, listener),
                    _ => TcpTransport::connect(&meeting),
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The transports of a world of so many ranks on this machine, in order.
pub(in super::super) fn world(ranks: u32) -> Vec<TcpTransport> {
    let (master, listener) = place();
    let meetings = (0..ranks).map(|rank| meeting(rank, ranks, &master)).collect();
    meet(meetings, &listener).into_iter().map(Result::unwrap).collect()
}

/// The errors of those who meet.
fn refusals(meetings: Vec<Meeting>, listener: &TcpListener) -> Vec<String> {
    let results = meet(meetings, listener);
    results.into_iter().map(|result| result.unwrap_err().to_string()).collect()
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn message(transport: &mut TcpTransport) -> (u32, Vec<u8>) {
    match transport.receive(soon()) {
        Some(Event::Message { from, bytes }) => (from, bytes),
        other => panic!("expected a message, got {other:?}"),
    }
}

#[test]
fn everybody_reaches_everybody() {
    for ranks in 1..=6 {
        let mut world = world(ranks);
        for (from, transport) in (0..).zip(&mut world) {
            assert_eq!((transport.rank(), transport.world()), (from, ranks));
            assert_eq!(transport.local_ranks(), ranks, "all are on this machine");
            for to in (0..ranks).filter(|to| *to != from) {
                transport.try_send(to, vec![from as u8, to as u8]).unwrap();
            }
            transport.flush(soon()).unwrap();
        }
        for (to, transport) in (0..).zip(&mut world) {
            let mut senders: Vec<u32> = (1..ranks)
                .map(|_| {
                    let (from, bytes) = message(transport);
                    assert_eq!(bytes, [from as u8, to as u8]);
                    from
                })
                .collect();
            senders.sort_unstable();
            assert!(senders.into_iter().eq((0..ranks).filter(|from| *from != to)));
            assert!(transport.receive(Instant::now()).is_none());
        }
    }
}

#[test]
fn rank_0_may_start_later_and_by_another_name() {
    let (mut master, listener) = place();
    // Nobody listens there until rank 0 does.
    drop(listener);
    master.address = "localhost".to_owned();
    let others: Vec<_> = (1..3)
        .map(|rank| {
            let meeting = meeting(rank, 3, &master);
            std::thread::spawn(move || TcpTransport::connect(&meeting).map(|_| ()))
        })
        .collect();
    std::thread::sleep(SHORT);
    let mut first = TcpTransport::connect(&meeting(0, 3, &master)).unwrap();
    others.into_iter().for_each(|other| other.join().unwrap().unwrap());
    let mut gone: Vec<u32> = (0..2)
        .map(|_| match first.receive(soon()) {
            Some(Event::Gone(rank)) => rank,
            other => panic!("expected an end, got {other:?}"),
        })
        .collect();
    gone.sort_unstable();
    assert_eq!(gone, [1, 2]);
}

#[test]
fn nobody_at_the_place() {
    let (master, listener) = place();
    drop(listener);
    let meeting = Meeting { timeout: SHORT, ..meeting(1, 2, &master) };
    let error = TcpTransport::connect(&meeting).unwrap_err().to_string();
    let start = format!("no answer from rank 0 at {master} within 0.3 s (");
    assert!(error.starts_with(&start) && error.contains("refused"), "{error}");
}

#[test]
fn ranks_that_do_not_come_are_named_by_all() {
    let (master, listener) = place();
    let meetings = [0, 2].map(|rank| Meeting { timeout: SHORT, ..meeting(rank, 5, &master) });
    let errors = refusals(meetings.to_vec(), &listener);
    let verdict =
        format!("ranks 1, 3, 4 did not come to {master} within 0.3 s: see what they printed last");
    assert_eq!(errors[0], verdict);
    assert_eq!(errors[1], format!("rank 0 at {master} turned this rank away: {verdict}"));
}

#[test]
fn two_of_one_rank_end_the_meeting() {
    let (master, listener) = place();
    let meetings = [0, 1, 1].map(|rank| meeting(rank, 3, &master)).to_vec();
    for error in refusals(meetings, &listener) {
        assert!(error.contains("two processes are rank 1, one on "), "{error}");
    }
}

#[test]
fn worlds_that_differ_end_the_meeting() {
    let (master, listener) = place();
    let meetings = vec![meeting(0, 3, &master), meeting(2, 4, &master)];
    for error in refusals(meetings, &listener) {
        assert!(error.contains("is one of 4 ranks, rank 0 one of 3: start all"), "{error}");
    }
}

#[test]
fn another_job_is_turned_away() {
    let (master, listener) = place();
    let stranger = Meeting { job: "other".to_owned(), ..meeting(1, 2, &master) };
    let own = Meeting { timeout: SHORT, ..meeting(0, 2, &master) };
    let errors = refusals(vec![own, stranger.clone()], &listener);
    assert!(errors[0].contains("rank 1 did not come to"), "{errors:?}");
    assert!(
        errors[0].contains("see what it printed last; turned away: rank 1 of another job, on ")
    );
    assert!(errors[1].contains("this is rank 0 of another job, on "), "{errors:?}");
    // It does no harm to those who come.
    let (master, listener) = place();
    let mut before = TcpStream::connect(("127.0.0.1", master.port)).unwrap();
    before.write_all(&hello(&stranger, 1).write()).unwrap();
    for result in meet(vec![meeting(0, 2, &master), meeting(1, 2, &master)], &listener) {
        assert!(result.is_ok(), "{result:?}");
    }
    assert!(matches!(Reply::read(&before), Ok(Ok(Reply::Refused(_)))));
}

#[test]
fn another_program_at_the_place_is_recognised() {
    let (master, listener) = place();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until the other has read it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = TcpTransport::connect(&meeting(1, 2, &master)).unwrap_err().to_string();
    let expected = format!(
        "{master} is not a rank of this program: it says something else than a rank would; choose \
         another port"
    );
    assert_eq!(error, expected);
    server.join().unwrap();
}

#[test]
fn whoever_else_comes_does_no_harm() {
    let (master, listener) = place();
    let knock = || TcpStream::connect(("127.0.0.1", master.port)).unwrap();
    let silent = knock();
    drop(knock());
    let mut browser = knock();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut half = knock();
    half.write_all(&hello(&meeting(1, 3, &master), 1).write()[..20]).unwrap();
    // A rank that has ended, and is started again.
    let mut before = knock();
    before.write_all(&hello(&meeting(2, 3, &master), 1).write()).unwrap();
    drop(before);
    let meetings = (0..3).map(|rank| meeting(rank, 3, &master)).collect();
    for result in meet(meetings, &listener) {
        assert!(result.is_ok(), "{result:?}");
    }
    drop((silent, browser, half));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (master, _listener) = place();
    let meeting = Meeting { timeout: SHORT, ..meeting(0, 2, &master) };
    let error = TcpTransport::connect(&meeting).unwrap_err().to_string();
    let start = format!("rank 0 cannot listen at port {}: the port is taken, ", master.port);
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn a_host_without_an_address_is_named() {
    // Longer than a part of a name may be, so that nobody is asked.
    let address = "n".repeat(64);
    let master = Master { address: address.clone(), port: 1 };
    let meeting = Meeting { timeout: SHORT, ..meeting(1, 2, &master) };
    let error = TcpTransport::connect(&meeting).unwrap_err().to_string();
    let start = format!("the host of rank 0, `{address}`, has no address: ");
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn ranks_that_cannot_be_are_refused() {
    let (master, _) = place();
    let no_port = Master { port: 0, ..master.clone() };
    for meeting in [meeting(2, 2, &master), meeting(0, 0, &master), meeting(0, 2, &no_port)] {
        let error = TcpTransport::connect(&meeting).unwrap_err();
        assert!(matches!(error, TcpError::Impossible { .. }), "{error}");
    }
}

#[test]
fn a_rank_that_came_and_cannot_be_reached_is_named() {
    let (master, listener) = place();
    // Rank 1 says that it listens where nobody does.
    let mut one = TcpStream::connect(("127.0.0.1", master.port)).unwrap();
    let (nowhere, closed) = place();
    drop(closed);
    one.write_all(&hello(&meeting(1, 3, &master), nowhere.port).write()).unwrap();
    let results = meet(vec![meeting(0, 3, &master), meeting(2, 3, &master)], &listener);
    let error = results[1].as_ref().unwrap_err().to_string();
    assert!(error.starts_with("rank 1 on ") && error.contains("cannot be reached at"), "{error}");
    assert!(error.contains(&format!("{nowhere}: ")), "{error}");
}

/// What a rank sent before it ended comes first; only then it is gone.
#[test]
fn last_words_arrive() {
    for bytes in [10, 5_000_000] {
        let mut world = world(2);
        let (mut second, mut first) = (world.remove(1), world.remove(0));
        for number in 0..20 {
            let words = vec![number; bytes];
            let mut refused = second.try_send(0, words);
            while let Err(Refused::Full(words)) = refused {
                std::thread::sleep(Duration::from_millis(1));
                refused = second.try_send(0, words);
            }
            refused.unwrap();
        }
        let end = std::thread::spawn(move || drop(second));
        for number in 0..20 {
            let (from, words) = message(&mut first);
            assert_eq!((from, words.len()), (1, bytes));
            assert!(words.iter().all(|byte| *byte == number));
            first.recycle(words);
        }
        assert!(matches!(first.receive(soon()), Some(Event::Gone(1))));
        end.join().unwrap();
        let start = Instant::now();
        while !matches!(first.try_send(1, vec![1]), Err(Refused::Gone)) {
            assert!(start.elapsed() < PATIENCE, "it is not known to have gone");
        }
        first.flush(Instant::now()).unwrap();
    }
}

/// A rank that takes nothing: senders are refused, do not wait, and can end.
#[test]
fn nobody_waits_for_a_rank_that_takes_nothing() {
    let mut world = world(2);
    let (mut second, mut first) = (world.remove(1), world.remove(0));
    let mut sent = 0_u32;
    let start = Instant::now();
    // Until its inbox, the system's buffers and the outbox are full for a while.
    let mut message_back = None;
    let mut full_since = Instant::now();
    while full_since.elapsed() < SHORT {
        assert!(start.elapsed() < PATIENCE, "it never is full");
        let message = message_back.take().unwrap_or_else(|| {
            let mut message = vec![0; 300_000];
            message[..4].copy_from_slice(&sent.to_le_bytes());
            message
        });
        match second.try_send(0, message) {
            Ok(()) => (sent, full_since) = (sent + 1, Instant::now()),
            Err(Refused::Full(back)) => message_back = Some(back),
            Err(Refused::Gone) => panic!("it is there"),
        }
    }
    assert_eq!(second.flush(Instant::now() + Duration::from_millis(10)), Err(0));
    let start = Instant::now();
    drop(second);
    let took = start.elapsed();
    assert!(took >= FAREWELL_TIME && took < FAREWELL_TIME + Duration::from_secs(5), "{took:?}");
    // What could leave did, in order.
    let mut taken = 0;
    loop {
        match first.receive(soon()) {
            Some(Event::Message { bytes, .. }) => {
                assert_eq!(bytes[..4], u32::to_le_bytes(taken));
                taken += 1;
            }
            Some(Event::Gone(rank)) => break assert_eq!(rank, 1),
            None => panic!("its end is not seen"),
        }
    }
    assert!(taken < sent, "{taken} of {sent}");
}
