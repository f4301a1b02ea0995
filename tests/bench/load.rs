//! A closed loop of clients over HTTP/1.1 keep-alive, with an HDR histogram of latencies.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One kind of request.
pub struct Target {
    /// What the table calls it.
    pub name: &'static str,
    host: String,
    request: Arc<Vec<u8>>,
}

/// What one slice measured.
pub struct Slice {
    /// Answers that were 2xx.
    pub done: u64,
    /// Answers that were not 2xx.
    pub refused: u64,
    length: Duration,
    /// In microseconds.
    pub latencies: Histogram<u64>,
}

impl Target {
    /// A POST of JSON.
    pub fn new(name: &'static str, host: &str, path: &str, bearer: Option<&str>, body: &Value) -> Self {
        let body = body.to_string();
        let bearer = bearer.map_or_else(String::new, |bearer| format!("authorization: Bearer {bearer}\r\n"));
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{bearer}content-type: application/json\r\n");
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        Self { name, host: host.to_owned(), request: Arc::new(request.into_bytes()) }
    }
}

impl Slice {
    /// Good answers a second.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.length.as_secs_f64()
    }
}

/// A histogram of 1 µs to 60 s.
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

/// Runs one slice.
pub async fn run(target: &Target, clients: usize, length: Duration) -> Slice {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(client(target.host.clone(), Arc::clone(&target.request), begun + length)))
        .collect();
    let mut slice = Slice { done: 0, refused: 0, length, latencies: empty() };
    for task in tasks {
        let (done, refused, latencies) = task.await.unwrap();
        slice.done += done;
        slice.refused += refused;
        slice.latencies.add(&latencies).unwrap();
    }
    slice.length = begun.elapsed();
    slice
}

async fn client(host: String, request: Arc<Vec<u8>>, end: Instant) -> (u64, u64, Histogram<u64>) {
    let (mut done, mut refused, mut latencies) = (0, 0, empty());
    let mut stream: Option<TcpStream> = None;
    let mut buffer = Vec::with_capacity(16 * 1024);
    while Instant::now() < end {
        let begun = Instant::now();
        let mut connection = match stream.take() {
            Some(stream) => stream,
            None => match TcpStream::connect(&host).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    stream
                }
                Err(_) => continue,
            },
        };
        let Some((status, keeps)) = exchange(&mut connection, &request, &mut buffer).await else { continue };
        latencies.saturating_record(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        if (200..300).contains(&status) {
            done += 1
        } else {
            refused += 1
        }
        if keeps {
            stream = Some(connection);
        }
    }
    (done, refused, latencies)
}

/// One request and its answer: status, and whether the connection stays. Nothing if it broke.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> Option<(u16, bool)> {
    stream.write_all(request).await.ok()?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).ok()?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let length = length.unwrap_or(0);
        while buffer.len() < end + 4 + length {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        return Some((status, !head.contains("connection: close")));
    }
}

/// How many times a second this disk makes 8 KiB durable.
#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub fn fdatasync_rate(folder: &Path) -> f64 {
    let path = folder.join("fdatasync");
    let mut file = std::fs::File::create(&path).unwrap();
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < Duration::from_secs(1) {
        file.write_all(&[7; 8192]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(path);
    rate
}
