//! What EXIF says, for people to be told, and the one thing of it that is kept: how the image is turned.

use std::collections::BTreeSet;

use exif::{Context, In, Reader, Tag, Value};

use super::Finding;

/// Notes what a TIFF structure of EXIF carries, and gives how the image is turned: 2 to 8, or nothing.
pub(super) fn read(tiff: &[u8], found: &mut BTreeSet<Finding>) -> Option<u8> {
    let read = match Reader::new().read_raw(tiff.to_vec()) {
        Ok(read) => read,
        Err(_) => {
            found.insert(Finding::Metadata);
            return None;
        }
    };
    for field in read.fields() {
        // How it is turned, and the size of what is seen, say nothing more than the image.
        let finding = match (field.tag, field.tag.context()) {
            (Tag::Orientation | Tag::ExifVersion | Tag::FlashpixVersion | Tag::ColorSpace, _)
                if field.ifd_num == In::PRIMARY =>
            {
                continue;
            }
            (Tag::PixelXDimension | Tag::PixelYDimension, _) => continue,
            (_, Context::Gps) => Finding::Position,
            (Tag::MakerNote, _) => Finding::MakerNote,
            (Tag::DateTime | Tag::DateTimeOriginal | Tag::DateTimeDigitized, _) => Finding::Time,
            (Tag::Artist | Tag::Copyright | Tag::CameraOwnerName, _) => Finding::Author,
            (Tag::ImageDescription | Tag::UserComment, _) => Finding::Comment,
            (Tag::Make | Tag::Model | Tag::Software | Tag::BodySerialNumber | Tag::LensModel, _) => {
                Finding::Device
            }
            (Tag::JPEGInterchangeFormat | Tag::JPEGInterchangeFormatLength, _) => Finding::Thumbnail,
            _ => Finding::Metadata,
        };
        found.insert(finding);
    }
    match &read.get_field(Tag::Orientation, In::PRIMARY)?.value {
        Value::Short(values) => {
            let turned = u8::try_from(*values.first()?).ok()?;
            (2..=8).contains(&turned).then_some(turned)
        }
        _ => None,
    }
}

/// A TIFF structure that says how the image is turned, and nothing else.
pub(super) fn only_turned(turned: u8) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([turned, 0, 0, 0, 0, 0, 0]);
    tiff
}
