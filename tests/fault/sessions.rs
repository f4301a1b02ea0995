//! Capture sessions moved, altered and put back behind a stopped vault's back (promise 5).

use serde_json::json;
use tests::Siv;

use super::database::{Change, Database, Place};
use super::transplant::changes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_column_of_a_capture_session_can_be_altered_or_moved() {
    let mut siv = Siv::start();
    let mut tokens = Vec::new();
    for _ in 0..30 {
        tokens.push(siv.session(&["card-number"]).await);
    }
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    let session = |token: &str| {
        let id = vault::domain::Credential::parse(token).unwrap().id_bytes();
        Place::new("capture_sessions", "demo", &vault::domain::CaptureSessionId::from_bytes(id).to_string())
    };
    let mut left = tokens.iter();
    let mut touched = Vec::new();
    for (column, what) in changes(&mut database, "capture_sessions").await {
        let one = left.next().unwrap();
        let mut hit = vec![one];
        let change = match what {
            "alter" => Change::Alter,
            "clear" => Change::Clear,
            _ => {
                hit.extend(left.next());
                Change::Swap(session(hit[1]))
            }
        };
        if database.change(&session(one), &column, &change).await {
            touched.extend(hit.into_iter().map(|token| (format!("{} {what}", column.name), token)));
        }
    }
    database.close().await;
    siv.begin().unwrap();
    for (name, token) in &touched {
        let answer = siv.browser().with_bearer(token).get("/v1/capture/session").await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text);
    }
    siv.browser().with_bearer(left.next().unwrap()).get("/v1/capture/session").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_older_capture_session_can_be_put_back() {
    let mut siv = Siv::start();
    let body = json!({"app": siv.dev["app"], "fields": ["card-number"], "maxValues": 1});
    let opened = siv.app().post("/v1/capture/sessions", &body).await.expect(201).json();
    let token = opened["captureToken"].as_str().unwrap().to_owned();
    siv.terminate();
    let session = Place::new("capture_sessions", "demo", opened["captureSessionId"].as_str().unwrap());
    let mut database = Database::open(&siv.data()).await;
    database.keep(&session, "unused").await;
    database.close().await;
    siv.begin().unwrap();
    let one = json!({"values": [{"field": "card-number", "value": "4242424242424242"}]});
    siv.browser().with_bearer(&token).post("/v1/capture/values", &one).await.expect(201);
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    database.put_back(&session, "unused").await;
    database.close().await;
    siv.begin().unwrap();
    let again = siv.browser().with_bearer(&token).post("/v1/capture/values", &one).await;
    assert_eq!(again.status, 401, "{}", again.text);
}
