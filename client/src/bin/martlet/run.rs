//! What each command does, given a client and somewhere to speak.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use martlet::{
    Client, Cost, Error, NewCase, NewInvite, NewProfile, Which, record::Isolation, view::CaseView,
};
use martlet_proto::{card::Uses, case::Role, invite::Invite, link::RelayLink};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    archive,
    args::{Args, Command, Hidden, IsolationName, RelayCommand, RoleName, Switch},
    ipc, json as shape,
    passphrase::{self, Purpose},
    received, roads, send,
    speak::{Failure, Out},
    tell, words,
};

/// An exit code, or what failed.
pub(crate) type Exit = Result<u8, Failure>;
const NETWORK: u8 = 3;
const STDIN_BYTES_MAX: u64 = 1 << 20;

/// Runs a command from the start: finds the vault, opens it if the command needs it.
pub(crate) async fn start(args: Args, out: &mut dyn Out) -> Exit {
    match &args.command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "martlet", &mut text);
            return plain(&text, out);
        }
        Command::Man => {
            let mut text = Vec::new();
            let mut root = Args::command();
            root.build();
            let page = |c: clap::Command, text: &mut Vec<u8>| clap_mangen::Man::new(c).render(text);
            page(root.clone(), &mut text).map_err(Error::File)?;
            for command in root.get_subcommands() {
                page(command.clone(), &mut text).map_err(Error::File)?;
            }
            return plain(&text, out);
        }
        #[cfg(feature = "demo")]
        Command::Demo => return crate::demo::play(out).await,
        _ => {}
    }
    if let Command::Scrub { file, to } = &args.command {
        return send::scrub(file, to, out);
    }
    let home = home(&args)?;
    match &args.command {
        Command::Wipe { yes: false } => Err(Failure::usage(format!(
            "this destroys the vault in {}: its keys, all cases, letters and documents in it, for good; add --yes to do it",
            home.display()
        ))),
        Command::Wipe { yes: true } => {
            Client::wipe(&home)?;
            out.both(&json!({"ok": true}), "The vault is destroyed.");
            Ok(0)
        }
        Command::Init {
            name,
            relay,
            kdf_floor,
        } => {
            let relay = relay
                .as_deref()
                .map(str::parse::<RelayLink>)
                .transpose()
                .map_err(Error::from)?;
            if Client::exists(&home) {
                return Err(Error::VaultExists.into());
            }
            let secret = passphrase::take(&args, Purpose::Create)?;
            let cost = if *kdf_floor { Cost::Floor } else { Cost::Calibrated };
            let client = Client::create(
                &home,
                &secret,
                cost,
                NewProfile {
                    name: name.clone(),
                    relay,
                },
            )
            .await?;
            let value = json!({"fingerprint": client.fingerprint()?, "home": home.display().to_string()});
            out.both(&value, &client.fingerprint()?);
            Ok(0)
        }
        Command::Restore {
            from,
            source,
            kdf_floor,
        } => {
            let cost = if *kdf_floor { Cost::Floor } else { Cost::Calibrated };
            archive::restore(&args, from, source, cost, &home, out).await
        }
        _ => {
            if let Command::Open { invite, .. } | Command::Add { invite, .. } = &args.command {
                // Said before a passphrase is asked for.
                invite.concat().parse::<Invite>().map_err(Error::from)?;
            }
            let secret = passphrase::take(&args, Purpose::Open)?;
            let for_archive = archive::passphrase_for(&args, &secret)?;
            let mut command = args.command;
            if command.reads_stdin() {
                command.put_stdin(stdin()?);
            }
            if let (Command::Backup { passphrase, .. }, Some(chosen)) = (&mut command, for_archive) {
                *passphrase = chosen;
            }
            if let Command::Rejoin { source, digits, .. } = &mut command {
                *digits = passphrase::take_digits(source)?.map(|typed| Hidden::new(&typed));
            }
            let here = std::env::current_dir().map_err(Error::File)?;
            command.anchor(&here);
            if let Some(code) = ipc::ask(&home, &secret, &command, args.json, out).await? {
                return Ok(code);
            }
            let client = Client::open(&home, &secret).await?;
            run(command, &client, out).await
        }
    }
}

fn plain(text: &[u8], out: &mut dyn Out) -> Exit {
    let text = String::from_utf8_lossy(text);
    out.both(&json!({ "text": text }), &text);
    Ok(0)
}

fn home(args: &Args) -> Result<PathBuf, Failure> {
    let var = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    args.home
        .clone()
        .or_else(|| var("MARTLET_HOME"))
        .or_else(|| var("XDG_DATA_HOME").map(|data| data.join("martlet")))
        .or_else(|| var("HOME").map(|user| user.join(".local/share/martlet")))
        .ok_or_else(|| Failure::usage("say where the vault is with --home DIR".into()))
}

/// [`run`] as a value of a known type: a running `follow` runs commands of others.
pub(crate) fn run_boxed<'a>(
    command: Command,
    client: &'a Client,
    out: &'a mut dyn Out,
) -> std::pin::Pin<Box<dyn Future<Output = Exit> + Send + 'a>> {
    Box::pin(run(command, client, out))
}

/// Runs a command that needs an open vault.
async fn run(command: Command, client: &Client, out: &mut dyn Out) -> Exit {
    match command {
        Command::Invite {
            once,
            label,
            expires,
            apart,
            qr,
        } => {
            let uses = if once { Uses::Once } else { Uses::Many };
            let view = client
                .invite(NewInvite {
                    uses,
                    label,
                    days: expires,
                    apart,
                })
                .await?;
            if let Some(file) = qr {
                write_qr(&view.invite, &file)?;
            }
            out.both(&shape::invite(&view), &view.invite);
            show_qr(&view.invite, out);
            Ok(queued(view.queued, out))
        }
        Command::Invites => {
            let views = client.invites()?;
            let values: Vec<_> = views.iter().map(shape::invite).collect();
            let lines = views.iter().map(tell::invite).collect();
            list(&json!({ "invites": values }), lines, out);
            Ok(0)
        }
        Command::Revoke { id } => {
            let view = client.revoke(&id).await?;
            out.both(&shape::invite(&view), &format!("{} is withdrawn", view.id));
            Ok(queued(view.queued, out))
        }
        Command::Open {
            invite,
            text,
            label,
            apart,
        } => open(client, &invite, NewCase { text, label, apart }, out).await,
        Command::Cases => {
            let code = sync(client, out).await?;
            let views = client.cases()?;
            let values: Vec<_> = views.iter().map(shape::case).collect();
            list(
                &json!({ "cases": values }),
                views.iter().map(tell::case).collect(),
                out,
            );
            Ok(code)
        }
        Command::Send {
            case,
            text,
            file,
            scrub,
        } => send::send(client, &case, text, (&file, scrub), out).await,
        Command::Sync => {
            let did = client.sync().await?;
            let value = json!({"sent": did.sent, "received": did.received, "queued": did.queued, "new_cases": did.new_cases});
            out.both(
                &value,
                &format!(
                    "sent {}, received {}, waiting {}",
                    did.sent, did.received, did.queued
                ),
            );
            Ok(0)
        }
        Command::Read { case, all } => {
            read(client, &case, if all { Which::All } else { Which::Unread }, out).await
        }
        Command::Get {
            case,
            file,
            to,
            as_images: false,
        } => received::get(client, &case, &file, &to, out).await,
        Command::Get { case, file, to, .. } => received::pictures(client, &case, &file, &to, out).await,
        Command::Follow { case } => follow(client, case.as_deref(), out).await,
        Command::Verify {
            case,
            member,
            confirm,
        } => {
            let member = member.as_deref();
            let seen = if confirm {
                client.confirm(&case, member)?
            } else {
                client.safety(&case, member)?
            };
            out.both(&json!({"number": seen.number, "verified": seen.verified, "member": shape::member(&seen.member),
                "epoch_code": seen.epoch_code}), &seen.number);
            if !seen.verified {
                out.say("Read this number aloud to each other by voice, or hold the screens side by side. If every group is the same, run it again with --confirm; if one differs, stop and do not write.");
            }
            Ok(0)
        }
        Command::Add { case, invite, role } => {
            let invite: Invite = invite.concat().parse().map_err(Error::from)?;
            let role = match role {
                RoleName::Counsel => Role::Counsel,
                RoleName::Interpreter => Role::Interpreter,
                RoleName::Client => Role::Client,
                RoleName::Observer => Role::Observer,
            };
            changed(client.add(&case, &invite, role).await?, out)
        }
        Command::Remove { case, member } => changed(client.remove(&case, &member).await?, out),
        Command::Readmit { case, member } => changed(client.readmit(&case, &member).await?, out),
        Command::Takeover { case } => changed(client.take_over(&case).await?, out),
        Command::Retention { case, days } => {
            let done = client.retain(&case, days).await?;
            out.say(&words::say("keeping-asked", None));
            keeping(done, out)
        }
        Command::Hold { case, switch } => {
            let view = client.hold(&case, matches!(switch, Switch::On))?;
            keeping((view, false), out)
        }
        Command::Isolation { choice } => isolation(client, choice, out),
        Command::Proxy { address } => roads::proxy(client, address.as_deref(), out),
        Command::Doctor => roads::doctor(client, out).await,
        Command::Leave { case } => {
            let sent = client.leave(&case).await?;
            out.both(
                &shape::sent(&sent),
                "You asked to leave; counsel's device lets you go when it is online.",
            );
            Ok(queued(sent.queued, out))
        }
        Command::Rejoin { case, digits, .. } => {
            // What is not text is refused as digits with a slip in them.
            let typed = digits
                .as_ref()
                .map(|digits| String::from_utf8_lossy(digits.expose()));
            let typed = typed.map(|typed| Zeroizing::new(typed.into_owned()));
            let asked = client
                .rejoin(case.as_deref(), typed.as_ref().map(|typed| typed.as_str()))
                .await?;
            let told = match asked.asked {
                0 => "every case goes on from here; name a case to ask all the same",
                _ if typed.is_some() => "asked; the digits prove to counsel that it is you",
                _ => "asked; call counsel, so that they know it is you",
            };
            out.both(&json!({"asked": asked.asked, "queued": asked.queued}), told);
            Ok(queued(asked.queued, out))
        }
        Command::Recovery { case } => {
            let made = client.recovery(case.as_deref()).await?;
            let value = json!({"recovery": made.digits.as_str(), "cases": made.cases, "queued": made.queued});
            out.both(&value, &made.digits);
            out.say(&words::say("recovery-made", None));
            Ok(queued(made.queued, out))
        }
        Command::Device(command) => crate::device::run(command, client, out).await,
        Command::Relay(command) => {
            let mut waits = false;
            match command {
                RelayCommand::List => {}
                RelayCommand::Add { link } => {
                    waits = client.use_relay(link.parse().map_err(Error::from)?).await?;
                }
                RelayCommand::Move { link, case, gone } => {
                    let link = link.parse().map_err(Error::from)?;
                    waits = client.move_cases(link, case.as_deref(), gone).await?;
                }
                RelayCommand::Link { case } => {
                    let link = client.relay_link(&case)?.to_string();
                    out.both(&json!({ "link": link }), &link);
                    show_qr(&link, out);
                    return Ok(0);
                }
            }
            let relays = client.relay_list()?;
            let values: Vec<_> = relays.iter().map(shape::relay).collect();
            list(
                &json!({ "relays": values, "queued": waits }),
                relays.iter().map(tell::relay).collect(),
                out,
            );
            Ok(queued(waits, out))
        }
        Command::Status => {
            let s = client.status().await?;
            let value = json!({"online": s.online, "path": s.path, "unsent": s.unsent, "cases": s.cases,
                "unread": s.unread, "clock_off": s.clock_off});
            let at = if s.online {
                "the relay answers"
            } else {
                "the relay is out of reach"
            };
            out.both(&value, &format!("{at}; {} unsent, {} unread", s.unsent, s.unread));
            Ok(0)
        }
        Command::Backup { to, passphrase, .. } => {
            archive::backup(client, &to, passphrase.expose(), out).await
        }
        Command::Init { .. }
        | Command::Restore { .. }
        | Command::Scrub { .. }
        | Command::Wipe { .. }
        | Command::Completions { .. }
        | Command::Man => Err(Error::Internal("a command without a vault came to one with").into()),
        #[cfg(feature = "demo")]
        Command::Demo => Err(Error::Internal("a command without a vault came to one with").into()),
    }
}

/// Tells who is in a case after a change.
fn changed((case, waits): (CaseView, bool), out: &mut dyn Out) -> Exit {
    out.both(&shape::members(&case, waits), &tell::case(&case));
    Ok(queued(waits, out))
}

/// Tells how long the letters of a case are kept.
fn keeping((case, waits): (CaseView, bool), out: &mut dyn Out) -> Exit {
    out.both(&shape::keeping(&case, waits), &tell::kept(&case));
    Ok(queued(waits, out))
}

pub(crate) fn list(value: &Value, lines: Vec<String>, out: &mut dyn Out) {
    if out.json() {
        out.data(&value.to_string());
    } else {
        lines.iter().for_each(|line| out.data(line));
    }
}

/// Says that nothing is lost, if something waits.
pub(crate) fn queued(waits: bool, out: &mut dyn Out) -> u8 {
    if waits {
        out.say("The relay cannot be reached. Nothing is lost: it is stored here and goes out with the next command.");
        return NETWORK;
    }
    0
}

async fn sync(client: &Client, out: &mut dyn Out) -> Exit {
    match client.sync().await {
        Ok(_) => Ok(0),
        Err(Error::Unreachable) => {
            out.say("The relay cannot be reached; this is what is stored here.");
            Ok(NETWORK)
        }
        Err(error) => Err(error.into()),
    }
}

fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(STDIN_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(Error::File)?;
    Ok(text)
}

fn isolation(client: &Client, choice: Option<IsolationName>, out: &mut dyn Out) -> Exit {
    match choice {
        Some(IsolationName::Shared) => client.set_isolation(Isolation::Shared)?,
        Some(IsolationName::Case) => client.set_isolation(Isolation::Case)?,
        None => {}
    }
    let (name, told) = match client.isolation()? {
        Isolation::Shared => ("shared", "isolation-shared"),
        Isolation::Case => ("case", "isolation-case"),
    };
    out.both(&json!({"isolation": name}), &words::say(told, None));
    Ok(0)
}

async fn open(client: &Client, words: &[String], new: NewCase, out: &mut dyn Out) -> Exit {
    let typed = words.concat();
    let invite: Invite = typed.parse().map_err(Error::from)?;
    let (case, with, letters) = client.open_case(&invite, new).await?;
    let waits = letters.iter().any(|letter| letter.queued);
    let letters: Vec<_> = letters.iter().map(shape::sent).collect();
    out.both(
        &json!({"case": case.case, "with": shape::member(&with), "letters": letters, "queued": waits}),
        &case.case,
    );
    Ok(queued(waits, out))
}

async fn read(client: &Client, case: &str, which: Which, out: &mut dyn Out) -> Exit {
    let code = sync(client, out).await?;
    let letters = client.letters(case, which)?;
    if out.json() {
        let values: Vec<_> = letters.iter().map(shape::letter).collect();
        out.data(&json!({ "letters": values }).to_string());
    } else {
        letters.iter().for_each(|letter| out.data(&tell::letter(letter)));
    }
    let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    client.mark_read(case, &ids)?;
    Ok(code)
}

async fn follow(client: &Client, case: Option<&str>, out: &mut dyn Out) -> Exit {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).map_err(Error::File)?;
    let mut int = signal(SignalKind::interrupt()).map_err(Error::File)?;
    let mut following = client.follow(case).await?;
    let desk = ipc::Desk::open(client)?;
    loop {
        tokio::select! {
            () = desk.serve() => return Ok(0),
            _ = term.recv() => return Ok(0),
            _ = int.recv() => return Ok(0),
            event = following.next() => match event {
                Some(event) => out.data(&shape::event(&event).to_string()),
                None => return Ok(0),
            }
        }
    }
}

/// Shows a `martlet:` string as a QR code, on a terminal.
pub(crate) fn show_qr(text: &str, out: &mut dyn Out) {
    if out.draws()
        && let Ok(code) = qrcode::QrCode::new(text.to_uppercase())
    {
        out.say(&code.render::<qrcode::render::unicode::Dense1x2>().build());
    }
}

fn write_qr(invite: &str, file: &Path) -> Result<(), Failure> {
    let code = qrcode::QrCode::new(invite.to_uppercase())
        .map_err(|_| Error::Internal("the QR code is too large"))?;
    let mut png = std::io::Cursor::new(Vec::new());
    code.render::<image::Luma<u8>>()
        .build()
        .write_to(&mut png, image::ImageFormat::Png)
        .map_err(|_| Error::Internal("the QR code cannot be drawn"))?;
    std::fs::write(file, png.into_inner()).map_err(Error::File)?;
    Ok(())
}
