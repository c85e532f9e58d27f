//! Drawing a document: pure, and only ever run where it can do no harm.

use std::io::Cursor;

use hayro::{
    PixmapSettings, RenderCache, RenderSettings,
    hayro_interpret::InterpreterSettings,
    hayro_syntax::Pdf,
    vello_cpu::{color::palette::css::WHITE, peniko::ImageAlphaType},
};
use image::{
    DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage, imageops::FilterType,
};

use super::{
    DOTS_PER_INCH, PICTURES_MAX, PIXELS_MAX, SIDE_MAX, Undrawn,
    frame::{Frame, is_within_limits},
};
use crate::kind;

/// A point of PDF, of which there are so many to the inch.
const POINTS_PER_INCH: f32 = 72.0;
/// What a decoder of images may take.
const DECODER_BYTES_MAX: u64 = 1 << 30;

/// Draws a document, a picture after the other, as its content says what it is.
///
/// # Errors
///
/// [`Undrawn::Kind`], [`Undrawn::TooLarge`], [`Undrawn::Damaged`], and those of `out`.
pub(super) fn draw(
    document: Vec<u8>,
    out: &mut dyn FnMut(Frame) -> Result<(), Undrawn>,
) -> Result<(), Undrawn> {
    match kind::of(&document).media_type {
        "application/pdf" => pages(document, out),
        "image/jpeg" => image(&document, ImageFormat::Jpeg, out),
        "image/png" => image(&document, ImageFormat::Png, out),
        "image/webp" => image(&document, ImageFormat::WebP, out),
        "image/gif" => image(&document, ImageFormat::Gif, out),
        "image/tiff" => image(&document, ImageFormat::Tiff, out),
        _ => Err(Undrawn::Kind),
    }
}

fn pages(document: Vec<u8>, out: &mut dyn FnMut(Frame) -> Result<(), Undrawn>) -> Result<(), Undrawn> {
    let pdf = Pdf::new(document).map_err(|_| Undrawn::Damaged)?;
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(Undrawn::Damaged);
    }
    if pages.len() > usize::try_from(PICTURES_MAX).unwrap_or(usize::MAX) {
        return Err(Undrawn::TooLarge);
    }
    let cache = RenderCache::new();
    let (interpreter, settings) = (InterpreterSettings::default(), RenderSettings::default());
    for page in pages.iter() {
        let (width, height) = page.render_dimensions();
        let scale = scale(width, height).ok_or(Undrawn::Damaged)?;
        let pixmap = PixmapSettings {
            x_scale: scale,
            y_scale: scale,
            bg_color: WHITE,
        };
        let drawn = hayro::render(page, &cache, &interpreter, &settings, &pixmap);
        let (width, height) = (u32::from(drawn.width()), u32::from(drawn.height()));
        if !is_within_limits(width, height) {
            return Err(Undrawn::Damaged);
        }
        let pixels = drawn.take_rgba8(ImageAlphaType::Alpha);
        let pixels = pixels
            .chunks_exact(4)
            .flat_map(|pixel| pixel.iter().take(3).copied())
            .collect();
        out(Frame::Picture {
            width,
            height,
            pixels,
        })?;
    }
    Ok(())
}

/// By how much a page of so many points is enlarged; nothing for a page that has no size.
fn scale(width: f32, height: f32) -> Option<f32> {
    let wanted = DOTS_PER_INCH / POINTS_PER_INCH;
    let sides = width.max(height);
    let (longest, area) = (sides_max() / sides, (pixels_max() / (width * height)).sqrt());
    // A little less, so that no rounding goes beyond the limits.
    let scale = wanted.min(longest * 0.99).min(area * 0.99);
    let is_page = width.is_finite() && height.is_finite() && width * scale >= 1.0 && height * scale >= 1.0;
    (is_page && scale.is_finite() && scale > 0.0).then_some(scale)
}

#[allow(clippy::cast_precision_loss, reason = "limits are small")]
const fn sides_max() -> f32 {
    SIDE_MAX as f32
}

#[allow(clippy::cast_precision_loss, reason = "limits are small")]
const fn pixels_max() -> f32 {
    PIXELS_MAX as f32
}

fn image(
    document: &[u8],
    format: ImageFormat,
    out: &mut dyn FnMut(Frame) -> Result<(), Undrawn>,
) -> Result<(), Undrawn> {
    let mut reader = ImageReader::with_format(Cursor::new(document), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| undrawn(&error))?;
    if decoder.total_bytes() > DECODER_BYTES_MAX {
        return Err(Undrawn::TooLarge);
    }
    let turned = decoder.orientation().map_err(|error| undrawn(&error))?;
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(|error| undrawn(&error))?;
    decoded.apply_orientation(turned);
    let picture = smaller(decoded).into_rgba8();
    let (width, height) = picture.dimensions();
    out(Frame::Picture {
        width,
        height,
        pixels: on_white(&picture).into_raw(),
    })
}

/// The image in a size that a picture may have.
fn smaller(decoded: DynamicImage) -> DynamicImage {
    let (mut width, mut height) = (decoded.width(), decoded.height());
    if is_within_limits(width, height) {
        return decoded;
    }
    while !is_within_limits(width, height) && width > 1 && height > 1 {
        (width, height) = (width / 2, height / 2);
    }
    decoded.resize(width.min(SIDE_MAX), height.min(SIDE_MAX), FilterType::Triangle)
}

/// What can be seen through is white, as on paper.
fn on_white(picture: &image::RgbaImage) -> RgbImage {
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u16::from(value), u16::from(alpha));
        let mixed = value
            .saturating_mul(alpha)
            .saturating_add(255_u16.saturating_mul(255_u16.saturating_sub(alpha)));
        u8::try_from(mixed / 255).unwrap_or(u8::MAX)
    };
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let image::Rgba([red, green, blue, alpha]) = *picture.get_pixel(x, y);
        image::Rgb([blend(red, alpha), blend(green, alpha), blend(blue, alpha)])
    })
}

fn undrawn(error: &image::ImageError) -> Undrawn {
    match error {
        image::ImageError::Limits(_) => Undrawn::TooLarge,
        image::ImageError::Unsupported(_) => Undrawn::Kind,
        _ => Undrawn::Damaged,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_page_fits() {
        for (width, height) in [
            (595.0, 842.0),
            (1.0, 14_400.0),
            (14_400.0, 14_400.0),
            (1e6, 1e6),
            (0.6, 0.6),
        ] {
            let scale = scale(width, height).unwrap();
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "as the renderer does"
            )]
            let (width, height) = ((width * scale) as u32, (height * scale) as u32);
            assert!(is_within_limits(width, height), "{width} x {height}");
        }
        for (width, height) in [
            (0.0, 5.0),
            (5.0, 0.0),
            (f32::NAN, 5.0),
            (f32::INFINITY, 5.0),
            (-5.0, -5.0),
            (1e-3, 1e9),
        ] {
            assert_eq!(scale(width, height), None, "{width} x {height}");
        }
    }

    fn drawn(document: &[u8]) -> Result<Vec<(u32, u32, Vec<u8>)>, Undrawn> {
        let mut pictures = Vec::new();
        draw(document.to_vec(), &mut |frame| {
            if let Frame::Picture {
                width,
                height,
                pixels,
            } = frame
            {
                pictures.push((width, height, pixels));
            }
            Ok(())
        })?;
        Ok(pictures)
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn images_keep_their_pixels() {
        let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(3, 2, |x, y| {
            image::Rgb([u8::try_from(x).unwrap(), u8::try_from(y).unwrap(), 9])
        }));
        for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP] {
            let shown = drawn(&encoded(&picture, format)).unwrap();
            assert_eq!(shown, [(3, 2, picture.as_bytes().to_vec())], "{format:?}");
        }
        let clear = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(1, 1, image::Rgba([0, 0, 0, 0])));
        assert_eq!(
            drawn(&encoded(&clear, ImageFormat::Png)).unwrap(),
            [(1, 1, vec![255; 3])]
        );
    }

    #[test]
    fn an_image_that_unpacks_to_too_much_is_refused() {
        // 60,000 by 60,000 pixels in a header of a few bytes.
        let small = encoded(&DynamicImage::new_rgb8(1, 1), ImageFormat::Png);
        let mut bomb = small.clone();
        bomb.splice(16..24, [0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc32(bomb.get(12..29).unwrap());
        bomb.splice(29..33, crc.to_be_bytes());
        assert_eq!(drawn(&bomb), Err(Undrawn::TooLarge));
        assert_eq!(drawn(small.get(..40).unwrap()), Err(Undrawn::Damaged));
        assert_eq!(drawn(b"PK\x03\x04"), Err(Undrawn::Kind));
        assert_eq!(drawn(b"%PDF-1.7 nothing"), Err(Undrawn::Damaged));
    }

    #[allow(clippy::arithmetic_side_effects, reason = "a checksum of a test")]
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
            })
        })
    }
}
