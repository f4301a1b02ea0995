//! A node that is asked to end serves on for a while, and says so to whoever balances load.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tests::Actor;

use super::command_line::{Installation, Serving, credential};

#[tokio::test]
async fn a_node_that_is_asked_to_end_serves_on_while_its_readiness_says_that_it_stops() {
    let installation = Installation::described();
    installation.rewrite("realm ", "drain_seconds = 300\nrealm ");
    let operator = credential(&installation.init());
    let mut node = Serving::start(&installation);
    let listeners = [&node.public, &node.private].map(|base| Actor::new(base, None));
    for listener in &listeners {
        listener.get("/readyz").await.expect(200);
    }
    node.signal(Signal::TERM);
    for listener in &listeners {
        let mut ready = listener.get("/readyz").await;
        for _ in 0..100 {
            if ready.status == 503 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            ready = listener.get("/readyz").await;
        }
        assert_eq!(ready.expect(503).json()["reasons"], json!(["stopping"]));
        listener.get("/healthz").await.expect(200);
    }
    // Whoever comes all the same is served.
    Actor::new(&node.private, Some(&operator)).get("/v1/tenants").await.expect(200);
    // A second signal cuts it short.
    assert_eq!(node.terminate(), Some(0));
    let said = installation.log_text();
    assert!(said.contains("siv is asked to end") && said.contains("siv has ended"), "{said}");
}
