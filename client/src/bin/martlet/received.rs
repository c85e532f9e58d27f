//! `get`: documents of others, and what to know before opening one.

use std::path::Path;

use martlet::{
    Client, Error,
    kind::Risk,
    pictures::{PATIENCE, Renderer},
    view::{Fetched, Progress},
};
use serde_json::{Map, Value};

use crate::{json as shape, progress::Bar, run::Exit, speak::Out, words};

/// The word by which this program begins itself as the one that draws.
pub(crate) const DRAW: &str = "__draw-pictures";
const PARTLY: u8 = 7;

/// Fetches a document.
pub(crate) async fn get(client: &Client, case: &str, file: &str, to: &Path, out: &mut dyn Out) -> Exit {
    let mut bar = Bar::new(out.draws());
    let mut show = |progress: Progress| bar.show(progress);
    let got = client.get(case, file, to, &mut show).await?;
    bar.end();
    let path = got.path.display().to_string();
    let mut value = described(&got);
    value.insert("path".into(), path.clone().into());
    out.both(&value.into(), &path);
    warn(&got, out);
    Ok(0)
}

/// Fetches a document and makes pictures of it.
pub(crate) async fn pictures(client: &Client, case: &str, file: &str, to: &Path, out: &mut dyn Out) -> Exit {
    let program = std::env::current_exe().map_err(Error::File)?;
    let renderer = Renderer {
        program,
        arguments: vec![DRAW.into()],
        patience: PATIENCE,
    };
    let mut bar = Bar::new(out.draws());
    let mut show = |progress: Progress| bar.show(progress);
    let made = client.get_pictures(case, file, to, &renderer, &mut show).await?;
    bar.end();
    let text = |path: &std::path::PathBuf| path.display().to_string();
    let folder = text(&made.folder);
    let mut value = described(&made.document);
    let pictures: Vec<_> = made.pictures.iter().map(text).collect();
    let undrawn = made.undrawn.map(Error::Undrawn);
    value.insert("path".into(), folder.clone().into());
    value.insert("pictures".into(), pictures.into());
    value.insert("complete".into(), undrawn.is_none().into());
    out.both(&value.into(), &folder);
    if made.document.name_differs {
        out.say(&words::say("kind-differs", Some(made.document.kind.media_type)));
    }
    let Some(undrawn) = undrawn else {
        return Ok(0);
    };
    out.say(&words::say("pictures-partly", None));
    out.say(&words::say(undrawn.words().err, None));
    Ok(PARTLY)
}

fn described(got: &Fetched) -> Map<String, Value> {
    let fields = [
        ("sha256", shape::hex(&got.sha256).into()),
        ("size", got.size_bytes.into()),
        ("type", got.kind.media_type.into()),
        ("risk", risk(got.kind.risk).into()),
        ("name_differs", got.name_differs.into()),
    ];
    fields
        .map(|(name, value)| (name.to_string(), value))
        .into_iter()
        .collect()
}

const fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Plain => "plain",
        Risk::Active => "active",
        Risk::Archive => "archive",
        Risk::Program => "program",
        Risk::Unknown => "unknown",
    }
}

/// What whoever may open it should know.
fn warn(got: &Fetched, out: &mut dyn Out) {
    let media_type = Some(got.kind.media_type);
    if got.name_differs {
        out.say(&words::say("kind-differs", media_type));
    }
    let key = match got.kind.risk {
        Risk::Plain => return,
        Risk::Active => "kind-active",
        Risk::Archive => "kind-archive",
        Risk::Program => "kind-program",
        Risk::Unknown => "kind-unknown",
    };
    out.say(&words::say(key, media_type));
    if got.kind.risk == Risk::Active {
        out.say(&words::say("kind-hint", None));
    }
}
