//! The same request twice is one request.

use serde_json::json;
use tests::Siv;

#[tokio::test]
async fn fifty_parallel_repeats_capture_one_value() {
    let siv = Siv::start();
    let browser = siv.browser().with_bearer(&siv.session(&["card-number"]).await);
    let body = json!({"values": [{"field": "card-number", "value": "4242424242424242"}]});
    let answers =
        futures_util::future::join_all((0..50).map(|_| browser.post_once("/v1/capture/values", "one", &body))).await;
    let mut keys: Vec<String> = answers.iter().filter(|a| a.status == 201).map(|a| a.text.clone()).collect();
    assert!(!keys.is_empty());
    keys.dedup();
    assert_eq!(keys.len(), 1, "one result for all");
    assert!(answers.iter().all(|a| a.status == 201 || a.code() == "idempotency.in_progress"), "{answers:#?}");
    assert_eq!(siv.entries("action=value.captured").await.len(), 1);
}

#[tokio::test]
async fn another_body_under_the_same_key_is_refused() {
    let siv = Siv::start();
    let browser = siv.browser().with_bearer(&siv.session(&["card-number"]).await);
    let body = |number: &str| json!({"values": [{"field": "card-number", "value": number}]});
    browser.post_once("/v1/capture/values", "k", &body("4242424242424242")).await.expect(201);
    let other = browser.post_once("/v1/capture/values", "k", &body("5555555555554444")).await;
    assert_eq!(other.refusal(), (422, "idempotency.mismatch".to_owned()));
}

#[tokio::test]
async fn a_charge_is_made_once_and_its_answer_repeats() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let cvc = siv.capture("card-cvc", "123").await;
    let body = json!({"inputs": {"card": card, "cvc": cvc, "amount": 5, "order": "o-1"}});
    let flow = siv.flow("charge-card");
    let first = flow.post_once("/v1/flows/charge-card/invoke", "order-1", &body).await.expect(200);
    let again = flow.post_once("/v1/flows/charge-card/invoke", "order-1", &body).await.expect(200);
    assert_eq!(first.json(), again.json());
    assert_eq!(siv.entries("action=relay.intent").await.len(), 2, "the acquirer was called once");
}

#[tokio::test]
async fn a_revealed_card_is_never_stored_and_each_repeat_is_recorded() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let body = json!({"inputs": {"card": card}});
    for _ in 0..2 {
        let answer = siv.flow("reveal-card").post_once("/v1/flows/reveal-card/invoke", "r", &body).await.expect(200);
        assert_eq!(answer.json()["outputs"]["card"], "4242424242424242");
    }
    assert_eq!(siv.entries("action=value.revealed").await.len(), 2);
}

#[tokio::test]
async fn a_second_operator_does_not_do_again_what_the_first_did() {
    let siv = Siv::start();
    let wanted = json!({"kind": "operator", "name": "second"});
    let made = siv.operator().post("/v1/credentials", &wanted).await.expect(201).json();
    let second = siv.operator().with_bearer(made["credential"].as_str().unwrap());
    let body = json!({"kind": "app", "name": "made-once", "app": "demo-shop"});
    let first = siv.operator().post_once("/v1/credentials", "k", &body).await.expect(201);
    assert_eq!(siv.operator().post_once("/v1/credentials", "k", &body).await.expect(201).json(), first.json());
    let again = second.post_once("/v1/credentials", "k", &body).await;
    assert_eq!(again.refusal(), (409, "idempotency.completed".to_owned()), "{}", again.text);
    assert!(!again.text.contains("siv_app_"));
    let listed = siv.operator().get("/v1/credentials?limit=100").await.expect(200).json();
    let named = listed["data"].as_array().unwrap().iter().filter(|one| one["name"] == "made-once").count();
    assert_eq!(named, 1);
}

/// Says something to the server itself.
async fn tell(postgres: &tests::Postgres, sql: &'static str) {
    use sqlx::{Connection as _, Executor as _};
    let mut connection = sqlx::PgConnection::connect(&postgres.address()).await.unwrap();
    connection.execute(sql).await.unwrap();
    connection.execute("SELECT pg_reload_conf()").await.unwrap();
    connection.close().await.unwrap();
}

/// Its beginning waits in the database for a standby that never comes, so nobody hears whether it was written; then it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_beginning_was_written_unheard_is_taken_back_and_done_when_it_comes_again() {
    let postgres = tests::Postgres::start();
    let served = tests::Served::on_postgres(&postgres);
    let create = async |name: &str| {
        let body = json!({ "kind": "auditor", "name": name });
        served.operator().post_once("/v1/credentials?tenant=acme", &format!("key-of-{name}"), &body).await
    };
    create("first").await.expect(201);
    tell(&postgres, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    // The setting reaches a connection when it is used next; a request on whose way it came may wait at any of its commits.
    let mut waits = false;
    for at in 0..50 {
        let status = create(&format!("before-{at}")).await.status;
        assert!([201, 503].contains(&status), "{status}");
        waits = status == 503;
        if waits {
            break;
        }
    }
    assert!(waits, "a commit that waits for nobody is given up");
    let lost = ["one", "two", "three"];
    for name in lost {
        assert_eq!(create(name).await.status, 503, "{name}: nothing is acknowledged");
    }
    tell(&postgres, "ALTER SYSTEM RESET synchronous_standby_names").await;
    for name in lost {
        let mut answers = Vec::new();
        let again = async {
            loop {
                let answer = create(name).await;
                answers.push((answer.status, answer.text.clone()));
                match answer.status {
                    201 => return,
                    503 => {}
                    // Noted as running, past its deadline too, until that is taken back; if it is not, for a day.
                    409 => {
                        let known = ["idempotency.in_progress", "flow.outcome_unknown"].contains(&&*answer.code());
                        assert!(known, "{name}: {}", answer.text);
                    }
                    _ => panic!("{name}: {}", answer.text),
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        };
        let came = tokio::time::timeout(std::time::Duration::from_secs(120), again).await;
        assert!(came.is_ok(), "{name}: {answers:?}");
    }
    let made = served.operator().get("/v1/credentials?tenant=acme&limit=1000").await.expect(200).json();
    for name in lost {
        let of_that_name = made["data"].as_array().unwrap().iter().filter(|one| one["name"] == name).count();
        assert_eq!(of_that_name, 1, "{name} is done once");
    }
}
