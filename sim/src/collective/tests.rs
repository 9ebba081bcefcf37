//! Closed forms, exhaustively for small cases; both engines against each other, at random.

use proptest::prelude::*;

use super::*;
use crate::network::{Contention, Link, Rank, TwoLevel};
use crate::units::{SimDuration, SimTime};

fn link(text: &str) -> Link {
    text.parse().unwrap()
}

/// A dozen sizes, from one byte over what no rank count divides to 1 GiB.
const SIZES: [u64; 12] = [
    1,
    7,
    1_000,
    4_096,
    65_537,
    1_000_003,
    1 << 20,
    25_557_032 * 2,
    25_557_032 * 4,
    100 << 20,
    999_999_937,
    1 << 30,
];

fn finish_both(schedule: &Schedule, network: &TwoLevel) -> Vec<SimTime> {
    let starts = vec![SimTime::ZERO; schedule.ranks() as usize];
    let arrays = replay_arrays(schedule, network, &starts);
    let events =
        replay_events(schedule, network, &starts.into_iter().map(Some).collect::<Vec<_>>());
    assert_eq!(Ok(&arrays), events.as_ref());
    arrays
}

/// 2(n−1)(α + ceil(S/n)/B), each message rounded up to the picosecond.
fn ring_closed_form(n: u64, bytes: u64, link: &Link) -> SimDuration {
    link.message_time(Bytes::new(bytes.div_ceil(n))) * (2 * (n - 1))
}

#[test]
fn ring_equals_its_closed_form_for_every_rank_count_to_64() {
    let link = link("100 Gbit/s, 1 us");
    let network = TwoLevel::uniform(link);
    for n in 1..=64_u32 {
        for bytes in SIZES {
            let schedule = Algorithm::Ring.schedule(n, Bytes::new(bytes)).unwrap();
            assert_eq!(schedule.messages(), 2 * u64::from(n) * u64::from(n - 1));
            let expected = ring_closed_form(n.into(), bytes, &link);
            for time in finish_both(&schedule, &network) {
                assert_eq!(time, SimTime::ZERO + expected, "{n} ranks, {bytes} bytes");
            }
        }
    }
}

/// 4(g−1)(α + ceil(S/g)/B) + 2(m−1)(α + ceil(S/m)/B).
fn hierarchical_closed_form(
    n: u64,
    g: u64,
    bytes: u64,
    inside: &Link,
    between: &Link,
) -> SimDuration {
    let m = n / g;
    inside.message_time(Bytes::new(bytes.div_ceil(g))) * (4 * (g - 1))
        + between.message_time(Bytes::new(bytes.div_ceil(m))) * (2 * (m - 1))
}

#[test]
fn hierarchical_equals_its_closed_form_for_every_rank_and_group_count_to_64() {
    let link = link("100 Gbit/s, 1 us");
    let network = TwoLevel::uniform(link);
    for n in 1..=64_u32 {
        for group in (1..=n).filter(|group| n % group == 0) {
            for bytes in SIZES {
                let algorithm = Algorithm::Hierarchical { group };
                let schedule = algorithm.schedule(n, Bytes::new(bytes)).unwrap();
                let expected =
                    hierarchical_closed_form(n.into(), group.into(), bytes, &link, &link);
                for time in finish_both(&schedule, &network) {
                    assert_eq!(time, SimTime::ZERO + expected, "{n} ranks, groups of {group}");
                }
            }
        }
    }
}

#[test]
fn hierarchical_equals_its_closed_form_on_two_kinds_of_links() {
    let (inside, between) = (link("12 GB/s, 3 us"), link("100 Gbit/s, 5 us"));
    let network = TwoLevel::new(8, inside, between);
    for nodes in 1..=8_u32 {
        for bytes in SIZES {
            let algorithm = Algorithm::Hierarchical { group: 8 };
            let schedule = algorithm.schedule(8 * nodes, Bytes::new(bytes)).unwrap();
            let expected =
                hierarchical_closed_form((8 * nodes).into(), 8, bytes, &inside, &between);
            for time in finish_both(&schedule, &network) {
                assert_eq!(time, SimTime::ZERO + expected);
            }
        }
    }
}

#[test]
fn hybrid_equals_the_closed_form_of_its_side_of_the_switch_for_every_rank_count_to_64() {
    let link = link("100 Gbit/s, 1 us");
    let network = TwoLevel::uniform(link);
    let ring_from = Bytes::new(1 << 20);
    for n in 1..=64_u32 {
        for group in (1..=n).filter(|group| n % group == 0) {
            for bytes in SIZES {
                let hybrid = Algorithm::Hybrid { group, ring_from };
                let schedule = hybrid.schedule(n, Bytes::new(bytes)).unwrap();
                let expected = if bytes >= 1 << 20 {
                    ring_closed_form(n.into(), bytes, &link)
                } else {
                    hierarchical_closed_form(n.into(), group.into(), bytes, &link, &link)
                };
                let starts = vec![SimTime::ZERO; n as usize];
                for time in replay_arrays(&schedule, &network, &starts) {
                    assert_eq!(time, SimTime::ZERO + expected, "{n} ranks, groups of {group}");
                }
            }
        }
    }
}

/// 2(g−1)(αi + ceil(S/g)/Bi) + 2(m−1)(αe + c·ceil(ceil(S/g)/m)/Be), with c messages on a link.
fn torus_closed_form(n: u64, g: u64, c: u64, bytes: u64, links: (Link, Link)) -> SimDuration {
    let (m, part) = (n / g, bytes.div_ceil(g));
    links.0.message_time(Bytes::new(part)) * (2 * (g - 1))
        + links.1.message_time(Bytes::new(c * part.div_ceil(m))) * (2 * (m - 1))
}

#[test]
fn torus_equals_its_closed_form_for_every_rank_and_row_count_to_64() {
    let (inside, between) = (link("12 GB/s, 3 us"), link("100 Gbit/s, 5 us"));
    for n in 1..=64_u32 {
        for group in (1..=n).filter(|group| n % group == 0) {
            for contention in [Contention::None, Contention::Shared] {
                let network = TwoLevel::new(group, inside, between).with_contention(contention);
                // All columns leave a row's node at the same time.
                let c = if contention == Contention::Shared { group.into() } else { 1 };
                for bytes in SIZES {
                    let torus = Algorithm::Torus { group };
                    let schedule = torus.schedule(n, Bytes::new(bytes)).unwrap();
                    let links = (inside, between);
                    let expected = torus_closed_form(n.into(), group.into(), c, bytes, links);
                    for time in finish_both(&schedule, &network) {
                        assert_eq!(time, SimTime::ZERO + expected, "{n} ranks, rows of {group}");
                    }
                }
            }
        }
    }
}

/// With 2^k the largest power of two in n: twice the messages of S/2, S/4, ... S/2^k, and for other
/// n two messages of S.
fn halving_doubling_closed_form(n: u64, bytes: u64, link: &Link) -> SimDuration {
    let message = |parts: u64| link.message_time(Bytes::new(bytes.div_ceil(parts)));
    let power = n.ilog2();
    let halving: SimDuration = (1..=power).map(|level| message(1 << level)).sum();
    let folding = if n.is_power_of_two() { SimDuration::ZERO } else { message(1) * 2 };
    halving * 2 + folding
}

#[test]
fn halving_doubling_equals_its_closed_form_for_every_rank_count_to_64() {
    let link = link("100 Gbit/s, 1 us");
    let network = TwoLevel::uniform(link);
    for n in 1..=64_u32 {
        for bytes in SIZES {
            let schedule = Algorithm::HalvingDoubling.schedule(n, Bytes::new(bytes)).unwrap();
            let expected = halving_doubling_closed_form(n.into(), bytes, &link);
            let times = finish_both(&schedule, &network);
            let last = times.iter().max().copied().unwrap();
            assert_eq!(last, SimTime::ZERO + expected, "{n} ranks, {bytes} bytes");
        }
    }
}

/// What leaves a node takes at least its bytes over the node's bandwidth, where ranks start together
/// and groups are nodes. (Ranks that drift apart may meet on a link in different rounds, which this
/// network does not see.)
#[test]
fn no_node_exceeds_wire_speed() {
    let network = TwoLevel::new(8, link("130 GB/s, 3 us"), link("12.5 GB/s, 5 us"));
    let algorithms = [
        Algorithm::Ring,
        Algorithm::Hierarchical { group: 8 },
        Algorithm::Torus { group: 8 },
        Algorithm::HalvingDoubling,
    ];
    for ranks in [8, 16, 32, 64, 128] {
        for algorithm in algorithms {
            for bytes in SIZES {
                let schedule = algorithm.schedule(ranks, Bytes::new(bytes)).unwrap();
                let time = finish_both(&schedule, &network).into_iter().max().unwrap();
                let busiest = schedule.occupancy(&network).into_values().max().unwrap_or_default();
                let time = time.since(SimTime::ZERO);
                assert!(busiest <= time, "{algorithm:?}, {ranks} ranks: {busiest} in {time}");
            }
        }
    }
}

#[test]
fn only_groups_that_straddle_nodes_crowd_them() {
    let network = TwoLevel::new(8, link("12 GB/s, 3 us"), link("100 Gbit/s, 5 us"));
    let crowds = |algorithm: Algorithm, ranks| {
        algorithm.schedule(ranks, Bytes::new(1 << 20)).unwrap().sharers(&network).any()
    };
    assert!(!crowds(Algorithm::Ring, 48));
    for (group, crowded) in [(2, false), (4, false), (8, false), (12, true), (16, false)] {
        assert_eq!(crowds(Algorithm::Hierarchical { group }, 48), crowded, "groups of {group}");
    }
    assert!(crowds(Algorithm::Torus { group: 8 }, 48));
    assert!(crowds(Algorithm::HalvingDoubling, 48));
}

#[test]
fn the_published_example_takes_18_807_ms() {
    // 100 MiB over 1,024 ranks at 100 Gbit/s and 1 us: 2046 rounds of 1 us + 102,400 B / 12.5 GB/s.
    let schedule = Algorithm::Ring.schedule(1024, Bytes::new(100 << 20)).unwrap();
    let network = TwoLevel::uniform(link("100 Gbit/s, 1 us"));
    let times = replay_arrays(&schedule, &network, &[SimTime::ZERO; 1024]);
    assert_eq!(times[0].as_ps(), 2046 * (1_000_000 + 8_192_000));
}

#[test]
fn groups_that_do_not_divide_are_refused_with_those_that_do() {
    let error = Algorithm::Hierarchical { group: 5 }.schedule(12, Bytes::new(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "groups of 5 do not divide 12 ranks; groups that do: 2, 3, 4, 6, 12"
    );
    assert!(Algorithm::Ring.schedule(0, Bytes::new(1)).is_err());
    assert!(Algorithm::Ring.schedule(RANKS_MAX + 1, Bytes::new(1)).is_err());
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let schedule = Algorithm::Ring.schedule(3, Bytes::new(300)).unwrap();
    let network = TwoLevel::uniform(link("1 GB/s, 1 us"));
    let starts = [Some(SimTime::ZERO), None, Some(SimTime::ZERO)];
    let error = replay_events(&schedule, &network, &starts).unwrap_err().to_string();
    assert!(error.contains("rank 1 waits for its start"), "{error}");
    assert!(
        error.contains("rank 2 waits for a message from rank 1 in round 0 of reduce-scatter"),
        "{error}"
    );
}

#[test]
fn a_node_sends_what_a_ring_must() {
    // Every rank of a ring sends 2(n−1)/n of the data; of a node of 4, one of them to another node.
    let schedule = Algorithm::Ring.schedule(8, Bytes::new(8_000)).unwrap();
    let network = TwoLevel::new(4, link("2 GB/s, 0 us"), link("1 GB/s, 0 us"));
    let busy = schedule.occupancy(&network);
    assert_eq!(busy[&crate::network::LinkId::Node(0)], SimDuration::from_ps(14_000_000));
    assert_eq!(busy[&crate::network::LinkId::Accelerator(0)], SimDuration::from_ps(7_000_000));
    assert!(!busy.contains_key(&crate::network::LinkId::Accelerator(3)));
}

#[test]
fn every_message_has_one_sender_and_one_receiver() {
    for n in 1..=24_u32 {
        let groups = (1..=n).filter(|group| n % group == 0);
        let algorithms = groups
            .flat_map(|group| [Algorithm::Hierarchical { group }, Algorithm::Torus { group }])
            .chain([Algorithm::Ring, Algorithm::HalvingDoubling]);
        for algorithm in algorithms {
            let schedule = algorithm.schedule(n, Bytes::new(1000)).unwrap();
            let mut messages = 0;
            for phase in schedule.phases() {
                for round in 0..phase.rounds() {
                    for rank in (0..n).map(Rank) {
                        if let Some(to) = phase.peers(rank, round).sends_to {
                            assert_eq!(phase.peers(to, round).receives_from, Some(rank));
                            messages += 1;
                        }
                    }
                }
            }
            assert_eq!(messages, schedule.messages());
        }
    }
}

fn algorithm(ranks: u32) -> impl Strategy<Value = Algorithm> {
    let divisors: Vec<u32> = (1..=ranks).filter(|group| ranks.is_multiple_of(*group)).collect();
    prop_oneof![
        Just(Algorithm::Ring),
        Just(Algorithm::HalvingDoubling),
        prop::sample::select(divisors.clone()).prop_map(|group| Algorithm::Torus { group }),
        prop::sample::select(divisors).prop_map(|group| Algorithm::Hierarchical { group }),
    ]
}

prop_compose! {
    fn case()(ranks in 1_u32..40)(
        algorithm in algorithm(ranks),
        starts in prop::collection::vec(0_u64..50_000_000, ranks as usize),
        bytes in 1_u64..10_000_000,
        (ranks_per_node, shared) in (1_u32..9, any::<bool>()),
        latencies in (0_u64..20_000_000, 0_u64..20_000_000),
        rates in (1_000_000_000_u64..300_000_000_000, 1_000_000_000_u64..300_000_000_000),
    ) -> (Schedule, TwoLevel, Vec<SimTime>) {
        let link = |latency, rate| Link {
            latency: SimDuration::from_ps(latency),
            bandwidth: crate::units::Bandwidth::from_bytes_per_s(rate),
        };
        let schedule = algorithm.schedule(starts.len() as u32, Bytes::new(bytes)).unwrap();
        let network =
            TwoLevel::new(ranks_per_node, link(latencies.0, rates.0), link(latencies.1, rates.1));
        let contention = if shared { Contention::Shared } else { Contention::None };
        let network = network.with_contention(contention);
        (schedule, network, starts.into_iter().map(SimTime::from_ps).collect())
    }
}

proptest! {
    #[test]
    fn arrays_equal_events_to_the_picosecond((schedule, network, starts) in case()) {
        let arrays = replay_arrays(&schedule, &network, &starts);
        let starts: Vec<_> = starts.into_iter().map(Some).collect();
        prop_assert_eq!(Ok(arrays), replay_events(&schedule, &network, &starts));
    }

    #[test]
    fn starting_later_never_finishes_earlier(
        (schedule, network, starts) in case(),
        late in any::<prop::sample::Index>(),
        delay in 0_u64..10_000_000,
    ) {
        let before = replay_arrays(&schedule, &network, &starts);
        let mut later = starts;
        let late = late.index(later.len());
        later[late] = later[late] + SimDuration::from_ps(delay);
        let after = replay_arrays(&schedule, &network, &later);
        prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
    }

    #[test]
    fn sharing_never_makes_anything_faster((schedule, network, starts) in case()) {
        let alone = replay_arrays(&schedule, &network.with_contention(Contention::None), &starts);
        let shared = replay_arrays(&schedule, &network.with_contention(Contention::Shared), &starts);
        prop_assert!(alone.iter().zip(&shared).all(|(alone, shared)| alone <= shared));
    }

    #[test]
    fn shifting_all_starts_shifts_all_finishes(
        (schedule, network, starts) in case(),
        shift in 0_u64..1_000_000_000,
    ) {
        let shift = SimDuration::from_ps(shift);
        let finish = replay_arrays(&schedule, &network, &starts);
        let moved: Vec<_> = starts.iter().map(|&start| start + shift).collect();
        let expected: Vec<_> = finish.iter().map(|&time| time + shift).collect();
        prop_assert_eq!(replay_arrays(&schedule, &network, &moved), expected);
    }
}
