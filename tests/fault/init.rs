//! `siv init` killed at every step: it can be run again, and what it then prints opens the installation.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;
use tests::crash::Crash;
use tests::{Actor, Installation, Serving};

use crate::two_places::sample;

/// Starts `siv serve`, asks for the tenants with the credential, and ends it.
async fn serves(installation: &Installation, credential: &str, point: &str) {
    let serving = Serving::begin(installation, &[]).unwrap_or_else(|why| panic!("{point}: it does not serve: {why}"));
    let answer = Actor::new(&serving.private, Some(credential)).get("/v1/tenants").await;
    assert_eq!(answer.status, 200, "{point}: {}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_is_killed_anywhere_can_be_run_again() {
    let counted = Installation::described();
    let crash = Crash::new(counted.folder.path());
    crash.count();
    assert!(counted.init_in(&crash.environment()).status.success());
    let steps = crash.counted();
    assert!(steps > 20, "only {steps} steps were seen");
    let points = sample(steps, 16);
    let (of, mut inside) = (points.len(), 0);
    for step in points {
        let point = format!("init killed at step {step} of {steps}");
        let installation = Installation::described();
        let crash = Crash::new(installation.folder.path());
        crash.at_step(step);
        let killed = installation.init_in(&crash.environment());
        // The number of steps varies a little with how entries meet in a commit: the last points may lie behind the end.
        let ended = killed.status.success();
        assert!(ended || killed.status.signal() == Some(9), "{point}: {killed:?}");
        inside += usize::from(!ended);
        // Whatever was shown was durable before: one that was used ends the repeats.
        if !ended && !killed.stdout.is_empty() {
            let printed: Value = serde_json::from_slice(&killed.stdout).unwrap();
            serves(&installation, printed["credential"].as_str().unwrap(), &point).await;
            continue;
        }
        let again = installation.init_in(&[]);
        assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
        let printed: Value = serde_json::from_slice(&again.stdout).unwrap();
        serves(&installation, printed["credential"].as_str().unwrap(), &point).await;
    }
    assert!(inside * 4 >= of * 3, "only {inside} of {of} points lay inside");
}
