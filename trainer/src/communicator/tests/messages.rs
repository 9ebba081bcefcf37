//! The messages that ranks send are those that the simulator times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use proptest::prelude::*;

use super::super::header::HEADER_BYTES;
use super::*;

/// What one rank sent another, in bytes of data, in order.
type Messages = BTreeMap<(u32, u32), Vec<u64>>;

/// Writes down what goes through it.
struct Recording {
    transport: ThreadTransport,
    messages: Arc<Mutex<Messages>>,
}

impl Transport for Recording {
    fn rank(&self) -> u32 {
        self.transport.rank()
    }

    fn world(&self) -> u32 {
        self.transport.world()
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.transport.buffer()
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.transport.recycle(buffer);
    }

    fn try_send(&mut self, to: u32, message: Vec<u8>) -> Result<(), Refused> {
        let bytes = (message.len() - HEADER_BYTES) as u64;
        self.transport.try_send(to, message)?;
        let pair = (self.rank(), to);
        self.messages.lock().unwrap().entry(pair).or_default().push(bytes);
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        self.transport.receive(deadline)
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), u32> {
        self.transport.flush(deadline)
    }

    fn fail(&mut self) {
        self.transport.fail();
    }
}

fn sent(world: u32, all_reduce: AllReduce, count: usize) -> Messages {
    let messages = Arc::new(Mutex::new(Messages::new()));
    std::thread::scope(|scope| {
        for transport in ThreadTransport::world(world) {
            let recording = Recording { transport, messages: Arc::clone(&messages) };
            let settings = settings(all_reduce, PATIENCE);
            let mut communicator = HostCommunicator::new(recording, settings).unwrap();
            scope.spawn(move || {
                let mut values = vec![1.0_f32; count];
                communicator.all_reduce("all-reduce", values[..].as_mut().into()).unwrap();
            });
        }
    });
    std::mem::take(&mut *messages.lock().unwrap())
}

fn simulated(world: u32, algorithm: Algorithm, bytes: u64) -> Messages {
    let schedule = algorithm.schedule(world, Bytes::new(bytes)).unwrap();
    let mut messages = Messages::new();
    for phase in schedule.phases() {
        for round in 0..phase.rounds() {
            for rank in 0..world {
                let Some((first, position)) = phase.teams.place(rank) else { continue };
                let peers = phase.pattern.peers(phase.teams.size(), position, round);
                for to in peers.sends_to.iter().map(|member| phase.teams.member(first, member)) {
                    messages.entry((rank, to)).or_default().push(phase.message_bytes.get());
                }
            }
        }
    }
    messages
}

/// World, what its ranks do, elements.
fn cases() -> impl Strategy<Value = (u32, Algorithm, usize)> {
    (1..=12_u32).prop_flat_map(|world| {
        let algorithms: Vec<Algorithm> = all_reduces(world)
            .into_iter()
            .filter_map(|all_reduce| match all_reduce {
                AllReduce::Simulated(algorithm) => Some(algorithm),
                AllReduce::Direct => None,
            })
            .collect();
        (Just(world), prop::sample::select(algorithms), 0..300_usize)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whole_blocks_are_sent_as_simulated((world, algorithm, share) in cases()) {
        // Every number of blocks up to 12, and powers of two up to 8, divide 27720.
        let count = 27_720 * share.min(3);
        let bytes = count as u64 * 4;
        let sent = sent(world, AllReduce::Simulated(algorithm), count);
        prop_assert_eq!(sent, simulated(world, algorithm, bytes));
    }

    #[test]
    fn broken_blocks_differ_by_less_than_an_element((world, algorithm, count) in cases()) {
        let sent = sent(world, AllReduce::Simulated(algorithm), count);
        let simulated = simulated(world, algorithm, count as u64 * 4);
        prop_assert_eq!(sent.keys().collect::<Vec<_>>(), simulated.keys().collect::<Vec<_>>());
        for (pair, sent) in sent {
            let simulated = &simulated[&pair];
            prop_assert_eq!(sent.len(), simulated.len());
            for (sent, simulated) in sent.iter().zip(simulated) {
                prop_assert!(sent.abs_diff(*simulated) <= 4, "{:?}: {} {}", pair, sent, simulated);
            }
        }
    }
}
