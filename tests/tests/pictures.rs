//! Hostile documents shown as pictures: by real processes, and by a renderer that does harm.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use martlet::{
    error::Undrawn,
    pictures::{Drawn, PATIENCE, Renderer},
};
use martlet_tests::processes::{World, binary};

/// A PDF of objects, with the table that says where they are.
fn pdf(objects: &[String]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut at = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        at.push(out.len());
        out.extend(format!("{} 0 obj\n{object}\nendobj\n", number + 1).bytes());
    }
    let table = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for at in &at {
        out.extend(format!("{at:010} 00000 n \n").bytes());
    }
    let size = objects.len() + 1;
    out.extend(format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").bytes());
    out
}

fn stream(dictionary: &str, content: &str) -> String {
    format!(
        "<< {dictionary} /Length {} >>\nstream\n{content}\nendstream",
        content.len()
    )
}

/// Pages of one inch by one inch, each filled with a colour.
fn coloured(colours: &[&str]) -> Vec<u8> {
    let kids: Vec<_> = (0..colours.len())
        .map(|page| format!("{} 0 R", 3 + 2 * page))
        .collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript /JS (app.alert(1)) >> >>".to_string(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {} >>",
            kids.join(" "),
            kids.len()
        ),
    ];
    for (page, colour) in colours.iter().enumerate() {
        let content = 4 + 2 * page;
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] /Contents {content} 0 R >>"
        ));
        objects.push(stream("", &format!("{colour} rg 0 0 72 72 re f")));
    }
    pdf(&objects)
}

/// One page that draws a form which draws another ten times, and so on.
fn nested(depth: usize) -> Vec<u8> {
    let form = |number: usize| {
        format!(
            "/Type /XObject /Subtype /Form /BBox [0 0 72 72] /Resources << /XObject << /F {number} 0 R >> >>"
        )
    };
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_string(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_string(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] /Contents 4 0 R /Resources << /XObject << /F 5 0 R >> >> >>".to_string(),
        stream("", "/F Do"),
    ];
    for level in 0..depth {
        objects.push(stream(&form(6 + level), &"/F Do ".repeat(10)));
    }
    objects.push(stream(&form(5 + depth), "1 0 0 rg 0 0 72 72 re f"));
    pdf(&objects)
}

fn real(patience: Duration) -> Renderer {
    Renderer {
        program: binary("martlet"),
        arguments: vec!["__draw-pictures".into()],
        patience,
    }
}

fn hostile(deed: &str, target: &Path) -> Renderer {
    Renderer {
        program: binary("hostile_renderer"),
        arguments: vec![deed.into(), target.into()],
        patience: Duration::from_secs(3),
    }
}

async fn drawn(renderer: &Renderer, document: &[u8]) -> (Drawn, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("document");
    std::fs::write(&file, document).unwrap();
    let drawn = renderer.draw(&file, dir.path()).await.unwrap();
    (drawn, dir)
}

/// Size and middle pixel of a picture.
fn seen(path: &Path) -> (u32, u32, [u8; 3]) {
    let picture = image::open(path).unwrap().into_rgb8();
    let (width, height) = picture.dimensions();
    (width, height, picture.get_pixel(width / 2, height / 2).0)
}

#[test]
fn counsel_sees_the_pages_and_keeps_no_document() {
    let (world, daemon) = World::start();
    let (mine, theirs, _) = world.case(&daemon);
    let sent = |name: &str, content: &[u8]| {
        std::fs::write(world.path(name), content).unwrap();
        let sent = world.ok(
            "amal",
            &["send", &mine, "--file", world.path(name).to_str().unwrap()],
        );
        sent["letters"][0]["id"].as_str().unwrap().to_string()
    };
    let document = sent("statement.pdf", &coloured(&["1 0 0", "0 1 0", "0 0 1"]));
    let program = sent("holiday.jpg", b"MZ\x90\0\x03\0\0\0\x04\0\0\0");
    let cut = sent("torn.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    world.ok("ines", &["sync"]);
    let inbox = world.path("inbox");
    std::fs::create_dir(&inbox).unwrap();
    let to = inbox.to_str().unwrap();

    let got = world.ok("ines", &["get", &theirs, &document, "--to", to, "--as-images"]);
    assert_eq!(
        (&got["type"], &got["complete"]),
        (&"application/pdf".into(), &true.into())
    );
    let pages: Vec<PathBuf> = got["pictures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap().into())
        .collect();
    let colours: Vec<_> = pages.iter().map(|page| seen(page)).collect();
    assert_eq!(
        colours,
        [
            (150, 150, [255, 0, 0]),
            (150, 150, [0, 255, 0]),
            (150, 150, [0, 0, 255])
        ]
    );
    for page in &pages {
        assert_eq!(page.parent().unwrap(), inbox.join("statement.pdf.pages"));
        assert_eq!(page.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let left = |dir: &Path| {
        let names = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    assert_eq!(left(&inbox), ["statement.pdf.pages"], "the document is not there");
    // A second time goes beside the first.
    world.ok("ines", &["get", &theirs, &document, "--to", to, "--as-images"]);
    assert_eq!(left(&inbox).len(), 2);

    world.fails(
        "ines",
        &["get", &theirs, &program, "--to", to, "--as-images"],
        1,
        "not-drawn",
    );
    world.fails(
        "ines",
        &["get", &theirs, &cut, "--to", to, "--as-images"],
        1,
        "not-drawn",
    );
    assert_eq!(left(&inbox).len(), 2, "nothing is left of what cannot be drawn");

    // Without pictures: what it is, and no right to be run.
    let got = world.ok("ines", &["get", &theirs, &program, "--to", to]);
    assert_eq!(
        (&got["risk"], &got["name_differs"]),
        (&"program".into(), &true.into())
    );
    let mode = std::fs::metadata(got["path"].as_str().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let told = world
        .command("ines", &["get", &theirs, &document, "--to", to])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(
        told.contains("--as-images") && told.contains("Dangerzone"),
        "{told}"
    );
}

#[tokio::test]
async fn a_renderer_that_was_taken_over_reaches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "name").unwrap();
    let target = dir.path().join("harm");
    for deed in [
        "write", "read", "tcp", "udp", "run", "memory", "huge", "garbage", "die",
    ] {
        let aim = if deed == "read" { &secret } else { &target };
        let (made, _dir) = drawn(&hostile(deed, aim), b"%PDF-1.7").await;
        assert_eq!(made.undrawn, Some(Undrawn::Broke), "{deed}");
        assert!(made.pictures.is_empty(), "{deed}");
    }
    assert!(!target.exists());
    // Without fences the same deeds are done: it is the fences that stopped them.
    for deed in ["open-write", "open-read", "open-tcp", "open-udp", "open-run"] {
        let aim = if deed == "open-read" { &secret } else { &target };
        let (made, _dir) = drawn(&hostile(deed, aim), b"%PDF-1.7").await;
        assert_eq!(made.undrawn, None, "{deed}");
    }
    assert!(target.exists());
}

#[tokio::test]
async fn a_renderer_that_never_ends_is_ended() {
    let forever = hostile("forever", Path::new(""));
    let ended = tokio::time::timeout(Duration::from_secs(60), drawn(&forever, b"%PDF-1.7")).await;
    let (made, _dir) = ended.expect("it is ended after its patience of three seconds");
    assert_eq!(made.undrawn, Some(Undrawn::TooSlow));
    let (made, _dir) = drawn(&hostile("flood", Path::new("")), b"%PDF-1.7").await;
    assert_eq!(made.undrawn, Some(Undrawn::TooLarge));
    assert_eq!(made.pictures.len(), 2_000);
}

#[tokio::test]
async fn documents_that_are_made_to_harm_end_in_a_clear_error() {
    let renderer = real(Duration::from_secs(5));
    for (what, document, expected) in [
        (
            "forms within forms",
            nested(12),
            &[Undrawn::TooSlow, Undrawn::Broke, Undrawn::Damaged][..],
        ),
        (
            "no pages",
            pdf(&["<< /Type /Catalog >>".into()]),
            &[Undrawn::Damaged][..],
        ),
        ("words", b"only words".to_vec(), &[Undrawn::Kind][..]),
        (
            "an archive",
            b"PK\x03\x04\x14\0\0\0".to_vec(),
            &[Undrawn::Kind][..],
        ),
    ] {
        let (made, _dir) = drawn(&renderer, &document).await;
        let why = made.undrawn.unwrap_or_else(|| panic!("{what} was drawn"));
        assert!(expected.contains(&why), "{what}: {why:?}");
    }
    // The same renderer draws what is well.
    let (made, _dir) = drawn(&real(PATIENCE), &coloured(&["0 0 1"])).await;
    assert_eq!((made.undrawn, made.pictures.len()), (None, 1));
    let (made, _dir) = drawn(&real(PATIENCE), &nested(2)).await;
    assert_eq!((made.undrawn, seen(&made.pictures[0]).2), (None, [255, 0, 0]));
}
