//! A progress bar, where there is somebody to see it.

use indicatif::{ProgressBar, ProgressStyle};
use martlet::view::{Progress, Stage};

/// A bar that appears with the first progress.
pub(crate) struct Bar {
    draws: bool,
    bar: Option<(Stage, ProgressBar)>,
}

impl Bar {
    pub(crate) fn new(draws: bool) -> Self {
        Self { draws, bar: None }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        if !self.draws {
            return;
        }
        let begun = self
            .bar
            .as_ref()
            .is_some_and(|(stage, _)| *stage == progress.stage);
        if !begun {
            self.end();
            let bar = ProgressBar::new(progress.total_bytes);
            let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(match progress.stage {
                Stage::Sealing => "sealing ",
                Stage::Sending => "sending ",
                Stage::Fetching => "fetching",
            });
            self.bar = Some((progress.stage, bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(progress.done_bytes);
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
