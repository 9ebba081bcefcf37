//! Eight-bit samples to the floating-point numbers a network takes.

use super::{PrepareError, SettingError};
use crate::data::source::Pixels;

/// The order of the numbers of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `batch × channels × height × width`.
    Nchw,
    /// `batch × height × width × channels`.
    Nhwc,
}

/// `(sample / 255 − mean) / deviation` in each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    layout: Layout,
    /// For each channel the result for every sample.
    tables: Vec<[f32; 256]>,
}

impl Normalisation {
    /// The means and standard deviations of ImageNet's red, green and blue, as torchvision has them.
    pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

    /// Normalises with these means and standard deviations, of samples in 0 to 1: one of each for
    /// grey inputs, three for colour. It is computed in single precision, as PyTorch does.
    ///
    /// # Errors
    ///
    /// When there are not 1 or 3 of each, one is not finite, or a deviation is not above zero.
    pub fn new(means: &[f32], deviations: &[f32], layout: Layout) -> Result<Self, SettingError> {
        if !matches!(means.len(), 1 | 3) || means.len() != deviations.len() {
            let (means, deviations) = (means.len(), deviations.len());
            return Err(SettingError::Channels { means, deviations });
        }
        if let Some(mean) = means.iter().find(|mean| !mean.is_finite()) {
            return Err(SettingError::Mean(*mean));
        }
        let sound = |deviation: f32| deviation.is_finite() && deviation > 0.0;
        if let Some(deviation) = deviations.iter().find(|deviation| !sound(**deviation)) {
            return Err(SettingError::Deviation(*deviation));
        }
        let table = |(mean, deviation): (&f32, &f32)| {
            std::array::from_fn(|sample| (sample as f32 / 255.0 - mean) / deviation)
        };
        Ok(Self { layout, tables: means.iter().zip(deviations).map(table).collect() })
    }

    /// 1 or 3.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.tables.len()
    }

    /// The order of the numbers.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether an image can be normalised: grey ones always can, repeated in every channel.
    pub(super) fn check(&self, pixels: &Pixels) -> Result<(), PrepareError> {
        if pixels.channels() as usize > self.channels() {
            Err(PrepareError::Colour)
        } else {
            Ok(())
        }
    }

    /// Writes one image, its rows from right to left if `flip`, in this layout.
    pub(super) fn write(&self, pixels: &Pixels, flip: bool, out: &mut [f32]) {
        let (width, stored) = (pixels.width() as usize, pixels.channels() as usize);
        let channels = self.channels();
        let plane = width * pixels.height() as usize;
        let row = |image: usize| {
            pixels.data()[image * width * stored..(image + 1) * width * stored].chunks_exact(stored)
        };
        match self.layout {
            Layout::Nhwc => {
                for (y, out) in out.chunks_exact_mut(width * channels).enumerate() {
                    let normalise = |(out, pixel): (&mut [f32], &[u8])| {
                        for (channel, (out, table)) in out.iter_mut().zip(&self.tables).enumerate()
                        {
                            *out = table[usize::from(pixel[channel.min(stored - 1)])];
                        }
                    };
                    let out = out.chunks_exact_mut(channels);
                    if flip {
                        out.zip(row(y).rev()).for_each(normalise);
                    } else {
                        out.zip(row(y)).for_each(normalise);
                    }
                }
            }
            Layout::Nchw => {
                let planes = out.chunks_exact_mut(plane).zip(&self.tables);
                for (channel, (out, table)) in planes.enumerate() {
                    let channel = channel.min(stored - 1);
                    let normalise =
                        |(out, pixel): (&mut f32, &[u8])| *out = table[usize::from(pixel[channel])];
                    for (y, out) in out.chunks_exact_mut(width).enumerate() {
                        if flip {
                            out.iter_mut().zip(row(y).rev()).for_each(normalise);
                        } else {
                            out.iter_mut().zip(row(y)).for_each(normalise);
                        }
                    }
                }
            }
        }
    }
}

/// Writes one image as bytes, as [`Normalisation::write`] lays numbers out, for whoever normalises
/// elsewhere; grey ones are repeated in each of so many channels.
pub(super) fn write_bytes(pixels: &Pixels, channels: usize, flip: bool, out: &mut [u8]) {
    let (width, stored) = (pixels.width() as usize, pixels.channels() as usize);
    if stored == channels && !flip {
        out.copy_from_slice(pixels.data());
        return;
    }
    let rows = pixels.data().chunks_exact(width * stored);
    for (row, out) in rows.zip(out.chunks_exact_mut(width * channels)) {
        let copy = |(out, pixel): (&mut [u8], &[u8])| {
            for (channel, out) in out.iter_mut().enumerate() {
                *out = pixel[channel.min(stored - 1)];
            }
        };
        let (out, row) = (out.chunks_exact_mut(channels), row.chunks_exact(stored));
        if flip {
            out.zip(row.rev()).for_each(copy);
        } else {
            out.zip(row).for_each(copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Normalised one by one, bytes are what is written as numbers.
    #[test]
    fn bytes_are_laid_out_as_numbers_are() {
        let grey = Pixels::new(2, 2, 1, vec![0, 51, 102, 255]).unwrap();
        let normalisation = Normalisation::new(&[0.0, 0.5, 1.0], &[1.0, 0.5, 0.25], Layout::Nhwc);
        let normalisation = normalisation.unwrap();
        for pixels in [image(), grey] {
            for flip in [false, true] {
                let (mut bytes, mut numbers) = ([0; 12], [0.0; 12]);
                write_bytes(&pixels, 3, flip, &mut bytes);
                normalisation.write(&pixels, flip, &mut numbers);
                let table =
                    |(at, byte): (usize, &u8)| normalisation.tables[at % 3][usize::from(*byte)];
                let expected: Vec<f32> = bytes.iter().enumerate().map(table).collect();
                assert_eq!(expected, numbers);
            }
        }
    }

    /// Two pixels side by side over two more; red, green, blue.
    fn image() -> Pixels {
        Pixels::new(2, 2, 3, vec![0, 51, 102, 153, 204, 255, 255, 0, 51, 102, 153, 204]).unwrap()
    }

    fn write(layout: Layout, flip: bool, pixels: &Pixels) -> Vec<f32> {
        let means = [0.0, 0.5, 1.0];
        let normalisation = Normalisation::new(&means, &[1.0, 0.5, 0.25], layout).unwrap();
        let mut out = vec![f32::NAN; 12];
        normalisation.write(pixels, flip, &mut out);
        out.iter().map(|number| (number * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn both_layouts_by_hand() {
        // 0, 51, …, 255 are 0, 0.2, …, 1; red r, green 2 g − 1, blue 4 b − 4.
        let nchw = [0.0, 0.6, 1.0, 0.4, -0.6, 0.6, -1.0, 0.2, -2.4, 0.0, -3.2, -0.8];
        assert_eq!(write(Layout::Nchw, false, &image()), nchw);
        let nhwc = [0.0, -0.6, -2.4, 0.6, 0.6, 0.0, 1.0, -1.0, -3.2, 0.4, 0.2, -0.8];
        assert_eq!(write(Layout::Nhwc, false, &image()), nhwc);
    }

    #[test]
    fn flipping_exchanges_left_and_right() {
        let nchw = [0.6, 0.0, 0.4, 1.0, 0.6, -0.6, 0.2, -1.0, 0.0, -2.4, -0.8, -3.2];
        assert_eq!(write(Layout::Nchw, true, &image()), nchw);
        let nhwc = [0.6, 0.6, 0.0, 0.0, -0.6, -2.4, 0.4, 0.2, -0.8, 1.0, -1.0, -3.2];
        assert_eq!(write(Layout::Nhwc, true, &image()), nhwc);
    }

    #[test]
    fn grey_is_repeated_and_colour_does_not_become_grey() {
        let grey = Pixels::new(2, 2, 1, vec![0, 51, 102, 255]).unwrap();
        let nchw = [0.0, 0.2, 0.4, 1.0, -1.0, -0.6, -0.2, 1.0, -4.0, -3.2, -2.4, 0.0];
        assert_eq!(write(Layout::Nchw, false, &grey), nchw);
        let one = Normalisation::new(&[0.5], &[0.5], Layout::Nchw).unwrap();
        assert_eq!(one.check(&image()), Err(PrepareError::Colour));
        assert_eq!(one.check(&grey), Ok(()));
    }

    #[test]
    fn senseless_settings_are_refused() {
        let error = |means: &[f32], deviations: &[f32]| {
            Normalisation::new(means, deviations, Layout::Nchw).unwrap_err().to_string()
        };
        assert!(error(&[0.0; 2], &[1.0; 2]).contains("expected 1 or 3 of each"));
        assert!(error(&[0.0; 3], &[1.0]).contains("3 means and 1 standard deviations"));
        assert!(error(&[0.0], &[0.0]).contains("the standard deviation 0"));
        assert!(error(&[f32::NAN], &[1.0]).contains("the mean NaN"));
    }
}
