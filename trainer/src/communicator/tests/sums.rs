//! What collectives leave.

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

/// Whole numbers, so that their sums are exact in any order.
fn whole(rank: u32, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i as u32 * 7 + rank * 13) % 31) as f32 - 15.0).collect()
}

/// What each rank ends with.
fn reduced<E: Send>(
    world: u32,
    all_reduce: AllReduce,
    gradient: impl Fn(u32) -> Vec<E> + Sync,
) -> Vec<Vec<E>>
where
    for<'a> Buffer<'a>: From<&'a mut [E]>,
{
    let transports = ThreadTransport::world(world);
    let ranks = on_ranks(transports, settings(all_reduce, PATIENCE), |mut communicator| {
        let mut values = gradient(communicator.rank());
        communicator.all_reduce("all-reduce of everything", values[..].as_mut().into()).unwrap();
        values
    });
    ranks.into_iter().map(std::thread::Result::unwrap).collect()
}

over_each_transport!(
    whole_numbers_sum_exactly_on_every_rank_in_every_way,
    sums_are_those_of_threads_bit_by_bit,
    two_of_many_sum_and_the_others_keep_what_they_have,
    broadcast_gather_and_barrier_among_any_number_of_ranks,
    who_sends_too_much_waits,
);

fn two_of_many_sum_and_the_others_keep_what_they_have<T: Transport>(make: MakeWorld<T>) {
    for world in 2..=5 {
        let settings = settings(AllReduce::default(), PATIENCE);
        let ranks = on_ranks(make(world), settings, |mut communicator| {
            let own = communicator.rank();
            for other in 1..world {
                for count in [0, 1, 2, 7, 61] {
                    let mut values = whole(own, count);
                    let name = format!("sum of 0 and {other}");
                    communicator.sum_with_first(&name, other, values[..].as_mut().into()).unwrap();
                    let takes_part = own == 0 || own == other;
                    let both = whole(0, count).into_iter().zip(whole(other, count));
                    let sum: Vec<f32> = both.map(|(first, other)| first + other).collect();
                    assert_eq!(values, if takes_part { sum } else { whole(own, count) });
                }
            }
        });
        ranks.into_iter().for_each(|rank| rank.unwrap());
    }
}

fn whole_numbers_sum_exactly_on_every_rank_in_every_way<T: Transport>(make: MakeWorld<T>) {
    for world in 1..=9 {
        let settings = settings(AllReduce::default(), PATIENCE);
        let ranks = on_ranks(make(world), settings, |mut communicator| {
            let own = communicator.rank();
            for all_reduce in all_reduces(world) {
                communicator.set_all_reduce(all_reduce).unwrap();
                for count in [0, 1, 2, 7, 24, 61] {
                    let mut sum = vec![0.0; count];
                    for rank in 0..world {
                        for (sum, value) in sum.iter_mut().zip(whole(rank, count)) {
                            *sum += value;
                        }
                    }
                    let mut values = whole(own, count);
                    communicator.all_reduce("sum", values[..].as_mut().into()).unwrap();
                    assert_eq!(values, sum, "{all_reduce:?} of {count} on {own} of {world}");
                }
            }
        });
        assert!(ranks.into_iter().all(|rank| rank.is_ok()));
    }
}

/// Numbers whose sums depend on their order, in messages of up to many packets.
fn sums_are_those_of_threads_bit_by_bit<T: Transport>(make: MakeWorld<T>) {
    let gradient = |rank: u32, count: usize| -> Vec<f32> {
        let number = |i: usize| ((i as u32 + 1) * (rank + 3)) as f32;
        (0..count).map(|i| number(i).sin() * 2.0_f32.powi(i as i32 % 20)).collect()
    };
    for world in [2, 3, 5] {
        let settings = settings(AllReduce::default(), PATIENCE);
        let ranks = on_ranks(make(world), settings, |mut communicator| {
            let mut sums = Vec::new();
            for all_reduce in all_reduces(world) {
                communicator.set_all_reduce(all_reduce).unwrap();
                for count in [1000, 60_001] {
                    let mut values = gradient(communicator.rank(), count);
                    communicator.all_reduce("sum", values[..].as_mut().into()).unwrap();
                    sums.push(values);
                }
            }
            sums
        });
        let mut ranks = ranks.into_iter().map(std::thread::Result::unwrap);
        let first = ranks.next().unwrap();
        assert!(ranks.all(|sums| sums == first), "ranks of {world} differ");
        let mut sums = first.into_iter();
        for all_reduce in all_reduces(world) {
            for count in [1000, 60_001] {
                let threads = reduced(world, all_reduce, |rank| gradient(rank, count));
                assert_eq!(sums.next().unwrap(), threads[0], "{all_reduce:?} on {world}");
            }
        }
    }
}

/// The widest range of exponents in which sums of nine stay finite.
fn any_number() -> impl Strategy<Value = f32> {
    (-1.0_f32..1.0, -12..12).prop_map(|(fraction, exponent)| fraction * 2.0_f32.powi(exponent))
}

fn gradients() -> impl Strategy<Value = Vec<Vec<f32>>> {
    (1..=6_usize, 0..700_usize).prop_flat_map(|(world, count)| {
        prop::collection::vec(prop::collection::vec(any_number(), count), world)
    })
}

/// Holds all ranks to the same bits, and to the sum within the error of `rounding`.
fn check_sums<E: Copy + Send + Sync>(
    gradients: &[Vec<f32>],
    convert: fn(f32) -> E,
    wide: fn(E) -> f64,
    rounding: f64,
) where
    for<'a> Buffer<'a>: From<&'a mut [E]>,
{
    let world = gradients.len() as u32;
    let gradient =
        |rank: u32| gradients[rank as usize].iter().map(|value| convert(*value)).collect();
    for all_reduce in all_reduces(world) {
        let reduced: Vec<Vec<E>> = reduced(world, all_reduce, gradient);
        let bits = |rank: usize| reduced[rank].iter().map(|v| wide(*v).to_bits());
        for rank in 1..reduced.len() {
            assert!(bits(rank).eq(bits(0)), "{all_reduce:?}: rank {rank} differs from rank 0");
        }
        for (i, value) in reduced[0].iter().enumerate() {
            let addends = gradients.iter().map(|gradient| wide(convert(gradient[i])));
            let (sum, size) =
                addends.fold((0.0, 0.0), |(sum, size), value| (sum + value, size + value.abs()));
            // Each addition rounds a partial sum, which is at most the sum of sizes; the last term
            // is the spacing of f16 near zero.
            let error = f64::from(world) * (rounding * size + 2.0_f64.powi(-24));
            assert!((wide(*value) - sum).abs() <= error, "{all_reduce:?}, element {i}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn all_ranks_end_with_the_same_bits_near_the_sum(gradients in gradients()) {
        check_sums(&gradients, f16::from_f32, f16::to_f64, 2.0_f64.powi(-11));
        check_sums(&gradients, bf16::from_f32, bf16::to_f64, 2.0_f64.powi(-8));
        check_sums(&gradients, |value| value, f64::from, 2.0_f64.powi(-24));
        check_sums(&gradients, f64::from, |value| value, 2.0_f64.powi(-53));
    }

    #[test]
    fn direct_gives_an_element_the_same_sum_wherever_it_lies(
        (gradients, cut) in gradients().prop_flat_map(|gradients| {
            let count = gradients[0].len();
            (Just(gradients), 0..=count)
        })
    ) {
        let world = gradients.len() as u32;
        let half = |rank: u32| -> Vec<f16> {
            gradients[rank as usize].iter().map(|value| f16::from_f32(*value)).collect()
        };
        let fused = reduced(world, AllReduce::Direct, half);
        let before = reduced(world, AllReduce::Direct, |rank| half(rank)[..cut].to_vec());
        let after = reduced(world, AllReduce::Direct, |rank| half(rank)[cut..].to_vec());
        let bits = |values: &[f16]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&fused[0]), bits(&[&before[0][..], &after[0]].concat()));
        // In the order of ranks, rounded once.
        for (i, fused) in fused[0].iter().enumerate() {
            let sum = (0..world).map(|rank| half(rank)[i].to_f32()).reduce(|a, b| a + b);
            prop_assert_eq!(fused.to_bits(), f16::from_f32(sum.unwrap()).to_bits());
        }
    }
}

#[test]
fn a_ring_rounds_to_the_wires_type_on_every_hop() {
    // Block 0 begins on rank 1: 2048, then 2048 + 1 is a tie and rounds to even, twice.
    let gradient = |rank: u32| vec![if rank == 1 { f16::from_f32(2048.0) } else { f16::ONE }; 1];
    let padded = |rank| [gradient(rank), vec![f16::ZERO; 2]].concat();
    let ring = reduced(3, AllReduce::default(), padded);
    assert_eq!(ring[0][0].to_f32(), 2048.0);
    let direct = reduced(3, AllReduce::Direct, padded);
    assert_eq!(direct[0][0].to_f32(), 2050.0);
}

#[test]
fn infinities_and_nan_reach_every_rank() {
    let gradient = |rank: u32| match rank {
        1 => vec![f16::INFINITY, f16::NAN, f16::MAX],
        _ => vec![f16::ONE, f16::ONE, f16::MAX],
    };
    for all_reduce in all_reduces(4) {
        for values in reduced(4, all_reduce, gradient) {
            assert_eq!(values[0], f16::INFINITY, "{all_reduce:?}");
            assert!(values[1].is_nan(), "{all_reduce:?}");
            assert_eq!(values[2], f16::INFINITY, "{all_reduce:?}");
        }
    }
}

fn broadcast_gather_and_barrier_among_any_number_of_ranks<T: Transport>(make: MakeWorld<T>) {
    for world in 1..=9 {
        let settings = settings(AllReduce::default(), PATIENCE);
        let arrived = std::sync::atomic::AtomicU32::new(0);
        let ranks = on_ranks(make(world), settings, |mut communicator| {
            let rank = communicator.rank();
            let mut weights: Vec<f64> = (0..5).map(|i| f64::from(i + 100 * rank)).collect();
            communicator.broadcast("broadcast of weights", weights[..].as_mut().into()).unwrap();
            assert_eq!(weights, [0.0, 1.0, 2.0, 3.0, 4.0]);
            let own = vec![rank as u8; rank as usize];
            let gathered = communicator.all_gather("all-gather of losses", &own).unwrap();
            for (other, message) in gathered.iter().enumerate() {
                assert_eq!(*message, vec![other as u8; other]);
            }
            arrived.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            communicator.barrier("barrier at the end").unwrap();
            assert_eq!(arrived.load(std::sync::atomic::Ordering::SeqCst), world);
            gathered.len()
        });
        assert!(ranks.into_iter().all(|rank| rank.unwrap() == world as usize));
    }
}

/// Rank 0 sends far more messages than wait in an inbox, to ranks that take them late.
fn who_sends_too_much_waits<T: Transport>(make: MakeWorld<T>) {
    let settings = settings(AllReduce::default(), PATIENCE);
    let ranks = on_ranks(make(3), settings, |mut communicator| {
        if communicator.rank() > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut last = [0.0_f32];
        for step in 0..500 {
            let mut values = [step as f32 + communicator.rank() as f32];
            communicator.broadcast("broadcast", values[..].as_mut().into()).unwrap();
            last = values;
        }
        last[0]
    });
    assert!(ranks.into_iter().all(|rank| rank.unwrap() == 499.0));
}
