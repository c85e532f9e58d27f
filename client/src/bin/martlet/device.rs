//! `martlet device`: linking, listing and removing this person's devices.

use std::time::Duration;

use martlet::{Client, Error, view::Linking};
use martlet_proto::{device::DeviceRequest, link::RelayLink};
use serde_json::json;

use crate::{
    args::DeviceCommand,
    json as shape,
    run::{Exit, list, show_qr},
    speak::Out,
    tell,
};

/// How often to look whether the other device answered.
const LOOK: Duration = Duration::from_secs(2);
const PARTLY: u8 = 7;

pub(crate) async fn run(command: DeviceCommand, client: &Client, out: &mut dyn Out) -> Exit {
    let devices = match command {
        DeviceCommand::Link {
            request,
            relay,
            history,
            wait,
        } => {
            let wait = Duration::from_secs(wait);
            return if request.is_empty() {
                ask(client, relay, wait, out).await
            } else {
                let request: DeviceRequest = request.concat().parse().map_err(Error::from)?;
                answer(client, &(request, history), wait, out).await
            };
        }
        DeviceCommand::List => client.device_list()?,
        DeviceCommand::Remove { device } => client.remove_device(&device).await?,
    };
    let values: Vec<_> = devices.iter().map(shape::device).collect();
    let lines = devices.iter().map(tell::device).collect();
    list(&json!({ "devices": values }), lines, out);
    Ok(0)
}

/// On the new device: shows the request, and waits until it belongs to somebody.
async fn ask(client: &Client, relay: Option<String>, wait: Duration, out: &mut dyn Out) -> Exit {
    let relay: Option<RelayLink> = relay.map(|link| link.parse()).transpose().map_err(Error::from)?;
    let first = client.request_link(relay).await?;
    let request = first.request.clone().unwrap_or_default();
    if !out.json() {
        out.data(&request);
        show_qr(&request, out);
        out.say("On the device you use: martlet device link REQUEST. Show this to nobody else.");
    }
    let done = until(client, None, wait, first).await?;
    Ok(told(&done, &request, out))
}

/// On the device in use: lets the new one in, and waits until it is in every case, with the letters there if its owner
/// says so.
async fn answer(client: &Client, request: &(DeviceRequest, bool), wait: Duration, out: &mut dyn Out) -> Exit {
    let first = client.link_device(&request.0, request.1).await?;
    let done = until(client, Some(request), wait, first).await?;
    Ok(told(&done, "", out))
}

/// Looks again until the other device answered, or the time is over.
async fn until(
    client: &Client,
    request: Option<&(DeviceRequest, bool)>,
    wait: Duration,
    mut seen: Linking,
) -> Result<Linking, Error> {
    let mut left = wait;
    while !seen.linked && !left.is_zero() {
        let pause = left.min(LOOK);
        tokio::time::sleep(pause).await;
        left = left.saturating_sub(pause);
        seen = match request {
            Some((request, history)) => client.link_device(request, *history).await?,
            None => client.request_link(None).await?,
        };
    }
    Ok(seen)
}

fn told(done: &Linking, request: &str, out: &mut dyn Out) -> u8 {
    let shown = (!request.is_empty()).then_some(request);
    if out.json() {
        out.data(&json!({"linked": done.linked, "request": shown}).to_string());
    }
    if done.linked {
        out.say("Linked.");
        return 0;
    }
    out.say("The other device has not answered yet. Run the same command again on both; it goes on where it stopped.");
    PARTLY
}
