//! What one slice of load counted; it sends nothing.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::connection::Answer;
use super::request::Target;

/// Counts of one slice. Latencies are in microseconds.
pub struct Slice {
    /// Good answers before the slice's end: what a rate is made of.
    pub in_time: u64,
    /// Good answers, those after the end too: what costs are shared by.
    pub done: u64,
    /// Items in good answers.
    pub items: u64,
    /// Answers that were not good.
    pub refused: u64,
    /// Requests without an answer.
    pub broken: u64,
    /// How long it took; shorter than asked for where the requests ran out.
    pub length: Duration,
    /// How long it took until the last answer.
    pub whole: Duration,
    /// Of good answers, from when the request was meant to start.
    pub latencies: Histogram<u64>,
    /// Of the others, from when the request was sent.
    pub refusals: Histogram<u64>,
    /// Keys of values that were acknowledged.
    pub kept: Vec<String>,
    /// The first answer that was not good.
    pub complaint: Option<String>,
}

impl Slice {
    /// Nothing yet.
    pub fn of(length: Duration) -> Self {
        let empty = || Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        Self {
            in_time: 0,
            done: 0,
            items: 0,
            refused: 0,
            broken: 0,
            length,
            whole: Duration::ZERO,
            latencies: empty(),
            refusals: empty(),
            kept: Vec::new(),
            complaint: None,
        }
    }

    /// Good answers a second.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn rate(&self) -> f64 {
        self.in_time as f64 / self.length.as_secs_f64()
    }

    /// Items a second.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn item_rate(&self) -> f64 {
        self.items as f64 / self.whole.as_secs_f64()
    }

    /// Counts what came for a request that was to start at one moment and was sent at another.
    pub fn count(
        &mut self,
        answer: Option<Answer<'_>>,
        target: &Target,
        (meant, sent): (Instant, Instant),
        end: Instant,
    ) {
        let now = Instant::now();
        let micros = |begun: Instant| u64::try_from((now - begun).as_micros()).unwrap_or(u64::MAX);
        let Some(answer) = answer else {
            self.broken += 1;
            return;
        };
        let items = match target.proof {
            "" => 1,
            proof => memchr::memmem::find_iter(answer.body, proof).count() as u64,
        };
        if !(200..300).contains(&answer.status) || items == 0 {
            self.refused += 1;
            self.refusals.saturating_record(micros(sent));
            self.complaint.get_or_insert_with(|| format!("{} {}", answer.status, String::from_utf8_lossy(answer.body)));
            return;
        }
        self.done += 1;
        self.items += items;
        self.in_time += u64::from(now <= end);
        self.latencies.saturating_record(micros(meant));
        if target.keep_one_of > 0 && self.done.is_multiple_of(target.keep_one_of) {
            self.kept.extend(keys(answer.body));
        }
    }

    /// Takes another's counts in.
    pub fn add(&mut self, other: Self) {
        self.in_time += other.in_time;
        self.done += other.done;
        self.items += other.items;
        self.refused += other.refused;
        self.broken += other.broken;
        self.length = self.length.min(other.length);
        self.whole = self.whole.max(other.whole);
        self.latencies.add(&other.latencies).unwrap();
        self.refusals.add(&other.refusals).unwrap();
        self.kept.extend(other.kept);
        self.complaint = self.complaint.take().or(other.complaint);
    }
}

/// A latency of a histogram, in milliseconds.
#[allow(clippy::cast_precision_loss, reason = "microseconds below 2^53")]
pub fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// The keys in an answer's body.
fn keys(body: &[u8]) -> Vec<String> {
    const NAME: &[u8] = b"\"secureValueKey\":\"";
    let key = |at: usize| {
        let rest = &body[at + NAME.len()..];
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    };
    memchr::memmem::find_iter(body, NAME).map(key).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn target() -> Target {
        let fill = Arc::new(|_: &mut Vec<u8>| true);
        Target { name: "", host: String::new(), server: 0, fill, proof: "secureValueKey", keep_one_of: 1 }
    }

    #[test]
    fn an_answer_counts_only_with_what_proves_it_and_for_the_rate_only_in_time() {
        let (begun, length) = (Instant::now(), Duration::from_secs(60));
        let mut slice = Slice::of(length);
        let mut count = |status, body: &[u8], end| {
            slice.count(Some(Answer { status, body }), &target(), (begun, begun), end);
        };
        count(200, br#"{"results":[{"status":201,"secureValueKey":"svk_1"}]}"#, begun + length);
        count(200, br#"{"results":[{"status":201,"secureValueKey":"svk_2"}]}"#, begun);
        count(200, br#"{"results":[{"status":422}]}"#, begun + length);
        count(503, b"{}", begun + length);
        slice.count(None, &target(), (begun, begun), begun);
        assert_eq!((slice.in_time, slice.done, slice.refused, slice.broken), (1, 2, 2, 1));
        assert_eq!(slice.kept, ["svk_1", "svk_2"]);
        assert!(slice.complaint.unwrap().contains("422"));
    }
}
