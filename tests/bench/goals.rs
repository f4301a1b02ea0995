//! The goals, each beside what this run measured. They are printed, never asserted: they hold for a machine, not for a test.

use std::fmt::Write as _;

use super::figures::Row;
use super::flags::Engine;
use super::growth::Growth;
use super::results::Results;
use super::stage::{BARE, PEER, TRANSACTION};

/// Paths, as their targets call them.
const CAPTURE: &str = "siv capture, server side";
const PLAIN: &str = "siv capture, session, plain form";
const SEALED: &str = "siv capture, session, HPKE form";
const USES: [&str; 2] = ["siv invoke, mask", "siv invoke, reveal"];
/// From so many durable writes a second on a disk counts as fast.
const FAST: f64 = 2_000.0;

/// Stored values of the goal for growth.
const MANY: u64 = 10_000_000;

/// One goal.
struct Goal {
    figure: String,
    must: f64,
    aim: f64,
    /// Whether more is better.
    more: bool,
    unit: &'static str,
    /// Nothing where this run did not measure it.
    measured: Option<f64>,
    beside: String,
    /// Where something easier than the goal was measured: at what, and what the goal is at.
    instead: Option<[String; 2]>,
}

/// The table of goals: PostgreSQL's, with SQLite's where a goal names it. What was not measured says so.
pub fn table(results: &[Results], key_agreement: f64) -> String {
    let of = |engine| results.iter().find(|result: &&Results| result.engine == engine);
    let mut goals = Vec::new();
    if let Some(postgres) = of(Engine::Postgres) {
        goals.extend(shares(postgres));
        goals.extend(costs(postgres, key_agreement));
        goals.extend(rest(postgres));
    }
    goals.extend(results.iter().map(memory));
    if let Some(sqlite) = of(Engine::Sqlite) {
        let millis = sqlite.start.as_ref().map(|start| start.millis);
        let range = millis.map(|millis| format!("{:.0} to {:.0}", millis.min, millis.max)).unwrap_or_default();
        goals.push(most("start to ready, SQLite", [80.0, 30.0], "ms", millis.map(|millis| millis.median), range));
    }
    let mut text = "| figure | must | aim | measured | beside it | verdict |\n|---|---|---|---|---|---|\n".to_owned();
    for goal in goals {
        let _ = writeln!(text, "{}", goal.line());
    }
    for engine in [Engine::Postgres, Engine::Sqlite].into_iter().filter(|engine| of(*engine).is_none()) {
        let _ = writeln!(text, "\nThe goals on {} were not measured.", engine.name());
    }
    text
}

impl Goal {
    fn line(&self) -> String {
        let sign = if self.more { "≥" } else { "≤" };
        let show = |figure: f64| match figure.abs() {
            small if small < 0.995 => format!("{figure:.3}"),
            small if small < 99.5 => format!("{figure:.1}"),
            _ => format!("{figure:.0}"),
        };
        let unit = self.unit;
        format!(
            "| {} | {sign} {} {unit} | {sign} {} {unit} | {} | {} | {} |",
            self.figure,
            trimmed(self.must),
            trimmed(self.aim),
            self.measured.map(|measured| format!("{} {unit}", show(measured))).unwrap_or_default(),
            self.beside,
            self.verdict()
        )
    }

    fn verdict(&self) -> String {
        let Some(measured) = self.measured else { return "not measured".to_owned() };
        let reaches = |bound: f64| if self.more { measured >= bound } else { measured <= bound };
        let verdict = match (reaches(self.must), reaches(self.aim)) {
            (_, true) => "aim met",
            (true, false) => "met",
            (false, false) => "**not met**",
        };
        match &self.instead {
            Some([at, goal]) => format!("at {at}: {verdict}; {goal} not measured"),
            None => verdict.to_owned(),
        }
    }
}

fn trimmed(bound: f64) -> String {
    if bound.fract() == 0.0 { format!("{bound:.0}") } else { format!("{bound}") }
}

fn least(figure: &str, [must, aim]: [f64; 2], unit: &'static str, measured: Option<f64>, beside: String) -> Goal {
    Goal { figure: figure.to_owned(), must, aim, more: true, unit, measured, beside, instead: None }
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
        let figure = format!("audited invoke at {clients} clients, of bare axum");
        let (lower, both) = match ratios {
            [Some(mask), Some(reveal)] => (Some(mask.min(reveal)), format!("mask {mask:.1} %, reveal {reveal:.1} %")),
            _ => (None, String::new()),
        };
        goals.push(least(&figure, bounds, "%", lower, both));
    }
    goals
}

/// What one capture costs, at 64 clients.
fn costs(result: &Results, key_agreement: f64) -> Vec<Goal> {
    let row = |name: &str| result.table.row(name, 64);
    let capture = row(CAPTURE);
    let beside = |told: &dyn Fn(&Row) -> String| capture.map(told).unwrap_or_default();
    let cpu = beside(&|capture| {
        let (server, database) = capture.cpu();
        format!("{server:.0} + {database:.0}, {:.0} of it while the load ran", capture.cpu_in_slice())
    });
    let carried = beside(&|capture| format!("{:.1} captures a commit", 1.0 / capture.commits().max(1e-9)));
    let wal = capture.and_then(Row::wal);
    let written = wal.map(|(requests, sequencer, images)| {
        format!(
            "{requests:.0} B in all, {:.0} B in columns, {images:.0} B of whole pages; the sequencer's {sequencer:.0} B",
            result.columns
        )
    });
    let over = wal.map(|(requests, ..)| requests - result.columns);
    let sync = 1_000.0 / result.disk[0].midpoint(result.disk[1]);
    let slow = [(6.0 * sync).max(6.0).round(), 3.0];
    let waits = beside(&|capture| format!("one fdatasync takes {sync:.2} ms, median {:.1} ms", capture.millis(0.5)));
    let p99 = capture.map(|capture| capture.millis(0.99));
    vec![
        most("CPU per capture, siv + PostgreSQL", [45.0, 28.0], "µs", capture.map(Row::cpu_whole), cpu),
        sealed([row(PLAIN), row(SEALED), capture], key_agreement),
        most("commits per capture at 64 clients", [0.06, 0.04], "", capture.map(Row::commits), carried),
        most(
            "WAL per capture with its entry, over its columns",
            [460.0, 310.0],
            "B",
            over,
            written.unwrap_or_default(),
        ),
        most("p99 of captures at 64 clients", slow, "ms", p99, waits),
    ]
}

/// What the seal of a browser's capture costs, in key agreements.
fn sealed([plain, sealed, capture]: [Option<&Row>; 3], key_agreement: f64) -> Goal {
    let added = |other: Option<&Row>| Some((sealed?.cpu_whole() - other?.cpu_whole()) / key_agreement);
    let beside = added(capture).map(|over| {
        format!("one takes {key_agreement:.0} µs; over the server-side form, which has no session, {over:.1} ×")
    });
    let figure = "HPKE over plain capture, CPU added, in key agreements";
    most(figure, [1.5, 1.2], "×", added(plain), beside.unwrap_or_default())
}

/// Bulk, growth, keys in a token, overload.
fn rest(result: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    let bulk = result.bulk.as_ref();
    let ratio = bulk.and_then(|bulk| bulk.ratio).map(|ratio| ratio.median * 100.0);
    let beside = bulk.map(|bulk| format!("{:.0} values/s, {:.0} µs each", bulk.siv.median, bulk.cpu));
    goals.push(least("bulk, of COPY rows/s", [20.0, 45.0], "%", ratio, beside.unwrap_or_default()));
    goals.push(growth(result.growth.as_ref()));
    for (kind, what) in ["capture", "invoke"].into_iter().enumerate() {
        let warm = result.custody.as_ref().map(|custody| custody.warm[kind]);
        let figure = format!("{what} of a tenant with its key in a token, over one without, warm");
        let range = warm.map(|warm| format!("{:.2} to {:.2}", warm.min, warm.max)).unwrap_or_default();
        goals.push(least(&figure, [0.97, 1.0], "", warm.map(|warm| warm.median), range));
    }
    let overload = result.overload.last();
    let goodput = overload.map(|overload| overload.goodput);
    let range = goodput.map(|goodput| format!("{:.0} to {:.0} %", goodput.min * 100.0, goodput.max * 100.0));
    let figure = "10 × overload: goodput of the most";
    let median = goodput.map(|goodput| goodput.median * 100.0);
    goals.push(least(figure, [90.0, 97.0], "%", median, range.unwrap_or_default()));
    // Nobody was refused: there is nothing to be measured.
    let refusal = overload.filter(|overload| overload.shares[0] > 0.0).map(|overload| overload.refusal);
    let beside = refusal.map(|refusal| format!("99 of 100; median {:.1} ms", refusal[0])).unwrap_or_default();
    goals.push(most("10 × overload: refusals within", [50.0, 10.0], "ms", refusal.map(|refusal| refusal[1]), beside));
    goals
}

/// The goal is at ten million values, which a run reaches only where it is asked to.
fn growth(growth: Option<&Growth>) -> Goal {
    let beside = growth.map(|growth| {
        format!("{:.2} to {:.2}; bulk {:.2}", growth.captures.min, growth.captures.max, growth.bulk.median)
    });
    let figure = "write rate at 1e7 stored values over 1e3";
    let measured = growth.map(|growth| growth.captures.median);
    let goal = least(figure, [0.85, 0.97], "", measured, beside.unwrap_or_default());
    let fewer = growth.filter(|growth| growth.many < MANY);
    Goal {
        instead: fewer.map(|growth| [format!("{:.0e}", exact(growth.many)), format!("{:.0e}", exact(MANY))]),
        ..goal
    }
}

fn memory(result: &Results) -> Goal {
    let rows = result.table.rows.iter().filter(|row| row.clients == 256 && row.name.starts_with("siv"));
    let measured = rows.map(Row::memory).max_by(f64::total_cmp);
    let bounds = match result.engine {
        Engine::Postgres => [60.0, 30.0],
        Engine::Sqlite => [80.0, 60.0],
    };
    let beside = result.start.as_ref().map(|start| format!("{:.0} MB after a start", start.memory));
    let figure = format!("RSS at 256 clients, {}", result.engine.name());
    most(&figure, bounds, "MB", measured, beside.unwrap_or_default())
}

#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn exact(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::figures::Spread;
    use super::*;

    #[test]
    fn a_goal_that_was_not_measured_says_so() {
        let goal = least("a", [0.85, 0.97], "%", None, String::new());
        assert_eq!(goal.line(), "| a | ≥ 0.85 % | ≥ 0.97 % |  |  | not measured |");
        let verdict = |measured| most("a", [5.0, 3.0], "ms", Some(measured), String::new()).verdict();
        assert_eq!([6.0, 4.0, 3.0].map(verdict), ["**not met**", "met", "aim met"]);
    }

    #[test]
    fn the_goal_at_ten_million_values_is_not_met_by_a_run_with_fewer() {
        let spread = |median| Spread { median, min: 0.8, max: 1.2 };
        let run = |many| Growth { many, captures: spread(1.0), bulk: spread(1.0), rates: [1.0; 2] };
        assert_eq!(growth(Some(&run(1_000_000))).verdict(), "at 1e6: aim met; 1e7 not measured");
        assert_eq!(growth(Some(&run(MANY))).verdict(), "aim met");
        assert_eq!(growth(None).verdict(), "not measured");
    }
}
