//! The small website that a relay shows on its TCP port to everybody who does not know its door. SPEC.md 4.6.
//!
//! The operator fills a folder; it is read once, when the relay starts, so that what a stranger asks for is looked up
//! in memory and never becomes a path on the disk. Without a folder there is one plain page.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use hyper::{
    Method, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION},
};

/// Files of a site at most.
const FILES_MAX: usize = 1000;
/// Bytes of all files of a site at most.
const SITE_BYTES_MAX: usize = 32 << 20;
/// Folders within folders.
const DEPTH_MAX: usize = 8;

const HTML: &str = "text/html; charset=utf-8";
const WELCOME: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Welcome</title></head>\n\
                       <body><h1>Welcome</h1><p>This site is being set up.</p></body>\n</html>\n";

/// Why a folder cannot be a site.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// A file or folder cannot be read.
    #[error("the site's folder cannot be read")]
    File(#[from] std::io::Error),
    /// There is too much of it.
    #[error(
        "the site has more than {FILES_MAX} files, {SITE_BYTES_MAX} bytes or {DEPTH_MAX} folders in one another"
    )]
    TooLarge,
}

#[derive(Debug)]
struct Page {
    kind: &'static str,
    body: Bytes,
}

/// The pages, by their paths.
#[derive(Clone, Debug)]
pub struct Site(Arc<BTreeMap<String, Page>>);

impl Default for Site {
    fn default() -> Self {
        let body = Bytes::from_static(WELCOME.as_bytes());
        Self(Arc::new(BTreeMap::from([(
            "/".into(),
            Page { kind: HTML, body },
        )])))
    }
}

impl Site {
    /// The site in a folder; the plain page if there is no such folder, or nothing in it. Links, names that begin
    /// with a dot, and names with other characters than letters and digits of ASCII, `-`, `.`, `_` and `~` are left out.
    ///
    /// # Errors
    ///
    /// [`SiteError`].
    pub fn read(folder: &Path) -> Result<Self, SiteError> {
        let mut reading = Reading::default();
        match std::fs::symlink_metadata(folder) {
            Ok(about) if about.is_dir() => reading.folder(folder, "/", 0)?,
            Ok(_) => return Err(std::io::Error::from(std::io::ErrorKind::NotADirectory).into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        if reading.pages.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(Arc::new(reading.pages)))
    }

    /// What a request gets, whoever makes it.
    pub(super) fn answer(&self, method: &Method, path: &str) -> hyper::Response<Bytes> {
        let Some(page) = self.0.get(path) else {
            let folder = format!("{path}/");
            if path.starts_with('/') && self.0.contains_key(&folder) {
                return moved(&folder, method);
            }
            return told(StatusCode::NOT_FOUND, "404 Not Found", method);
        };
        if method != Method::GET && method != Method::HEAD {
            let mut refused = told(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed", method);
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        respond(StatusCode::OK, page.kind, page.body.clone(), method)
    }
}

#[derive(Default)]
struct Reading {
    pages: BTreeMap<String, Page>,
    bytes: usize,
}

impl Reading {
    fn folder(&mut self, folder: &Path, at: &str, depth: usize) -> Result<(), SiteError> {
        if depth > DEPTH_MAX {
            return Err(SiteError::TooLarge);
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| plain(name))
                .map(String::from)
            else {
                continue;
            };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.folder(&entry.path(), &format!("{at}{name}/"), depth.saturating_add(1))?;
            } else if kind.is_file() {
                self.file(&entry.path(), at, &name)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &Path, at: &str, name: &str) -> Result<(), SiteError> {
        let size = usize::try_from(std::fs::metadata(file)?.len()).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > SITE_BYTES_MAX || self.pages.len() >= FILES_MAX {
            return Err(SiteError::TooLarge);
        }
        let body = Bytes::from(std::fs::read(file)?);
        let kind = kind(name);
        if name == "index.html" {
            let body = body.clone();
            self.pages.insert(at.into(), Page { kind, body });
        }
        self.pages.insert(format!("{at}{name}"), Page { kind, body });
        Ok(())
    }
}

fn plain(name: &str) -> bool {
    let known = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
    !name.starts_with('.') && name.bytes().all(known)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" | "htm" => HTML,
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "pdf" => "application/pdf",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

fn told(status: StatusCode, words: &str, method: &Method) -> hyper::Response<Bytes> {
    let page = format!(
        "<!DOCTYPE html>\n<html>\n<head><title>{words}</title></head>\n<body><h1>{words}</h1></body>\n</html>\n"
    );
    respond(status, HTML, Bytes::from(page), method)
}

fn moved(to: &str, method: &Method) -> hyper::Response<Bytes> {
    let mut response = told(StatusCode::MOVED_PERMANENTLY, "301 Moved Permanently", method);
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes, method: &Method) -> hyper::Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let body = if method == Method::HEAD {
        Bytes::new()
    } else {
        body
    };
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_shown_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site");
        std::fs::create_dir_all(site.join("about")).unwrap();
        for (name, text) in [
            ("index.html", "home"),
            ("about/index.html", "about"),
            ("a.css", "css"),
            (".git", "x"),
        ] {
            std::fs::write(site.join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("relay.key"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("relay.key"), site.join("key")).unwrap();
        let shown = Site::read(&site).unwrap();
        let get = |path: &str| {
            let response = shown.answer(&Method::GET, path);
            (
                response.status().as_u16(),
                String::from_utf8(response.body().to_vec()).unwrap(),
            )
        };
        assert_eq!(get("/"), (200, "home".into()));
        assert_eq!(get("/index.html"), (200, "home".into()));
        assert_eq!(get("/about/"), (200, "about".into()));
        assert_eq!(get("/about").0, 301);
        assert_eq!(
            shown.answer(&Method::GET, "/a.css").headers()[CONTENT_TYPE],
            "text/css; charset=utf-8"
        );
        for path in [
            "/.git",
            "/key",
            "/../relay.key",
            "/about/../../relay.key",
            "*",
            "//",
        ] {
            assert_eq!(get(path).0, 404, "{path}");
        }
        assert_eq!(shown.answer(&Method::POST, "/").status(), 405);
        assert_eq!(shown.answer(&Method::POST, "/none").status(), 404);
        let head = shown.answer(&Method::HEAD, "/");
        assert_eq!(
            (head.headers()[CONTENT_LENGTH].as_bytes(), head.body().len()),
            (b"4".as_slice(), 0)
        );
    }

    #[test]
    fn without_a_folder_there_is_a_plain_page() {
        let dir = tempfile::tempdir().unwrap();
        for folder in [dir.path().join("none"), dir.path().to_path_buf()] {
            let site = Site::read(&folder).unwrap();
            assert_eq!(site.answer(&Method::GET, "/").status(), 200);
            assert_eq!(site.answer(&Method::GET, "/index.html").status(), 404);
        }
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(Site::read(&dir.path().join("file")).is_err());
    }
}
