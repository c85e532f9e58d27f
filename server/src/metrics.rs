//! What a relay tells its operator's monitoring, in the text format of Prometheus. Pure: readings in, text out.
//!
//! What people did is told coarsely: totals are taken anew at most once an hour and rounded to steps that grow with
//! them, from a random beginning that is kept for as long as the relay runs. So a step that is seen stands for any
//! number of acts up to twice the step, at an hour and not a minute. What is told at once is about the machine: the
//! disk, the clock, the room. There is no label, and no place for one, that names a channel, an address or a size.

mod probe;

use std::{fmt::Write, time::Duration};

pub use self::probe::{PROBE_METRICS, Probed, tell_probe};
use crate::store::Totals;

/// How often totals of what people did are taken anew.
pub const RENEWED_EVERY: Duration = Duration::from_secs(3600);
/// The smallest step of a count.
const COUNT_STEP: u64 = 64;
/// The smallest step of bytes.
const BYTES_STEP: u64 = 4 << 20;
/// Steps in a doubling.
const STEPS: u64 = 8;
/// Above what share of the places for connections a relay is crowded, in percent.
const CROWDED_PERCENT: u64 = 90;
/// Milliseconds up to which the longest turn is told.
const TURN_STEPS_MS: [u64; 5] = [250, 1_000, 4_000, 16_000, 64_000];

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Up, from 0 at the relay's start.
    Counter,
}

/// One metric that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
}

/// Names, kinds and meanings, in the order in which they are told.
macro_rules! metrics {
    ($(#[$doc:meta])* $all:ident: $($constant:ident = $name:literal, $kind:ident, $help:literal;)*) => {
        $(const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*
        $(#[$doc])*
        pub const $all: &[Metric] = &[$($constant),*];
    };
}
use metrics;

metrics! {
    /// All that a relay tells, in the order in which it does.
    METRICS:
    BUILD = "martlet_build_info", Gauge, "1; the label says which version runs.";
    STARTED = "martlet_start_time_seconds", Gauge, "When the relay started, to the hour.";
    ANSWERS = "martlet_turns_answer", Gauge, "1 if the thread that decides and writes to the disk answers.";
    CLOCK = "martlet_clock_doubted", Gauge, "1 if the clock jumped ahead and nothing expires until the operator agrees.";
    BELOW_FLOOR = "martlet_disk_below_floor", Gauge, "1 if less of the disk is free than the floor: nothing new is taken.";
    FREE = "martlet_disk_free_ratio", Gauge, "Share of the disk that is free, in steps of 0.05.";
    CROWDED = "martlet_connections_crowded", Gauge, "1 if 90 % of the places for connections are taken.";
    PLACES = "martlet_connections_limit", Gauge, "Places for connections, as configured.";
    TURN = "martlet_turn_longest_seconds", Gauge, "The longest turn of this hour and the last, rounded up to 0.25, 1, 4, 16 or 64.";
    CONNECTIONS = "martlet_connections", Gauge, "Connections, coarse, hourly.";
    CHANNELS = "martlet_channels", Gauge, "Channels that are remembered, coarse, hourly.";
    ENTRIES = "martlet_entries", Gauge, "Entries that are kept, coarse, hourly.";
    BYTES = "martlet_envelope_bytes", Gauge, "Bytes of the envelopes that are kept, coarse, hourly.";
    CALLS = "martlet_calls_total", Counter, "Calls that were answered, coarse, hourly.";
    REFUSALS = "martlet_refusals_total", Counter, "Calls that were refused, by what would help, coarse, hourly.";
}

/// How calls ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Answered.
    pub answered: u64,
    /// Refused for want of room on the disk.
    pub full: u64,
    /// Refused because there were too many at once.
    pub busy: u64,
    /// Openings by somebody without the right to open channels.
    pub not_admitted: u64,
    /// Refused for any other reason.
    pub other: u64,
}

/// What people did, exactly: never told as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// What the store holds.
    pub totals: Totals,
    /// Connections at this moment.
    pub connections: u64,
    /// How calls ended since the relay began.
    pub calls: Calls,
}

/// How the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// When the relay started, in seconds of UNIX time.
    pub started_secs: u64,
    /// How the clock stands; `None` if the turn thread does not answer.
    pub clock_doubted: Option<bool>,
    /// Bytes of the disk.
    pub disk_bytes: u64,
    /// Bytes of it that are free.
    pub free_bytes: u64,
    /// Free bytes below which nothing new is taken.
    pub floor_bytes: u64,
    /// Places for connections.
    pub connections_max: u64,
    /// Connections at this moment; told only as crowded or not.
    pub connections: u64,
    /// The longest turn since it was asked last.
    pub slowest: Duration,
}

/// Remembers what was told.
pub struct Teller {
    /// Where steps begin: random, the same until the relay stops.
    beginning: u64,
    /// What is told of activity until it is taken anew, and since when.
    told: Option<(Duration, Activity)>,
    /// The longest turn of this hour, and of the last.
    slowest: [Duration; 2],
}

impl Teller {
    /// Tells from a random beginning.
    pub fn new(beginning: u64) -> Self {
        Self {
            beginning,
            told: None,
            slowest: [Duration::ZERO; 2],
        }
    }

    /// The text. `uptime` is how long the relay runs; `activity` is `None` if the turn thread does not answer, and the
    /// last one is told again.
    pub fn tell(&mut self, uptime: Duration, health: &Health, activity: Option<Activity>) -> String {
        let due = match self.told {
            Some((taken, _)) => uptime.saturating_sub(taken) >= RENEWED_EVERY,
            None => true,
        };
        if let Some(activity) = activity
            && due
        {
            self.told = Some((uptime, activity));
            self.slowest = [Duration::ZERO, self.slowest[0]];
        }
        self.slowest[0] = self.slowest[0].max(health.slowest);
        let mut text = Text::default();
        text.head(&BUILD);
        text.line(
            BUILD.name,
            concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
            1,
        );
        text.number(&STARTED, down(health.started_secs, 3600));
        text.number(&ANSWERS, u64::from(health.clock_doubted.is_some()));
        text.number(&CLOCK, u64::from(health.clock_doubted == Some(true)));
        text.number(&BELOW_FLOOR, u64::from(health.free_bytes < health.floor_bytes));
        text.hundredths(&FREE, free_percent(health));
        text.number(&CROWDED, u64::from(crowded(health)));
        text.number(&PLACES, health.connections_max);
        let [now, before] = self.slowest;
        text.hundredths(&TURN, turn_hundredths(now.max(before)));
        let activity = self.told.map(|(_, activity)| activity).unwrap_or_default();
        self.activity(&mut text, &activity);
        text.0
    }

    fn activity(&self, text: &mut Text, activity: &Activity) {
        let count = |value| coarse(value, COUNT_STEP, self.beginning);
        text.number(&CONNECTIONS, count(activity.connections));
        text.number(&CHANNELS, count(activity.totals.channels));
        text.number(&ENTRIES, count(activity.totals.entries));
        text.number(&BYTES, coarse(activity.totals.bytes, BYTES_STEP, self.beginning));
        let calls = activity.calls;
        text.number(&CALLS, count(calls.answered));
        text.head(&REFUSALS);
        for (reason, value) in [
            ("{reason=\"full\"}", calls.full),
            ("{reason=\"busy\"}", calls.busy),
            ("{reason=\"not-admitted\"}", calls.not_admitted),
            ("{reason=\"other\"}", calls.other),
        ] {
            text.line(REFUSALS.name, reason, count(value));
        }
    }
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teller(..)")
    }
}

/// The multiple of `step` at or below.
fn down(value: u64, step: u64) -> u64 {
    value.saturating_sub(value.checked_rem(step).unwrap_or(0))
}

/// A value in steps: of `least`, or an eighth of the power of two below, if that is more.
fn coarse(value: u64, least: u64, beginning: u64) -> u64 {
    let power = value.checked_ilog2().map_or(0, |log| 1u64 << log);
    let step = least.max(power / STEPS);
    down(
        value.saturating_add(beginning.checked_rem(step).unwrap_or(0)),
        step,
    )
}

fn free_percent(health: &Health) -> u64 {
    let percent = health
        .free_bytes
        .saturating_mul(100)
        .checked_div(health.disk_bytes);
    down(percent.unwrap_or(0), 5)
}

fn crowded(health: &Health) -> bool {
    health.connections.saturating_mul(100) >= health.connections_max.saturating_mul(CROWDED_PERCENT)
}

fn turn_hundredths(slowest: Duration) -> u64 {
    let last = TURN_STEPS_MS.last().copied().unwrap_or(0);
    let step = TURN_STEPS_MS
        .iter()
        .find(|step| slowest <= Duration::from_millis(**step));
    step.unwrap_or(&last) / 10
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, metric: &Metric) {
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let Metric { name, help, .. } = metric;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn number(&mut self, metric: &Metric, value: u64) {
        self.head(metric);
        self.line(metric.name, "", value);
    }

    fn hundredths(&mut self, metric: &Metric, value: u64) {
        self.head(metric);
        let _ = writeln!(self.0, "{} {}.{:02}", metric.name, value / 100, value % 100);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests count on small numbers")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn activity(number: u64) -> Activity {
        Activity {
            totals: Totals {
                channels: number,
                entries: number,
                bytes: number.saturating_mul(2048),
            },
            connections: number,
            calls: Calls {
                answered: number,
                full: number,
                busy: number,
                not_admitted: number,
                other: number,
            },
        }
    }

    const HEALTH: Health = Health {
        started_secs: 1_700_000_123,
        clock_doubted: Some(false),
        disk_bytes: 40 << 30,
        free_bytes: 21 << 30,
        floor_bytes: 256 << 20,
        connections_max: 10_000,
        connections: 3,
        slowest: Duration::from_millis(7),
    };

    fn value(text: &str, name: &str) -> String {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("{name} in {text}"))
            .trim()
            .to_string()
    }

    #[test]
    fn every_metric_is_told_once_and_no_other() {
        let text = Teller::new(0).tell(Duration::ZERO, &HEALTH, Some(activity(100)));
        let told: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let known: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(told, known);
        assert_eq!(value(&text, "martlet_disk_free_ratio "), "0.50");
        assert_eq!(value(&text, "martlet_turn_longest_seconds "), "0.25");
        assert_eq!(value(&text, "martlet_start_time_seconds "), "1699999200");
        assert_eq!(value(&text, "martlet_channels "), "64");
    }

    #[test]
    fn what_is_bad_is_told_at_once() {
        let mut teller = Teller::new(0);
        teller.tell(Duration::ZERO, &HEALTH, Some(activity(0)));
        let bad = Health {
            clock_doubted: Some(true),
            free_bytes: 1,
            connections: 9_000,
            slowest: Duration::from_secs(3),
            ..HEALTH
        };
        let text = teller.tell(Duration::from_secs(1), &bad, Some(activity(0)));
        for (name, wanted) in [
            ("martlet_clock_doubted ", "1"),
            ("martlet_disk_below_floor ", "1"),
            ("martlet_disk_free_ratio ", "0.00"),
            ("martlet_connections_crowded ", "1"),
            ("martlet_turn_longest_seconds ", "4.00"),
            ("martlet_turns_answer ", "1"),
        ] {
            assert_eq!(value(&text, name), wanted, "{name}");
        }
        let hung = Health {
            clock_doubted: None,
            ..HEALTH
        };
        let text = teller.tell(Duration::from_secs(2), &hung, None);
        assert_eq!(value(&text, "martlet_turns_answer "), "0");
    }

    #[test]
    fn within_the_hour_nothing_that_people_do_changes_the_text() {
        let mut teller = Teller::new(17);
        let first = teller.tell(Duration::from_secs(5), &HEALTH, Some(activity(0)));
        let later = Duration::from_secs(5).saturating_add(RENEWED_EVERY);
        let before = later.saturating_sub(Duration::from_secs(1));
        assert_eq!(teller.tell(before, &HEALTH, Some(activity(1 << 20))), first);
        assert_ne!(teller.tell(later, &HEALTH, Some(activity(1 << 20))), first);
    }

    proptest! {
        #[test]
        fn one_value_more_moves_a_step_or_nothing(value in 0u64..1 << 40, beginning in any::<u64>()) {
            let (here, next) = (coarse(value, COUNT_STEP, beginning), coarse(value + 1, COUNT_STEP, beginning));
            prop_assert!(next == here || next >= here + COUNT_STEP);
            // What is told is within a step of what is.
            prop_assert!(here <= value + COUNT_STEP.max(value / STEPS));
            prop_assert!(here + COUNT_STEP.max(value / STEPS) >= value);
        }

        /// For what a single act would have moved, many beginnings tell nothing of it.
        #[test]
        fn of_all_beginnings_one_in_a_step_shows_an_act(value in 0u64..100_000) {
            let shown = (0..COUNT_STEP)
                .filter(|beginning| coarse(value, COUNT_STEP, *beginning) != coarse(value + 1, COUNT_STEP, *beginning))
                .count();
            prop_assert!(shown <= 1 || value + 1 == (value + 1).next_power_of_two());
        }
    }
}
