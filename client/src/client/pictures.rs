//! Documents shown as pictures: fetched out of sight, drawn by a confined child, and not kept.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::Client;
use crate::{
    error::Error,
    file::name::{safe_name, unused_name},
    pictures::Renderer,
    view::{Pictured, Progress},
};

impl Client {
    /// Fetches a document and makes pictures of its pages in a new folder of `dir`. The document itself is kept nowhere.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get); [`Error::Undrawn`] if there is not one picture.
    ///
    /// # Cancel safety
    ///
    /// What arrived stays in a hidden folder of `dir`, and the next call goes on from there. Pictures that were made stay.
    pub async fn get_pictures(
        &self,
        case: &str,
        file: &str,
        dir: &Path,
        renderer: &Renderer,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Pictured, Error> {
        if !dir.is_dir() {
            return Err(Error::File(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let hidden = dir.join(".martlet-drawing");
        match make_dir(&hidden) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Never through a link.
                if !hidden.symlink_metadata().map_err(Error::File)?.is_dir() {
                    return Err(Error::FileExists);
                }
            }
            made => made.map_err(Error::File)?,
        }
        let document = self.get(case, file, &hidden, progress).await?;
        let drawn = draw(renderer, &document.path, dir).await;
        std::fs::remove_file(&document.path).map_err(Error::File)?;
        // It is not empty while another document is on its way.
        let _ = std::fs::remove_dir(&hidden);
        let (folder, drawn) = drawn?;
        if let (Some(why), []) = (drawn.undrawn, drawn.pictures.as_slice()) {
            let _ = std::fs::remove_dir(&folder);
            return Err(Error::Undrawn(why));
        }
        Ok(Pictured {
            folder,
            pictures: drawn.pictures,
            undrawn: drawn.undrawn,
            document,
        })
    }
}

async fn draw(
    renderer: &Renderer,
    document: &Path,
    dir: &Path,
) -> Result<(PathBuf, crate::pictures::Drawn), Error> {
    let name = document.file_name().unwrap_or_default().to_string_lossy();
    let name = safe_name(&format!("{name}.pages"));
    for _ in 0..1000 {
        let folder = dir.join(unused_name(&name, |name| {
            dir.join(name).symlink_metadata().is_ok()
        }));
        match make_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.map_err(Error::File)?;
                let drawn = renderer.draw(document, &folder).await?;
                return Ok((folder, drawn));
            }
        }
    }
    Err(Error::FileExists)
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}
