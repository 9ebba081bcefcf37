//! What an executor takes and gives, and what it refuses.

use foretrain_sim::fusion::Fusion;
use foretrain_sim::workload::{Architecture, Shape, Size};
use half::f16;

use super::*;

/// A ResNet-8 for images of 8 × 8 pixels and 5 classes, with room for 4 images.
fn executor<E: Element>() -> CpuExecutor<E> {
    let size = Size { image: Shape::new(3, 8, 8), classes: 5 };
    let network = Architecture::SmallResnet { blocks_per_stage: 1 }.network(size);
    let plan = Arc::new(Plan::new(&network).unwrap());
    let buckets = Arc::new(Buckets::new(&plan, &network, &Fusion::OneBucket, 4).unwrap());
    let threads = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    CpuExecutor::new(plan, buckets, batch(4), threads).unwrap()
}

fn images(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn labels(labels: &[u32]) -> Tensor {
    Tensor::new(labels, &Device::Cpu).unwrap()
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let mut executor = executor::<f32>();
    let mut refused = |images: Tensor, labels: Tensor| {
        executor.load_batch(&Batch { images, labels }).unwrap_err().to_string()
    };
    let two = || images(&[2, 8, 8, 3]);
    let cases = [
        (images(&[5, 8, 8, 3]), labels(&[0; 5]), "5 images, expected 1 to 4"),
        (images(&[0, 8, 8, 3]), labels(&[]), "0 images, expected 1 to 4"),
        (two(), labels(&[0; 3]), "expected 576 numbers of images, found 384"),
        (two(), labels(&[1, 5]), "label 5 of image 1: expected less than 5"),
        (two().to_dtype(DType::F64).unwrap(), labels(&[0; 2]), "images of f32"),
        (two().transpose(1, 2).unwrap(), labels(&[0; 2]), "a contiguous tensor"),
        (images(&[2, 3, 8, 8]), labels(&[0; 2]), "batch × 8 × 8 × 3, found [2, 3, 8, 8]"),
    ];
    for (images, labels, expected) in cases {
        let error = refused(images, labels);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn spans_that_do_not_divide_the_room_are_refused() {
    let own = executor::<f32>();
    let settings = ExecutorSettings { batch_norm_span: NonZeroUsize::new(3), ..batch(4) };
    let Memory { gradients, .. } = &own.memory;
    let (plan, buckets) = (Arc::clone(&own.plan), Arc::clone(&gradients.buckets));
    let error = CpuExecutor::<f32>::new(plan, buckets, settings, Arc::clone(&own.threads));
    assert!(error.unwrap_err().to_string().contains("a multiple of 3"));
}

/// A bucket that is away can be neither taken again nor written, and comes back as it was.
#[test]
fn buckets_go_and_come_back() {
    let mut executor = executor::<f16>();
    executor.load_images(&[0.5_f32; 192], &[1]).unwrap();
    let last = executor.plan.instructions().len() - 1;
    for instruction in 0..=last {
        executor.forward(instruction, TRAIN);
    }
    let values = executor.take_bucket(0).unwrap();
    let GradientBuffer::F16(own) = &values else { panic!("{values:?}") };
    assert_eq!(own.len(), executor.plan.parameters().iter().map(|p| p.elements()).sum::<usize>());
    assert_eq!(executor.take_bucket(0), Err(ExecutorError::BucketAway(0)));
    executor.backward(last, TRAIN).unwrap();
    assert_eq!(executor.backward(last - 1, TRAIN), Err(ExecutorError::BucketAway(0)));
    let other = GradientBuffer::F32(vec![0.0; own.len()]);
    assert_eq!(executor.return_bucket(0, other), Err(ExecutorError::Bucket(0)));
    let shorter = GradientBuffer::F16(own[1..].to_vec());
    assert_eq!(executor.return_bucket(0, shorter), Err(ExecutorError::Bucket(0)));
    executor.return_bucket(0, values.clone()).unwrap();
    executor.backward(last - 1, TRAIN).unwrap();
    assert_ne!(executor.take_bucket(0).unwrap(), values);
}
