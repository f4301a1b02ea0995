//! `make bench`: the real binary beside yardsticks, on both databases, in one run, as ratios.
//!
//! Slices alternate (A B A B), so that a noisy machine is noisy for all; medians of per-round ratios are what counts.
//! Load generator, server and database share the machine's cores. Nothing here asserts on time.

mod connection;
mod cost;
mod database;
mod figures;
mod flags;
mod load;
mod measure;
mod paths;
mod reference;
mod report;
mod request;
mod sealed;
mod slice;
mod stage;
mod vault;
mod wal;
mod yardstick;

use flags::Flags;
use stage::Stage;

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
    let mut void = Vec::new();
    for engine in flags.engines.clone() {
        let mut stage = Stage::set(engine).await;
        let (_, said) = stage.machine("before", &flags);
        println!("{said}");
        let table = paths::run(&paths::wanted(&flags), &mut stage, &flags).await;
        println!("\n{}", report::paths(&table));
        println!("{}", stage.machine("after", &flags).1);
        if let Err(why) = stage.vault.verify_log() {
            stage.void.push(format!("the log does not verify: {why}"));
        }
        void.append(&mut stage.void);
    }
    for why in &void {
        eprintln!("void: {why}");
    }
    if !void.is_empty() {
        std::process::exit(1);
    }
}
