//! `make bench`: capture and invoke rates of the real binary beside a bare axum route, in one run, as ratios.
//!
//! Slices alternate (A B A B), so that a noisy machine is noisy for all; medians of per-round ratios are what counts.
//! Load generator, server and database share the machine's cores. Nothing here asserts on time.

mod bare;
mod load;

use std::time::Duration;

use serde_json::json;
use tests::Siv;

use load::{Slice, Target};

/// Rounds of slices; an odd number has a median.
const ROUNDS: usize = 5;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::args().nth(1).as_deref() == Some("--bare") {
        bare::serve().await;
        return;
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, length) = if quick { (3, Duration::from_millis(500)) } else { (ROUNDS, Duration::from_secs(2)) };
    let bare = bare::Bare::start();
    let siv = Siv::start_with(&[]);
    let host = siv.dev["private"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let card = siv.capture("card-number", "4242424242424242").await;
    let targets = [
        Target::new(
            "bare axum echo",
            &bare.host,
            "/echo",
            None,
            &json!({"field": "card-number", "value": "4242424242424242"}),
        ),
        Target::new(
            "capture, server side",
            &host,
            "/v1/values",
            Some(siv.app().bearer()),
            &json!({"items": [{"field": "card-number", "value": "4242424242424242"}]}),
        ),
        Target::new(
            "invoke card-summary",
            &host,
            "/v1/flows/card-summary/invoke",
            Some(siv.flow("card-summary").bearer()),
            &json!({"inputs": {"card": card}}),
        ),
        Target::new(
            "invoke reveal-card",
            &host,
            "/v1/flows/reveal-card/invoke",
            Some(siv.flow("reveal-card").bearer()),
            &json!({"inputs": {"card": card}}),
        ),
    ];
    println!("fdatasync of 8 KiB: {:.0}/s", load::fdatasync_rate(siv.folder()));
    println!("\n| clients | path | requests/s (median) | of bare, median (min to max) | p50 ms | p99 ms | refused |");
    println!("|---|---|---|---|---|---|---|");
    for clients in [1, 16, 64] {
        let mut slices: Vec<Vec<Slice>> = targets.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (at, target) in targets.iter().enumerate() {
                slices[at].push(load::run(target, clients, length).await);
            }
        }
        for (at, target) in targets.iter().enumerate() {
            print_row(clients, target, &slices[at], &slices[0]);
            let (done, refused) = slices[at].iter().fold((0, 0), |(d, r), slice| (d + slice.done, r + slice.refused));
            assert!(done > 0 && refused == 0, "{}: {done} good answers, {refused} refused: void", target.name);
        }
    }
    let entries = siv.verify_log();
    println!("\nThe log of this run verifies: {}", if entries.is_ok() { "yes" } else { "NO, the figures are void" });
    if let Err(why) = entries {
        eprintln!("{why}");
        std::process::exit(1);
    }
}

fn print_row(clients: usize, target: &Target, slices: &[Slice], bare: &[Slice]) {
    let mut ratios: Vec<f64> = slices.iter().zip(bare).map(|(own, bare)| own.rate() / bare.rate() * 100.0).collect();
    let mut rates: Vec<f64> = slices.iter().map(Slice::rate).collect();
    ratios.sort_by(f64::total_cmp);
    rates.sort_by(f64::total_cmp);
    let mut all = load::empty();
    for slice in slices {
        all.add(&slice.latencies).unwrap();
    }
    let refused: u64 = slices.iter().map(|slice| slice.refused).sum();
    let millis = |quantile: f64| {
        #[allow(clippy::cast_precision_loss, reason = "microseconds below 2^53")]
        let micros = all.value_at_quantile(quantile) as f64;
        micros / 1000.0
    };
    println!(
        "| {clients} | {} | {:.0} | {:.1} % ({:.1} to {:.1}) | {:.2} | {:.2} | {refused} |",
        target.name,
        rates[rates.len() / 2],
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1],
        millis(0.5),
        millis(0.99),
    );
}
