//! No memory left: callers get a plain refusal or none, and a restart has everything that was acknowledged.

use std::process::Command;

use serde_json::json;
use tests::Siv;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_runs_out_of_memory_tells_nothing_and_loses_nothing() {
    let mut siv = Siv::start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", siv.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")).unwrap();
    // A megabyte above what it has: enough to stand still, too little for the bodies that follow.
    let limit = (size.trim().parse::<u64>().unwrap() + 1024) * 1024;
    let pid = siv.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--as={limit}:{limit}")]).status().unwrap();
    assert!(limited.success());
    let items: Vec<_> = (0..400).map(|_| json!({"field": "password", "value": "x".repeat(100)})).collect();
    let body = json!({ "items": items });
    let (mut kept, mut refused) = (Vec::new(), 0);
    for _ in 0..20 {
        let app = siv.app();
        for answer in futures_util::future::join_all((0..24).map(|_| app.post("/v1/values", &body))).await {
            for leak in ["panicked", "backtrace", ".rs:", "allocation", "xxxxxxxxxx"] {
                assert!(!answer.text.contains(leak), "{}", answer.text);
            }
            let results = answer.json()["results"].as_array().cloned().unwrap_or_default();
            kept.extend(results.iter().filter_map(|r| r["secureValueKey"].as_str().map(str::to_owned)).take(2));
            refused += usize::from(answer.status != 200);
        }
        if refused > 0 && !siv.runs() {
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
