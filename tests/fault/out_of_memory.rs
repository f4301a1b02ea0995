//! No memory left: callers get a plain refusal or none, and a restart has everything that was acknowledged.

use std::process::Command;

use serde_json::json;
use tests::Siv;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_runs_out_of_memory_tells_nothing_and_loses_nothing() {
    let mut siv = Siv::start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", siv.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")).unwrap();
    // A megabyte above what it has: enough to stand still, too little for the bodies that follow. What the allocator holds
    // in reserve differs from start to start, so that they grow until the limit is met.
    let limit = (size.trim().parse::<u64>().unwrap() + 1024) * 1024;
    let pid = siv.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--as={limit}:{limit}")]).status().unwrap();
    assert!(limited.success());
    // One item that is kept, and as many too long ones as a body may hold.
    let long = (1..1000).map(|_| json!({"field": "password", "value": "x".repeat(3500)}));
    let items: Vec<_> = std::iter::once(json!({"field": "password", "value": "a good one"})).chain(long).collect();
    let body = json!({ "items": items });
    let (mut kept, mut refused) = (Vec::new(), 0);
    for at_once in [24, 48, 96, 192] {
        let app = siv.app();
        for answer in futures_util::future::join_all((0..at_once).map(|_| app.post("/v1/values", &body))).await {
            for leak in ["panicked", "backtrace", ".rs:", "allocation", "xxxxxxxxxx"] {
                assert!(!answer.text.contains(leak), "{}", answer.text);
            }
            let first = answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned);
            kept.extend(first);
            refused += usize::from(answer.status != 200);
        }
        if refused > 0 {
            break;
        }
    }
    println!(
        "{} kept, {refused} refused or unanswered, the process {}",
        kept.len(),
        if siv.runs() { "lives" } else { "ended" }
    );
    assert!(refused > 0, "the limit was never met");
    siv.kill();
    siv.begin().unwrap();
    for key in kept.iter().rev().take(50) {
        siv.app().post("/v1/values/lookup", &json!({"secureValueKey": key})).await.expect(200);
    }
    siv.verify_log().unwrap();
}
