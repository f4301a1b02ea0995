//! Load: a closed loop of clients, or requests at a fixed rate whatever the answers do (open loop).
//!
//! Two threads with a runtime each, so that a client is never moved from one core to the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio::task::LocalSet;

use super::connection::Connection;
use super::request::Target;
use super::slice::Slice;

const THREADS: usize = 2;

/// Runs so many clients, each sending its next request when the answer to the one before is there.
pub async fn closed(target: &Target, clients: usize, length: Duration) -> Slice {
    let threads = THREADS.min(clients);
    let start = Arc::new(Barrier::new(threads));
    on_threads(threads, length, |thread| {
        let share = (clients + threads - 1 - thread) / threads;
        let (target, start) = (target.clone(), Arc::clone(&start));
        move || on_its_own(closed_share(target, share, length, start))
    })
    .await
}

/// Sends `rate` requests a second over as many connections as it takes, up to `most`. A latency counts from the moment the
/// request was meant to go out: waiting for a free connection is part of it.
pub async fn open(target: &Target, rate: f64, most: usize, length: Duration) -> Slice {
    let start = Arc::new(Barrier::new(THREADS));
    on_threads(THREADS, length, |_| {
        let (target, start) = (target.clone(), Arc::clone(&start));
        #[allow(clippy::cast_precision_loss, reason = "two")]
        let rate = rate / THREADS as f64;
        move || on_its_own(open_share(target, rate, most / THREADS, length, start))
    })
    .await
}

async fn on_threads<W>(threads: usize, length: Duration, work: impl Fn(usize) -> W) -> Slice
where
    W: FnOnce() -> Slice + Send + 'static,
{
    let threads: Vec<_> = (0..threads).map(|thread| tokio::task::spawn_blocking(work(thread))).collect();
    let mut slice = Slice::of(length);
    for thread in threads {
        slice.add(thread.await.unwrap());
    }
    slice
}

fn on_its_own(work: impl Future<Output = Slice>) -> Slice {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

async fn connections(target: &Target, count: usize) -> Vec<Connection> {
    let mut opened = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::to(&target.host);
        connection.open().await;
        opened.push(connection);
    }
    opened
}

async fn closed_share(target: Target, clients: usize, length: Duration, start: Arc<Barrier>) -> Slice {
    let connections = connections(&target, clients).await;
    start.wait();
    let (begun, target) = (Instant::now(), Rc::new(target));
    let slice = Rc::new(RefCell::new(Slice::of(length)));
    let client = |mut connection: Connection| {
        let (target, slice) = (Rc::clone(&target), Rc::clone(&slice));
        async move {
            let (end, mut request) = (begun + length, Vec::new());
            while Instant::now() < end {
                request.clear();
                if !(target.fill)(&mut request) {
                    let mut slice = slice.borrow_mut();
                    slice.length = slice.length.min(begun.elapsed());
                    break;
                }
                let sent = Instant::now();
                let answer = connection.exchange(&request).await;
                slice.borrow_mut().count(answer, &target, (sent, sent), end);
            }
        }
    };
    let clients: Vec<_> = connections.into_iter().map(|c| tokio::task::spawn_local(client(c))).collect();
    for client in clients {
        client.await.unwrap();
    }
    slice.borrow_mut().whole = begun.elapsed();
    Rc::into_inner(slice).unwrap().into_inner()
}

async fn open_share(target: Target, rate: f64, most: usize, length: Duration, start: Arc<Barrier>) -> Slice {
    let connections = connections(&target, most).await;
    start.wait();
    let (begun, target) = (Instant::now(), Rc::new(target));
    let (due, waits) = mpsc::unbounded_channel();
    let beats = std::thread::spawn(move || beat(rate, begun, length, &due));
    let (waits, slice) = (Rc::new(Mutex::new(waits)), Rc::new(RefCell::new(Slice::of(length))));
    let client = |mut connection: Connection| {
        let (target, slice, waits) = (Rc::clone(&target), Rc::clone(&slice), Rc::clone(&waits));
        async move {
            let (end, mut request) = (begun + length, Vec::new());
            loop {
                let meant = waits.lock().await.recv().await;
                // What nobody was free to send before the end is not sent: under overload that is most of it.
                let Some(meant) = meant.filter(|_| Instant::now() < end) else { break };
                request.clear();
                if !(target.fill)(&mut request) {
                    break;
                }
                let sent = Instant::now();
                let answer = connection.exchange(&request).await;
                slice.borrow_mut().count(answer, &target, (meant, sent), end);
            }
        }
    };
    let clients: Vec<_> = connections.into_iter().map(|c| tokio::task::spawn_local(client(c))).collect();
    for client in clients {
        client.await.unwrap();
    }
    beats.join().unwrap();
    slice.borrow_mut().whole = begun.elapsed();
    Rc::into_inner(slice).unwrap().into_inner()
}

/// Says when each request is due, from a thread of its own: a runtime's timers are a millisecond coarse.
fn beat(rate: f64, begun: Instant, length: Duration, due: &mpsc::UnboundedSender<Instant>) {
    let step = Duration::from_secs_f64(1.0 / rate);
    let mut next = begun;
    while next < begun + length {
        let now = Instant::now();
        if next > now {
            std::thread::sleep(next - now);
        }
        while next <= Instant::now() {
            if due.send(next).is_err() {
                return;
            }
            next += step;
        }
    }
}
