//! The report: tables of Markdown.

use std::fmt::Write as _;

use super::figures::{Row, Table};
use super::flags::Engine;
use super::stage::BARE;

/// The table of paths of one engine.
pub fn paths(table: &Table) -> String {
    let disk = match table.engine {
        Engine::Postgres => "WAL B (+ sequencer's)",
        Engine::Sqlite => "written B",
    };
    let mut text = format!(
        "| clients | path | requests/s | of bare, median (min to max) | p50 ms | p99 ms | CPU µs: server + PostgreSQL | \
         of it in the slice | commits | {disk} | lost |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for row in &table.rows {
        let of_bare = table.ratio(row.name, BARE, row.clients).map_or_else(String::new, |ratio| {
            format!("{:.1} % ({:.1} to {:.1})", ratio.median * 100.0, ratio.min * 100.0, ratio.max * 100.0)
        });
        let (server, database) = row.cpu();
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {of_bare} | {:.2} | {:.2} | {server:.0} + {database:.0} | {:.0} | {} | {} | {} |",
            row.clients,
            row.name,
            row.rate(),
            row.millis(0.5),
            row.millis(0.99),
            row.cpu_in_slice(),
            commits(row),
            written(row, table.engine),
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
