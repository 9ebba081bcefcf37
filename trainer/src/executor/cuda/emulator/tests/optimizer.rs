//! Steps of the optimizer against [`Optimizer`] and [`LossScaler`], one by one.

use super::super::super::arguments::optimizer::{
    OptimizerNorms, OptimizerRates, OptimizerUpdate, PART_ELEMENTS, RATES_HEADER, RuleEntry,
    StepInput, StepState, TensorEntry, parts, tensor_flags,
};
use super::*;
use crate::loss_scale::{DynamicScale, LossScaleConfig, LossScaler, StaticScale, Verdict};
use crate::optimizer::{
    Gradient, Lars, LarsForm, Momentum, Optimizer, Role, Rule, TensorState, Values,
};

const SIZES: [usize; 5] = [1, 7, PART_ELEMENTS, PART_ELEMENTS + 1, 40_000];
const ROLES: [Role; 5] = [Role::Weight, Role::Bias, Role::BatchNorm, Role::Weight, Role::Weight];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// The tensor whose rounded copy nobody wants.
const WITHOUT_COPY: usize = 3;

/// An optimizer's tensors on the emulated GPU.
struct Gpu {
    memory: Memory,
    format: NumberFormat,
    entries: Vec<TensorEntry>,
    bucket: Address,
    /// Elements of the bucket before the first tensor's gradient.
    offset: usize,
    norms: OptimizerNorms,
    rates: OptimizerRates,
    update: OptimizerUpdate,
    blocks: u32,
}

impl Gpu {
    fn new(
        rule: &Rule,
        scale: &LossScaleConfig,
        format: NumberFormat,
        offset: usize,
        weights: &[Vec<f32>],
    ) -> Self {
        let elements: usize = SIZES.iter().sum();
        let mut memory = Memory::new(elements * 16 + (1 << 15));
        let (tensor_of_block, first_parts) = parts(&SIZES);
        let bytes = format.element_bytes() as usize;
        let bucket = memory.take((offset + elements) * bytes);
        let mut gradient = bucket.add(offset * bytes);
        let mut entries = Vec::new();
        for (t, weights) in weights.iter().enumerate() {
            let copy = memory.take_elements(format, SIZES[t]);
            entries.push(TensorEntry {
                weights: memory.put(weights),
                velocity: memory.put(&vec![0.0_f32; SIZES[t]]),
                gradient,
                copy: if t == WITHOUT_COPY { Address::NULL } else { copy },
                elements: SIZES[t] as u64,
                first_part: first_parts[t],
                flags: tensor_flags(rule, ROLES[t]),
            });
            gradient = gradient.add(SIZES[t] * bytes);
        }
        let table: Vec<u8> = entries.iter().flat_map(TensorEntry::to_bytes).collect();
        let state = StepState {
            last_learning_rate: -1.0,
            skipped_steps: 0,
            loss_scale: LossScaler::new(*scale).unwrap().scale(),
            good_steps: 0,
            skipped: 0,
            last_loss_scale: f32::NAN,
        };
        let tensors = memory.put(&table);
        let blocks = tensor_of_block.len();
        let parts = memory.put(&tensor_of_block);
        let partial = memory.take(blocks * 24);
        let rates = memory.take(RATES_HEADER + 8 * SIZES.len());
        let state = memory.put(&state.to_bytes());
        let rule = memory.put(&RuleEntry::new(rule, scale).to_bytes());
        let input = memory.take(32);
        let gradient_format = format_number(format);
        Self {
            memory,
            format,
            entries,
            bucket,
            offset,
            norms: OptimizerNorms { tensors, parts, partial, state, gradient_format },
            rates: OptimizerRates {
                tensors,
                partial,
                rates,
                input,
                state,
                rule,
                tensor_count: SIZES.len() as u32,
            },
            update: OptimizerUpdate { tensors, parts, rates, state, rule, gradient_format },
            blocks: blocks as u32,
        }
    }

    fn set_gradients(&mut self, gradients: &[Vec<f32>]) {
        let [skipped, all] = [vec![vec![0.0; self.offset]], gradients.to_vec()].map(|v| v.concat());
        let all = [skipped, all].concat();
        match self.format {
            NumberFormat::F16 => {
                let all: Vec<f16> = all.into_iter().map(f16::from_f32).collect();
                self.memory.slice(self.bucket, all.len()).copy_from_slice(&all);
            }
            NumberFormat::Bf16 => {
                let all: Vec<bf16> = all.into_iter().map(bf16::from_f32).collect();
                self.memory.slice(self.bucket, all.len()).copy_from_slice(&all);
            }
            NumberFormat::F32 => {
                self.memory.slice(self.bucket, all.len()).copy_from_slice(&all);
            }
        }
    }

    fn step(&mut self, learning_rate: f64) {
        let input = StepInput {
            learning_rate,
            dropout_key: u64::MAX,
            first_image: u64::MAX,
            reciprocal_batch: f32::NAN,
        };
        let input = input.to_bytes();
        self.memory.slice(self.rates.input, input.len()).copy_from_slice(&input);
        run(self.format, &self.norms, self.blocks);
        run(self.format, &self.rates, 1);
        run(self.format, &self.update, self.blocks);
    }

    fn state(&mut self) -> StepState {
        let at = self.rates.state;
        StepState {
            last_learning_rate: self.memory.get(at, 1)[0],
            skipped_steps: self.memory.get(at.add(8), 1)[0],
            loss_scale: self.memory.get(at.add(16), 1)[0],
            good_steps: self.memory.get(at.add(20), 1)[0],
            skipped: self.memory.get(at.add(24), 1)[0],
            last_loss_scale: self.memory.get(at.add(28), 1)[0],
        }
    }

    fn weights(&mut self, tensor: usize) -> Vec<f32> {
        self.memory.get(self.entries[tensor].weights, SIZES[tensor])
    }

    fn velocity(&mut self, tensor: usize) -> Vec<f32> {
        self.memory.get(self.entries[tensor].velocity, SIZES[tensor])
    }

    /// Everything that a skipped step must leave alone, bit by bit.
    fn kept(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (entry, size) in self.entries.clone().into_iter().zip(SIZES) {
            bytes.extend(self.memory.get::<u8>(entry.weights, size * 4));
            bytes.extend(self.memory.get::<u8>(entry.velocity, size * 4));
            if entry.copy != Address::NULL {
                let bytes_of_copy = size * self.format.element_bytes() as usize;
                bytes.extend(self.memory.get::<u8>(entry.copy, bytes_of_copy));
            }
        }
        bytes
    }
}

/// Each element is within a few roundings of the largest of its tensor in any step so far, of which
/// it may be a small difference.
fn assert_close(found: &[f32], expected: &[f32], largest: &mut f32, what: &str) {
    *largest = expected.iter().fold(*largest, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= 4.0 * f32::EPSILON * *largest;
        assert!(close, "{what}[{index}]: {found}, {expected}");
    }
}

/// The step in which one gradient is not finite.
const OVERFLOW: u64 = 4;

/// Ten steps on both; after each, weights, velocities, copies, scale and counters are compared.
fn ten_steps(rule: Rule, scale: LossScaleConfig, format: NumberFormat, offset: usize) {
    let mut weights: Vec<Vec<f32>> = (0..SIZES.len())
        .map(|t| numbers(NumberFormat::F32, t as u64, SIZES[t], 0.5 / (t + 1) as f32))
        .collect();
    // Without weights there is no local rate.
    weights[0].fill(0.0);
    let mut gpu = Gpu::new(&rule, &scale, format, offset, &weights);
    let mut optimizer = Optimizer::new(rule).unwrap();
    let mut scaler = LossScaler::new(scale).unwrap();
    let mut last_learning_rate = -1.0;
    let mut largest = [[0.0; 2]; SIZES.len()];
    for step in 0..10 {
        // Warm-up, a cut, and a step at rate 0.
        let learning_rate = [0.1, 0.2, 0.3, 0.3, 0.3, 0.4, 0.04, 0.0, 0.04, 0.5][step as usize];
        let loss_scale = scaler.scale();
        let mut gradients: Vec<Vec<f32>> = (0..SIZES.len())
            .map(|t| numbers(format, 100 * step + t as u64, SIZES[t], 0.01 * loss_scale))
            .collect();
        if step == 2 {
            gradients[3].fill(0.0);
        }
        if step == OVERFLOW {
            let last = gradients[4].len() - 1;
            gradients[4][last] = if offset == 0 { f32::NEG_INFINITY } else { f32::NAN };
        }
        gpu.set_gradients(&gradients);
        let before = gpu.kept();
        gpu.step(learning_rate);

        let verdict = scaler.update(step == OVERFLOW);
        if verdict == Verdict::Apply {
            step_on_cpu(&mut optimizer, &mut weights, &gradients, loss_scale, learning_rate);
            last_learning_rate = learning_rate;
        } else {
            assert_eq!(gpu.kept(), before, "a skipped step changes nothing");
        }
        let expected = StepState {
            last_learning_rate,
            skipped_steps: scaler.state().skipped_steps,
            loss_scale: scaler.scale(),
            good_steps: scaler.state().good_steps,
            skipped: (verdict == Verdict::Skip).into(),
            last_loss_scale: loss_scale,
        };
        assert_eq!(gpu.state(), expected, "step {step}");
        for (t, weights) in weights.iter().enumerate() {
            let what = format!("{rule:?}, {format:?}, step {step}, tensor {t}");
            let found = gpu.weights(t);
            let [largest_weight, largest_velocity] = &mut largest[t];
            assert_close(&found, weights, largest_weight, &what);
            let velocity = &optimizer.state().tensors[NAMES[t]].velocity;
            assert_close(&gpu.velocity(t), velocity, largest_velocity, &what);
            if t != WITHOUT_COPY {
                let copy = gpu.memory.get_elements(format, gpu.entries[t].copy, SIZES[t]);
                let rounded: Vec<f32> = found.iter().map(|w| rounded(format, *w)).collect();
                assert_eq!(copy, rounded, "{what}");
            }
        }
    }
}

fn step_on_cpu(
    optimizer: &mut Optimizer,
    weights: &mut [Vec<f32>],
    gradients: &[Vec<f32>],
    scale: f32,
    learning_rate: f64,
) {
    let mut tensors: Vec<TensorState<'_>> = weights
        .iter_mut()
        .zip(gradients)
        .enumerate()
        .map(|(t, (weights, gradient))| TensorState {
            name: NAMES[t],
            role: ROLES[t],
            weights,
            // They are of the format already, so single precision has them as they are.
            gradient: Gradient { values: Values::F32(gradient), scale },
        })
        .collect();
    optimizer.step(&mut tensors, learning_rate).unwrap();
}

const STATIC: LossScaleConfig = LossScaleConfig::Static(StaticScale { scale: 128.0 });

/// Grows after every third good step.
fn dynamic() -> LossScaleConfig {
    LossScaleConfig::Dynamic(DynamicScale {
        initial_scale: 256.0,
        growth_interval: 3,
        ..DynamicScale::default()
    })
}

#[test]
fn momentum_steps_are_those_of_the_cpu() {
    let rule = Momentum { weight_decay: 0.01, ..Momentum::default() };
    for format in FORMATS {
        for (offset, nesterov) in [(0, false), (1, true)] {
            let decay_bias_and_batch_norm = nesterov;
            let rule = Momentum { nesterov, decay_bias_and_batch_norm, ..rule };
            ten_steps(Rule::Momentum(rule), dynamic(), format, offset);
        }
    }
}

#[test]
fn lars_steps_are_those_of_the_cpu() {
    let rule = Lars { coefficient: 0.02, weight_decay: 0.01, epsilon: 1e-3, ..Lars::default() };
    let rules = [
        rule,
        Lars { form: LarsForm::WithoutDecay, momentum_correction: true, ..rule },
        Lars { clip: true, scale_bias_and_batch_norm: true, ..rule },
        Lars { momentum_correction: true, decay_bias_and_batch_norm: true, ..rule },
    ];
    for format in FORMATS {
        for (index, rule) in rules.into_iter().enumerate() {
            let scale = if index == 0 { STATIC } else { dynamic() };
            ten_steps(Rule::Lars(rule), scale, format, index % 2);
        }
    }
}

#[test]
fn a_scale_that_is_no_power_of_two_is_divided_by() {
    // It grows by a factor that is not exact, and falls to its smallest at the overflow.
    let scale = LossScaleConfig::Dynamic(DynamicScale {
        initial_scale: 3.0,
        growth_factor: 1.7,
        backoff_factor: 0.05,
        growth_interval: 2,
        scale_min: 0.75,
    });
    let rule = Lars { coefficient: 0.02, weight_decay: 0.01, ..Lars::default() };
    ten_steps(Rule::Lars(rule), scale, NumberFormat::F32, 1);
    ten_steps(Rule::Momentum(Momentum::default()), scale, NumberFormat::F32, 0);
}

#[test]
fn a_scale_never_grows_beyond_single_precision() {
    let scale = LossScaleConfig::Dynamic(DynamicScale {
        initial_scale: 2.0_f32.powi(127),
        growth_interval: 1,
        ..DynamicScale::default()
    });
    let rule = Rule::Momentum(Momentum::default());
    let weights: Vec<Vec<f32>> = SIZES.map(|size| vec![1.0; size]).to_vec();
    let mut gpu = Gpu::new(&rule, &scale, NumberFormat::F32, 0, &weights);
    gpu.set_gradients(&weights);
    gpu.step(0.5);
    let state = gpu.state();
    assert_eq!((state.loss_scale, state.good_steps), (2.0_f32.powi(127), 0));
    // w − lr (2⁻¹²⁷ + β w): the reciprocal is below the normal numbers, but not lost.
    let expected = 1.0 - 0.5 * (2.0_f32.powi(-127) + 1e-4);
    assert_eq!(gpu.weights(3), vec![expected; SIZES[3]]);
}

/// Σ w², Σ (g / scale)² and the count of what is not finite, from the numbers themselves.
#[test]
fn norms_survive_squares_that_leave_single_precision() {
    let rule = Rule::Lars(Lars::default());
    let scale = LossScaleConfig::Static(StaticScale { scale: 1024.0 });
    for (w, g) in [(1e30_f32, 65504.0 * 65504.0), (1e-30, 1e-30), (0.5, 1e38), (3.0, 1e-40)] {
        let weights: Vec<Vec<f32>> = SIZES.map(|size| vec![w; size]).to_vec();
        let mut gradients: Vec<Vec<f32>> = SIZES.map(|size| vec![g; size]).to_vec();
        let mut gpu = Gpu::new(&rule, &scale, NumberFormat::F32, 1, &weights);
        gpu.set_gradients(&gradients);
        run(NumberFormat::F32, &gpu.norms, gpu.blocks);
        let partial: Vec<f64> = gpu.memory.get(gpu.norms.partial, 3 * gpu.blocks as usize);
        let (tensors, firsts) = parts(&SIZES);
        for (block, sums) in partial.chunks(3).enumerate() {
            let tensor = tensors[block] as usize;
            let first = (block - firsts[tensor] as usize) * PART_ELEMENTS;
            let count = (SIZES[tensor] - first).min(PART_ELEMENTS) as f64;
            for (sum, value) in sums.iter().zip([f64::from(w), f64::from(g) / 1024.0]) {
                let expected = count * value * value;
                assert!((sum / expected - 1.0).abs() < 1e-12, "{sum} is not {expected}");
            }
            assert_eq!(sums[2], 0.0);
        }
        for (tensor, index) in [(0, 0), (4, 0), (4, 16_384), (4, 39_999)] {
            gradients[tensor][index] = [f32::NAN, f32::INFINITY][index % 2];
        }
        gpu.set_gradients(&gradients);
        run(NumberFormat::F32, &gpu.norms, gpu.blocks);
        let partial: Vec<f64> = gpu.memory.get(gpu.norms.partial, 3 * gpu.blocks as usize);
        let counts: Vec<f64> = partial.chunks(3).map(|sums| sums[2]).collect();
        assert_eq!(counts, [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    }
}
