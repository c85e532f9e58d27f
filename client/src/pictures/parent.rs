//! The parent's side: begins the child, feeds it, and writes the pictures that it gets as PNG.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::{DOCUMENT_BYTES_MAX, Head, PICTURES_MAX, Undrawn};
use crate::error::Error;

/// Bytes of the document on their way to the child at a time.
const FEED_BYTES: usize = 256 << 10;

/// The program that draws, and the words that make it do so.
#[derive(Clone, Debug)]
pub struct Renderer {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// How long it may go without another picture; [`PATIENCE`](super::PATIENCE) is enough for most pages.
    pub patience: Duration,
}

/// Pictures that were made.
#[derive(Debug, Default)]
pub struct Drawn {
    /// Their files, in the order of the pages.
    pub pictures: Vec<PathBuf>,
    /// Why there are not more, if something went wrong.
    pub undrawn: Option<Undrawn>,
}

impl Renderer {
    /// Draws a document into new files of a folder: `page-0001.png` and so on. What was drawn before something went wrong
    /// remains.
    ///
    /// # Errors
    ///
    /// [`Error::File`] and [`Error::DiskFull`] for files of this side. What goes wrong with the document is in [`Drawn`].
    ///
    /// # Cancel safety
    ///
    /// The child ends with this future. Pictures that were written remain.
    pub async fn draw(&self, document: &Path, folder: &Path) -> Result<Drawn, Error> {
        let document = tokio::fs::File::open(document).await.map_err(failed)?;
        if document.metadata().await.map_err(failed)?.len() > DOCUMENT_BYTES_MAX {
            return Ok(Drawn {
                pictures: Vec::new(),
                undrawn: Some(Undrawn::TooLarge),
            });
        }
        let mut child = self.begin().map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Internal("a child has no pipes"));
        };
        let mut drawn = Drawn::default();
        let (fed, heard) = tokio::join!(
            feed(document, stdin, self.patience),
            hear(stdout, folder, self.patience, &mut drawn.pictures)
        );
        let _ = child.kill().await;
        let _ = child.wait().await;
        fed.map_err(failed)?;
        drawn.undrawn = heard?;
        Ok(drawn)
    }

    fn begin(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Gives the child the document. Whether it wants all of it is its own affair.
async fn feed(
    mut document: tokio::fs::File,
    mut stdin: tokio::process::ChildStdin,
    patience: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; FEED_BYTES];
    loop {
        let count = document.read(&mut buffer).await?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        // A child that is gone is noticed by who hears it.
        match timeout(patience, stdin.write_all(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(()),
        }
    }
}

/// Takes pictures until the child has said how it ended, or broke.
async fn hear(
    mut stdout: ChildStdout,
    folder: &Path,
    patience: Duration,
    pictures: &mut Vec<PathBuf>,
) -> Result<Option<Undrawn>, Error> {
    for number in 1..=PICTURES_MAX.saturating_add(1) {
        let (head, pixels) = match timeout(patience, next(&mut stdout)).await {
            Ok(Some(said)) => said,
            Ok(None) => return Ok(Some(Undrawn::Broke)),
            Err(_) => return Ok(Some(Undrawn::TooSlow)),
        };
        match head {
            Head::Picture(..) if number > PICTURES_MAX => break,
            Head::Picture(width, height) => {
                let path = folder.join(format!("page-{number:04}.png"));
                let at = path.clone();
                let written = tokio::task::spawn_blocking(move || write(&at, width, height, &pixels)).await;
                written.map_err(|_| Error::Internal("a picture was not written"))??;
                pictures.push(path);
            }
            Head::Done => return Ok(None),
            Head::Failed(why) => return Ok(Some(why)),
        }
    }
    Ok(Some(Undrawn::TooLarge))
}

/// The next thing that the child says; nothing if it ends or says what no honest child does.
async fn next(stdout: &mut ChildStdout) -> Option<(Head, Vec<u8>)> {
    let first = stdout.read_u8().await.ok()?;
    let mut rest = vec![0; Head::rest(first)?];
    stdout.read_exact(&mut rest).await.ok()?;
    let head = Head::parse(first, &rest)?;
    let mut pixels = vec![0; head.pixel_bytes()];
    stdout.read_exact(&mut pixels).await.ok()?;
    Some((head, pixels))
}

fn write(path: &Path, width: u32, height: u32, pixels: &[u8]) -> Result<(), Error> {
    let mut file: File = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let encoder = PngEncoder::new(io::BufWriter::new(&mut file));
    let encoded = encoder.write_image(pixels, width, height, ExtendedColorType::Rgb8);
    match encoded {
        Ok(()) => file.sync_all().map_err(failed),
        Err(image::ImageError::IoError(error)) => Err(failed(error)),
        Err(_) => Err(Error::Internal("a picture cannot be encoded")),
    }
}

fn failed(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::StorageFull {
        Error::DiskFull
    } else {
        Error::File(error)
    }
}
