//! Working copies of photographs: what ExifTool plants, ExifTool and a search for bytes do not find again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

use image::{ImageFormat, RgbImage};
use martlet_tests::processes::{World, binary};
use serde_json::Value;

const CANARY: &str = "CANARYTashkent";

/// What ExifTool writes into one file each.
const PLANTED: [&[&str]; 17] = [
    &[
        "-GPSLatitude=41.31",
        "-GPSLatitudeRef=N",
        "-GPSLongitude=69.24",
        "-GPSLongitudeRef=E",
        "-GPSProcessingMethod=CANARYTashkent",
    ],
    &["-GPSAreaInformation=CANARYTashkent", "-GPSDateStamp=2026:11:24"],
    &[
        "-DateTimeOriginal=2026:11:24 01:02:03",
        "-OffsetTimeOriginal=+05:00",
        "-Artist=CANARYTashkent",
    ],
    &[
        "-Make=CANARYTashkent",
        "-Model=CANARYTashkent",
        "-SerialNumber=CANARYTashkent",
        "-LensModel=CANARYTashkent",
    ],
    &[
        "-Software=CANARYTashkent",
        "-Copyright=CANARYTashkent",
        "-OwnerName=CANARYTashkent",
    ],
    &[
        "-ImageDescription=CANARYTashkent",
        "-UserComment=CANARYTashkent",
        "-XPComment=CANARYTashkent",
        "-XPAuthor=CANARYTashkent",
    ],
    &["-Comment=CANARYTashkent", "-XMP:Title=CANARYTashkent"],
    &[
        "-XMP:Creator=CANARYTashkent",
        "-XMP:CreateDate=2026:11:24 01:02:03",
    ],
    &[
        "-XMP:GPSLatitude=41.31",
        "-XMP:Description=CANARYTashkent",
        "-XMP:HistoryAction=CANARYTashkent",
    ],
    &[
        "-XMP:PersonInImage=CANARYTashkent",
        "-XMP:LocationCreatedCity=CANARYTashkent",
    ],
    &[
        "-IPTC:City=CANARYTashkent",
        "-IPTC:By-line=CANARYTashkent",
        "-XMP:City=CANARYTashkent",
    ],
    &["-IPTC:Keywords=CANARYTashkent", "-XMP:Subject=CANARYTashkent"],
    &["-Orientation#=6", "-Artist=CANARYTashkent"],
    &[
        "-Orientation#=3",
        "-XMP:Orientation#=3",
        "-XMP:Rights=CANARYTashkent",
    ],
    &[
        "-ImageUniqueID=CANARYTashkent",
        "-XMP:DocumentID=CANARYTashkent",
        "-XMP:InstanceID=CANARYTashkent",
    ],
    &["-ThumbnailImage<=thumb.jpg", "-Artist=CANARYTashkent"],
    &[
        "-XMP:Label=CANARYTashkent",
        "-EXIF:HostComputer=CANARYTashkent",
        "-EXIF:DocumentName=CANARYTashkent",
    ],
];

const FORMATS: [(ImageFormat, &str); 3] = [
    (ImageFormat::Jpeg, "jpg"),
    (ImageFormat::Png, "png"),
    (ImageFormat::WebP, "webp"),
];

fn exiftool(folder: &Path, args: &[&str]) -> Vec<u8> {
    let done = Command::new("exiftool").args(args).current_dir(folder).output();
    let done = done.expect("exiftool is there: apt-get install libimage-exiftool-perl");
    done.stdout
}

fn encoded(number: usize, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(64, 48, |x, y| {
        image::Rgb([
            u8::try_from(x * 4).unwrap(),
            u8::try_from(y * 5).unwrap(),
            u8::try_from(number * 7 % 256).unwrap(),
        ])
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Images with planted words: by ExifTool, and behind their end.
fn corpus(folder: &Path) -> Vec<PathBuf> {
    let mut made = Vec::new();
    std::fs::write(
        folder.join("thumb.jpg"),
        [encoded(99, ImageFormat::Jpeg), CANARY.into()].concat(),
    )
    .unwrap();
    for (format, ending) in FORMATS {
        for (number, tags) in PLANTED.iter().enumerate() {
            let name = format!("{number:02}.{ending}");
            std::fs::write(folder.join(&name), encoded(number, format)).unwrap();
            exiftool(
                folder,
                &[&["-q", "-overwrite_original", "-m"], *tags, &[name.as_str()]].concat(),
            );
            made.push(folder.join(name));
        }
        for (name, tail) in [
            ("words", CANARY.as_bytes().to_vec()),
            ("second", encoded(7, ImageFormat::Jpeg)),
            ("film", {
                [b"\0\0\0\x18ftypmp42".as_slice(), CANARY.as_bytes()].concat()
            }),
        ] {
            let path = folder.join(format!("{name}.{ending}"));
            std::fs::write(&path, [encoded(3, format), tail].concat()).unwrap();
            made.push(path);
        }
    }
    made
}

/// Whether the word is there, in bytes or in UTF-16 of either order.
fn carries(bytes: &[u8]) -> bool {
    let wide = |order: fn(u16) -> [u8; 2]| CANARY.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    [
        CANARY.as_bytes().to_vec(),
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
    ]
    .iter()
    .any(|word| bytes.windows(word.len()).any(|part| part == word))
}

fn pixels(path: &Path) -> RgbImage {
    image::open(path).unwrap().into_rgb8()
}

fn scrub(file: &Path, to: &Path) -> (i32, Value) {
    let done = Command::new(binary("martlet"))
        .args([
            "scrub",
            file.to_str().unwrap(),
            "--to",
            to.to_str().unwrap(),
            "--json",
        ])
        .output()
        .unwrap();
    (
        done.status.code().unwrap(),
        serde_json::from_slice(&done.stdout).unwrap(),
    )
}

#[test]
fn nothing_planted_survives_and_pixels_stay() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = corpus(dir.path());
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let copies = dir.path().join("copies");
    std::fs::create_dir(&copies).unwrap();
    let mut planted = 0;
    for file in &corpus {
        planted += usize::from(carries(&std::fs::read(file).unwrap()));
        let copy = copies.join(file.file_name().unwrap());
        let (code, told) = scrub(file, &copy);
        assert_eq!(code, 0, "{file:?}: {told}");
        assert!(!told["found"].as_array().unwrap().is_empty(), "{file:?}");
        assert_eq!(told["found"], told["removed"]);
        assert!(!carries(&std::fs::read(&copy).unwrap()), "{file:?}");
        assert_eq!(pixels(&copy), pixels(file), "{file:?}");
        assert_eq!(scrub(file, &copy).0, 1, "nothing is overwritten");
    }
    assert!(
        planted >= 45,
        "only {planted} files carried the word in plain bytes"
    );
    // ExifTool finds nothing but what the image is and how it is turned.
    let found = exiftool(&copies, &["-j", "-a", "-u", "-ee", "-G1", "-r", "."]);
    let found: Vec<Value> = serde_json::from_slice(&found).unwrap();
    assert_eq!(found.len(), corpus.len());
    let plain = [
        "SourceFile",
        "ExifTool:",
        "System:",
        "File:",
        "JFIF:",
        "PNG:",
        "RIFF:",
        "Composite:ImageSize",
        "Composite:Megapixels",
        "PNG-pHYs:",
    ];
    let turned = ["IFD0:Orientation", "File:ExifByteOrder"];
    let mut kept = 0;
    for file in &found {
        for (tag, value) in file.as_object().unwrap() {
            let is_plain = plain.iter().any(|plain| tag.starts_with(plain));
            assert!(
                is_plain || turned.contains(&tag.as_str()),
                "{tag}: {value} in {}",
                file["SourceFile"]
            );
            assert!(
                !tag.contains("Comment") && !tag.contains("Date") || tag.starts_with("System:"),
                "{tag}"
            );
            kept += usize::from(tag == "IFD0:Orientation");
        }
    }
    assert!(kept >= 4, "how an image is turned is kept: {kept}");
}

#[test]
fn what_cannot_be_scrubbed_is_said() {
    let (world, daemon) = World::start();
    let (mine, theirs, _) = world.case(&daemon);
    let photo = world.path("photo.jpg");
    std::fs::write(&photo, encoded(1, ImageFormat::Jpeg)).unwrap();
    exiftool(
        world.dir.path(),
        &["-q", "-overwrite_original", "-Artist=CANARYTashkent", "photo.jpg"],
    );
    let film = world.path("film.mp4");
    std::fs::write(&film, b"\0\0\0\x18ftypmp42 and so on").unwrap();
    let name = |path: &Path| path.to_str().unwrap().to_string();

    let (code, told) = scrub(&film, &world.path("copy.mp4"));
    assert_eq!((code, &told["error"]["code"]), (8, &"not-scrubbed".into()));
    assert!(!world.path("copy.mp4").exists());
    world.fails(
        "amal",
        &["send", &mine, "--file", &name(&film), "--scrub", "only"],
        8,
        "not-scrubbed",
    );

    let sent = world.ok(
        "amal",
        &["send", &mine, "--file", &name(&film), "--file", &name(&photo)],
    );
    let states: Vec<_> = sent["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["scrub"].clone())
        .collect();
    assert_eq!(states, ["sealed-only", "scrubbed"]);
    assert_eq!(sent["files"][1]["found"][0], "author");
    assert_eq!(
        sent["letters"].as_array().unwrap().len(),
        3,
        "the film, the photograph and its copy"
    );
    let only = world.ok(
        "amal",
        &["send", &mine, "--file", &name(&photo), "--scrub", "only"],
    );
    assert_eq!(only["letters"].as_array().unwrap().len(), 1);
    let off = world.ok(
        "amal",
        &["send", &mine, "--file", &name(&photo), "--scrub", "off"],
    );
    assert_eq!(off["letters"].as_array().unwrap().len(), 1);

    // Counsel sees which is which, and the copy carries nothing.
    let read = world.ok("ines", &["read", &theirs]);
    let files: Vec<Value> = read["letters"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|letter| letter.get("file").cloned())
        .collect();
    assert_eq!(files.len(), 5);
    assert_eq!(
        (&files[1]["name"], &files[2]["name"]),
        (&"photo.jpg".into(), &"photo.scrubbed.jpg".into())
    );
    assert_eq!(files[2]["copy_of"], files[1]["sha256"]);
    assert!(files[1].get("copy_of").is_none() && files[3].get("copy_of").is_none());
    let inbox = world.path("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let get = |file: &Value| {
        let got = world.ok(
            "ines",
            &[
                "get",
                &theirs,
                file["id"].as_str().unwrap(),
                "--to",
                &name(&inbox),
            ],
        );
        std::fs::read(got["path"].as_str().unwrap()).unwrap()
    };
    let carry: Vec<bool> = files[1..].iter().map(|file| carries(&get(file))).collect();
    assert_eq!(carry, [true, false, false, true]);
    daemon.terminate();
}
