//! Checkpoints come back bit by bit, and whatever is wrong with one is named.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use foretrain_sim::workload::NetworkName;
use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::config::Fingerprint;
use crate::loss_scale::LossScaleState;
use crate::optimizer::{OptimizerState, TensorMemory};

fn tensor(name: &str, shape: &[usize], kind: TensorKind) -> ModelTensor {
    ModelTensor { name: name.to_owned(), shape: shape.to_vec(), kind }
}

fn network() -> Vec<ModelTensor> {
    vec![
        tensor("conv1.weight", &[2, 1, 3, 3], TensorKind::Parameter),
        tensor("bn1.weight", &[2], TensorKind::Parameter),
        tensor("bn1.bias", &[2], TensorKind::Parameter),
        tensor("bn1.running_mean", &[2], TensorKind::Statistic),
        tensor("bn1.running_var", &[2], TensorKind::Statistic),
        tensor("bn1.num_batches_tracked", &[], TensorKind::Counter),
    ]
}

fn floats(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// A checkpoint of [`network`] whose numbers are `bits` one after the other, over and over.
fn checkpoint(bits: &[u32], step: u64) -> Checkpoint {
    let mut next = bits.iter().cycle().map(|bits| f32::from_bits(*bits));
    let mut take = |count: usize| -> Vec<f32> { next.by_ref().take(count).collect() };
    let (mut model, mut optimizer) = (Tensors::new(), OptimizerState::default());
    for ModelTensor { name, shape, kind } in network() {
        let elements = shape.iter().product();
        let values = match kind {
            TensorKind::Counter => Tensor::new(step as i64, &Device::Cpu).unwrap(),
            _ => floats(&take(elements), &shape),
        };
        model.insert(name.clone(), values);
        if kind == TensorKind::Parameter {
            let memory = TensorMemory { velocity: take(elements), last_lr: 0.1 + step as f64 };
            optimizer.tensors.insert(name, memory);
        }
    }
    let mut settings = Fingerprint::default();
    settings.insert("optimizer.weight_decay", 0.0001);
    let state = TrainingState {
        progress: Progress { epoch: step / 10, batch: step % 10, step },
        seed: 7,
        optimizer,
        loss_scale: LossScaleState { scale: 1024.0, good_steps: 3, skipped_steps: 1 },
        best_top1: Some(0.123_456_789_012_345_67),
        settings,
    };
    Checkpoint { model, state }
}

/// All bits of a checkpoint, and the rest of its state.
fn bits(checkpoint: &Checkpoint) -> (Vec<(String, Vec<u64>)>, String) {
    let mut all: Vec<(String, Vec<u64>)> = Vec::new();
    for (name, tensor) in &checkpoint.model {
        let flat = tensor.flatten_all().unwrap();
        let values = match tensor.dtype() {
            DType::I64 => flat.to_vec1::<i64>().unwrap().iter().map(|v| *v as u64).collect(),
            _ => flat.to_vec1::<f32>().unwrap().iter().map(|v| u64::from(v.to_bits())).collect(),
        };
        all.push((format!("{name} {:?}", tensor.dims()), values));
    }
    for (name, TensorMemory { velocity, last_lr }) in &checkpoint.state.optimizer.tensors {
        let velocity = velocity.iter().map(|v| u64::from(v.to_bits()));
        all.push((format!("memory of {name}"), velocity.chain([last_lr.to_bits()]).collect()));
    }
    all.sort();
    let rest = TrainingState { optimizer: OptimizerState::default(), ..checkpoint.state.clone() };
    (all, format!("{rest:?}"))
}

fn open(root: &Path, keep: usize) -> CheckpointFolder {
    CheckpointFolder::open(root, NonZeroUsize::new(keep).unwrap()).unwrap()
}

/// The error of loading `path` for [`network`].
fn load_error(path: &Path) -> String {
    let expected = Expected { tensors: &network(), settings: None };
    load(path, &expected).unwrap_err().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_checkpoint_comes_back_bit_by_bit(
        values in prop::collection::vec(any::<u32>(), 1..60), step in 0..u64::MAX / 2,
    ) {
        let root = tempfile::tempdir().unwrap();
        // Inf, NaN and numbers below the normal ones among them.
        let special = [f32::NAN, -f32::NAN, f32::INFINITY, -0.0, f32::from_bits(1)];
        let values: Vec<u32> = values.into_iter().chain(special.map(f32::to_bits)).collect();
        let saved = checkpoint(&values, step);
        let path = open(root.path(), 1).save(&saved).unwrap();
        let expected =
            Expected { tensors: &network(), settings: Some(&saved.state.settings) };
        prop_assert_eq!(bits(&load(&path, &expected).unwrap()), bits(&saved));
    }
}

#[test]
fn the_newest_are_kept_and_the_same_step_again_is_newer() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path(), 2);
    assert_eq!(latest(root.path()).unwrap(), None);
    for step in [1, 99_999_999, 100_000_000, 100_000_000, 20] {
        folder.save(&checkpoint(&[step as u32], step)).unwrap();
    }
    let mut names: Vec<String> = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".lock", "step-100000000", "step-100000000.2"]);
    assert_eq!(folder.latest().unwrap(), Some(root.path().join("step-100000000.2")));
    assert_eq!(latest(&root.path().join("none")).unwrap(), None);
}

#[test]
fn what_is_not_a_checkpoint_is_left_alone_and_leftovers_are_removed() {
    let root = tempfile::tempdir().unwrap();
    for name in [".writing-step-00000007", ".removing-step-00000001", "step-x", "notes"] {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("model.safetensors"), "half").unwrap();
    }
    let folder = open(root.path(), 1);
    assert_eq!(folder.latest().unwrap(), None);
    folder.save(&checkpoint(&[1], 7)).unwrap();
    let exists = |name: &str| root.path().join(name).exists();
    assert!(exists("step-x") && exists("notes") && exists("step-00000007"));
    assert!(!exists(".writing-step-00000007") && !exists(".removing-step-00000001"));
}

#[test]
fn one_run_writes_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path(), 1);
    let second = CheckpointFolder::open(root.path(), NonZeroUsize::MIN).unwrap_err();
    assert!(second.to_string().contains("is in use by another run"), "{second}");
    drop(first);
    open(root.path(), 1);
}

#[test]
fn every_changed_or_cut_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = open(root.path(), 1).save(&checkpoint(&[1, 2, 3], 5)).unwrap();
    for name in ["model.safetensors", "state.safetensors", "state.json"] {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for broken in [&whole[..whole.len() - 1], &whole[..10], &[], &flipped] {
            fs::write(&file, broken).unwrap();
            let error = load_error(&path);
            let expected = format!("{name} is damaged: the SHA-256 of its {} b", broken.len());
            assert!(error.contains(&expected), "{error}");
        }
        fs::remove_file(&file).unwrap();
        let error = load_error(&path);
        assert!(error.starts_with("failed to read") && error.contains(name), "{error}");
        fs::write(&file, whole).unwrap();
    }
    let sums = path.join("SHA256SUMS");
    let whole = fs::read_to_string(&sums).unwrap();
    let without = whole.split_inclusive('\n').take(2).collect::<String>();
    for (content, expected) in [
        ("", "SHA256SUMS is damaged: it does not list state.json"),
        (&*without, "SHA256SUMS is damaged: it does not list state.json"),
        (&whole[..30], "SHA256SUMS is damaged: expected lines of a SHA-256"),
    ] {
        fs::write(&sums, content).unwrap();
        let error = load_error(&path);
        assert!(error.contains(expected), "{error}");
    }
    fs::write(&sums, &whole).unwrap();
    load(&path, &Expected { tensors: &network(), settings: None }).unwrap();
}

#[test]
fn other_settings_versions_and_networks_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let saved = checkpoint(&[1, 2, 3], 5);
    let path = open(root.path(), 1).save(&saved).unwrap();
    let mut settings = saved.state.settings.clone();
    settings.insert("optimizer.weight_decay", 0.0005);
    let expected = Expected { tensors: &network(), settings: Some(&settings) };
    let error = load(&path, &expected).unwrap_err().to_string();
    let wanted = "written with other settings: `optimizer.weight_decay` was 0.0001 and is 0.0005;";
    assert!(error.contains(wanted), "{error}");

    let mut other = network();
    other[0].shape = vec![4, 1, 3, 3];
    other[1].name = "bn1.wieght".to_owned();
    let error = load(&path, &Expected { tensors: &other, settings: None }).unwrap_err();
    let wanted = "model.safetensors does not fit the network: `bn1.wieght` is missing, but there \
                  is `bn1.weight`; `conv1.weight` has shape [2, 1, 3, 3], expected [4, 1, 3, 3]";
    assert!(error.to_string().ends_with(wanted), "{error}");

    let json = path.join("state.json");
    let newer =
        fs::read_to_string(&json).unwrap().replace("\"checkpoint\": 1", "\"checkpoint\": 2");
    fs::write(&json, &newer).unwrap();
    let sums = path.join("SHA256SUMS");
    let lines = fs::read_to_string(&sums).unwrap();
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines[2] = format!("{}  state.json", durable::hash(newer.as_bytes()));
    fs::write(&sums, lines.join("\n")).unwrap();
    let error = load_error(&path);
    assert!(error.contains("has format version 2, and this version of foretrain reads 1"));
}

#[test]
fn a_state_of_other_tensors_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let folder = open(root.path(), 9);
    let mut saved = checkpoint(&[1], 1);
    let memory = |elements| TensorMemory { velocity: vec![0.0; elements], last_lr: 0.0 };
    saved.state.optimizer.tensors.insert("bn1.bias".to_owned(), memory(3));
    saved.state.optimizer.tensors.insert("bn2.bias".to_owned(), memory(2));
    let error = load_error(&folder.save(&saved).unwrap());
    let wanted = "state.safetensors does not fit the network: `velocity.bn1.bias` has 3 elements, \
                  expected 2; `velocity.bn2.bias` is of no parameter of the network";
    assert!(error.ends_with(wanted), "{error}");
    let half = floats(&[1.0], &[1]).to_dtype(DType::F16).unwrap();
    saved.model.insert("half".to_owned(), half);
    let error = folder.save(&saved).unwrap_err().to_string();
    assert_eq!(error, "failed to save `half`: it holds F16, expected F32, F64 or I64");
    assert!(!root.path().join(".writing-step-00000001.2").exists());
}

#[test]
fn foreign_weights_become_single_precision() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let values = [0.5, -2.0, 3.0, 1.0 / 3.0];
    let halves = values.map(|value| f16::from_f64(value).to_bits().to_le_bytes()).concat();
    let brains = values.map(|value| bf16::from_f64(value).to_bits().to_le_bytes()).concat();
    let doubles = values.map(f64::to_le_bytes).concat();
    let view = |dtype, content| safetensors::tensor::TensorView::new(dtype, vec![4], content);
    let tensors = [
        ("half", view(safetensors::Dtype::F16, &halves).unwrap()),
        ("brain", view(safetensors::Dtype::BF16, &brains).unwrap()),
        ("double", view(safetensors::Dtype::F64, &doubles).unwrap()),
    ];
    fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let mut expected: Vec<ModelTensor> =
        ["half", "brain", "double"].map(|name| tensor(name, &[4], TensorKind::Parameter)).into();
    expected.push(tensor("bn1.num_batches_tracked", &[], TensorKind::Counter));
    let read = load_weights(&path, &expected).unwrap();
    let values_of = |name: &str| read[name].to_vec1::<f32>().unwrap();
    assert_eq!(values_of("half"), values.map(|value| f16::from_f64(value).to_f32()));
    assert_eq!(values_of("brain"), values.map(|value| bf16::from_f64(value).to_f32()));
    assert_eq!(values_of("double"), values.map(|value| value as f32));
    assert_eq!(read["bn1.num_batches_tracked"].to_scalar::<i64>().unwrap(), 0);
}

#[test]
fn weights_that_do_not_fit_are_named_with_what_may_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let whole = checkpoint(&[1, 2], 1).model;
    let error = |tensors: &Tensors| {
        save_weights(&path, tensors).unwrap();
        load_weights(&path, &network()).unwrap_err().to_string()
    };
    let mut renamed = whole.clone();
    let weight = renamed.remove("bn1.weight").unwrap();
    renamed.insert("bn1.wieght".to_owned(), weight.clone());
    assert!(error(&renamed).ends_with(": `bn1.weight` is missing, but there is `bn1.wieght`"));
    let mut prefixed = renamed.clone();
    prefixed.remove("bn1.wieght");
    prefixed.insert("module.bn1.weight".to_owned(), weight);
    let text = error(&prefixed);
    assert!(text.ends_with(": `bn1.weight` is missing, but there is `module.bn1.weight`"));
    let mut more = whole.clone();
    more.insert("extra".to_owned(), floats(&[1.0], &[1]));
    assert!(error(&more).ends_with(": `extra` is not expected"));
    let mut shaped = whole.clone();
    shaped.insert("bn1.bias".to_owned(), floats(&[1.0; 3], &[3]));
    assert!(error(&shaped).ends_with(": `bn1.bias` has shape [3], expected [2]"));
    let mut typed = whole.clone();
    typed.insert("bn1.bias".to_owned(), Tensor::from_slice(&[1_i64, 2], 2, &Device::Cpu).unwrap());
    assert!(error(&typed).ends_with(": `bn1.bias` holds I64, expected F32"));
    let text = error(&Tensors::new());
    assert!(text.contains("`conv1.weight` is missing; `bn1.weight` is missing"), "{text}");
    fs::write(&path, "not tensors at all").unwrap();
    let text = load_weights(&path, &network()).unwrap_err().to_string();
    assert!(text.contains("damaged: its 18 bytes are no safetensors file"), "{text}");
}

#[test]
fn the_names_are_those_of_torchvision() {
    // python: [(k, list(v.shape)) for k, v in torchvision.models.resnet50().state_dict().items()]
    let tensors = model_tensors(&NetworkName::Resnet50.network());
    assert_eq!(tensors.len(), 320);
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
    assert_eq!(find("conv1.weight").shape, [64, 3, 7, 7]);
    assert_eq!(find("layer4.0.downsample.1.running_var").shape, [2048]);
    assert_eq!(find("layer1.0.bn1.num_batches_tracked").shape, [0; 0]);
    assert_eq!(find("layer1.0.bn1.num_batches_tracked").elements(), 1);
    assert_eq!(find("fc.weight").shape, [1000, 2048]);
}

/// PyTorch reads what is written here, into the network that torchvision builds:
///
/// ```text
/// FORETRAIN_WEIGHTS=/tmp/resnet50.safetensors \
///     cargo test -p foretrain-trainer --lib -- --ignored weights_for_pytorch
/// python - <<'END'
/// import safetensors.torch, torch, torchvision
/// state = safetensors.torch.load_file("/tmp/resnet50.safetensors")
/// model = torchvision.models.resnet50()
/// print(model.load_state_dict(state, strict=True))
/// for number, (name, value) in enumerate(model.state_dict().items()):
///     assert value.dtype in (torch.float32, torch.int64), name
///     expected = torch.arange(value.numel(), dtype=torch.float32) + number
///     assert (value.flatten().float() == expected).all(), name
/// END
/// ```
#[test]
#[ignore = "writes a file for PyTorch"]
fn weights_for_pytorch() {
    let path = std::env::var("FORETRAIN_WEIGHTS").unwrap();
    let mut weights = Tensors::new();
    for (number, tensor) in model_tensors(&NetworkName::Resnet50.network()).iter().enumerate() {
        let ramp: Vec<f32> = (0..tensor.elements()).map(|i| i as f32 + number as f32).collect();
        let ramp = floats(&ramp, &tensor.shape).to_dtype(tensor.kind.dtype()).unwrap();
        weights.insert(tensor.name.clone(), ramp);
    }
    save_weights(Path::new(&path), &weights).unwrap();
}
