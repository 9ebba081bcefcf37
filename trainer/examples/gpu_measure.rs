//! Measures training steps of ResNet-50 on a GPU.
//!
//! ```text
//! gpu_measure FOLDER [--batches 256,64,400,128,32,16] [--formats f16,bf16] [--deadline SECONDS]
//! ```
//!
//! For each format and batch, in the order given: the whole step (forward, backward, LARS, loss scale;
//! images are on the GPU already), its work given one by one and as one graph, and every part alone,
//! beside what its bytes and operations need at the rates that the same run measures with a large copy
//! and a large product; the slowest are printed as a table. Writes `FOLDER/gpu-NAME-DATE.json` after each point, so that what is there is
//! complete, and keeps cuDNN's choices in FOLDER too. Steps that do not fit the memory say so.

#![expect(clippy::print_stdout, reason = "an example says what it sees")]

mod support;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device as CandleDevice, Tensor};
use clap::Parser;
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
use foretrain_trainer::executor::cuda::lower::optimizer_bytes;
use foretrain_trainer::executor::cuda::step::{DeviceStep, Phase, StepNumbers, StepPart};
use foretrain_trainer::executor::cuda::work::{Product, Work};
use foretrain_trainer::executor::{Batch, ExecutorSettings};
use foretrain_trainer::loss_scale::LossScaleConfig;
use foretrain_trainer::model::Weights;
use foretrain_trainer::optimizer::{Lars, Rule};
use foretrain_trainer::plan::buckets::Buckets;
use foretrain_trainer::plan::{Cost, Plan};
use serde_json::{Value, json};
use support::{Deadline, Error, Results};

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

/// Measures training steps of ResNet-50 on a GPU.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where results go, and what is known of cuDNN's algorithms is kept.
    folder: PathBuf,
    /// Which GPU, of those that can be seen.
    #[arg(long, default_value_t = 0)]
    gpu: usize,
    /// Pixels of an image, each way.
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u64).range(32..=4096))]
    side: u64,
    /// Seconds of steps that a rate is taken from, at least; up to 60.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Images of a step, the most important first.
    #[arg(long, value_delimiter = ',', default_value = "256,64,400,128,32,16")]
    batches: Vec<NonZeroUsize>,
    /// Formats to compute in, f16, bf16 or f32: all batches in the first, then in the next.
    #[arg(long, value_delimiter = ',', default_value = "f16,bf16", value_parser = support::format)]
    formats: Vec<NumberFormat>,
    /// Seconds after which no further point is begun.
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let expected = || "expected a number of seconds from 0 to 60".to_owned();
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    if (0.0..=60.0).contains(&seconds) { Ok(seconds) } else { Err(expected()) }
}

fn main() -> ExitCode {
    support::exit_code(measure(&Options::parse()).map(|()| true))
}

fn measure(options: &Options) -> Result<(), Error> {
    let deadline = Deadline::after(options.deadline);
    std::fs::create_dir_all(&options.folder)?;
    let mut gpu = Gpu::open(options.gpu, NumberFormat::F16, &options.folder)?;
    let mut results = Results::new(&options.folder, "gpu", gpu.facts())?;
    let ceilings = Ceilings::measure(&mut gpu)?;
    drop(gpu);
    println!(
        "a copy {:.2} TB/s, a product in f16 {:.0} TFLOP/s",
        ceilings.byte_per_s / 1e12,
        ceilings.operation_per_s / 1e12
    );
    results.set("network", json!("resnet50"))?;
    results.set("side", json!(options.side))?;
    results.set("copy_byte_per_s", json!(ceilings.byte_per_s))?;
    results.set("product_operation_per_s", json!(ceilings.operation_per_s))?;
    let (mut points, mut left_out) = (Vec::new(), Vec::new());
    for &format in &options.formats {
        for &batch in &options.batches {
            let what = format!("batch {batch} {}", format.name());
            if deadline.is_over() {
                println!("{what}: left out, as the time is up");
                left_out.push(what);
                continue;
            }
            let began = Instant::now();
            let point = point(options, &ceilings, batch, format).unwrap_or_else(|error| {
                json!({ "batch": batch, "format": format.name(), "error": error.to_string() })
            });
            let rate = |key: &str| point[key]["images_per_s"].as_f64().unwrap_or(f64::NAN);
            println!(
                "{what}: {:.0} images/s, as a graph {:.0} images/s, LARS {:.2} TB/s ({:.0} s) {}",
                rate("one_by_one"),
                rate("graph"),
                point["lars"]["byte_per_s"].as_f64().unwrap_or(f64::NAN) / 1e12,
                began.elapsed().as_secs_f64(),
                point["error"].as_str().unwrap_or(""),
            );
            print!("{}", table(&point));
            points.push(point);
            results.set("points", json!(points))?;
        }
    }
    results.set("left_out", json!(left_out))?;
    println!("all numbers are in {}", results.path().display());
    Ok(())
}

/// Rows of the table of parts.
const ROWS: usize = 12;

/// What was predicted beside what was measured: all parts of a phase together, then the parts that
/// take longest beyond what they should.
fn table(point: &Value) -> String {
    let number = |part: &Value, key: &str| part[key].as_f64().unwrap_or(0.0);
    let row = |name: &str, us: f64, predicted_us: f64| {
        let times = if predicted_us > 0.0 {
            format!("{:8.2}", us / predicted_us)
        } else {
            "       -".to_owned()
        };
        format!("  {name:44} {us:12.1} {predicted_us:12.1} {times}\n")
    };
    let Some(parts) = point["parts"].as_array() else { return String::new() };
    let mut text = format!("  {:44} {:>12} {:>12} {:>8}\n", "part", "us", "predicted", "times");
    for phase in [Phase::Input, Phase::Forward, Phase::Backward, Phase::Optimizer] {
        let of_phase = || parts.iter().filter(|part| part["phase"] == phase.name());
        let sum = |key: &str| of_phase().map(|part| number(part, key)).sum::<f64>();
        text += &row(&format!("all of {}", phase.name()), sum("us"), sum("predicted_us"));
    }
    let beyond = |part: &Value| number(part, "us") - number(part, "predicted_us");
    let mut slowest: Vec<&Value> = parts.iter().collect();
    slowest.sort_by(|a, b| beyond(b).total_cmp(&beyond(a)));
    for part in slowest.into_iter().take(ROWS) {
        let text_of = |key: &str| part[key].as_str().unwrap_or_default();
        let name = format!("{} {}", text_of("phase"), text_of("name"));
        text += &row(&name, number(part, "us"), number(part, "predicted_us"));
    }
    text
}

/// One batch in one format.
fn point(
    options: &Options,
    ceilings: &Ceilings,
    images_of_step: NonZeroUsize,
    format: NumberFormat,
) -> Result<Value, Error> {
    let batch = images_of_step.get();
    let size = Size {
        image: Shape::new(3, options.side, options.side),
        ..Architecture::Resnet50.published_size()
    };
    let network = Architecture::Resnet50.network(size);
    let plan = Arc::new(Plan::new(&network)?);
    let element_bytes = format.element_bytes();
    let buckets = Arc::new(Buckets::new(&plan, &network, &Fusion::OneBucket, element_bytes)?);
    let settings = ExecutorSettings {
        batch: images_of_step,
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
    let moments = (0..=parts.len()).map(|_| gpu.timed_event()).collect::<Result<Vec<_>, _>>()?;
    // As a graph, so that it is the GPU that is timed and not how fast work is given to it.
    let timed_parts = gpu.capture(|gpu| {
        gpu.mark(&moments[0])?;
        parts.iter().zip(&moments[1..]).try_for_each(|(part, moment)| {
            part.work.iter().try_for_each(|work| gpu.enqueue(work))?;
            gpu.mark(moment)
        })
    })?;
    for _ in 0..RUNS_OF_PARTS {
        gpu.launch_graph(&timed_parts)?;
        gpu.finish()?;
        for (least, pair) in of_parts.iter_mut().zip(moments.windows(2)) {
            *least = least.min(pair[0].seconds_until(&pair[1])?);
        }
    }
    drop(timed_parts);
    let graph = gpu.capture(|gpu| {
        parts.iter().flat_map(|part| &part.work).try_for_each(|work| gpu.enqueue(work))
    })?;
    let as_graph = timed(gpu, batch, limit, |gpu| gpu.launch_graph(&graph))?;
    drop(graph);
    let is_lars = |part: &StepPart| part.phase == Phase::Optimizer && part.name == "optimizer";
    let lars_s = parts.iter().zip(&of_parts).find(|(part, _)| is_lars(part));
    let lars_s = *lars_s.ok_or("a step without an optimizer")?.1;
    let lars_bytes = optimizer_bytes(&plan, format);
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
        "lars": {
            "bytes": lars_bytes,
            "us": lars_s * 1e6,
            "byte_per_s": lars_bytes as f64 / lars_s,
        },
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
