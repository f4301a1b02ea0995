//! The report, in Markdown: the goals, then each engine with its table and what the other phases gave.

use std::fmt::Write as _;

use super::bulk;
use super::custody::Custody;
use super::figures::{Row, Spread, Table};
use super::flags::{Engine, Flags};
use super::goals;
use super::pressure::{CROWD, Overload};
use super::results::Results;
use super::stage::{BARE, FEW};
use super::start;

/// Everything that was measured.
pub fn whole(results: &[Results], key_agreement: f64, flags: &Flags) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "### Goals\n\n{}", goals::table(results, key_agreement));
    for result in results {
        let _ = writeln!(text, "### {}\n\n{}\n", result.engine.name(), result.machine.join("; "));
        if !result.table.rows.is_empty() {
            let _ = writeln!(text, "{}", paths(&result.table));
        }
        for line in phases(result, flags) {
            let _ = writeln!(text, "- {line}");
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "One key agreement (DHKEM P-256, the receiver's side): {key_agreement:.0} µs of CPU. Binary without symbols: \
         {:.1} MB.",
        start::binary_size()
    );
    text
}

/// What the phases after the closed loops gave, a line each.
fn phases(result: &Results, flags: &Flags) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(bulk) = &result.bulk {
        let beside = match (bulk.copy, bulk.ratio) {
            (Some(copy), Some(ratio)) => {
                format!("; COPY BINARY {:.0} rows/s, {} of it", copy.median, percent(ratio))
            }
            _ => String::new(),
        };
        let wal = bulk.wal.map(|wal| format!(", {wal:.0} B of WAL")).unwrap_or_default();
        lines.push(format!(
            "Bulk ({} clients, 1,000 values a request): {:.0} values/s, each with its entry, {:.0} µs{wal}{beside}.",
            bulk::CLIENTS,
            bulk.siv.median,
            bulk.cpu
        ));
    }
    if let Some(steady) = &result.steady {
        let [half, most, worst] = steady.millis;
        lines.push(format!(
            "Open loop at six tenths of the most ({:.0}/s meant, {:.0}/s answered), from the intended start: p50 {half:.2} ms, \
             p99 {most:.2} ms, p99.9 {worst:.2} ms.",
            steady.offered, steady.answered
        ));
    }
    lines.extend(result.overload.iter().map(overload));
    if let Some(growth) = &result.growth {
        lines.push(format!(
            "With {} values over {FEW}: captures {} ({:.0}/s over {:.0}/s), bulk {}.",
            growth.many,
            percent(growth.captures),
            growth.rates[1],
            growth.rates[0],
            percent(growth.bulk)
        ));
    }
    lines.extend(result.custody.iter().flat_map(custody));
    if let Some(start) = &result.start {
        lines.push(format!(
            "Start to ready: {:.0} ms ({:.0} to {:.0}); {:.0} MB then.",
            start.millis.median, start.millis.min, start.millis.max, start.memory
        ));
    }
    lines.extend(
        result.remarks.iter().map(|remark| format!("Not all was answered well. {}.", remark.replace('`', "'"))),
    );
    lines.push(durability(result, flags));
    lines
}

fn overload(overload: &Overload) -> String {
    let ([refused, broken, unsent], [siv, load]) = (overload.shares, overload.cpu);
    format!(
        "{} times the most, {CROWD} connections: goodput {} of the closed loop's. Of what was offered {refused:.0} % was refused \
         (p50 {:.1} ms, p99 {:.1} ms), {broken:.1} % broke, {unsent:.0} % found no free connection; siv had {siv:.0} % of the \
         machine, the load generator {load:.0} %.{}",
        overload.factor,
        percent(overload.goodput),
        overload.refusal[0],
        overload.refusal[1],
        match overload.words.as_str() {
            "" => String::new(),
            words => format!(" A refusal: `{}`.", words.replace('`', "'")),
        }
    )
}

fn durability(result: &Results, flags: &Flags) -> String {
    match &result.durability {
        Some(durability) => format!(
            "Killed with SIGKILL in mid load of captures and uses{}, started again: {} values and {} uses had been acknowledged in \
             that slice; they and a sample of all others, {} keys and {} runs, were looked for, besides the {} values and {} entries \
             that had stood there before it, and {}. siv was ready {:.1} s after its start.",
            if result.engine == Engine::Postgres { ", PostgreSQL too" } else { "" },
            durability.in_the_end[0],
            durability.in_the_end[1],
            durability.tried[0],
            durability.tried[1],
            durability.before[0],
            durability.before[1],
            match result.void.is_empty() {
                true => format!(
                    "all are there: the keys open, each capture and each use has its entry. Of values that nobody had been told of \
                     {} stood there before that slice, and {} of it. The log verifies: {}",
                    durability.more[0],
                    durability.more[1],
                    durability.log.split_whitespace().collect::<Vec<_>>().join(" ")
                ),
                false => "the figures are VOID".to_owned(),
            },
            durability.again[1]
        ),
        None if flags.wants("durability") => "The vault did not start again: the figures are VOID.".to_owned(),
        None => "Whether what was acknowledged is kept was not tried in this run.".to_owned(),
    }
}

fn percent(spread: Spread) -> String {
    format!("{:.1} % ({:.1} to {:.1})", spread.median * 100.0, spread.min * 100.0, spread.max * 100.0)
}

/// The table of paths of one engine.
fn paths(table: &Table) -> String {
    let disk = match table.engine {
        Engine::Postgres => "WAL B (+ sequencer's)",
        Engine::Sqlite => "written B",
    };
    let mut text = format!(
        "| clients | path | requests/s | of bare, median (min to max) | p50 ms | p99 ms | CPU µs: server + PostgreSQL | \
         of it in the slice | in the tree after, s | commits | {disk} | RSS MB | lost |\n{}\n",
        "|---".repeat(13) + "|"
    );
    for row in &table.rows {
        let of_bare = table.ratio(row.name, BARE, row.clients).map_or_else(String::new, percent);
        let (server, database) = row.cpu();
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {of_bare} | {:.2} | {:.2} | {server:.0} + {database:.0} | {:.0} | {} | {} | {} | {:.0} | {} |",
            row.clients,
            row.name,
            row.rate(),
            row.millis(0.5),
            row.millis(0.99),
            row.cpu_in_slice(),
            if row.name.starts_with("siv") { format!("{:.1}", row.drain()) } else { String::new() },
            commits(row),
            written(row, table.engine),
            row.memory(),
            row.lost(),
        );
    }
    text
}

fn commits(row: &Row) -> String {
    match row.commits() {
        0.0 => String::new(),
        commits => format!("{commits:.3}"),
    }
}

fn written(row: &Row, engine: Engine) -> String {
    match (engine, row.wal()) {
        (_, Some((requests, sequencer, _))) => format!("{requests:.0} (+ {sequencer:.0})"),
        (Engine::Sqlite, None) if row.name != BARE => format!("{:.0}", row.disk()),
        _ => String::new(),
    }
}

/// Keys in tokens: warm, right after a start, rewrapped.
fn custody(custody: &Custody) -> Vec<String> {
    let [tenants, tokens] = custody.tenants;
    let mut lines = vec![format!(
        "A tenant with its key in a token (SoftHSM) over one of the built-in KMS, warm, at 64 clients: captures {}, uses {}.",
        percent(custody.warm[0]),
        percent(custody.warm[1])
    )];
    lines.extend(custody.cold.iter().map(|cold| {
        format!(
            "Right after a start {tenants} such tenants in {tokens} tokens, {} at once, had each captured a value after {:.1} s: a tenant's \
             took p50 {:.0} ms, p99 {:.0} ms, and was refused {} times in all. At most {} workers ran, and {:.1} GB of the machine \
             were in use, {:.1} before the start.",
            cold.at_once,
            cold.whole,
            cold.each[0],
            cold.each[1],
            cold.refused,
            cold.workers,
            cold.memory[0],
            cold.memory[1]
        )
    }));
    let [many, one] = custody.rewrapped;
    lines.push(format!(
        "Rewrap in the token, each data key read back: {:.0} a second ({} in {} requests, each of a tenant); {:.0} a second ({} of one \
         tenant in one request).",
        many.rate(),
        many.moved,
        many.requests,
        one.rate(),
        one.moved
    ));
    lines
}
