use std::sync::atomic::{AtomicU32, Ordering};

use jpeg_encoder::{ColorType, Encoder};

use super::*;
use crate::data::augment::{CropRule, Layout, Normalisation, Transform};
use crate::data::sampler::{Purpose, Sampler};
use crate::data::source::{Payload, Sample, SourceError};

/// Small JPEG files, some of them corrupt; one may panic.
#[derive(Default)]
struct Files {
    samples: u32,
    corrupt: Vec<u32>,
    panics: Option<u32>,
    reads: AtomicU32,
}

impl Source for Files {
    fn len(&self) -> u32 {
        self.samples
    }

    fn classes(&self) -> u32 {
        7
    }

    fn name(&self, index: u32) -> String {
        format!("file {index}")
    }

    fn read(&self, index: u32) -> Result<Sample, SourceError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        assert_ne!(self.panics, Some(index), "made to panic");
        let mut file = Vec::new();
        if self.corrupt.contains(&index) {
            file.extend(b"no image");
        } else {
            let data: Vec<u8> = (0..48 * 40 * 3).map(|at| (at / 30 + index) as u8).collect();
            Encoder::new(&mut file, 80).encode(&data, 48, 40, ColorType::Rgb).unwrap();
        }
        Ok(Sample { payload: Payload::Encoded(file), label: index % 7 })
    }
}

fn files(samples: u32) -> Files {
    Files { samples, ..Files::default() }
}

fn start(
    source: &Arc<Files>,
    workers: usize,
    skips_max: u32,
    batch: u32,
    purpose: Purpose,
) -> Loader {
    let normalisation = Normalisation::new(&[0.5; 3], &[0.25; 3], Layout::Nhwc).unwrap();
    let transform = Transform::RandomResizedCrop { side: 16, rule: CropRule::default() };
    let preparation = Arc::new(Preparation::new(transform, normalisation).unwrap());
    let sampler = Sampler { samples: source.len(), batch, rank: 0, world: 1, seed: 4, purpose };
    let settings = LoaderSettings {
        workers: NonZeroUsize::new(workers).unwrap(),
        prefetch: NonZeroUsize::new(2).unwrap(),
        skips_max,
        as_bytes: false,
    };
    let source: Arc<dyn Source> = Arc::<Files>::clone(source);
    Loader::start(source, preparation, sampler.epoch(3).unwrap(), 4, settings).unwrap()
}

fn bits(batch: &Batch) -> Vec<u32> {
    let Images::Numbers(images) = &batch.images else { panic!("numbers") };
    images.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers() {
    let source = Arc::new(Files { corrupt: vec![5, 6, 49], ..files(50) });
    let run = |workers| -> Vec<Batch> {
        let loader = start(&source, workers, 10, 8, Purpose::Evaluation);
        loader.map(Result::unwrap).collect()
    };
    let one = run(1);
    assert_eq!(one.len(), 7);
    assert_eq!(one[6].labels.len(), 2);
    assert_eq!(bits(&one[6]).len(), 2 * 16 * 16 * 3);
    for workers in [2, 5] {
        let more = run(workers);
        assert_eq!(more, one);
        assert!(more.iter().zip(&one).all(|(a, b)| bits(a) == bits(b)));
    }
}

#[test]
fn corrupt_samples_are_named_and_replaced_by_the_next() {
    let source = Arc::new(Files { corrupt: vec![5, 6, 49], ..files(50) });
    let batches: Vec<Batch> =
        start(&source, 3, 4, 8, Purpose::Evaluation).map(Result::unwrap).collect();
    assert_eq!(batches[0].indices, [0, 1, 2, 3, 4, 7, 7, 7]);
    assert_eq!(batches[0].labels, [0, 1, 2, 3, 4, 0, 0, 0]);
    let skipped: Vec<u32> = batches[0].skipped.iter().map(|skip| skip.index).collect();
    assert_eq!(skipped, [5, 6, 6]);
    assert_eq!(batches[0].skipped[0].name, "file 5");
    assert!(batches[0].skipped[0].reason.contains("neither JPEG nor PNG"));
    assert_eq!(batches[6].indices, [48, 0]);
}

#[test]
fn one_skip_too_many_ends_the_epoch() {
    let source = Arc::new(Files { corrupt: vec![5, 20, 30], ..files(50) });
    for workers in [1, 4] {
        let mut loader = start(&source, workers, 1, 8, Purpose::Evaluation);
        assert!(loader.next().unwrap().is_ok());
        assert!(loader.next().unwrap().is_ok());
        let error = loader.next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("2 samples of this epoch cannot be read, 1 allowed"), "{error}");
        assert!(error.contains("file 20: neither JPEG nor PNG"), "{error}");
        assert!(loader.next().is_none());
    }
}

#[test]
fn a_dataset_without_a_sound_sample_fails_and_ends() {
    let source = Arc::new(Files { corrupt: (0..10).collect(), ..files(10) });
    let mut loader = start(&source, 2, 30, 4, Purpose::Evaluation);
    assert!(matches!(loader.next(), Some(Err(LoaderError::Skips { skips_max: 30, .. }))));
}

#[test]
fn a_panic_becomes_an_error_in_its_turn() {
    let source = Arc::new(Files { panics: Some(9), ..files(50) });
    let mut loader = start(&source, 4, 9, 8, Purpose::Evaluation);
    assert!(loader.next().unwrap().is_ok());
    let error = loader.next().unwrap().unwrap_err();
    let LoaderError::Panic { index, name, message } = &error else { panic!("{error}") };
    assert_eq!((*index, name.as_str()), (9, "file 9"));
    assert!(message.contains("made to panic"), "{message}");
    assert!(loader.next().is_none());
}

#[test]
fn no_more_than_the_prefetch_is_prepared_ahead_and_dropping_stops() {
    let source = Arc::new(files(1000));
    let loader = start(&source, 3, 0, 8, Purpose::Training);
    while !loader.is_ready() {
        std::thread::yield_now();
    }
    drop(loader);
    assert!(source.reads.load(Ordering::Relaxed) <= 16);
    assert_eq!(Arc::strong_count(&source), 1, "every thread has ended");
}

#[test]
fn training_in_recycled_memory_sees_every_sample_once() {
    let source = Arc::new(files(48));
    let mut loader = start(&source, 2, 0, 8, Purpose::Training);
    let fresh: Vec<Batch> =
        start(&source, 2, 0, 8, Purpose::Training).map(Result::unwrap).collect();
    let mut seen = Vec::new();
    while let Some(batch) = loader.next() {
        let batch = batch.unwrap();
        assert_eq!(batch, fresh[seen.len() / 8]);
        seen.extend_from_slice(&batch.indices);
        loader.recycle(batch);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..48).collect::<Vec<_>>());
}

#[test]
fn an_order_of_another_dataset_is_refused() {
    let normalisation = Normalisation::new(&[0.5], &[0.25], Layout::Nchw).unwrap();
    let transform = Transform::PadCrop { width: 2, height: 2, padding: 0, flip: false };
    let preparation = Arc::new(Preparation::new(transform, normalisation).unwrap());
    let one = NonZeroUsize::MIN;
    let settings = LoaderSettings { workers: one, prefetch: one, skips_max: 0, as_bytes: false };
    let start = |indices, batch| {
        let order = EpochOrder { indices, batch, epoch: 0 };
        Loader::start(Arc::new(files(3)), Arc::clone(&preparation), order, 1, settings)
    };
    assert!(matches!(start(vec![3], 1), Err(LoaderError::Order { index: 3, samples: 3 })));
    assert!(matches!(start(vec![0], 0), Err(LoaderError::EmptyBatch)));
    assert_eq!(start(vec![], 1).unwrap().count(), 0);
}
