//! `siv init` killed at every step: it can be run again, and what it then prints opens the installation.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tests::Actor;
use tests::crash::Crash;
use tests::siv::binary;

use crate::two_places::sample;

const SETTINGS: &str = r#"
database   = "sqlite:rows/siv.db"
key_store  = "dir:key-store"
root_key   = "file:root/root.key"
realm      = "test"
public_url = "https://vault.example"
[public]
address = "127.0.0.1:0"
[private]
address = "127.0.0.1:0"
"#;

fn described() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("siv.toml"), SETTINGS).unwrap();
    folder
}

fn init(folder: &TempDir, environment: Vec<(String, String)>) -> Output {
    let mut command = Command::new(binary());
    command.args(["init", "--json", "--config"]).arg(folder.path().join("siv.toml"));
    command.env_clear().envs(environment).output().unwrap()
}

/// Starts `siv serve`, asks for the tenants with the credential, and ends it.
async fn serves(folder: &TempDir, credential: &str, point: &str) {
    let errors = std::fs::File::create(folder.path().join("stderr")).unwrap();
    let mut command = Command::new(binary());
    command.args(["serve", "--config"]).arg(folder.path().join("siv.toml")).env_clear();
    let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let private = lines.filter_map(|line| Some(line.strip_prefix("private")?.trim().to_owned())).next();
    let why = || std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    let private = private.unwrap_or_else(|| panic!("{point}: it does not serve: {}", why()));
    let actor = Actor::new(&format!("http://{private}"), Some(credential));
    let mut answer = actor.get("/v1/tenants").await;
    for _ in 0..200 {
        if answer.status != 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        answer = actor.get("/v1/tenants").await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer.status, 200, "{point}: {}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_is_killed_anywhere_can_be_run_again() {
    let counted = described();
    let crash = Crash::new(counted.path());
    crash.count();
    assert!(init(&counted, crash.environment()).status.success());
    let steps = crash.counted();
    assert!(steps > 20, "only {steps} steps were seen");
    let points = sample(steps, 30);
    let (of, mut inside) = (points.len(), 0);
    for step in points {
        let point = format!("init killed at step {step} of {steps}");
        let folder = described();
        let crash = Crash::new(folder.path());
        crash.at_step(step);
        let killed = init(&folder, crash.environment());
        // The number of steps varies a little with how entries meet in a commit: the last points may lie behind the end.
        let ended = killed.status.success();
        assert!(ended || killed.status.signal() == Some(9), "{point}: {killed:?}");
        inside += usize::from(!ended);
        // Whatever was shown was durable before: one that was used ends the repeats.
        if !ended && !killed.stdout.is_empty() {
            let printed: Value = serde_json::from_slice(&killed.stdout).unwrap();
            serves(&folder, printed["credential"].as_str().unwrap(), &point).await;
            continue;
        }
        let again = init(&folder, Vec::new());
        assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
        let printed: Value = serde_json::from_slice(&again.stdout).unwrap();
        serves(&folder, printed["credential"].as_str().unwrap(), &point).await;
    }
    assert!(inside * 4 >= of * 3, "only {inside} of {of} points lay inside");
}
