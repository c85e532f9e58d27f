//! `proxy` and `doctor`: by which roads relays are reached.

use martlet::{Client, Error, view::Health};
use martlet_proto::link::Address;
use serde_json::json;

use crate::{run::Exit, speak::Out, words};

/// Exit code: the network (CLI.md).
const NETWORK: u8 = 3;

pub(crate) fn proxy(client: &Client, address: Option<&str>, out: &mut dyn Out) -> Exit {
    match address {
        None => {}
        Some("off") => client.set_proxy(None)?,
        Some(typed) => {
            let typed = typed
                .trim_start_matches("socks5://")
                .trim_start_matches("socks5h://");
            let proxy: Address = typed.parse().map_err(Error::from)?;
            client.set_proxy(Some(proxy))?;
        }
    }
    let proxy = client.proxy()?.map(|proxy| proxy.to_string());
    let told = match &proxy {
        Some(proxy) => words::say("proxy-used", Some(proxy)),
        None => words::say("proxy-none", None),
    };
    out.both(&json!({ "proxy": proxy }), &told);
    Ok(0)
}

/// A finding: its name, whether it is well, and the key of what to say.
type Check = (String, bool, &'static str);

pub(crate) async fn doctor(client: &Client, out: &mut dyn Out) -> Exit {
    let health = client.health().await?;
    let checks = checks(&health);
    let ok = health.relays == 0 || (health.reached && !health.clock_off && !health.wrong_pin);
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for (name, ok, key) in checks {
        let said = words::say(key, None);
        let mark = if ok { "ok " } else { "BAD" };
        lines.push(format!("{mark}  {name}: {said}"));
        values.push(json!({"name": name, "ok": ok, "advice": if ok { String::new() } else { said }}));
    }
    out.both(&json!({"ok": ok, "checks": values}), &lines.join("\n"));
    Ok(match (ok, health.reached) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => NETWORK,
    })
}

fn checks(health: &Health) -> Vec<Check> {
    if health.relays == 0 {
        return vec![("relay".into(), true, "doctor-no-relay")];
    }
    let mut checks: Vec<Check> = Vec::new();
    for road in &health.roads {
        let key = match (road.ok, road.road.as_str()) {
            (true, _) => "doctor-road",
            (false, "proxy") => "doctor-no-proxy",
            (false, _) if health.reached => "doctor-other-road",
            (false, _) => "doctor-no-road",
        };
        checks.push((road.road.clone(), road.ok, key));
    }
    let reached = if health.reached {
        "doctor-reached"
    } else {
        "doctor-unreached"
    };
    checks.push(("relay".into(), health.reached, reached));
    if health.wrong_pin {
        checks.push(("key".into(), false, "do-wrong-pin"));
    }
    let clock = if health.clock_off {
        "doctor-clock-off"
    } else {
        "doctor-clock"
    };
    checks.push(("clock".into(), !health.clock_off, clock));
    checks
}
