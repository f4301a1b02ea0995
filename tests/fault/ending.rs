//! SIGTERM under load: what was begun is answered, what is not answered was not done, and the log says that it was the end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tests::{Load, Postgres, Served, Told};

const ROUNDS: usize = 2;

async fn ends_in_order(mut served: Served) {
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..ROUNDS {
        let load = Load::begin(24, &served, &told);
        load.runs(30 + 20 * round).await;
        assert_eq!(served.terminate(), Some(0), "an end in order:\n{}", served.log_text());
        load.end().await;
        served.begin().unwrap();
        served.kept(&told).await;
    }
    served.recorded(&told).await;
    let captured = served.entries("action=value.captured&outcome=allowed").await;
    let recorded: HashSet<&str> = captured.iter().filter_map(|entry| entry["requestId"].as_str()).collect();
    let stopped = served.entries("action=node.stopped").await;
    assert_eq!(stopped.len(), ROUNDS, "each boot says that it ended");
    let told = told.lock().unwrap();
    for (request, status) in &told.sent {
        let done = recorded.contains(request.as_str());
        assert_eq!(done, *status == 200, "a capture was answered {status}, and its entry says otherwise");
    }
    println!("{} captures sent, {} recorded, {} unanswered", told.sent.len(), captured.len() / 2, told.unanswered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_to_end_under_load_answers_everything_it_did() {
    ends_in_order(Served::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_postgresql_that_is_asked_to_end_under_load_answers_everything_it_did() {
    ends_in_order(Served::on_postgres(&Postgres::start())).await;
}
