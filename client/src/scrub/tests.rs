#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// What is planted where nothing may be left of it.
const CANARY: &[u8] = b"CANARY-Tashkent-41.31N";

fn encoded(format: ::image::ImageFormat) -> Vec<u8> {
    let image = ::image::RgbImage::from_fn(40, 30, |x, y| {
        ::image::Rgb([u8::try_from(x * 6).unwrap(), u8::try_from(y * 8).unwrap(), 9])
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn pixels(image: &[u8]) -> Vec<u8> {
    ::image::load_from_memory(image).unwrap().into_rgba8().into_raw()
}

/// EXIF that says how the image is turned, and the canary as artist.
fn tiff(turned: u8) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([turned, 0, 0]);
    tiff.extend(b"\x01\x3b\0\x02\0\0\0");
    tiff.extend([u8::try_from(CANARY.len()).unwrap(), 0, 0, 0, 38, 0, 0, 0, 0]);
    tiff.extend(CANARY);
    tiff
}

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&[0xff, marker][..], &length, data].concat()
}

fn png_chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(name);
    sum.update(data);
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length[..], name, data, &sum.finalize().to_be_bytes()].concat()
}

fn riff_chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    let pad: &[u8] = if data.len() % 2 == 1 { &[0] } else { &[] };
    [name, &length, data, pad].concat()
}

/// A JPEG with canaries wherever one can be put.
fn jpeg(turned: u8) -> Vec<u8> {
    let clean = encoded(::image::ImageFormat::Jpeg);
    let mut with = clean[..2].to_vec();
    let jfif = [
        b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01".as_slice(),
        &[0; 3],
        CANARY,
    ]
    .concat();
    with.extend(segment(0xe0, &jfif));
    with.extend(segment(0xe1, &[b"Exif\0\0".as_slice(), &tiff(turned)].concat()));
    with.extend(segment(
        0xe1,
        &[b"http://ns.adobe.com/xap/1.0/\0".as_slice(), CANARY].concat(),
    ));
    with.extend(segment(
        0xe2,
        &[b"ICC_PROFILE\0\x01\x01".as_slice(), CANARY].concat(),
    ));
    with.extend(segment(0xed, &[b"Photoshop 3.0\0".as_slice(), CANARY].concat()));
    with.extend(segment(0xef, CANARY));
    with.extend(segment(0xfe, CANARY));
    with.extend(&clean[2..]);
    with.extend(CANARY);
    with
}

fn png(turned: u8) -> Vec<u8> {
    let clean = encoded(::image::ImageFormat::Png);
    let (head, rest) = clean.split_at(33);
    let mut with = head.to_vec();
    for (name, data) in [
        (b"tEXt", [b"Comment\0".as_slice(), CANARY].concat()),
        (b"eXIf", tiff(turned)),
        (b"tIME", vec![7, 0xea, 11, 24, 1, 2, 3]),
        (b"iCCP", [b"x\0\0".as_slice(), CANARY].concat()),
        (b"prVt", CANARY.to_vec()),
    ] {
        with.extend(png_chunk(name, &data));
    }
    with.extend(rest);
    with.extend(CANARY);
    with
}

fn webp(turned: u8) -> Vec<u8> {
    let clean = encoded(::image::ImageFormat::WebP);
    let mut body = riff_chunk(b"VP8X", &[0x2c, 0, 0, 0, 39, 0, 0, 29, 0, 0]);
    body.extend(riff_chunk(b"ICCP", CANARY));
    body.extend(&clean[12..]);
    body.extend(riff_chunk(b"EXIF", &tiff(turned)));
    body.extend(riff_chunk(b"XMP ", CANARY));
    body.extend(riff_chunk(b"priv", CANARY));
    let size = u32::try_from(body.len() + 4).unwrap().to_le_bytes();
    [b"RIFF", &size[..], b"WEBP", &body, CANARY].concat()
}

fn has_canary(bytes: &[u8]) -> bool {
    bytes.windows(6).any(|part| part == b"CANARY")
}

#[test]
fn nothing_is_left_but_pixels_and_how_they_are_turned() {
    for (make, format) in [
        (jpeg as fn(u8) -> Vec<u8>, ::image::ImageFormat::Jpeg),
        (png, ::image::ImageFormat::Png),
        (webp, ::image::ImageFormat::WebP),
    ] {
        let carries = make(6);
        assert!(has_canary(&carries));
        let copy = scrub(&carries).unwrap();
        assert!(!has_canary(&copy.bytes), "{format:?}");
        assert_eq!(pixels(&copy.bytes), pixels(&encoded(format)), "{format:?}");
        let kept = if format == ::image::ImageFormat::WebP {
            "EXIF"
        } else {
            "turned"
        };
        let turned = exif::only_turned(6);
        assert!(
            copy.bytes.windows(turned.len()).any(|part| part == turned),
            "{format:?} {kept}"
        );
        for finding in [
            Finding::Author,
            Finding::Profile,
            Finding::Metadata,
            Finding::Trailing,
        ] {
            assert!(copy.found.contains(&finding), "{format:?} {finding:?}");
        }
        let again = scrub(&copy.bytes).unwrap();
        assert_eq!((again.bytes, again.found.len()), (copy.bytes, 0), "{format:?}");
        // An image that is not turned says nothing of it.
        let upright = scrub(&make(1)).unwrap();
        assert!(
            !upright.bytes.windows(4).any(|part| part == b"MM\0\x2a"),
            "{format:?}"
        );
    }
}

#[test]
fn a_clean_image_is_found_clean() {
    for format in [
        ::image::ImageFormat::Jpeg,
        ::image::ImageFormat::Png,
        ::image::ImageFormat::WebP,
    ] {
        let clean = encoded(format);
        let copy = scrub(&clean).unwrap();
        assert_eq!(
            (copy.found.len(), pixels(&copy.bytes)),
            (0, pixels(&clean)),
            "{format:?}"
        );
    }
}

#[test]
fn what_is_not_whole_or_not_known_is_not_taken_for_clean() {
    for make in [jpeg, png, webp] {
        let whole = make(6);
        for cut in [4, 13, 30, 60, whole.len() / 2] {
            assert!(scrub(&whole[..cut]).is_err(), "{cut}");
        }
    }
    assert_eq!(scrub(b"GIF89a"), Err(Unscrubbed::Kind));
    assert_eq!(scrub(b"%PDF-1.7"), Err(Unscrubbed::Kind));
    assert_eq!(scrub(b""), Err(Unscrubbed::Kind));
    // A critical chunk that is not known.
    let mut strange = encoded(::image::ImageFormat::Png);
    strange.splice(33..33, png_chunk(b"ABCD", b""));
    assert_eq!(scrub(&strange), Err(Unscrubbed::Damaged));
}

proptest! {
    #[test]
    fn changed_images_do_no_harm_and_give_the_same_again(
        which in 0usize..3, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut: prop::sample::Index,
    ) {
        let mut image = [jpeg, png, webp][which](3);
        for (at, value) in changes {
            let at = at.index(image.len());
            image[at] = value;
        }
        if which == 0 {
            image.truncate(image.len() - cut.index(40));
        }
        if let Ok(copy) = scrub(&image) {
            let again = scrub(&copy.bytes).unwrap();
            prop_assert_eq!(again.bytes, copy.bytes);
        }
    }

    #[test]
    fn anything_does_no_harm(which in 0usize..4, tail: Vec<u8>) {
        let head: &[u8] = [b"\xff\xd8\xff".as_slice(), png::SIGNATURE, b"RIFF\x40\0\0\0WEBP", b""][which];
        let _ = scrub(&[head, &tail].concat());
    }
}
