//! How many images one core prepares: decode, random resized crop to 224, flip, normalise.
//!
//! `cargo bench -p foretrain-trainer --bench input`
//!
//! With `FORETRAIN_PHOTOGRAPHS=DIR` the files are also written into this folder, so that
//! `pillow_torchvision.py` can measure Pillow and torchvision on the same ones.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

mod photographs;

use std::hint::black_box;
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use foretrain_trainer::data::augment::{
    CropRule, Layout, Normalisation, Preparation, Resizing, SampleKey, Transform, decode,
};
use foretrain_trainer::data::source::Payload;
use photographs::photograph;

/// Pictures of a pass; an iteration is a pass.
const FILES: u64 = 32;

fn main() {
    if let Some(folder) = std::env::var_os("FORETRAIN_PHOTOGRAPHS") {
        std::fs::create_dir_all(&folder).unwrap();
        for (number, file) in files().iter().enumerate() {
            std::fs::write(Path::new(&folder).join(format!("{number:02}.jpg")), file).unwrap();
        }
    }
    divan::main();
}

fn files() -> Vec<Vec<u8>> {
    (0..FILES).map(photograph).collect()
}

fn preparation(transform: Transform, layout: Layout) -> Preparation {
    let (means, deviations) = Normalisation::IMAGENET;
    Preparation::new(transform, Normalisation::new(&means, &deviations, layout).unwrap()).unwrap()
}

fn prepare(bencher: Bencher<'_, '_>, preparation: &Preparation) {
    let files = files();
    let mut resizing = Resizing::default();
    let mut out = vec![0.0; preparation.numbers()];
    let mut index = 0;
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| {
        for file in &files {
            index += 1;
            let key = SampleKey { seed: 1, epoch: 0, index };
            let payload = Payload::Encoded(file.clone());
            preparation.write(&preparation.prepare(payload, key, &mut resizing).unwrap(), &mut out);
        }
        black_box(&out);
    });
}

/// A training sample of ImageNet, in both layouts.
#[divan::bench(args = [Layout::Nchw, Layout::Nhwc])]
fn random_resized_crop_224(bencher: Bencher<'_, '_>, layout: &Layout) {
    let rule = CropRule::default();
    prepare(bencher, &preparation(Transform::RandomResizedCrop { side: 224, rule }, *layout));
}

/// The same without normalising: pixels before they are flipped.
#[divan::bench]
fn random_resized_crop_224_pixels(bencher: Bencher<'_, '_>) {
    let rule = CropRule::default();
    let preparation = preparation(Transform::RandomResizedCrop { side: 224, rule }, Layout::Nchw);
    let files = files();
    let mut resizing = Resizing::default();
    let mut index = 0;
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| {
        for file in &files {
            index += 1;
            let key = SampleKey { seed: 1, epoch: 0, index };
            let payload = Payload::Encoded(file.clone());
            black_box(preparation.prepare(payload, key, &mut resizing).unwrap());
        }
    });
}

/// An evaluation sample of ImageNet.
#[divan::bench]
fn resize_256_centre_224(bencher: Bencher<'_, '_>) {
    let transform = Transform::ResizeCentreCrop { resize: 256, side: 224 };
    prepare(bencher, &preparation(transform, Layout::Nchw));
}

/// The decoder's share.
#[divan::bench]
fn decode_500_by_375(bencher: Bencher<'_, '_>) {
    let files = files();
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| {
        for file in &files {
            black_box(decode(file).unwrap());
        }
    });
}
