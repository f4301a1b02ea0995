//! The goals, each beside what this run measured. They are printed, never asserted: they hold for a machine, not for a test.

use std::fmt::Write as _;

use super::figures::Row;
use super::flags::Engine;
use super::results::Results;
use super::stage::{BARE, PEER, TRANSACTION};

/// Paths, as their targets call them.
const CAPTURE: &str = "siv capture, server side";
const PLAIN: &str = "siv capture, session, plain form";
const SEALED: &str = "siv capture, session, HPKE form";
const USES: [&str; 2] = ["siv invoke, mask", "siv invoke, reveal"];
/// From so many durable writes a second on a disk counts as fast.
const FAST: f64 = 2_000.0;

/// One goal.
struct Goal {
    figure: String,
    must: f64,
    aim: f64,
    /// Whether more is better.
    more: bool,
    unit: &'static str,
    measured: Option<f64>,
    beside: String,
}

/// The table of goals: PostgreSQL's, with SQLite's where a goal names it.
pub fn table(results: &[Results], key_agreement: f64) -> String {
    let of = |engine| results.iter().find(|result: &&Results| result.engine == engine);
    let mut goals = Vec::new();
    if let Some(postgres) = of(Engine::Postgres) {
        goals.extend(shares(postgres));
        goals.extend(costs(postgres, key_agreement));
        goals.extend(rest(postgres));
    }
    goals.extend(results.iter().filter_map(memory));
    if let Some(start) = of(Engine::Sqlite).and_then(|sqlite| sqlite.start.as_ref()) {
        let range = format!("{:.0} to {:.0}", start.millis.min, start.millis.max);
        goals.push(most("start to ready, SQLite", [80.0, 30.0], "ms", Some(start.millis.median), range));
    }
    let mut text = "| figure | must | aim | measured | beside it | verdict |\n|---|---|---|---|---|---|\n".to_owned();
    for goal in goals.iter().filter(|goal| goal.measured.is_some()) {
        let _ = writeln!(text, "{}", goal.line());
    }
    text
}

impl Goal {
    fn line(&self) -> String {
        let measured = self.measured.unwrap_or_default();
        let reaches = |bound: f64| if self.more { measured >= bound } else { measured <= bound };
        let verdict = match (reaches(self.must), reaches(self.aim)) {
            (_, true) => "aim met",
            (true, false) => "met",
            (false, false) => "**not met**",
        };
        let sign = if self.more { "≥" } else { "≤" };
        let show = |figure: f64| match figure.abs() {
            small if small < 0.995 => format!("{figure:.3}"),
            small if small < 99.5 => format!("{figure:.1}"),
            _ => format!("{figure:.0}"),
        };
        let unit = self.unit;
        format!(
            "| {} | {sign} {} {unit} | {sign} {} {unit} | {} {unit} | {} | {verdict} |",
            self.figure,
            trimmed(self.must),
            trimmed(self.aim),
            show(measured),
            self.beside
        )
    }
}

fn trimmed(bound: f64) -> String {
    if bound.fract() == 0.0 { format!("{bound:.0}") } else { format!("{bound}") }
}

fn least(figure: &str, [must, aim]: [f64; 2], unit: &'static str, measured: Option<f64>, beside: String) -> Goal {
    Goal { figure: figure.to_owned(), must, aim, more: true, unit, measured, beside }
}

fn most(figure: &str, bounds: [f64; 2], unit: &'static str, measured: Option<f64>, beside: String) -> Goal {
    Goal { more: false, ..least(figure, bounds, unit, measured, beside) }
}

/// Rates as shares of the bare route, and over the references.
fn shares(result: &Results) -> Vec<Goal> {
    let table = &result.table;
    let mut goals = Vec::new();
    for (clients, bounds) in [(64, [30.0, 45.0]), (256, [40.0, 60.0])] {
        let ratio = table.ratio(CAPTURE, BARE, clients);
        let range = ratio.map(|r| format!("{:.1} to {:.1} %", r.min * 100.0, r.max * 100.0)).unwrap_or_default();
        let figure = format!("capture at {clients} clients, of bare axum");
        goals.push(least(&figure, bounds, "%", ratio.map(|ratio| ratio.median * 100.0), range));
    }
    let disk = result.disk[0].midpoint(result.disk[1]);
    let (kind, bounds) = if disk >= FAST { ("fast", [5.0, 9.0]) } else { ("slow", [1.8, 2.5]) };
    let ratio = table.ratio(CAPTURE, TRANSACTION, 64);
    let peer = table.ratio(CAPTURE, PEER, 64).map(|peer| format!("{:.1} × the peer-like reference", peer.median));
    let figure = format!("capture over one transaction a request, 64 clients, {kind} disk ({disk:.0} fdatasync/s)");
    goals.push(least(&figure, bounds, "×", ratio.map(|ratio| ratio.median), peer.unwrap_or_default()));
    for (clients, bounds) in [(64, [20.0, 35.0]), (256, [30.0, 50.0])] {
        let ratios = USES.map(|path| table.ratio(path, BARE, clients).map(|ratio| ratio.median * 100.0));
        let [Some(mask), Some(reveal)] = ratios else { continue };
        let figure = format!("audited invoke at {clients} clients, of bare axum");
        let both = format!("mask {mask:.1} %, reveal {reveal:.1} %");
        goals.push(least(&figure, bounds, "%", Some(mask.min(reveal)), both));
    }
    goals
}

/// What one capture costs, at 64 clients.
fn costs(result: &Results, key_agreement: f64) -> Vec<Goal> {
    let row = |name: &str| result.table.row(name, 64);
    let Some(capture) = row(CAPTURE) else { return Vec::new() };
    let (server, database) = capture.cpu();
    let beside = format!("{server:.0} + {database:.0}, {:.0} of it while the load ran", capture.cpu_in_slice());
    let mut goals =
        vec![most("CPU per capture, siv + PostgreSQL", [45.0, 28.0], "µs", Some(capture.cpu_whole()), beside)];
    if let (Some(plain), Some(sealed)) = (row(PLAIN), row(SEALED)) {
        let added = |other: &Row| (sealed.cpu_whole() - other.cpu_whole()) / key_agreement;
        let beside = format!(
            "one takes {key_agreement:.0} µs; over the server-side form, which has no session, {:.1} ×",
            added(capture)
        );
        let figure = "HPKE over plain capture, CPU added, in key agreements";
        goals.push(most(figure, [1.5, 1.2], "×", Some(added(plain)), beside));
    }
    let carried = format!("{:.1} captures a commit", 1.0 / capture.commits().max(1e-9));
    goals.push(most("commits per capture at 64 clients", [0.06, 0.04], "", Some(capture.commits()), carried));
    if let Some((requests, sequencer, images)) = capture.wal() {
        let beside = format!(
            "{requests:.0} B in all, {:.0} B in columns, {images:.0} B of whole pages; the sequencer's {sequencer:.0} B",
            result.columns
        );
        let figure = "WAL per capture with its entry, over its columns";
        goals.push(most(figure, [460.0, 310.0], "B", Some(requests - result.columns), beside));
    }
    let sync = 1_000.0 / result.disk[0].midpoint(result.disk[1]);
    let figure = "p99 of captures at 64 clients";
    let beside = format!("one fdatasync takes {sync:.2} ms, median {:.1} ms", capture.millis(0.5));
    goals.push(most(figure, [(6.0 * sync).max(6.0).round(), 3.0], "ms", Some(capture.millis(0.99)), beside));
    goals
}

/// Bulk, growth, overload.
fn rest(result: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some(bulk) = &result.bulk {
        let ratio = bulk.ratio.map(|ratio| ratio.median * 100.0);
        let beside = format!("{:.0} values/s, {:.0} µs each", bulk.siv.median, bulk.cpu);
        goals.push(least("bulk, of COPY rows/s", [20.0, 45.0], "%", ratio, beside));
    }
    if let Some(growth) = &result.growth {
        let meant = if growth.many < 10_000_000 { " (the goal: 1e7)" } else { "" };
        let figure = format!("write rate at {:.0e} stored values over 1e3{meant}", exact(growth.many));
        let beside =
            format!("{:.2} to {:.2}; bulk {:.2}", growth.captures.min, growth.captures.max, growth.bulk.median);
        goals.push(least(&figure, [0.85, 0.97], "", Some(growth.captures.median), beside));
    }
    if let Some(custody) = &result.custody {
        for (what, warm) in [("capture", custody.warm[0]), ("invoke", custody.warm[1])] {
            let figure = format!("{what} of a tenant with its key in a token, over one without, warm");
            let range = format!("{:.2} to {:.2}", warm.min, warm.max);
            goals.push(least(&figure, [0.97, 1.0], "", Some(warm.median), range));
        }
    }
    if let Some(overload) = result.overload.last() {
        let range = format!("{:.0} to {:.0} %", overload.goodput.min * 100.0, overload.goodput.max * 100.0);
        let goodput = Some(overload.goodput.median * 100.0);
        goals.push(least("10 × overload: goodput of the most", [90.0, 97.0], "%", goodput, range));
        let refusal = (overload.shares[0] > 0.0).then_some(overload.refusal[1]);
        let beside = format!("99 of 100; median {:.1} ms", overload.refusal[0]);
        goals.push(most("10 × overload: refusals within", [50.0, 10.0], "ms", refusal, beside));
    }
    goals
}

fn memory(result: &Results) -> Option<Goal> {
    let rows = result.table.rows.iter().filter(|row| row.clients == 256 && row.name.starts_with("siv"));
    let measured = rows.map(Row::memory).max_by(f64::total_cmp);
    let bounds = match result.engine {
        Engine::Postgres => [60.0, 30.0],
        Engine::Sqlite => [80.0, 60.0],
    };
    let beside = result.start.as_ref().map(|start| format!("{:.0} MB after a start", start.memory));
    let figure = format!("RSS at 256 clients, {}", result.engine.name());
    measured.map(|measured| most(&figure, bounds, "MB", Some(measured), beside.unwrap_or_default()))
}

#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn exact(count: u64) -> f64 {
    count as f64
}
