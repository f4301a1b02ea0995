//! What one slice of load counted; it sends nothing.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::connection::Answer;
use super::request::Target;

/// What stands before a key in the answer to a capture.
const KEY: &str = "\"secureValueKey\":\"";
/// What stands before a run's id, in an answer and in an entry.
pub const RUN: &str = "\"runId\":\"";
/// What stands in a refusal of requests that are too many at once.
const NO_ROOM: &str = "\"code\":\"overloaded\"";

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
    /// Values in good answers.
    pub values: u64,
    /// Values that may have been stored though nobody was told so.
    pub unsure: u64,
    /// Keys of values that were acknowledged.
    pub keys: Vec<String>,
    /// Runs that were acknowledged.
    pub runs: Vec<String>,
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
            values: 0,
            unsure: 0,
            keys: Vec::new(),
            runs: Vec::new(),
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
            self.unsure += target.values;
            return;
        };
        let times = |text: &str| memchr::memmem::find_iter(answer.body, text).count() as u64;
        let items = match target.proofs {
            [] => 1,
            proofs => proofs.iter().copied().map(times).sum(),
        };
        if !(200..300).contains(&answer.status) || items == 0 {
            self.refused += 1;
            // Whoever finds no room is turned away before anything is done.
            let begun = answer.status >= 500 && times(NO_ROOM) == 0;
            self.unsure += if begun { target.values } else { 0 };
            self.refusals.saturating_record(micros(sent));
            self.complaint.get_or_insert_with(|| format!("{} {}", answer.status, String::from_utf8_lossy(answer.body)));
            return;
        }
        self.done += 1;
        self.items += items;
        self.in_time += u64::from(now <= end);
        self.latencies.saturating_record(micros(meant));
        let values = times(KEY);
        self.values += values;
        self.unsure += if values > 0 { target.values.saturating_sub(values) } else { 0 };
        if target.keep_one_of > 0 && self.done.is_multiple_of(target.keep_one_of) {
            self.keys.extend(texts(answer.body, KEY));
            self.runs.extend(texts(answer.body, RUN));
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
        self.values += other.values;
        self.unsure += other.unsure;
        self.keys.extend(other.keys);
        self.runs.extend(other.runs);
        self.complaint = self.complaint.take().or(other.complaint);
    }
}

/// A latency of a histogram, in milliseconds.
#[allow(clippy::cast_precision_loss, reason = "microseconds below 2^53")]
pub fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// The texts that follow a name in JSON without blanks.
pub fn texts(json: &[u8], name: &str) -> Vec<String> {
    let text = |at: usize| {
        let rest = &json[at + name.len()..];
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    };
    memchr::memmem::find_iter(json, name).map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn target() -> Target {
        let (fill, host) = (Arc::new(|_: &mut Vec<u8>| true), String::new());
        Target { name: "", host, server: 0, fill, proofs: &["secureValueKey", "last4"], values: 1, keep_one_of: 1 }
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
        assert_eq!(slice.keys, ["svk_1", "svk_2"]);
        assert!(slice.complaint.unwrap().contains("422"));
    }

    #[test]
    fn captures_and_uses_of_one_path_are_told_apart_and_so_is_what_may_have_been_stored() {
        let (begun, mut slice) = (Instant::now(), Slice::of(Duration::from_secs(60)));
        let mut count = |answer: Option<(u16, &[u8])>| {
            let answer = answer.map(|(status, body)| Answer { status, body });
            slice.count(answer, &target(), (begun, begun), begun);
        };
        count(Some((200, br#"{"results":[{"status":201,"secureValueKey":"svk_1"}]}"#)));
        count(Some((200, br#"{"runId":"r1","outputs":{"last4":"4242"}}"#)));
        count(Some((503, br#"{"code":"overloaded"}"#)));
        count(Some((422, br#"{"code":"validation"}"#)));
        assert_eq!((slice.done, slice.values, slice.unsure), (2, 1, 0));
        assert_eq!((slice.keys, slice.runs), (vec!["svk_1".to_owned()], vec!["r1".to_owned()]));
        let mut slice = Slice::of(Duration::from_secs(60));
        slice.count(
            Some(Answer { status: 503, body: br#"{"code":"store.unavailable"}"# }),
            &target(),
            (begun, begun),
            begun,
        );
        slice.count(None, &target(), (begun, begun), begun);
        assert_eq!((slice.values, slice.unsure), (0, 2));
    }
}
