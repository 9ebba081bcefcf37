//! Errors say where, what was expected and how to mend it; defaults are those of the page.

use std::time::Duration;

use foretrain_sim::fusion::Fusion;
use foretrain_sim::units::Bytes;

use super::*;
use crate::data::augment::{CropRule, Transform};
use crate::loss_scale::LossScaleConfig;

const BASE: &str = r#"name = "test"

[network]
model = "resnet50"

[data]
kind = "image-folder"
train = "train"

[training]
global_batch = 256
ranks = 4
precision = "f16"

[optimizer]
rule = "lars"
weight_decay = 0.0001

[schedule]
base_lr = 0.1
decay = { kind = "polynomial", power = 2 }

[communication]
algorithm = "hybrid"
group = 2
ring_from = "1 MiB"

[output]
folder = "out"
"#;

/// The error of `BASE` with `from` replaced by `to`.
fn error(from: &str, to: &str) -> String {
    assert!(BASE.contains(from), "{from}");
    Config::from_toml(&BASE.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn defaults_are_those_of_the_page() {
    let config = Config::from_toml(BASE).unwrap();
    assert_eq!((config.seed, config.image_size(), config.channels()), (1, 224, 3));
    assert_eq!((config.per_rank_batch(4), config.batch_norm_span(4)), (64, 64));
    assert_eq!(config.wire(), NumberFormat::F16);
    assert_eq!(config.training.loss_scale(), LossScaleConfig::default());
    assert_eq!(config.communication.timeout(), Duration::from_secs(60));
    assert_eq!(config.communication.fusion(), Fusion::Threshold(Bytes::new(25 << 20)));
    assert_eq!(config.schedule().epochs, 90.0);
    assert!(config.network.zero_gamma() && config.communication.overlap);
    assert_eq!(config.network.dropout(), 0.0);
    let [training, evaluation] = config.preparations(Layout::Nhwc).unwrap();
    assert_eq!(training.shape(), [3, 224, 224]);
    assert_eq!(evaluation.shape(), [3, 224, 224]);
    let rule = CropRule::default();
    let transforms = config.data.augmentation.transforms(config.data.kind, 224);
    assert_eq!(transforms.0, Transform::RandomResizedCrop { side: 224, rule });
    assert_eq!(transforms.1, Transform::ResizeCentreCrop { resize: 256, side: 224 });
}

#[test]
fn small_images_have_their_own_defaults() {
    let read = |kind: &str, more: &str| {
        let text = format!(
            "name = \"x\"\n[network]\nmodel = \"resnet-cifar\"\n[data]\nkind = \"{kind}\"\n{more}"
        );
        Config::from_toml(&text).unwrap()
    };
    let cifar = read("cifar10", "folder = \"cifar\"");
    assert_eq!((cifar.image_size(), cifar.channels()), (32, 3));
    let transform = |config: &Config| {
        config.data.augmentation.transforms(config.data.kind, config.image_size()).0
    };
    let pad = |side, padding, flip| Transform::PadCrop { width: side, height: side, padding, flip };
    assert_eq!(transform(&cifar), pad(32, 4, true));
    let idx = read("idx", "folder = \"mnist\"");
    assert_eq!((idx.image_size(), idx.channels()), (28, 1));
    assert_eq!(transform(&idx), pad(28, 0, false));
    let made_up = read("synthetic", "augmentation = { mean = [0.5] }\nsynthetic.classes = 7");
    assert_eq!((made_up.channels(), made_up.data.synthetic().classes), (1, 7));
    assert_eq!(made_up.training.loss_scale(), LossScaleConfig::Static(StaticScale { scale: 1.0 }));
}

#[test]
fn errors_say_where_and_what() {
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        ("name = \"test\"", "name =", "1:7: this is not TOML"),
        (
            "[network]",
            "[netwrok]",
            "3:2: `netwrok`: unknown key `netwrok`: did you mean `network`?",
        ),
        (
            "model = \"resnet50\"",
            "model = \"resnet5\"",
            "4:9: `network.model`: unknown value `resnet5`: did you mean `resnet50`?",
        ),
        (
            "global_batch = 256",
            "global_batch = \"256\"",
            "11:16: `training.global_batch`: string \"256\": expected a whole number",
        ),
        (
            "weight_decay = 0.0001",
            "wieght_decay = 0.0001",
            "17:1: `optimizer.wieght_decay`: unknown key `wieght_decay`: did you mean `weight_decay`?",
        ),
        (
            "weight_decay = 0.0001",
            "weight_decay = true",
            "17:16: `optimizer.weight_decay`: invalid type: boolean `true`, expected f64",
        ),
        (
            "weight_decay = 0.0001",
            "weight_decay = -1",
            "17:16: `optimizer.weight_decay`: -1: it must be finite and at least 0",
        ),
        (
            "\"lars\"",
            "\"lasr\"",
            "16:8: `optimizer.rule`: unknown value `lasr`: did you mean `lars`?",
        ),
        ("power = 2", "pwoer = 2", "21:32: `schedule.decay.pwoer`: unknown key `pwoer`: did you"),
        (
            "power = 2",
            "power = 0",
            "21:40: `schedule.decay.power`: 0: it must be finite and above 0",
        ),
        ("base_lr = 0.1", "base_lr = 0", "20:11: `schedule.base_lr`: 0: it must be finite"),
        ("base_lr = 0.1", "epochs = 90", "20:1: `schedule.epochs`: unknown key `epochs`"),
        (
            "ranks = 4",
            "ranks = 3",
            "11:16: `training.global_batch`: 256, which 3 ranks cannot share evenly",
        ),
        (
            "group = 2",
            "group = 3",
            "25:9: `communication.group`: 3, which does not divide the 4 ra",
        ),
        (
            "ring_from = \"1 MiB\"",
            "ring_from = 1",
            "26:13: `communication.ring_from`: `1` is not a size: the unit is missing",
        ),
        (
            "ring_from = \"1 MiB\"",
            "",
            "23:1: `communication.ring_from`: the smallest bucket that goes by ring is missing",
        ),
        ("\"hybrid\"", "\"ring\"", "25:9: `communication.group`: this is for hierarchical and hyb"),
        ("train = \"train\"", "", "6:1: `data.train`: the images to train on are missing"),
        (
            "train = \"train\"",
            "train = \"train\"\nfolder = \"x\"",
            "9:10: `data.folder`: this is for data of kind cifar10, cifar100 and idx: leave it out",
        ),
        (
            "train = \"train\"",
            "train = [\"a\", \"b\"]",
            "8:9: `data.train`: 2 paths, expected one folder",
        ),
        (
            "train = \"train\"",
            "train = 3",
            "8:9: `data.train`: invalid type: integer `3`, expected",
        ),
        (
            "train = \"train\"",
            "train = \"train\"\naugmentation.scale = [0.5, 1.5]",
            "9:22: `data.augmentation.scale`: ",
        ),
        (
            "train = \"train\"",
            "train = \"train\"\naugmentation.std = [0.5, 0.5, 0.0]",
            "9:20: `data.augmentation.std`: ",
        ),
        (
            "model = \"resnet50\"",
            "model = \"resnet50\"\ndropout = 0.5",
            "5:11: `network.dropout`: this is for AlexNet, and the model is resnet50: leave it out",
        ),
        (
            "model = \"resnet50\"",
            "model = \"resnet-cifar\"\ndepth = 21",
            "5:9: `network.depth`: 21, expected 6n + 2",
        ),
        (
            "model = \"resnet50\"",
            "model = \"resnet50\"\nbatch_norm_span = 24",
            "5:19: `network.batch_norm_span`: 24, which does not divide the 64 images of a rank",
        ),
        (
            "model = \"resnet50\"",
            "model = \"resnet50\"\nimage_size = 16",
            "5:14: `network.image_size`: 16, expected at least 32 for resnet50",
        ),
        (
            "precision = \"f16\"",
            "target_top1 = \"75.9 %\"",
            "13:15: `training.target_top1`: there are no images to evaluate on",
        ),
        (
            "precision = \"f16\"",
            "loss_scale = { policy = \"static\", scale = 0 }",
            "13:43: `training.loss_scale.scale`: 0: it must be finite and above 0",
        ),
        (
            "precision = \"f16\"",
            "epochs = 3",
            "19:1: `schedule.warmup.epochs`: 5: it must be less than `epochs`",
        ),
        (
            "folder = \"out\"",
            "checkpoint_every = \"2 hours\"",
            "29:20: `output.checkpoint_every`: `2 hours` is no interval; write it like",
        ),
        (
            "folder = \"out\"",
            "recording = { steps = \"20..10\" }",
            "29:23: `output.recording.steps`: 20..10 has no steps",
        ),
        (
            "algorithm = \"hybrid\"",
            "transport = \"mpi\"\nalgorithm = \"hybrid\"",
            "12:9: `training.ranks`",
        ),
    ] {
        let error = error(from, to);
        if !error.starts_with(expected) {
            wrong.push(format!("{error}\n  expected: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_fingerprint_is_of_what_changes_results() {
    let config = |from: &str, to: &str| {
        assert!(BASE.contains(from), "{from}");
        Config::from_toml(&BASE.replacen(from, to, 1)).unwrap()
    };
    let base = config("out", "out").fingerprint(4);
    for (from, to) in [
        ("folder = \"out\"", "folder = \"elsewhere\"\nkeep = 9\nmllog = \"log\""),
        ("name = \"test\"", "name = \"other\""),
        ("train = \"train\"", "train = \"other\"\nworkers = 3\neval = \"eval\""),
        ("precision = \"f16\"", "precision = \"f16\"\nthreads_per_rank = 1\nsteps_max = 3"),
        // Defaults that are written out.
        (
            "precision = \"f16\"",
            "precision = \"f16\"\nloss_scale.policy = \"dynamic\"\nepochs = 90",
        ),
        ("model = \"resnet50\"", "model = \"resnet50\"\nzero_gamma = true\nbatch_norm_span = 64"),
        ("group = 2", "group = 2\nwire = \"f16\"\noverlap = false\nfusion.threshold = \"25 MiB\""),
    ] {
        let other = config(from, to).fingerprint(4);
        assert_eq!(other.differences(&base), [], "{to}");
        assert_eq!(other.hash(), base.hash());
    }
    for (from, to, key) in [
        ("name = \"test\"", "name = \"test\"\nseed = 2", "seed"),
        ("0.0001", "0.0005", "optimizer.weight_decay"),
        ("power = 2", "power = 1", "schedule.decay.power"),
        ("group = 2", "group = 4", "communication.group"),
        ("group = 2", "group = 2\nfusion.rule = \"tensor\"", "communication.fusion"),
        (
            "precision = \"f16\"",
            "precision = \"f16\"\nlabel_smoothing = 0.1",
            "training.label_smoothing",
        ),
        (
            "train = \"train\"",
            "train = \"train\"\naugmentation.scale = [0.25, 1]",
            "data.augmentation.training",
        ),
    ] {
        let differences = config(from, to).fingerprint(4).differences(&base);
        let keys: Vec<&str> = differences.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, [key], "{to}");
    }
    let differences = config("out", "out").fingerprint(2).differences(&base);
    let keys: Vec<&str> = differences.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["network.batch_norm_span", "training.ranks"]);
}

#[test]
fn keys_of_gpus_are_for_gpus() {
    let config =
        Config::from_toml(&BASE.replace("ranks = 4", "ranks = 4\ndevice = \"cuda\"")).unwrap();
    assert_eq!(config.training.device, DeviceName::Cuda);
    assert_eq!(config.communication.backend(), Backend::Nccl);
    assert_eq!(
        error("ranks = 4", "launch = \"graph\""),
        "12:10: `training.launch`: this is for device cuda: leave it out"
    );
    assert_eq!(
        error("group = 2", "group = 2\nbackend = \"host\""),
        "26:11: `communication.backend`: this is for training.device cuda: leave it out"
    );
    assert!(error("ranks = 4", "device = \"gpu\"").contains("cuda"));
    // The processor's fingerprint is that of times when there was no other device.
    let of = |text: &str| Config::from_toml(text).unwrap().fingerprint(4);
    let cpu = of(BASE);
    let differences =
        of(&BASE.replace("ranks = 4", "ranks = 4\ndevice = \"cuda\"")).differences(&cpu);
    let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "`communication.backend` was not set and is Nccl",
            "`training.device` was not set and is cuda",
        ]
    );
}
