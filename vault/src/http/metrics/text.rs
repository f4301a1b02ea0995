//! The Prometheus text format, version 0.0.4: families with their help and type, samples with their labels.

use std::fmt::Write as _;

use crate::domain::meter::Histogram;

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grows only.
    Counter,
    /// Is what it is now.
    Gauge,
    /// Classes, a sum and a count.
    Histogram,
}

/// The unit in which a histogram was counted, in base units of what is shown.
pub(super) const MICROSECONDS: f64 = 1e-6;
/// Things, as they are.
pub(super) const ONES: f64 = 1.0;

/// The text of one scrape.
#[derive(Debug, Default)]
pub(super) struct Text(String);

/// Labels of a sample.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: &mut self.0, name }
    }

    /// A counter without labels.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help).sample(&[], value);
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// A histogram of times without labels.
    pub(super) fn times(&mut self, name: &'static str, help: &str, times: &Histogram) {
        self.family(name, Kind::Histogram, help).histogram(&[], times, MICROSECONDS);
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A family's samples.
pub(super) struct Family<'t> {
    text: &'t mut String,
    name: &'static str,
}

impl Family<'_> {
    /// One sample.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: u64) {
        self.line("", labels, None, &value);
    }

    /// One sample that is no whole number.
    pub(super) fn float(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, &value);
    }

    /// All samples of a histogram; `unit` is what one of its counts is worth.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram, unit: f64) {
        // First the classes, then the count: a scrape in the middle of an observation shows no class above the count.
        let classes: Vec<_> = histogram.up_to().collect();
        let count = histogram.count();
        for (bound, so_far) in classes {
            let bound = rounded(bound as f64 * unit).to_string();
            self.line("_bucket", labels, Some(&bound), &so_far);
        }
        self.line("_bucket", labels, Some("+Inf"), &count);
        self.line("_sum", labels, None, &rounded(histogram.sum() as f64 * unit));
        self.line("_count", labels, None, &count);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: &dyn std::fmt::Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in all {
            let _ = write!(self.text, "{before}{name}=\"");
            escape(value, self.text);
            self.text.push('"');
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

/// To the millionth: what a product of floats adds below that is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn escape(value: &str, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_family_has_help_type_and_escaped_labels() {
        let mut text = Text::default();
        text.family("siv_x_total", Kind::Counter, "How often.").sample(&[("a", "b\"\\\n"), ("c", "d")], 7);
        text.gauge("siv_y", "Now.", 3);
        let expected = "# HELP siv_x_total How often.\n# TYPE siv_x_total counter\nsiv_x_total{a=\"b\\\"\\\\\\n\",c=\"d\"} 7\n\
                        # HELP siv_y Now.\n# TYPE siv_y gauge\nsiv_y 3\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn a_histogram_of_times_is_told_in_seconds() {
        let times = Histogram::of_times();
        times.took(Duration::from_millis(7));
        times.took(Duration::from_secs(60));
        let mut text = Text::default();
        text.times("siv_z_seconds", "How long.", &times);
        let text = text.finish();
        for line in [
            "siv_z_seconds_bucket{le=\"0.0005\"} 0",
            "siv_z_seconds_bucket{le=\"0.01\"} 1",
            "siv_z_seconds_bucket{le=\"10\"} 1",
            "siv_z_seconds_bucket{le=\"+Inf\"} 2",
            "siv_z_seconds_sum 60.007",
            "siv_z_seconds_count 2",
        ] {
            assert!(text.lines().any(|is| is == line), "{line}\n{text}");
        }
    }
}
