//! Measures training steps of ResNet-50 on a GPU.
//!
//! ```text
//! gpu_measure FOLDER [--gpu 0] [--side 224] [--seconds 2] [--batches 16,32,64,128,256,400]
//! ```
//!
//! For f16 and bf16 and each batch: the whole step (forward, backward, LARS, loss scale; images are on
//! the GPU already), its work given one by one and as one graph, and every part alone, beside what
//! its bytes and operations need at the rates that the same run measures with a large copy and a large
//! product. Writes `FOLDER/gpu-NAME.json` after each point, so that what is there is complete, and keeps cuDNN's
//! choices in FOLDER too. Steps that do not fit the memory say so.

#![expect(clippy::print_stdout, reason = "an example says what it sees")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device as CandleDevice, Tensor};
use foretrain_sim::fusion::Fusion;
use foretrain_sim::random::{Streams, place_uniform};
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::workload::{Architecture, Shape, Size};
use foretrain_trainer::executor::cuda::arguments::Arguments as _;
use foretrain_trainer::executor::cuda::arguments::grid::blocks_for;
use foretrain_trainer::executor::cuda::arguments::pointwise::Relu;
use foretrain_trainer::executor::cuda::device::Device as _;
use foretrain_trainer::executor::cuda::driver::Gpu;
use foretrain_trainer::executor::cuda::executor::DeviceExecutor;
use foretrain_trainer::executor::cuda::step::{DeviceStep, StepNumbers};
use foretrain_trainer::executor::cuda::work::{Product, Work};
use foretrain_trainer::executor::{Batch, ExecutorSettings};
use foretrain_trainer::loss_scale::LossScaleConfig;
use foretrain_trainer::model::Weights;
use foretrain_trainer::optimizer::{Lars, Rule};
use foretrain_trainer::plan::buckets::Buckets;
use foretrain_trainer::plan::{Cost, Plan};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Steps that are looked at part by part.
const RUNS_OF_PARTS: usize = 5;

/// Timed steps at least.
const STEPS_MIN: usize = 5;

/// What the GPU does at most.
struct Ceilings {
    /// Bytes read and written by a kernel that copies.
    byte_per_s: f64,
    /// Multiplications and additions of a product in f16.
    operation_per_s: f64,
}

impl Ceilings {
    fn measure(gpu: &mut Gpu) -> Result<Self, Error> {
        let bytes = 1_usize << 30;
        let (x, y) = (gpu.allocate(bytes)?, gpu.allocate(bytes)?);
        let vectors = bytes as u64 / 16;
        let copy = Relu { x, y, vectors };
        let copy = Work::Launch(copy.launch(blocks_for(vectors)));
        let side = 8192;
        let product = Work::Product(Product {
            rows: side,
            columns: side,
            depth: side,
            left: x,
            left_transposed: false,
            right: x,
            right_transposed: false,
            out: y,
            accumulate: false,
            format: NumberFormat::F16,
        });
        // Of zeros a GPU makes more products, since it takes less power.
        let half = |at: u64| half::f16::from_f64(place_uniform(7, at) - 0.5).to_le_bytes();
        let numbers: Vec<u8> = (0..(side * side) as u64).flat_map(half).collect();
        gpu.write(x, &numbers)?;
        gpu.prepare(&[copy.clone(), product.clone()])?;
        let limit = Duration::from_secs(1);
        let mut seconds = |work: &Work| -> Result<f64, Error> {
            let times = timed(gpu, 1, limit, |gpu| gpu.enqueue(work))?;
            Ok(times["step_ms_median"].as_f64().ok_or("no time")? / 1e3)
        };
        Ok(Self {
            byte_per_s: 2.0 * bytes as f64 / seconds(&copy)?,
            operation_per_s: 2.0 * (side as f64).powi(3) / seconds(&product)?,
        })
    }

    /// What work takes that reaches one of them.
    fn seconds(&self, cost: Cost) -> f64 {
        let (bytes, operations) = (cost.bytes as f64, cost.operations as f64);
        (bytes / self.byte_per_s).max(operations / self.operation_per_s)
    }
}

struct Options {
    folder: PathBuf,
    gpu: usize,
    side: u64,
    seconds: f64,
    batches: Vec<usize>,
}

impl Options {
    fn from_arguments() -> Result<Self, Error> {
        let mut arguments = std::env::args().skip(1);
        let folder = arguments.next().ok_or("expected a folder for results")?.into();
        let batches = vec![16, 32, 64, 128, 256, 400];
        let mut options = Self { folder, gpu: 0, side: 224, seconds: 2.0, batches };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name}: expected a value"))?;
            let wrong = |error: &dyn std::fmt::Display| format!("{name} {value}: {error}");
            match name.as_str() {
                "--gpu" => options.gpu = value.parse().map_err(|error| wrong(&error))?,
                "--side" => options.side = value.parse().map_err(|error| wrong(&error))?,
                "--seconds" => options.seconds = value.parse().map_err(|error| wrong(&error))?,
                "--batches" => {
                    let batches = value.split(',').map(str::parse).collect::<Result<_, _>>();
                    options.batches = batches.map_err(|error| wrong(&error))?;
                }
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::from(5)
        }
    }
}

fn measure() -> Result<(), Error> {
    let options = Options::from_arguments()?;
    std::fs::create_dir_all(&options.folder)?;
    let mut gpu = Gpu::open(options.gpu, NumberFormat::F16, &options.folder)?;
    let facts = gpu.facts().clone();
    let ceilings = Ceilings::measure(&mut gpu)?;
    drop(gpu);
    let name: String = facts.name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let path = options.folder.join(format!("gpu-{name}.json"));
    let mut result = json!({
        "foretrain": env!("CARGO_PKG_VERSION"),
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "seconds_since_1970": std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_secs(),
        "gpu": facts,
        "network": "resnet50",
        "side": options.side,
        "copy_byte_per_s": ceilings.byte_per_s,
        "product_operation_per_s": ceilings.operation_per_s,
        "points": [],
    });
    save(&path, &result)?;
    for &batch in &options.batches {
        for format in [NumberFormat::F16, NumberFormat::Bf16] {
            let began = Instant::now();
            let point = match point(&options, &ceilings, batch, format) {
                Ok(point) => point,
                Err(error) => json!({
                    "batch": batch,
                    "format": format.name(),
                    "error": error.to_string(),
                }),
            };
            let rate = |key: &str| point[key]["images_per_s"].as_f64().unwrap_or(f64::NAN);
            println!(
                "batch {batch} {}: {:.0} images/s, as a graph {:.0} images/s ({:.0} s) {}",
                format.name(),
                rate("one_by_one"),
                rate("graph"),
                began.elapsed().as_secs_f64(),
                point["error"].as_str().unwrap_or(""),
            );
            if let Some(points) = result["points"].as_array_mut() {
                points.push(point);
            }
            save(&path, &result)?;
        }
    }
    Ok(())
}

/// Replaces the file when it is complete.
fn save(path: &Path, result: &Value) -> Result<(), Error> {
    let folder = path.parent().ok_or("a file without a folder")?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&file, result)?;
    file.persist(path)?;
    Ok(())
}

/// One batch in one format.
fn point(
    options: &Options,
    ceilings: &Ceilings,
    batch: usize,
    format: NumberFormat,
) -> Result<Value, Error> {
    let size = Size {
        image: Shape::new(3, options.side, options.side),
        ..Architecture::Resnet50.published_size()
    };
    let network = Architecture::Resnet50.network(size);
    let plan = Arc::new(Plan::new(&network)?);
    let element_bytes = format.element_bytes();
    let buckets = Arc::new(Buckets::new(&plan, &network, &Fusion::OneBucket, element_bytes)?);
    let settings = ExecutorSettings {
        batch: NonZeroUsize::new(batch).ok_or("a batch of 0")?,
        batch_norm_span: None,
        batch_norm_momentum: 0.1,
        batch_norm_epsilon: 1e-5,
        label_smoothing: 0.1,
        dropout_rate: 0.0,
    };
    let gpu = Gpu::open(options.gpu, format, &options.folder)?;
    let executor = DeviceExecutor::new(gpu, Arc::clone(&plan), buckets, settings, format)?;
    let memory_bytes = executor.memory().bytes;
    let rule = Rule::Lars(Lars::default());
    let mut step = DeviceStep::new(executor, Arc::clone(&plan), &rule, LossScaleConfig::default())?;
    step.load_weights(&Weights::initial(&plan, &Streams::new(1), true))?;
    let images = images(&plan, batch)?;
    let numbers = StepNumbers {
        learning_rate: 1.0,
        dropout_key: 1,
        first_image: 0,
        global_batch: batch as u64,
    };
    // The first step chooses algorithms, so it is slow; then enough for the loss scale to settle.
    let mut losses = Vec::new();
    for _ in 0..STEPS_MIN {
        losses.push(step.step(&images, numbers)?.loss.loss / batch as f64);
    }
    let parts = step.parts();
    let limit = Duration::from_secs_f64(options.seconds);
    let gpu = step.executor().device();
    let one_by_one = timed(gpu, batch, limit, |gpu| {
        parts.iter().flat_map(|part| &part.work).try_for_each(|work| gpu.enqueue(work))
    })?;
    let mut of_parts = vec![f64::INFINITY; parts.len()];
    for _ in 0..RUNS_OF_PARTS {
        let moments =
            (0..=parts.len()).map(|_| gpu.timed_event()).collect::<Result<Vec<_>, _>>()?;
        moments[0].record(gpu.stream())?;
        for (part, moment) in parts.iter().zip(&moments[1..]) {
            part.work.iter().try_for_each(|work| gpu.enqueue(work))?;
            moment.record(gpu.stream())?;
        }
        gpu.finish()?;
        for (least, pair) in of_parts.iter_mut().zip(moments.windows(2)) {
            *least = least.min(pair[0].seconds_until(&pair[1])?);
        }
    }
    let graph = gpu.capture(|gpu| {
        parts.iter().flat_map(|part| &part.work).try_for_each(|work| gpu.enqueue(work))
    })?;
    let as_graph = timed(gpu, batch, limit, |gpu| gpu.launch_graph(&graph))?;
    drop(graph);
    let parts = parts.iter().zip(of_parts).map(|(part, seconds)| {
        json!({
            "name": part.name,
            "phase": part.phase.name(),
            "us": seconds * 1e6,
            "predicted_us": part.cost.map(|cost| ceilings.seconds(cost) * 1e6),
        })
    });
    Ok(json!({
        "batch": batch,
        "format": format.name(),
        "memory_bytes": memory_bytes,
        "losses": losses,
        "one_by_one": one_by_one,
        "graph": as_graph,
        "parts": parts.collect::<Vec<_>>(),
    }))
}

fn images(plan: &Plan, batch: usize) -> Result<Batch, Error> {
    let shape = plan.image_shape();
    let pixels = 0..batch as u64 * shape.elements();
    let pixels: Vec<f32> = pixels.map(|at| place_uniform(3, at) as f32 * 4.0 - 2.0).collect();
    let labels: Vec<u32> = (0..batch).map(|image| (image * 37 % plan.classes()) as u32).collect();
    let [height, width, channels] =
        [shape.height, shape.width, shape.channels].map(|size| size as usize);
    Ok(Batch {
        images: Tensor::from_vec(pixels, (batch, height, width, channels), &CandleDevice::Cpu)?,
        labels: Tensor::from_vec(labels, batch, &CandleDevice::Cpu)?,
    })
}

/// Steps for so long, each between two events: their median, least and 99th percentile.
fn timed<E: Into<Error>>(
    gpu: &mut Gpu,
    batch: usize,
    limit: Duration,
    mut give: impl FnMut(&mut Gpu) -> Result<(), E>,
) -> Result<Value, Error> {
    give(gpu).map_err(Into::into)?;
    gpu.finish()?;
    let began = Instant::now();
    let mut steps = Vec::new();
    while steps.len() < STEPS_MIN || began.elapsed() < limit {
        let (before, after) = (gpu.timed_event()?, gpu.timed_event()?);
        before.record(gpu.stream())?;
        give(gpu).map_err(Into::into)?;
        after.record(gpu.stream())?;
        gpu.finish()?;
        steps.push(before.seconds_until(&after)?);
    }
    steps.sort_by(f64::total_cmp);
    let at = |part: f64| steps[((steps.len() - 1) as f64 * part).round() as usize];
    Ok(json!({
        "step_ms_median": at(0.5) * 1e3,
        "step_ms_min": steps[0] * 1e3,
        "step_ms_p99": at(0.99) * 1e3,
        "steps": steps.len(),
        "images_per_s": batch as f64 / at(0.5),
    }))
}
