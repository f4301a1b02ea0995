//! How far an import is: a bar on a terminal, else a line now and then; both on standard error.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::position::Position;
use crate::cli::output::Output;

/// So often a line is told where nobody sees a bar.
const OFTEN: Duration = Duration::from_secs(5);

/// So often it is told that a request waits.
const SELDOM: Duration = Duration::from_secs(60);

/// A bar, or when the last line was told.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    told: Mutex<Instant>,
    /// When it was last told that a request waits.
    waits: Mutex<Option<Instant>>,
    /// A program reads: it is told the result alone.
    silent: bool,
}

impl Progress {
    /// For an input of so many bytes, where that is known.
    pub(super) fn new(length: Option<u64>, silent: bool) -> Self {
        let bar = (!silent && std::io::stderr().is_terminal()).then(|| {
            let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = if length.is_some() {
                "{elapsed} {wide_bar} {bytes}/{total_bytes} {msg}"
            } else {
                "{elapsed} {spinner} {bytes} {msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, told: Mutex::new(Instant::now()), waits: Mutex::new(None), silent }
    }

    /// Tells it.
    pub(super) fn tell(&self, position: &Position) {
        let counts = format!("{} captured, {} refused", position.captured, position.rejected);
        if let Some(bar) = &self.bar {
            bar.set_position(position.bytes);
            bar.set_message(counts);
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !self.silent && told.elapsed() >= OFTEN {
            *told = Instant::now();
            Output::progress(&format!("line {}: {counts}", position.line));
        }
    }

    /// Tells that a request waits, and why; once for all that wait at the same time.
    pub(super) fn tell_wait(&self, why: &str) {
        let mut waits = self.waits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !self.silent && waits.is_none_or(|since| since.elapsed() >= SELDOM) {
            *waits = Some(Instant::now());
            self.aside(|| Output::progress(why));
        }
    }

    /// Does something that prints, without a bar in between.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
