//! What the listeners count, as text for a scraper (private listener only). Never a name, an id or a value.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the classes of answer times, in milliseconds.
const BOUNDS: [u64; 8] = [5, 10, 25, 50, 100, 250, 1_000, 5_000];

/// Counts of one listener.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By status class, 1xx to 5xx.
    answers: [AtomicU64; 5],
    times: [AtomicU64; BOUNDS.len() + 1],
    millis: AtomicU64,
    /// Refused because too much was under way.
    pub(crate) shed: AtomicU64,
    /// Handlers that panicked.
    pub(crate) panics: AtomicU64,
}

impl Metrics {
    /// Counts one answer.
    pub(crate) fn answered(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.answers[class].fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bound = BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(BOUNDS.len());
        self.times[bound].fetch_add(1, Ordering::Relaxed);
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// Writes the counts in the Prometheus text format.
    pub(crate) fn write(&self, listener: &str, out: &mut String) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for (at, count) in self.answers.iter().enumerate() {
            let class = at + 1;
            let _ =
                writeln!(out, "siv_http_answers_total{{listener=\"{listener}\",class=\"{class}xx\"}} {}", read(count));
        }
        let mut total = 0;
        for (at, count) in self.times.iter().enumerate() {
            total += read(count);
            let bound =
                BOUNDS.get(at).map_or_else(|| "+Inf".to_owned(), |millis| format!("{}", *millis as f64 / 1000.0));
            let _ = writeln!(out, "siv_http_seconds_bucket{{listener=\"{listener}\",le=\"{bound}\"}} {total}");
        }
        let seconds = read(&self.millis) as f64 / 1000.0;
        let _ = writeln!(out, "siv_http_seconds_sum{{listener=\"{listener}\"}} {seconds}");
        let _ = writeln!(out, "siv_http_seconds_count{{listener=\"{listener}\"}} {total}");
        let _ = writeln!(out, "siv_http_shed_total{{listener=\"{listener}\"}} {}", read(&self.shed));
        let _ = writeln!(out, "siv_http_panics_total{{listener=\"{listener}\"}} {}", read(&self.panics));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_class_and_time() {
        let metrics = Metrics::default();
        metrics.answered(204, Duration::from_millis(7));
        metrics.answered(503, Duration::from_secs(60));
        let mut text = String::new();
        metrics.write("public", &mut text);
        assert!(text.contains("siv_http_answers_total{listener=\"public\",class=\"2xx\"} 1"));
        assert!(text.contains("siv_http_seconds_bucket{listener=\"public\",le=\"0.01\"} 1"));
        assert!(text.contains("siv_http_seconds_bucket{listener=\"public\",le=\"+Inf\"} 2"));
    }
}
