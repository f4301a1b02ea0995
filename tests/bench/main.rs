//! `make bench`: the real binary beside yardsticks, on both databases, in one run, as ratios.
//!
//! Slices alternate (A B A B), so that a noisy machine is noisy for all; medians of per-round ratios are what counts.
//! Load generator, server and database share the machine's cores. Nothing here asserts on time.

mod acknowledged;
mod bulk;
mod chart;
mod cold;
mod connection;
mod copying;
mod cost;
mod custody;
mod database;
mod durability;
mod entries;
mod figures;
mod flags;
mod goals;
mod growth;
mod load;
mod losses;
mod measure;
mod page;
mod paths;
mod pressure;
mod reference;
mod report;
mod request;
mod results;
mod sealed;
mod slice;
mod stage;
mod standing;
mod start;
mod vault;
mod wal;
mod yardstick;

use flags::Flags;
use results::Results;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, kind, database @ ..] = arguments.as_slice()
        && serve == "--serve"
    {
        yardstick::serve(kind, database.first().map(String::as_str)).await;
        return;
    }
    let flags = Flags::read(arguments.into_iter()).unwrap_or_else(|usage| {
        eprintln!("{usage}");
        std::process::exit(2);
    });
    allow_many_connections();
    tokio::spawn(end_with_children());
    let mut results = Vec::new();
    for engine in &flags.engines {
        results.push(Results::of(*engine, &flags).await);
    }
    let report = format!("{}\n{}", page::heading(), report::whole(&results, sealed::key_agreement(), &flags));
    println!("{report}");
    let void: Vec<&String> = results.iter().flat_map(|result| &result.void).collect();
    for why in &void {
        println!("VOID: {why}");
    }
    if !void.is_empty() {
        println!("\nEvery figure above is void.");
        std::process::exit(1);
    }
    if flags.write {
        page::write(&report, &results);
    }
}

/// Ends what was started when this process is told to end. PostgreSQL's script hears the end of its standard input.
async fn end_with_children() {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{SignalKind, signal};
    let [mut interrupt, mut terminate] =
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).unwrap());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let children = cost::children(std::process::id()).into_iter();
    for child in children.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        let _ = kill_process(child, Signal::TERM);
    }
    std::process::exit(130);
}

/// Lets this process and those it starts open as many files as the system allows them.
fn allow_many_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
