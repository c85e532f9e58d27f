//! What a probe tells of its last letter. It is the probe's own, so nothing of it is coarse.

use std::time::Duration;

use super::{Kind, Metric, Text, metrics};

metrics! {
    /// What a probe tells of its last letter.
    PROBE_METRICS:
    THROUGH = "martlet_probe_success", Gauge, "1 if the last letter of the probe came through and back.";
    TOOK = "martlet_probe_seconds", Gauge, "How long it took, or how long it was tried.";
    PROBED = "martlet_probe_time_seconds", Gauge, "When that was.";
}

/// How a probe's letter fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Whether it came through and back.
    pub through: bool,
    /// How long it took, or was tried.
    pub took: Duration,
    /// When that was, in seconds of UNIX time.
    pub at_secs: u64,
}

/// The text of a probe's metrics.
pub fn tell_probe(probed: &Probed) -> String {
    let mut text = Text::default();
    text.number(&THROUGH, u64::from(probed.through));
    let hundredths = probed.took.as_millis() / 10;
    text.hundredths(&TOOK, u64::try_from(hundredths).unwrap_or(u64::MAX));
    text.number(&PROBED, probed.at_secs);
    text.0
}
