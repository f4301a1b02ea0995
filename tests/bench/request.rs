//! What is sent: the bytes of one HTTP/1.1 request after another, each with a card number that none had before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// A card number to be replaced in a request that is built once.
pub const PLACEHOLDER: &str = "4242424242424242";

/// Of so many good answers one is looked for after the kill. A prime: a multiple of five would be all uses or no use of what is
/// mixed four to one.
pub const SAMPLE: u64 = 97;

/// Writes the next request; `false` when there is none any more.
pub type Fill = Arc<dyn Fn(&mut Vec<u8>) -> bool + Send + Sync>;

/// One kind of request.
#[derive(Clone)]
pub struct Target {
    /// What the table calls it.
    pub name: &'static str,
    /// Host and port.
    pub host: String,
    /// The process that answers.
    pub server: u32,
    /// The requests.
    pub fill: Fill,
    /// What stands in a good answer, one of them for each item; none are not looked for.
    pub proofs: &'static [&'static str],
    /// Values that one request captures.
    pub values: u64,
    /// Of so many good answers one is kept: its keys, or its run. 0 keeps none.
    pub keep_one_of: u64,
}

/// The bytes of a POST of JSON.
pub fn post(host: &str, path: &str, bearer: Option<&str>, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let bearer = bearer.map_or_else(String::new, |bearer| format!("authorization: Bearer {bearer}\r\n"));
    let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{bearer}content-type: application/json\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The body of a server's capture of so many items.
pub fn items(count: usize) -> Value {
    json!({ "items": vec![json!({"field": "card-number", "value": PLACEHOLDER}); count] })
}

/// Numbers of cards, each once in a run.
#[derive(Clone, Default)]
pub struct Cards {
    next: Arc<AtomicU64>,
}

impl Cards {
    /// The same request again and again, each time with new numbers in the place of the placeholders.
    pub fn put_into(&self, request: Vec<u8>) -> Fill {
        let places: Vec<usize> = memchr::memmem::find_iter(&request, PLACEHOLDER).collect();
        let next = Arc::clone(&self.next);
        Arc::new(move |buffer| {
            let begin = buffer.len();
            buffer.extend_from_slice(&request);
            let first = next.fetch_add(places.len() as u64, Ordering::Relaxed);
            for (number, place) in (first..).zip(&places) {
                write_card(number, &mut buffer[begin + place..begin + place + PLACEHOLDER.len()]);
            }
            true
        })
    }
}

/// The first so many of some requests.
pub fn only(count: u64, fill: Fill) -> Fill {
    let sent = AtomicU64::new(0);
    Arc::new(move |buffer| sent.fetch_add(1, Ordering::Relaxed) < count && fill(buffer))
}

/// Each of some requests once.
pub fn once_each(requests: Vec<Vec<u8>>) -> Fill {
    let next = AtomicU64::new(0);
    Arc::new(move |buffer| {
        let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
        requests.get(at).is_some_and(|request| {
            buffer.extend_from_slice(request);
            true
        })
    })
}

/// Some requests in turn, without end.
pub fn in_turn(requests: Vec<Vec<u8>>) -> Fill {
    let next = AtomicU64::new(0);
    Arc::new(move |buffer| {
        let at = next.fetch_add(1, Ordering::Relaxed) % requests.len() as u64;
        buffer.extend_from_slice(&requests[usize::try_from(at).unwrap()]);
        true
    })
}

/// Of five requests the fifth is of the second kind.
pub fn four_to_one(four: Fill, one: Fill) -> Fill {
    let sent = AtomicU64::new(0);
    Arc::new(move |buffer| if sent.fetch_add(1, Ordering::Relaxed) % 5 == 4 { one(buffer) } else { four(buffer) })
}

/// A number of 16 digits that passes the Luhn check.
fn write_card(number: u64, digits: &mut [u8]) {
    let mut rest = number;
    for digit in digits[4..15].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap();
        rest /= 10;
    }
    digits[..4].copy_from_slice(b"4242");
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let value = |(at, digit): (usize, &u8)| {
        let digit = u32::from(digit - b'0');
        if at % 2 == 0 { doubled(digit) } else { digit }
    };
    let sum: u32 = digits[..15].iter().enumerate().map(value).sum();
    digits[15] = b'0' + u8::try_from((10 - sum % 10) % 10).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cards_differ_and_pass_the_check() {
        let fill = Cards::default().put_into(items(3).to_string().into_bytes());
        let mut body = Vec::new();
        assert!(fill(&mut body) && body.len() == items(3).to_string().len());
        let body: Value = serde_json::from_slice(&body).unwrap();
        let numbers = body["items"].as_array().unwrap().iter().map(|item| item["value"].as_str().unwrap());
        let numbers: std::collections::BTreeSet<&str> = numbers.collect();
        assert_eq!(numbers.len(), 3);
        for number in numbers {
            let digits = number.bytes().rev().map(|digit| u32::from(digit - b'0')).enumerate();
            let sum: u32 = digits.map(|(at, d)| if at % 2 == 0 { d } else { d * 2 / 10 + d * 2 % 10 }).sum();
            assert!(sum.is_multiple_of(10) && number.starts_with("4242"), "{number}");
        }
    }

    #[test]
    fn what_is_limited_ends() {
        let fill = only(2, once_each(vec![vec![1], vec![2], vec![3]]));
        let mut sent = Vec::new();
        while fill(&mut sent) {}
        assert_eq!(sent, [1, 2]);
    }
}
