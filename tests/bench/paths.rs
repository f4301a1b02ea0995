//! Paths that are measured side by side in closed loops, round by round: A B C A B C.

use super::figures::{Row, Table};
use super::flags::Flags;
use super::measure::{self, Sample};
use super::request::Target;
use super::sealed::{self, Form};
use super::stage::{self, Stage};

/// One path; the names are those of its target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// No database, no vault.
    Bare,
    /// The first reference.
    Transaction,
    /// The second.
    Peer,
    /// `POST /v1/values` with one item.
    Capture,
    /// `POST /v1/capture/values`, in one of its forms.
    Session(Form),
    /// A flow that shows four digits, or one that reveals.
    Invoke {
        /// Whether it reveals.
        reveals: bool,
    },
    /// Captures and uses.
    Mixed,
}

/// What the flags ask for.
pub fn wanted(flags: &Flags) -> Vec<Path> {
    let parts: [(&str, &[Path]); 4] = [
        ("capture", &[Path::Transaction, Path::Peer, Path::Capture]),
        ("hpke", &[Path::Capture, Path::Session(Form::Plain), Path::Session(Form::Sealed)]),
        ("invoke", &[Path::Invoke { reveals: false }, Path::Invoke { reveals: true }]),
        ("mixed", &[Path::Mixed]),
    ];
    let mut paths = Vec::new();
    for path in parts.iter().filter(|(phase, _)| flags.wants(phase)).flat_map(|(_, paths)| *paths) {
        if paths.is_empty() {
            paths.push(Path::Bare);
        }
        if !paths.contains(path) {
            paths.push(*path);
        }
    }
    paths
}

/// Measures the paths at each number of clients.
pub async fn run(paths: &[Path], stage: &mut Stage, flags: &Flags) -> Table {
    let mut table = Table { engine: stage.databases.engine(), rows: Vec::new() };
    for clients in flags.clients.iter().filter(|_| !paths.is_empty()) {
        let begin = table.rows.len();
        for round in 1..=flags.rounds {
            eprintln!("{}, {clients} clients: round {round} of {}", table.engine.name(), flags.rounds);
            for path in paths {
                let expected = table.row("siv capture, server side", *clients).map_or(500.0, Row::rate);
                let Some(target) = target(*path, stage, (expected, flags)).await else { continue };
                let sample = sample(*path, &target, stage, (*clients, flags)).await;
                take(&mut table.rows, begin, (*clients, target.name), sample, stage);
            }
        }
    }
    table
}

async fn target(path: Path, stage: &Stage, (rate, flags): (f64, &Flags)) -> Option<Target> {
    let vault = &stage.vault;
    Some(match path {
        Path::Bare => return stage.yardstick(stage::BARE),
        Path::Transaction => return stage.yardstick(stage::TRANSACTION),
        Path::Peer => return stage.yardstick(stage::PEER),
        Path::Capture => vault.capture(),
        Path::Invoke { reveals } => vault.invoke(reveals),
        Path::Mixed => vault.mixed(),
        Path::Session(form) => {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
            let count = (rate * flags.length.as_secs_f64() * 1.2) as usize;
            sealed::captures(vault, form, count.clamp(200, 40_000)).await
        }
    })
}

async fn sample(path: Path, target: &Target, stage: &Stage, (clients, flags): (usize, &Flags)) -> Sample {
    let (vault, rows) = match path {
        Path::Bare => (None, None),
        Path::Transaction | Path::Peer => (None, stage.reference.as_ref()),
        _ => (Some(&stage.vault), Some(&stage.vault.rows)),
    };
    if let Some(vault) = vault {
        // Sessions that were made for this slice are entries too.
        measure::drain(vault).await;
    }
    let sample = measure::closed(target, (clients, flags.length), (vault, rows), &stage.databases).await;
    let (server, database) = (sample.server_cpu, sample.database_cpu);
    eprintln!(
        "  {:<38} {:>8.0}/s  CPU {server:>5.0} + {database:>4.0} µs  {:>6.1} s until integrated  {:>4.1} % stolen",
        target.name,
        sample.slice.rate(),
        sample.drain.as_secs_f64(),
        sample.stolen
    );
    sample
}

fn take(
    rows: &mut Vec<Row>,
    begin: usize,
    (clients, name): (usize, &'static str),
    mut sample: Sample,
    stage: &mut Stage,
) {
    let slice = &mut sample.slice;
    stage.judge(&format!("{name}, {clients} clients"), slice);
    stage.vault.acknowledged.take(slice);
    match rows[begin..].iter_mut().find(|row| row.name == name) {
        Some(row) => row.samples.push(sample),
        None => rows.push(Row { clients, name, samples: vec![sample] }),
    }
}
