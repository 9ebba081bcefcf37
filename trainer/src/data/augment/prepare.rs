//! One sample from payload to input.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{
    FilterType, PixelTrait, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer,
};
use foretrain_sim::random::{Stream, Streams};
use rand::Rng;

use super::crop::{centre_box, check_side};
use super::normalise::write_bytes;
use super::{CropRule, Normalisation, PrepareError, SettingError, decode, random_resized_box};
use crate::data::below;
use crate::data::source::{Payload, Pixels};

/// What happens to an image between decoding and normalising.
///
/// Resizing is Pillow's bilinear filter with antialiasing, eight bits in and out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transform {
    /// For training on photographs: a random part becomes a square of `side`, every other one on
    /// average with left and right exchanged.
    ///
    /// The filter reaches up to its radius beyond the part where the image goes on; torchvision's,
    /// which crops first, does not. Only the outermost pixels can tell.
    RandomResizedCrop {
        /// Pixels of a side.
        side: u32,
        /// How large the part is.
        rule: CropRule,
    },
    /// For evaluation on photographs: the centre square of `side`, after the shorter side has been
    /// resized to `resize`. Nothing is random.
    ResizeCentreCrop {
        /// Pixels of the shorter side after resizing.
        resize: u32,
        /// Pixels of a side that are left.
        side: u32,
    },
    /// For training on small images of one size: with `padding` black pixels around, a random part
    /// of the old size. With no padding and no flip, images are left as they are, for evaluation.
    PadCrop {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Pixels added on each side, 4 for CIFAR.
        padding: u32,
        /// Whether to exchange left and right every other time on average: yes for CIFAR, no for
        /// digits.
        flip: bool,
    },
}

impl Transform {
    /// Width and height of what comes out, in pixels.
    #[must_use]
    pub const fn size(&self) -> (u32, u32) {
        match *self {
            Self::RandomResizedCrop { side, .. } | Self::ResizeCentreCrop { side, .. } => {
                (side, side)
            }
            Self::PadCrop { width, height, .. } => (width, height),
        }
    }

    fn check(&self) -> Result<(), SettingError> {
        let (width, height) = self.size();
        check_side(width)?;
        check_side(height)?;
        match *self {
            Self::RandomResizedCrop { rule, .. } => rule.check(),
            Self::ResizeCentreCrop { resize, side } if resize < side => {
                Err(SettingError::Centre { side, resize })
            }
            Self::ResizeCentreCrop { resize, .. } => check_side(resize),
            Self::PadCrop { padding, .. } => check_side(padding.saturating_add(1)),
        }
    }
}

/// What decides the random choices of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleKey {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The sample's index in its dataset.
    pub index: u32,
}

impl SampleKey {
    fn stream(self) -> Stream {
        let purpose = format!("augmentation, epoch {}", self.epoch);
        Streams::new(self.seed).stream(&format!("sample {}", self.index), &purpose)
    }
}

/// A resizer, whose buffers are worth keeping from one image to the next: one for each thread.
#[derive(Debug, Default)]
pub struct Resizing(Resizer);

/// An image of the final size, not yet normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    pixels: Pixels,
    flip: bool,
}

/// The way from payload to input, the same for all samples of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    transform: Transform,
    normalisation: Normalisation,
}

impl Preparation {
    /// Transforms, then normalises.
    ///
    /// # Errors
    ///
    /// When the transform makes no sense: sides not of 1 to 16,384 pixels, empty ranges, a centre
    /// larger than the image.
    pub fn new(transform: Transform, normalisation: Normalisation) -> Result<Self, SettingError> {
        transform.check()?;
        Ok(Self { transform, normalisation })
    }

    /// Channels, height and width of an input.
    #[must_use]
    pub const fn shape(&self) -> [usize; 3] {
        let (width, height) = self.transform.size();
        [self.normalisation.channels(), height as usize, width as usize]
    }

    /// Numbers of an input: the product of its shape.
    #[must_use]
    pub const fn numbers(&self) -> usize {
        let [channels, height, width] = self.shape();
        channels * height * width
    }

    /// How inputs are normalised and laid out.
    #[must_use]
    pub const fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// Decodes and transforms one sample.
    ///
    /// # Errors
    ///
    /// When the image cannot be decoded, is in colour for a grey network, or has not the one size
    /// that the transform takes.
    pub fn prepare(
        &self,
        payload: Payload,
        key: SampleKey,
        resizing: &mut Resizing,
    ) -> Result<Prepared, PrepareError> {
        let pixels = match payload {
            Payload::Encoded(file) => decode(&file)?,
            Payload::Raw(pixels) => pixels,
        };
        self.normalisation.check(&pixels)?;
        let (width, height) = (pixels.width(), pixels.height());
        match self.transform {
            Transform::RandomResizedCrop { side, rule } => {
                let mut stream = key.stream();
                let part = random_resized_box(width, height, &rule, &mut stream);
                let part = [part.left, part.top, part.width, part.height].map(f64::from);
                let pixels = resize(&pixels, part, side, resizing)?;
                Ok(Prepared { pixels, flip: coin(&mut stream) })
            }
            Transform::ResizeCentreCrop { resize: short, side } => {
                let part = centre_box(width, height, short, side);
                Ok(Prepared { pixels: resize(&pixels, part, side, resizing)?, flip: false })
            }
            Transform::PadCrop { padding, flip, .. } => {
                let (found, expected) = ((width, height), self.transform.size());
                if found != expected {
                    return Err(PrepareError::Size { found, expected });
                }
                let mut stream = key.stream();
                let places = 2 * u64::from(padding) + 1;
                let [top, left] = [(); 2].map(|()| below(&mut stream, places) as u32);
                let pixels = pad_crop(pixels, padding, left, top);
                Ok(Prepared { pixels, flip: flip && coin(&mut stream) })
            }
        }
    }

    /// Normalises into `out`, of [`Preparation::numbers`]; what is beyond is left alone.
    pub fn write(&self, prepared: &Prepared, out: &mut [f32]) {
        let numbers = self.numbers().min(out.len());
        self.normalisation.write(&prepared.pixels, prepared.flip, &mut out[..numbers]);
    }

    /// As [`Preparation::write`] for the layout `batch × height × width × channels`, but not
    /// normalised: one byte for each number.
    pub fn write_bytes(&self, prepared: &Prepared, out: &mut [u8]) {
        let numbers = self.numbers().min(out.len());
        let channels = self.normalisation.channels();
        write_bytes(&prepared.pixels, channels, prepared.flip, &mut out[..numbers]);
    }
}

fn coin(stream: &mut Stream) -> bool {
    stream.next_u64() >> 63 == 1
}

/// A part (left, top, width, height) of an image as a square of `side`.
fn resize(
    pixels: &Pixels,
    [left, top, width, height]: [f64; 4],
    side: u32,
    resizing: &mut Resizing,
) -> Result<Pixels, PrepareError> {
    let refused = |reason: &dyn std::fmt::Display| PrepareError::Resize(reason.to_string());
    let kind = if pixels.channels() == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let source = ImageRef::new(pixels.width(), pixels.height(), pixels.data(), kind)
        .map_err(|reason| refused(&reason))?;
    // Fractions may end a rounding error beyond the image, which the resizer would refuse.
    let width = width.min(f64::from(pixels.width()) - left);
    let height = height.min(f64::from(pixels.height()) - top);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, width, height);
    let mut resized = Image::new(side, side, kind);
    // By type: over all of its pixel types the resizer takes minutes to compile.
    if pixels.channels() == 1 {
        resize_typed::<U8>(&mut resizing.0, &source, &mut resized, &options)
    } else {
        resize_typed::<U8x3>(&mut resizing.0, &source, &mut resized, &options)
    }
    .map_err(|reason| refused(&reason))?;
    Pixels::new(side, side, pixels.channels(), resized.into_vec())
        .ok_or(PrepareError::Pixels { width: side, height: side })
}

fn resize_typed<P: PixelTrait>(
    resizer: &mut Resizer,
    source: &ImageRef<'_>,
    resized: &mut Image<'_>,
    options: &ResizeOptions,
) -> Result<(), ResizeError> {
    match (source.typed_image::<P>(), resized.typed_image_mut::<P>()) {
        (Some(source), Some(mut resized)) => resizer.resize_typed(&source, &mut resized, options),
        _ => Err(ResizeError::PixelTypesAreDifferent),
    }
}

/// What is seen of a padded image from `left`, `top`, both at most twice the padding.
fn pad_crop(pixels: Pixels, padding: u32, left: u32, top: u32) -> Pixels {
    if (left, top) == (padding, padding) {
        return pixels;
    }
    let (width, height, channels) = (pixels.width(), pixels.height(), pixels.channels());
    let mut data = vec![0; pixels.data().len()];
    let row_bytes = (width * channels) as usize;
    let shift = left.abs_diff(padding).min(width);
    let bytes = ((width - shift) * channels) as usize;
    let skip = (shift * channels) as usize;
    let (from, to) = if left > padding { (skip, 0) } else { (0, skip) };
    for (y, out) in data.chunks_exact_mut(row_bytes).enumerate() {
        let Some(source) = (y + top as usize).checked_sub(padding as usize) else { continue };
        if source < height as usize {
            let row = &pixels.data()[source * row_bytes..(source + 1) * row_bytes];
            out[to..to + bytes].copy_from_slice(&row[from..from + bytes]);
        }
    }
    Pixels::new(width, height, channels, data).unwrap_or(pixels)
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;

    const KEY: SampleKey = SampleKey { seed: 1, epoch: 2, index: 3 };

    fn preparation(transform: Transform) -> Preparation {
        let (means, deviations) = Normalisation::IMAGENET;
        let normalisation = Normalisation::new(&means, &deviations, Layout::Nchw).unwrap();
        Preparation::new(transform, normalisation).unwrap()
    }

    fn waves(width: u32, height: u32) -> Pixels {
        let sample = |at: u32| (((at % width) * 7 + (at / width) * 3) % 256) as u8;
        let data = (0..width * height).flat_map(|at| [sample(at), at as u8, 255 - sample(at)]);
        Pixels::new(width, height, 3, data.collect()).unwrap()
    }

    #[test]
    fn the_centre_is_the_one_of_the_whole_image_resized() {
        let image = waves(500, 375);
        let transform = Transform::ResizeCentreCrop { resize: 256, side: 224 };
        let payload = Payload::Raw(image.clone());
        let centre =
            preparation(transform).prepare(payload, KEY, &mut Resizing::default()).unwrap();

        let source = ImageRef::new(500, 375, image.data(), PixelType::U8x3).unwrap();
        let mut whole = Image::new(341, 256, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        resize_typed::<U8x3>(&mut Resizer::new(), &source, &mut whole, &options).unwrap();
        for y in 0..224 {
            let from = ((y + 16) * 341 + 58) * 3;
            let expected = &whole.buffer()[from..from + 224 * 3];
            let row = &centre.pixels.data()[y * 224 * 3..(y + 1) * 224 * 3];
            assert!(row.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1), "row {y}");
        }
    }

    #[test]
    fn a_crop_depends_on_seed_epoch_and_sample_alone() {
        let rule = CropRule::default();
        let preparation = preparation(Transform::RandomResizedCrop { side: 32, rule });
        let mut resizing = Resizing::default();
        let mut prepare =
            |key| preparation.prepare(Payload::Raw(waves(90, 70)), key, &mut resizing).unwrap();
        let first = prepare(KEY);
        assert_eq!((first.pixels.width(), first.pixels.height()), (32, 32));
        assert_ne!(first, prepare(SampleKey { seed: 9, ..KEY }));
        assert_ne!(first, prepare(SampleKey { epoch: 9, ..KEY }));
        assert_ne!(first, prepare(SampleKey { index: 9, ..KEY }));
        assert_eq!(first, prepare(KEY));
        let flips = (0..1000).filter(|&index| prepare(SampleKey { index, ..KEY }).flip).count();
        assert!((420..580).contains(&flips), "{flips}");
    }

    #[test]
    fn extreme_shapes_are_resized_without_error() {
        let mut resizing = Resizing::default();
        let crop = Transform::RandomResizedCrop { side: 24, rule: CropRule::default() };
        let centre = Transform::ResizeCentreCrop { resize: 32, side: 24 };
        for (width, height) in [(1, 1), (1, 900), (900, 1), (3, 7), (24, 24), (37, 999), (641, 479)]
        {
            for transform in [crop, centre] {
                for index in 0..20 {
                    let payload = Payload::Raw(waves(width, height));
                    let key = SampleKey { index, ..KEY };
                    preparation(transform).prepare(payload, key, &mut resizing).unwrap();
                }
            }
        }
    }

    #[test]
    fn padding_by_hand() {
        let grey = || Pixels::new(3, 2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let cut = |left, top| pad_crop(grey(), 1, left, top).data().to_vec();
        assert_eq!(cut(1, 1), [1, 2, 3, 4, 5, 6]);
        assert_eq!(cut(0, 0), [0, 0, 0, 0, 1, 2]);
        assert_eq!(cut(2, 2), [5, 6, 0, 0, 0, 0]);
        assert_eq!(cut(2, 0), [0, 0, 0, 2, 3, 0]);
        assert_eq!(pad_crop(grey(), 9, 0, 9).data(), [0; 6]);
    }

    #[test]
    fn no_padding_leaves_images_alone_and_other_sizes_are_refused() {
        let transform = Transform::PadCrop { width: 5, height: 4, padding: 0, flip: false };
        let prepare = |pixels: Pixels| {
            preparation(transform).prepare(Payload::Raw(pixels), KEY, &mut Resizing::default())
        };
        let prepared = prepare(waves(5, 4)).unwrap();
        assert_eq!(prepared, Prepared { pixels: waves(5, 4), flip: false });
        let text = prepare(waves(4, 5)).unwrap_err().to_string();
        assert!(text.starts_with("4 × 5 pixels, expected 5 × 4"), "{text}");
    }

    #[test]
    fn senseless_transforms_are_refused() {
        let error = |transform| {
            let normalisation = Normalisation::new(&[0.0], &[1.0], Layout::Nchw).unwrap();
            Preparation::new(transform, normalisation).unwrap_err().to_string()
        };
        let rule = CropRule::default();
        assert!(error(Transform::RandomResizedCrop { side: 0, rule }).contains("side of 0"));
        let rule = CropRule { area: (0.5, 1.5), ..rule };
        assert!(error(Transform::RandomResizedCrop { side: 8, rule }).contains("0.5 to 1.5"));
        let centre = Transform::ResizeCentreCrop { resize: 200, side: 224 };
        assert!(error(centre).contains("resize to 224 or more, not 200"));
    }
}
