//! What needs a GPU: run where there is one, and where `FORETRAIN_REQUIRE_GPU=1` says that there is.
//!
//! Numbers are small integers, so that every format holds every sum, whatever its order.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foretrain_sim::recording::NumberFormat;
use half::{bf16, f16};
use tempfile::TempDir;

use super::super::arguments::pointwise::Relu;
use super::super::arguments::{Address, Arguments as _};
use super::super::device::{Device as _, DeviceError};
use super::super::emulator::{FORMATS, Memory, run};
use super::super::work::{Convolution, ConvolutionPass, Product, Work};
use super::{Gpu, Upload};
use crate::plan::Window;

/// A GPU that no other test uses: tests run one after another, so that none finds the memory taken.
struct OwnGpu {
    // Goes before the lock is given back.
    gpu: Gpu,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for OwnGpu {
    type Target = Gpu;

    fn deref(&self) -> &Gpu {
        &self.gpu
    }
}

impl DerefMut for OwnGpu {
    fn deref_mut(&mut self) -> &mut Gpu {
        &mut self.gpu
    }
}

fn gpu(format: NumberFormat, choices: &TempDir) -> Option<OwnGpu> {
    static TESTS: Mutex<()> = Mutex::new(());
    let alone = TESTS.lock().unwrap_or_else(PoisonError::into_inner);
    match Gpu::open(0, format, choices.path()) {
        Ok(gpu) => Some(OwnGpu { gpu, _alone: alone }),
        Err(error @ DeviceError::Missing(_))
            if std::env::var_os("FORETRAIN_REQUIRE_GPU").is_none() =>
        {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn encoded(format: NumberFormat, values: &[f32]) -> Vec<u8> {
    let bytes = values.iter().map(|&value| match format {
        NumberFormat::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        NumberFormat::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        NumberFormat::F32 => value.to_le_bytes().to_vec(),
    });
    bytes.flatten().collect()
}

fn decoded(format: NumberFormat, bytes: &[u8]) -> Vec<f32> {
    match format {
        NumberFormat::F32 => {
            let words = bytes.as_chunks::<4>().0.iter();
            words.map(|word| f32::from_le_bytes(*word)).collect()
        }
        _ => {
            let halves = bytes.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half));
            halves
                .map(|half| match format {
                    NumberFormat::F16 => f16::from_bits(half).to_f32(),
                    _ => bf16::from_bits(half).to_f32(),
                })
                .collect()
        }
    }
}

/// Numbers from -1 to 1, without a pattern that sums could hide.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let mix = |i: usize| (i * i + 7 * i + seed * (i % 13)) / 3;
    (0..count).map(|i| (mix(i) % 3) as f32 - 1.0).collect()
}

/// A place with these numbers, so many elements after a well aligned one.
fn put(gpu: &mut Gpu, format: NumberFormat, values: &[f32], elements: usize) -> Address {
    let bytes = encoded(format, values);
    let offset = elements * format.element_bytes() as usize;
    let at = gpu.allocate(offset + bytes.len()).unwrap().add(offset);
    gpu.write(at, &bytes).unwrap();
    at
}

fn get(gpu: &mut Gpu, format: NumberFormat, at: Address, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * format.element_bytes() as usize];
    gpu.read(at, &mut bytes).unwrap();
    decoded(format, &bytes)
}

#[test]
fn memory_keeps_what_is_written() {
    let folder = TempDir::new().unwrap();
    let Some(mut gpu) = gpu(NumberFormat::F32, &folder) else { return };
    println!("{:?}", gpu.facts());
    let bytes: Vec<u8> = (0..1001_u32).map(|i| (i * 31 % 251) as u8).collect();
    let at = gpu.allocate(bytes.len()).unwrap();
    assert!(at.0.is_multiple_of(256));
    gpu.write(at, &bytes).unwrap();
    gpu.enqueue(&Work::Clear { at: at.add(3), bytes: 500 }).unwrap();
    gpu.enqueue(&Work::Clear { at, bytes: 0 }).unwrap();
    let mut back = vec![1; bytes.len()];
    gpu.read(at, &mut back).unwrap();
    assert_eq!(back[..3], bytes[..3]);
    assert!(back[3..503].iter().all(|byte| *byte == 0));
    assert_eq!(back[503..], bytes[503..]);
    let error = gpu.allocate(1 << 50).unwrap_err();
    assert!(
        matches!(error, DeviceError::OutOfMemory { wanted_bytes, .. } if wanted_bytes == 1 << 50)
    );
}

#[test]
fn kernels_do_what_they_do_in_the_emulator() {
    for format in FORMATS {
        let folder = TempDir::new().unwrap();
        let Some(mut gpu) = gpu(format, &folder) else { return };
        let values: Vec<f32> =
            (0..8 * 1000).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let mut memory = Memory::new(1 << 20);
        let x = memory.put_elements(format, &values);
        let y = memory.take_elements(format, values.len());
        run(format, &Relu { x, y, vectors: 1000 }, 3);
        let expected = memory.get_elements(format, y, values.len());

        let x = put(&mut gpu, format, &values, 0);
        let y = put(&mut gpu, format, &values, 0);
        let work = Work::Launch(Relu { x, y, vectors: 1000 }.launch(3));
        gpu.prepare(std::slice::from_ref(&work)).unwrap();
        gpu.enqueue(&work).unwrap();
        assert_eq!(get(&mut gpu, format, y, values.len()), expected, "{format:?}");
    }
}

#[test]
fn products_are_exact_on_integers() {
    let (rows, columns, depth) = (33, 40, 17);
    for format in FORMATS {
        let folder = TempDir::new().unwrap();
        let Some(mut gpu) = gpu(format, &folder) else { return };
        for case in 0..16 {
            let [left_transposed, right_transposed, accumulate, unaligned] =
                [1, 2, 4, 8].map(|bit| case & bit != 0);
            let offset = usize::from(unaligned);
            let (left, right) = (numbers(rows * depth, 5), numbers(depth * columns, 9));
            let there = numbers(rows * columns, 2);
            let product = Product {
                rows,
                columns,
                depth,
                left: put(&mut gpu, format, &left, offset),
                left_transposed,
                right: put(&mut gpu, format, &right, offset),
                right_transposed,
                out: put(&mut gpu, format, &there, offset),
                accumulate,
                format,
            };
            let work = Work::Product(product.clone());
            gpu.prepare(std::slice::from_ref(&work)).unwrap();
            gpu.write(product.out, &encoded(format, &there)).unwrap();
            gpu.enqueue(&work).unwrap();
            let out = get(&mut gpu, format, product.out, rows * columns);
            for row in 0..rows {
                for column in 0..columns {
                    let terms = (0..depth).map(|k| {
                        let l = if left_transposed { k * rows + row } else { row * depth + k };
                        let r = if right_transposed {
                            column * depth + k
                        } else {
                            k * columns + column
                        };
                        left[l] * right[r]
                    });
                    let at = row * columns + column;
                    let expected = terms.sum::<f32>() + if accumulate { there[at] } else { 0.0 };
                    assert_eq!(out[at], expected, "{row}, {column}: {product:?}");
                }
            }
        }
    }
}

/// Calls `visit` with the places of input, filter and output for each product that a convolution
/// sums, by its definition.
fn products_of(w: &Window, images: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (w.input_channels / w.groups, w.output_channels / w.groups);
    for image in 0..images {
        for (oy, ox) in (0..w.output_height).flat_map(|y| (0..w.output_width).map(move |x| (y, x)))
        {
            for (ky, kx) in (0..w.kernel).flat_map(|y| (0..w.kernel).map(move |x| (y, x))) {
                let (y, x) = (oy * w.stride + ky, ox * w.stride + kx);
                if y < w.padding || x < w.padding {
                    continue;
                }
                let (y, x) = (y - w.padding, x - w.padding);
                if y >= w.input_height || x >= w.input_width {
                    continue;
                }
                for output in 0..w.output_channels {
                    for input in 0..inputs {
                        let channel = output / outputs * inputs + input;
                        visit(
                            ((image * w.input_height + y) * w.input_width + x) * w.input_channels
                                + channel,
                            ((output * w.kernel + ky) * w.kernel + kx) * inputs + input,
                            ((image * w.output_height + oy) * w.output_width + ox)
                                * w.output_channels
                                + output,
                        );
                    }
                }
            }
        }
    }
}

fn window(kernel: usize, stride: usize, padding: usize, groups: usize) -> Window {
    let out = |side: usize| (side + 2 * padding - kernel) / stride + 1;
    Window {
        input_channels: 16,
        input_height: 7,
        input_width: 6,
        output_channels: 24,
        output_height: out(7),
        output_width: out(6),
        kernel,
        stride,
        padding,
        groups,
    }
}

#[test]
fn convolutions_are_right_on_integers() {
    let images = 2;
    for format in FORMATS {
        let folder = TempDir::new().unwrap();
        let Some(mut gpu) = gpu(format, &folder) else { return };
        for window in
            [window(1, 1, 0, 1), window(1, 2, 0, 1), window(3, 2, 1, 1), window(3, 1, 1, 2)]
        {
            let counts = [
                images * window.input_elements(),
                window.output_channels * window.kernel * window.kernel * window.input_channels
                    / window.groups,
                images * window.output_elements(),
            ];
            let values = [1, 2, 3].map(|seed| numbers(counts[seed - 1], seed));
            for case in 0..12 {
                let pass =
                    [ConvolutionPass::Forward, ConvolutionPass::Data, ConvolutionPass::Filters]
                        [case / 4];
                let (accumulate, unaligned) = (case & 1 != 0, case & 2 != 0);
                let convolution = Convolution {
                    pass,
                    window,
                    images,
                    format,
                    input: put(&mut gpu, format, &values[0], 0),
                    filters: put(&mut gpu, format, &values[1], usize::from(unaligned)),
                    output: put(&mut gpu, format, &values[2], 0),
                    accumulate,
                };
                let (at, written) = match pass {
                    ConvolutionPass::Forward => (convolution.output, 2),
                    ConvolutionPass::Data => (convolution.input, 0),
                    ConvolutionPass::Filters => (convolution.filters, 1),
                };
                let work = Work::Convolution(convolution.clone());
                gpu.prepare(std::slice::from_ref(&work)).unwrap();
                gpu.write(at, &encoded(format, &values[written])).unwrap();
                gpu.enqueue(&work).unwrap();
                let mut expected =
                    if accumulate { values[written].clone() } else { vec![0.0; counts[written]] };
                products_of(&window, images, |input, filter, output| match pass {
                    ConvolutionPass::Forward => {
                        expected[output] += values[0][input] * values[1][filter];
                    }
                    ConvolutionPass::Data => {
                        expected[input] += values[1][filter] * values[2][output]
                    }
                    ConvolutionPass::Filters => {
                        expected[filter] += values[0][input] * values[2][output];
                    }
                });
                let got = get(&mut gpu, format, at, counts[written]);
                // Algorithms that transform their input round on the way; a wrong term would be off
                // by one.
                let mut both = got.iter().zip(&expected);
                assert!(both.all(|(g, e)| (g - e).abs() < 0.25), "{convolution:?}");
            }
        }
        assert_eq!(gpu.unsaved_choices(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

/// Captured work reads what is there when it is launched; copies are held for and released.
#[test]
fn graphs_uploads_and_events_keep_their_order() {
    let format = NumberFormat::F32;
    let folder = TempDir::new().unwrap();
    let Some(mut gpu) = gpu(format, &folder) else { return };
    let count = 1 << 20;
    let [x, y] = [(); 2].map(|()| put(&mut gpu, format, &vec![0.0; count], 0));
    let work = Work::Launch(Relu { x, y, vectors: (count / 8) as u64 }.launch(64));
    gpu.prepare(std::slice::from_ref(&work)).unwrap();
    gpu.enqueue(&work).unwrap();
    gpu.finish().unwrap();
    let refused = gpu.capture(|gpu| gpu.finish()).unwrap_err();
    assert!(refused.to_string().contains("captured"), "{refused}");
    let graph = gpu.capture(|gpu| gpu.enqueue(&work)).unwrap();
    let mut upload = Upload::new(&gpu, count * 4).unwrap();
    let refused = gpu.capture(|gpu| upload.hold(gpu)).unwrap_err();
    assert!(refused.to_string().contains("captured"), "{refused}");
    let refused = gpu.capture(|gpu| upload.release(gpu)).unwrap_err();
    assert!(refused.to_string().contains("captured"), "{refused}");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = gpu.capture::<DeviceError>(|_| panic!("while work is captured"));
    }));
    assert!(panicked.is_err());
    // The stream works again.
    gpu.finish().unwrap();
    let [start, end] = [(); 2].map(|()| gpu.timed_event().unwrap());
    for round in 0..6 {
        let values: Vec<f32> = numbers(count, round).iter().map(|v| v * round as f32).collect();
        upload.fill().unwrap().copy_from_slice(&encoded(format, &values));
        upload.start(x, count * 4).unwrap();
        upload.hold(&gpu).unwrap();
        start.record(gpu.stream()).unwrap();
        gpu.launch_graph(&graph).unwrap();
        end.record(gpu.stream()).unwrap();
        upload.release(&gpu).unwrap();
        let got = get(&mut gpu, format, y, count);
        assert!(got.iter().zip(&values).all(|(got, value)| *got == value.max(0.0)), "{round}");
        assert!(start.seconds_until(&end).unwrap() > 0.0);
    }
}
