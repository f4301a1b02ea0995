//! docs/performance.md and its pictures: the report between two marks of the page, and what machine it is of.

use std::fs;
use std::path::{Path, PathBuf};

use super::chart::{Bar, Chart};
use super::figures::Row;
use super::flags::Engine;
use super::results::Results;
use super::stage::{BARE, PEER, TRANSACTION};

const BEGIN: &str = "<!-- make bench begins -->";
const END: &str = "<!-- make bench ends -->";
/// The number of clients of the pictures.
const CLIENTS: usize = 64;

/// The heading of the report: the day, and the machine in one paragraph.
pub fn heading() -> String {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).strftime("%-d %B %Y").to_string();
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let (info, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 20;
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let (folder, kind) = filesystem();
    format!(
        "## {today}\n\n{cores} cores ({}), {memory} GiB of memory; databases on {kind}{}. Build profile `{profile}`.\n",
        model.unwrap_or("unknown"),
        if kind == "tmpfs" {
            format!(" at {folder}: nothing is made durable there, and commits cost nothing")
        } else {
            String::new()
        }
    )
}

/// Where databases lie: the place where it is mounted, and its kind.
fn filesystem() -> (String, String) {
    let temporary = fs::canonicalize(std::env::temp_dir()).unwrap_or_default();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && temporary.starts_with(fields[1]));
    // Of those mounted on one place the last is the one that is seen.
    let (_, place, kind) = above
        .enumerate()
        .map(|(at, fields)| ((fields[1].len(), at), fields[1].to_owned(), fields[2].to_owned()))
        .max()
        .unwrap_or_default();
    (place, kind)
}

/// Puts the report into the page, and draws the pictures beside it.
pub fn write(report: &str, results: &[Results]) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut pictures = String::new();
    for (name, chart) in results.iter().flat_map(charts) {
        fs::write(docs.join(&name), chart.svg()).unwrap();
        pictures.push_str(&format!("![{}]({name})\n\n", chart.title));
    }
    let page: PathBuf = docs.join("performance.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has the mark where the report begins");
    let (_, after) = rest.split_once(END).expect("the page has the mark where the report ends");
    fs::write(&page, format!("{before}{BEGIN}\n\n{}\n\n{pictures}{END}{after}", report.trim_end())).unwrap();
    eprintln!("written: {}", page.display());
}

/// The pictures of one engine, with the names of their files.
fn charts(result: &Results) -> Vec<(String, Chart)> {
    let rows: Vec<&Row> = result.table.rows.iter().filter(|row| row.clients == CLIENTS).collect();
    if rows.len() < 2 {
        return Vec::new();
    }
    let (engine, file) = (result.engine.name(), result.engine.name().to_lowercase());
    let own = |row: &Row| ![BARE, TRANSACTION, PEER].contains(&row.name);
    let rate = |row: &&Row| Bar {
        label: row.name.to_owned(),
        parts: vec![row.rate()],
        end: format!("{:.0}/s", row.rate()),
        own: own(row),
    };
    let cpu = |row: &&Row| {
        let (server, database) = row.cpu();
        let parts = if result.engine == Engine::Sqlite { vec![server] } else { vec![server, database] };
        Bar { label: row.name.to_owned(), parts, end: format!("{:.0} µs", server + database), own: own(row) }
    };
    let disk = result.disk[0].midpoint(result.disk[1]);
    let rates = Chart {
        title: format!("Requests a second, {CLIENTS} clients, {engine}"),
        note: format!("Medians of one run; each waits for its durable commit. Disk: {disk:.0} fdatasync/s."),
        parts: vec!["requests"],
        bars: rows.iter().map(rate).collect(),
    };
    let cpus = Chart {
        title: format!("CPU time of a request, {CLIENTS} clients, {engine}"),
        note: "Until its entry stands in the log's tree. Lower is better.".to_owned(),
        parts: if result.engine == Engine::Sqlite { vec!["server"] } else { vec!["server", "PostgreSQL"] },
        bars: rows.iter().map(cpu).collect(),
    };
    vec![(format!("performance-rate-{file}.svg"), rates), (format!("performance-cpu-{file}.svg"), cpus)]
}
