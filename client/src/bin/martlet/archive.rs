//! `backup` and `restore`.

use std::path::Path;

use martlet::{Client, Cost, Error, client::Kept};
use serde_json::json;

use crate::{
    args::{ArchiveSource, Args, Command, Hidden},
    passphrase::{self, Purpose},
    run::Exit,
    speak::{Failure, Out},
    words,
};

/// The passphrase for an archive, where the command makes one: asked for here, used by whoever has the vault open.
pub(crate) fn passphrase_for(args: &Args, vault: &[u8]) -> Result<Option<Hidden>, Failure> {
    let Command::Backup { to, source, .. } = &args.command else {
        return Ok(None);
    };
    // Said before a passphrase is chosen.
    if to.symlink_metadata().is_ok() {
        return Err(Error::FileExists.into());
    }
    let own = passphrase::take_for_archive(args, source, Purpose::Create)?;
    Ok(Some(Hidden::new(own.as_deref().map_or(vault, Vec::as_slice))))
}

/// Writes an archive.
pub(crate) async fn backup(client: &Client, to: &Path, passphrase: &[u8], out: &mut dyn Out) -> Exit {
    let kept = client.backup(to, passphrase).await?;
    tell(kept, "tell-backed-up", out);
    Ok(0)
}

/// Makes a vault of an archive.
pub(crate) async fn restore(
    args: &Args,
    from: &Path,
    source: &ArchiveSource,
    cost: Cost,
    home: &Path,
    out: &mut dyn Out,
) -> Exit {
    if Client::exists(home) {
        return Err(Error::VaultExists.into());
    }
    from.metadata().map_err(Error::File)?;
    let own = passphrase::take_for_archive(args, source, Purpose::Open)?;
    let vault = passphrase::take(args, Purpose::Create)?;
    let archive = own.as_deref().unwrap_or(&vault);
    let kept = Client::restore(from, archive, home, &vault, cost).await?;
    tell(kept, "tell-restored", out);
    Ok(0)
}

fn tell(kept: Kept, key: &str, out: &mut dyn Out) {
    let Kept { cases, letters } = kept;
    let text = format!("cases {cases}, letters {letters}");
    out.both(&json!({"cases": cases, "letters": letters}), &text);
    out.say(&words::say(key, None));
}
