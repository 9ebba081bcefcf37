//! `[data.augmentation]`: how images become inputs.

use foretrain_sim::located::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::DataKind;
use crate::data::augment::{CropRule, Layout, Normalisation, Preparation, SettingError, Transform};

/// Which part of an image is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// A random part of random size and shape, resized to the input; photographs only.
    RandomResized,
    /// A random part as large as the image, once black pixels are around it; images of one size.
    Pad,
    /// The whole image; images of one size.
    None,
    /// The whole image, resized to the input, which makes small inputs of images of one size.
    Resize,
}

/// How images become inputs. Every key has a default that depends on the kind of the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentationConfig {
    /// Which part of an image is trained on; `random-resized` for photographs, `pad` for CIFAR,
    /// `none` for IDX and synthetic images by default.
    pub crop: Option<Crop>,
    /// The least and the largest area of a random part, as a share of the image (random-resized);
    /// 0.08 and 1 by default.
    pub scale: Option<[f64; 2]>,
    /// Its least and largest width over height (random-resized); 3/4 and 4/3 by default.
    pub ratio: Option<[f64; 2]>,
    /// Black pixels on each side (pad); 4 by default.
    pub padding: Option<u32>,
    /// Whether left and right are exchanged every other time on average; true by default for
    /// photographs, where it cannot be switched off, and CIFAR, else false.
    pub flip: Option<bool>,
    /// Pixels of the shorter side of a photograph before its centre is evaluated; 8/7 of the
    /// input's by default, 256 for 224.
    pub resize: Option<u32>,
    /// What is subtracted from red, green and blue in 0 to 1; a single number makes the input
    /// grey. By default ImageNet's and CIFAR's own, 0.5 for IDX (grey) and synthetic images.
    pub mean: Option<Vec<f32>>,
    /// What they are divided by then. By default ImageNet's and CIFAR's own, 0.5 for IDX, 0.2 for
    /// synthetic images.
    pub std: Option<Vec<f32>>,
}

/// Mean and standard deviation of the training images, as commonly published for CIFAR.
const CIFAR10: ([f32; 3], [f32; 3]) = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);
const CIFAR100: ([f32; 3], [f32; 3]) = ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]);

impl AugmentationConfig {
    pub(super) fn crop(&self, kind: DataKind) -> Crop {
        self.crop.unwrap_or(match kind {
            DataKind::ImageFolder | DataKind::TarShards => Crop::RandomResized,
            DataKind::Cifar10 | DataKind::Cifar100 => Crop::Pad,
            DataKind::Idx | DataKind::Synthetic => Crop::None,
        })
    }

    pub(super) fn flip(&self, kind: DataKind) -> bool {
        self.flip.unwrap_or(!matches!(kind, DataKind::Idx | DataKind::Synthetic))
    }

    fn resize(&self, image_size: u32) -> u32 {
        self.resize.unwrap_or(image_size.saturating_mul(8) / 7)
    }

    /// What training does to images, and what evaluation does.
    pub(super) fn transforms(&self, kind: DataKind, image_size: u32) -> (Transform, Transform) {
        let (side, width, height) = (image_size, image_size, image_size);
        let pad = |padding, flip| Transform::PadCrop { width, height, padding, flip };
        let rule = CropRule::default();
        let rule = CropRule {
            area: self.scale.map_or(rule.area, |[low, high]| (low, high)),
            ratio: self.ratio.map_or(rule.ratio, |[low, high]| (low, high)),
        };
        let training = match self.crop(kind) {
            Crop::RandomResized => Transform::RandomResizedCrop { side, rule },
            Crop::Pad => pad(self.padding.unwrap_or(4), self.flip(kind)),
            Crop::None => pad(0, self.flip(kind)),
            Crop::Resize => Transform::ResizeCentreCrop { resize: side, side },
        };
        let evaluation = if kind.has_photographs() {
            Transform::ResizeCentreCrop { resize: self.resize(image_size), side }
        } else if self.crop(kind) == Crop::Resize {
            training
        } else {
            pad(0, false)
        };
        (training, evaluation)
    }

    /// Means and standard deviations of the channels.
    pub(crate) fn mean_and_std(&self, kind: DataKind) -> (Vec<f32>, Vec<f32>) {
        let (mean, std) = match kind {
            DataKind::ImageFolder | DataKind::TarShards => Normalisation::IMAGENET,
            DataKind::Cifar10 => CIFAR10,
            DataKind::Cifar100 => CIFAR100,
            DataKind::Idx => ([0.5; 3], [0.5; 3]),
            DataKind::Synthetic => ([0.5; 3], [0.2; 3]),
        };
        // Where one of them is given, the other is as long.
        let given = self.mean.as_ref().or(self.std.as_ref()).map(Vec::len);
        let channels = given.unwrap_or(if kind == DataKind::Idx { 1 } else { 3 }).min(3);
        let or = |given: &Option<Vec<f32>>, default: [f32; 3]| {
            given.clone().unwrap_or_else(|| default[..channels].to_vec())
        };
        (or(&self.mean, mean), or(&self.std, std))
    }

    pub(super) fn preparation(
        &self,
        kind: DataKind,
        image_size: u32,
        layout: Layout,
    ) -> Result<[Preparation; 2], SettingError> {
        let (mean, std) = self.mean_and_std(kind);
        let normalisation = Normalisation::new(&mean, &std, layout)?;
        let (training, evaluation) = self.transforms(kind, image_size);
        Ok([
            Preparation::new(training, normalisation.clone())?,
            Preparation::new(evaluation, normalisation)?,
        ])
    }

    pub(super) fn check(&self, kind: DataKind, image_size: u32) -> Result<(), Problem> {
        let crop = self.crop(kind);
        let photographs = kind.has_photographs();
        let error = |key: &str, problem: &str| {
            Err(Problem::new(&format!("data.augmentation.{key}"), problem))
        };
        if photographs != (crop == Crop::RandomResized) {
            let problem = if photographs {
                "photographs have many sizes: only random-resized makes inputs of them"
            } else {
                "images of one size have no random sizes: take pad, resize or none"
            };
            return error("crop", problem);
        }
        for (key, given, fits, of) in [
            ("scale", self.scale.is_some(), photographs, "crop random-resized"),
            ("ratio", self.ratio.is_some(), photographs, "crop random-resized"),
            ("resize", self.resize.is_some(), photographs, "photographs"),
            ("padding", self.padding.is_some(), crop == Crop::Pad, "crop pad"),
        ] {
            if given && !fits {
                return error(key, &format!("this is for {of}: leave it out"));
            }
        }
        if photographs && self.flip == Some(false) {
            return error("flip", "random-resized crops are always flipped: leave it out");
        }
        if crop == Crop::Resize && self.flip(kind) {
            return error("flip", "resized images are not flipped: set it to false");
        }
        let (mean, std) = self.mean_and_std(kind);
        let key =
            match () {
                () if Normalisation::new(&mean, &std, Layout::Nchw).is_err() => {
                    if self.mean.is_some() { "mean" } else { "std" }
                }
                () if crop == Crop::Pad => "padding",
                () if self.scale.is_some() => "scale",
                () if self.ratio.is_some() => "ratio",
                () => "resize",
            };
        let made = self.preparation(kind, image_size, Layout::Nchw);
        made.map_or_else(|reason| error(key, &reason.to_string()), |_| Ok(()))
    }
}
