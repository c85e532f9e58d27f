//! `martlet demo`: a relay, a client and counsel in a temporary folder; a whole case, told step by step.

use std::path::Path;

use martlet::{Client, Cost, Error, NewCase, NewInvite, NewProfile, Which};
use martlet_proto::{card::Uses, invite::Invite};
use martlet_server::{
    identity::Identity,
    serve::{Running, Serving, Sockets, serve},
    store::segments::{Options, Segments},
};
use serde_json::json;

use crate::{
    json as shape,
    speak::{Failure, Out},
};

/// Tells each step, and keeps it for the JSON.
struct Telling<'a> {
    out: &'a mut dyn Out,
    steps: Vec<String>,
}

impl Telling<'_> {
    fn step(&mut self, text: &str) {
        self.steps.push(text.to_string());
        if !self.out.json() {
            let number = self.steps.len();
            self.out.data(&format!("{number:>2}. {text}"));
        }
    }

    /// What was said must be so.
    fn check(&self, holds: bool, what: &'static str) -> Result<(), Failure> {
        if holds {
            Ok(())
        } else {
            Err(Error::Internal(what).into())
        }
    }
}

pub(crate) async fn play(out: &mut dyn Out) -> Result<u8, Failure> {
    let folder = tempfile::tempdir().map_err(Error::File)?;
    let mut telling = Telling {
        out,
        steps: Vec::new(),
    };
    let relay = start_relay(&folder.path().join("relay"))?;
    telling.step("A relay runs on this machine. It will hold sealed envelopes and know nobody's name.");
    let done = whole_case(folder.path(), &relay, &mut telling).await;
    let totals = relay.totals().await;
    if let Some((totals, _)) = totals.filter(|_| done.is_ok()) {
        let (channels, entries) = (totals.channels, totals.entries);
        telling.step(&format!(
            "The relay is left with {channels} channels and {entries} envelopes that it cannot read."
        ));
    }
    relay
        .stop()
        .await
        .map_err(|_| Error::Internal("the relay did not stop"))?;
    done?;
    let Telling { out, steps } = telling;
    out.both(
        &json!({"ok": true, "steps": steps}),
        "Done. Everything was in a temporary folder, which is gone now.",
    );
    Ok(0)
}

fn start_relay(dir: &Path) -> Result<Running, Failure> {
    let internal = |_| Error::Internal("the relay did not start");
    let identity = Identity::generate().map_err(|_| Error::Internal("the relay did not start"))?;
    let options = Options {
        floor_bytes: 0,
        ..Options::default()
    };
    let (store, _) =
        Segments::open(dir, options).map_err(|_| Error::Internal("the relay's store did not open"))?;
    let sockets = Sockets::bind(&[([127, 0, 0, 1], 0).into()]).map_err(Error::File)?;
    Ok(serve(sockets, store, &identity, &Serving::default()).map_err(internal)?)
}

async fn whole_case(folder: &Path, relay: &Running, telling: &mut Telling<'_>) -> Result<(), Failure> {
    let profile = |name: &str, relay| NewProfile {
        name: name.into(),
        relay,
    };
    let home = |name: &str| folder.join(name);
    let passphrase = b"only for this demonstration";
    let counsel = profile("Ines, counsel", Some(relay.link().clone()));
    let ines = Client::create(&home("ines"), passphrase, Cost::Floor, counsel).await?;
    telling.step("Ines, a lawyer, makes her vault. It is encrypted under her passphrase.");
    let new = NewInvite {
        uses: Uses::Many,
        label: None,
        days: 30,
        apart: false,
    };
    let invite = ines.invite(new).await?.invite;
    telling.step(&format!(
        "She makes an invite to print or show as a QR code:\n    {invite}"
    ));

    let amal = Client::create(&home("amal"), passphrase, Cost::Floor, profile("Amal", None)).await?;
    telling.step("Amal, who seeks asylum, makes a vault on a phone. No account, no number, no address.");
    let invite: Invite = invite.parse().map_err(Error::from)?;
    let new = NewCase {
        text: Some("They took my brother last night. I have his papers.".into()),
        label: None,
        apart: false,
    };
    let (case, with, letters) = amal.open_case(&invite, new).await?;
    telling.check(
        letters.iter().all(|letter| !letter.queued),
        "the first letter did not reach the relay",
    )?;
    telling.step(&format!(
        "Amal opens a case from the invite. The invite proves that it is {}, and nobody in between.",
        shape::line(&with.name)
    ));
    telling.step("The first words are at the relay already, although Ines is offline.");

    let paper = folder.join("papers.pdf");
    let content: Vec<u8> = (0..300_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    std::fs::write(&paper, &content).map_err(Error::File)?;
    let sent = amal.send_file(&case.case, &paper, &mut |_| {}).await?;
    telling.check(!sent.queued, "the document did not reach the relay")?;
    telling.step("Amal sends a document of 300 kB, cut into sealed pieces of one size.");

    ines.sync().await?;
    let cases = ines.cases()?;
    let theirs = cases
        .first()
        .ok_or(Error::Internal("counsel has no case"))?
        .case
        .clone();
    let letters = ines.letters(&theirs, Which::Unread)?;
    let words = letters.first().and_then(|letter| letter.text.clone());
    telling.check(
        words.as_deref() == Some("They took my brother last night. I have his papers."),
        "the words differ",
    )?;
    telling.step("Ines comes online. She reads what Amal wrote; her device renews the keys of the case.");
    let file = letters.iter().find_map(|letter| letter.file.clone());
    let file = file.ok_or(Error::Internal("counsel has no document"))?;
    let inbox = folder.join("received");
    std::fs::create_dir(&inbox).map_err(Error::File)?;
    let got = ines.get(&theirs, &file.id.to_text(), &inbox, &mut |_| {}).await?;
    let arrived = std::fs::read(&got.path).map_err(Error::File)?;
    telling.check(
        arrived == content && Some(got.sha256) == sent.sha256,
        "the document differs",
    )?;
    telling.step(&format!(
        "She fetches the document. It is whole: SHA-256 {}…",
        shape::hex(&got.sha256).get(..16).unwrap_or_default()
    ));

    ines.send_text(&theirs, "I am on it. Do not sign anything.")
        .await?;
    amal.sync().await?;
    let letters = amal.letters(&case.case, Which::All)?;
    let answered = letters
        .iter()
        .any(|letter| letter.text.as_deref() == Some("I am on it. Do not sign anything."));
    telling.check(answered, "the answer did not arrive")?;
    let arrived = letters
        .iter()
        .filter(|letter| letter.mine)
        .all(|letter| letter.delivered_to.len() == 1);
    telling.check(arrived, "the receipts did not arrive")?;
    telling.step("Ines answers. Amal reads it, and sees that words and document have arrived.");

    ines.sync().await?;
    let (ours, hers) = (amal.safety(&case.case, None)?, ines.safety(&theirs, None)?);
    telling.check(
        ours.number == hers.number && ours.epoch_code == hers.epoch_code,
        "the numbers differ",
    )?;
    amal.confirm(&case.case, None)?;
    telling.step(&format!(
        "On the phone they compare their safety number, and it is the same on both sides:\n    {}",
        ours.number
    ));
    Ok(())
}
