//! One measured slice: the load, and what it cost the server, the database and the disk until all its work was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cost::{self, Machine};
use super::database::{Databases, Look, Rows};
use super::load;
use super::request::Target;
use super::slice::Slice;
use super::vault::Vault;
use super::wal::{self, Written};

/// A slice and its costs. CPU is in microseconds for each good answer.
pub struct Sample {
    /// The load.
    pub slice: Slice,
    /// CPU of the server, the integration of its entries included.
    pub server_cpu: f64,
    /// CPU of PostgreSQL, likewise.
    pub database_cpu: f64,
    /// CPU of both in the slice alone: what is integrated later is not in it.
    pub cpu_in_slice: f64,
    /// What was written to the write-ahead log.
    pub wal: Option<Written>,
    /// Batches that were committed.
    pub batches: f64,
    /// Bytes the server wrote to its disk.
    pub disk: f64,
    /// Most memory of the server seen, in MB.
    pub memory: f64,
    /// Stolen by the host, in percent.
    pub stolen: f64,
    /// How long the integration took after the slice.
    pub drain: Duration,
}

/// Runs one slice; with a vault it ends when the entries are integrated.
pub async fn closed(
    target: &Target,
    (clients, length): (usize, Duration),
    (vault, rows): (Option<&Vault>, Option<&Rows>),
    databases: &Databases,
) -> Sample {
    let place = match rows {
        Some(rows) => wal::end(rows).await,
        None => None,
    };
    // A connection of its own for the whole slice: PostgreSQL would spend milliseconds on each new one.
    let mut look = match vault {
        Some(vault) => Some(vault.rows.look().await),
        None => None,
    };
    let batches = batches(&mut look).await;
    let (machine, disk) = (Machine::now(), cost::written(target.server));
    let before = (cost::cpu(target.server), databases.cpu());
    let watch = Watch::on(target.server);
    let slice = load::closed(target, clients, length).await;
    let memory = watch.end().await;
    let spent = |before: (f64, f64)| (cost::cpu(target.server) - before.0, databases.cpu() - before.1);
    let (in_server, in_database) = spent(before);
    let ended = Instant::now();
    if let Some(look) = &mut look {
        drained(look).await;
    }
    let (server, database) = spent(before);
    let written = match (&place, rows) {
        (Some(place), Some(rows)) => wal::since(place, rows).await,
        _ => None,
    };
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let each = |seconds: f64| seconds * 1e6 / slice.done.max(1) as f64;
    Sample {
        server_cpu: each(server),
        database_cpu: each(database),
        cpu_in_slice: each(in_server + in_database),
        wal: written,
        batches: self::batches(&mut look).await - batches,
        disk: cost::written(target.server) - disk,
        memory,
        stolen: machine.stolen_since(),
        drain: ended.elapsed(),
        slice,
    }
}

/// Waits until every entry stands in its tree.
pub async fn drain(vault: &Vault) {
    drained(&mut vault.rows.look().await).await;
}

async fn drained(look: &mut Look) {
    let end = Instant::now() + Duration::from_secs(120);
    while look.number(BACKLOG).await > 0.0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same after many values were put in, with progress.
pub async fn drain_whole(vault: &Vault) {
    let mut look = vault.rows.look().await;
    let (mut left, mut still) = (look.number(BACKLOG).await, 0);
    while left > 0.0 && still < 60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = look.number(BACKLOG).await;
        still = if now < left { 0 } else { still + 1 };
        left = now;
        if left > 100_000.0 {
            eprintln!("  {left:.0} entries wait for their tree");
        }
    }
}

/// Entries that are written and stand in no tree yet.
const BACKLOG: &str = "SELECT CAST(coalesce(sum(b.count), 0) AS double precision) FROM log_batches b JOIN log_lanes l \
    ON l.tenant = b.tenant AND l.boot = b.boot AND l.lane = b.lane WHERE b.first >= l.next";

async fn batches(look: &mut Option<Look>) -> f64 {
    match look {
        Some(look) => look.number("SELECT count(*) FROM log_batches").await,
        None => 0.0,
    }
}

/// Looks at a process's memory ten times a second.
struct Watch {
    over: Arc<AtomicBool>,
    most: tokio::task::JoinHandle<f64>,
}

impl Watch {
    fn on(pid: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let most = tokio::spawn(async move {
            let mut most = cost::memory(pid);
            while !seen.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(100)).await;
                most = most.max(cost::memory(pid));
            }
            most
        });
        Self { over, most }
    }

    async fn end(self) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        self.most.await.unwrap()
    }
}
