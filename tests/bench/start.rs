//! From the start of the process to its readiness, and how large it is.

use std::process::Command;
use std::time::Instant;

use tests::siv::binary;

use super::cost;
use super::figures::Spread;
use super::flags::Flags;
use super::stage::Stage;
use super::vault::Vault;

/// What was measured.
pub struct Start {
    /// Milliseconds until `siv is ready`.
    pub millis: Spread,
    /// Memory right after, in MB.
    pub memory: f64,
}

/// Starts a small vault again and again.
pub async fn run(stage: &mut Stage, flags: &Flags) -> Start {
    if flags.quick {
        // Where only the way is tried, any vault will do.
        return again(&mut stage.vault, 1, &mut stage.void);
    }
    let mut vault = Vault::start("fresh", 0, &stage.databases, &stage.cards).await;
    let start = again(&mut vault, 11, &mut stage.void);
    vault.stop();
    start
}

fn again(vault: &mut Vault, times: usize, void: &mut Vec<String>) -> Start {
    let (mut millis, mut memory) = (Vec::new(), 0.0);
    for _ in 0..times {
        vault.stop();
        let begun = Instant::now();
        if let Err(why) = vault.start_again() {
            void.push(format!("a start failed: {why}"));
            break;
        }
        millis.push(begun.elapsed().as_secs_f64() * 1000.0);
        memory = cost::memory(vault.pid());
    }
    let millis = Spread::of(millis.into_iter());
    eprintln!("  start to ready: {:.0} ms", millis.median);
    Start { millis, memory }
}

/// Megabytes of the binary without its symbols; as it is where there is no `strip`.
#[allow(clippy::cast_precision_loss, reason = "sizes below 2^53")]
pub fn binary_size() -> f64 {
    let folder = tempfile::TempDir::new().unwrap();
    let copy = folder.path().join("siv");
    std::fs::copy(binary(), &copy).unwrap();
    let _ = Command::new("strip").arg("-s").arg(&copy).status();
    std::fs::metadata(&copy).unwrap().len() as f64 / 1e6
}
