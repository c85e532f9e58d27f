//! What a document is, by its content and not by its name. Pure.

/// What can be told from a document's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its media type; `application/octet-stream` if it is not known.
    pub media_type: &'static str,
    /// What whoever receives it should know.
    pub risk: Risk,
}

/// What a document can do to whoever opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Risk {
    /// A picture, a sound, a film: its player may have faults, but it is no program.
    Plain,
    /// A PDF, an office document, a web page: it may contain programs, and fetch things that show when and where it is read.
    Active,
    /// An archive: what is in it was not looked at.
    Archive,
    /// A program.
    Program,
    /// Its content does not say what it is.
    Unknown,
}

/// How many bytes of a document's beginning are enough.
pub const HEAD_BYTES: usize = 64 << 10;

const UNKNOWN: &str = "application/octet-stream";

/// What a document is that begins so.
pub fn of(head: &[u8]) -> Kind {
    let head = head.get(..HEAD_BYTES).unwrap_or(head);
    if let Some(media_type) = ours(head) {
        return kind(media_type);
    }
    match infer::get(head) {
        Some(found) => kind(found.mime_type()),
        None if is_text(head) => kind("text/plain"),
        None => kind(UNKNOWN),
    }
}

fn kind(media_type: &'static str) -> Kind {
    Kind {
        media_type,
        risk: risk(media_type),
    }
}

/// What is dangerous and unknown to the library.
fn ours(head: &[u8]) -> Option<&'static str> {
    let text = head.get(..1024).unwrap_or(head).trim_ascii_start();
    let text = text
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(text)
        .trim_ascii_start();
    let begins = |with: &[u8]| {
        text.get(..with.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(with))
    };
    let has = |what: &[u8]| {
        text.windows(what.len())
            .any(|part| part.eq_ignore_ascii_case(what))
    };
    if head.starts_with(b"\x7fELF") {
        return Some("application/x-executable");
    }
    if head.starts_with(b"\x4c\0\0\0\x01\x14\x02\0") {
        return Some("application/x-ms-shortcut");
    }
    // Readers look for a PDF's beginning further down, too.
    if !begins(b"%PDF-") && has(b"%PDF-") {
        return Some("application/pdf");
    }
    if begins(b"<svg") || (begins(b"<?xml") && has(b"<svg")) {
        return Some("image/svg+xml");
    }
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<script") {
        return Some("text/html");
    }
    if begins(b"#!") || begins(b"@echo") {
        return Some("text/x-shellscript");
    }
    if begins(b"[desktop entry]") || begins(b"[internetshortcut]") {
        return Some("application/x-desktop");
    }
    None
}

fn is_text(head: &[u8]) -> bool {
    // A letter of several bytes may be cut at the end.
    let whole = match str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    whole
        && !head.is_empty()
        && !head
            .iter()
            .any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}

fn risk(media_type: &str) -> Risk {
    match media_type {
        "image/svg+xml" => Risk::Active,
        "application/x-ms-shortcut" | "application/x-desktop" | "text/x-shellscript" => Risk::Program,
        "application/wasm"
        | "application/x-executable"
        | "application/vnd.microsoft.portable-executable"
        | "application/java"
        | "application/x-llvm"
        | "application/x-mach-binary"
        | "application/vnd.android.dex"
        | "application/vnd.android.dey"
        | "application/x-google-chrome-extension"
        | "application/vnd.debian.binary-package"
        | "application/x-rpm"
        | "application/x-shockwave-flash" => Risk::Program,
        "text/plain" => Risk::Plain,
        UNKNOWN => Risk::Unknown,
        _ if ["image/", "audio/", "video/"]
            .iter()
            .any(|plain| media_type.starts_with(plain)) =>
        {
            Risk::Plain
        }
        "application/pdf"
        | "application/postscript"
        | "application/rtf"
        | "application/epub+zip"
        | "text/html"
        | "text/xml" => Risk::Active,
        "application/msword" | "application/x-ole-storage" => Risk::Active,
        _ if media_type.starts_with("application/vnd.ms-")
            && media_type != "application/vnd.ms-cab-compressed" =>
        {
            Risk::Active
        }
        _ if media_type.starts_with("application/vnd.o") => Risk::Active,
        _ => Risk::Archive,
    }
}

/// Whether a name ends as if the document were of another kind. A name without an ending says nothing, and one that is
/// not known neither, unless the content is a program.
pub fn differs(name: &str, kind: Kind) -> bool {
    let Some((_, ending)) = name.rsplit_once('.') else {
        return kind.risk == Risk::Program;
    };
    let ending = ending.to_ascii_lowercase();
    let Some((said, risk)) = by_ending(&ending) else {
        return kind.risk == Risk::Program && !is_programs_ending(&ending);
    };
    match kind.risk {
        Risk::Unknown => !matches!(said, "text/"),
        _ if risk == Risk::Plain => !kind.media_type.starts_with(said),
        // A newer office document is an archive to whoever looks at its beginning only.
        Risk::Active | Risk::Archive if risk == Risk::Active => {
            said == "application/pdf" && kind.media_type != said
        }
        found => found != risk,
    }
}

/// What an ending says: how the media type begins, and what kind of thing it is.
fn by_ending(ending: &str) -> Option<(&'static str, Risk)> {
    Some(match ending {
        "jpg" | "jpeg" | "png" | "webp" | "gif" | "tif" | "tiff" | "bmp" | "heic" | "heif" | "avif" => {
            ("image/", Risk::Plain)
        }
        "mp4" | "mov" | "m4v" | "mkv" | "webm" | "avi" | "3gp" => ("video/", Risk::Plain),
        "mp3" | "m4a" | "ogg" | "opus" | "wav" | "flac" | "aac" | "amr" => ("audio/", Risk::Plain),
        "txt" | "csv" | "md" => ("text/", Risk::Plain),
        "pdf" => ("application/pdf", Risk::Active),
        "doc" | "docx" | "xls" | "xlsx" | "ppt" | "pptx" | "odt" | "ods" | "odp" | "rtf" | "html" | "htm"
        | "epub" => ("application/", Risk::Active),
        "zip" | "rar" | "7z" | "tar" | "gz" | "xz" | "bz2" => ("application/", Risk::Archive),
        _ => return None,
    })
}

fn is_programs_ending(ending: &str) -> bool {
    matches!(
        ending,
        "exe"
            | "dll"
            | "com"
            | "scr"
            | "msi"
            | "bat"
            | "cmd"
            | "ps1"
            | "sh"
            | "lnk"
            | "desktop"
            | "url"
            | "jar"
            | "class"
            | "apk"
            | "deb"
            | "rpm"
            | "wasm"
            | "so"
            | "app"
            | "crx"
            | "swf"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    const EXE: &[u8] = b"MZ\x90\0\x03\0\0\0";

    #[test]
    fn the_content_says_what_it_is() {
        for (head, media_type, risk) in [
            (JPEG, "image/jpeg", Risk::Plain),
            (
                EXE,
                "application/vnd.microsoft.portable-executable",
                Risk::Program,
            ),
            (
                b"\x7fELF\x02\x01\x01\0",
                "application/x-executable",
                Risk::Program,
            ),
            (b"%PDF-1.7\n", "application/pdf", Risk::Active),
            (b"\n\n junk %PDF-1.4\n", "application/pdf", Risk::Active),
            (
                b"<?xml version=\"1.0\"?><svg onload=x>",
                "image/svg+xml",
                Risk::Active,
            ),
            (b" <!DOCTYPE html>", "text/html", Risk::Active),
            (b"\xef\xbb\xbf<html>", "text/html", Risk::Active),
            (b"#!/bin/sh\n", "text/x-shellscript", Risk::Program),
            (
                b"\x4c\0\0\0\x01\x14\x02\0\0",
                "application/x-ms-shortcut",
                Risk::Program,
            ),
            (b"[Desktop Entry]\nExec=x", "application/x-desktop", Risk::Program),
            (b"PK\x03\x04\x14\0\0\0\x08\0", "application/zip", Risk::Archive),
            (
                b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
                "application/msword",
                Risk::Active,
            ),
            ("Мой брат".as_bytes(), "text/plain", Risk::Plain),
            (b"", UNKNOWN, Risk::Unknown),
            (b"\x01\x02\x03", UNKNOWN, Risk::Unknown),
        ] {
            assert_eq!(of(head), Kind { media_type, risk }, "{head:?}");
        }
    }

    #[test]
    fn a_name_that_says_something_else_is_noticed() {
        for (name, head, expected) in [
            ("a.jpg", JPEG, false),
            ("a.JPEG", JPEG, false),
            ("a.png", JPEG, false),
            ("a.jpg", EXE, true),
            ("a.pdf", EXE, true),
            ("a.pdf", JPEG, true),
            ("a.jpg", b"%PDF-1.7", true),
            ("a", EXE, true),
            ("a.exe", EXE, false),
            ("a.xyz", EXE, true),
            ("a.xyz", JPEG, false),
            ("a.txt", b"words", false),
            ("a.txt", b"<html>", false),
            ("a.docx", b"PK\x03\x04\x14\0\0\0", false),
            ("a.zip", b"PK\x03\x04\x14\0\0\0", false),
            ("a.jpg", b"\x01\x02", true),
        ] {
            assert_eq!(differs(name, of(head)), expected, "{name} {head:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(head: Vec<u8>, name: String) {
            let _ = differs(&name, of(&head));
        }
    }
}
