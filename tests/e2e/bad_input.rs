//! Whatever comes in, the answer is a clear problem that repeats nothing of it.

use serde_json::json;
use tests::{Siv, bodies};

#[tokio::test]
async fn errors_never_echo_their_input() {
    let siv = Siv::start();
    let canary = bodies::canary();
    let token = siv.session(&["card-number"]).await;
    let browser = siv.browser().with_bearer(&token);
    let flow = siv.flow("charge-card");
    let mut answers = Vec::new();
    for body in [
        json!({"values": [{"field": "card-number", "value": canary}]}),
        json!({"values": [{"field": canary, "value": "4242424242424242"}]}),
        json!({"values": [{"field": "card-number", "value": {"a": canary}}]}),
        json!({"values": [{"field": "card-number", "sealed": canary}]}),
        json!({"values": canary}),
        json!({&*canary: 1}),
        json!({"values": [{"field": "card-number", &*canary: "x"}]}),
    ] {
        let answer = browser.post("/v1/capture/values", &body).await;
        assert!((400..500).contains(&answer.status), "{body} {}", answer.text);
        answers.push(answer);
    }
    for body in [
        json!({"inputs": {"card": canary}}),
        json!({"inputs": {"card": bodies::secure_value_key(), "cvc": bodies::secure_value_key(), "amount": canary, "order": "o"}}),
        json!({"inputs": {&*canary: "x"}}),
        json!({"inputs": canary}),
        json!({"inputs": {}, &*canary: 1}),
    ] {
        let answer = flow.post("/v1/flows/charge-card/invoke", &body).await;
        assert!([400, 422].contains(&answer.status), "{body} {}", answer.text);
        answers.push(answer);
    }
    answers.push(flow.get(&format!("/v1/runs/{canary}")).await);
    answers.push(siv.auditor().get(&format!("/v1/log/entries?valueId={canary}")).await);
    answers.push(siv.auditor().get(&format!("/v1/log/entries?{canary}=1")).await);
    answers.push(siv.operator().put_toml("/v1/flows/x", &format!("name = \"{canary}\"\nnope = 1")).await);
    answers.push(siv.operator().put_toml(&format!("/v1/apps/{canary}"), &canary).await);
    answers.push(siv.stranger().with_bearer(&format!("siv_app_{canary}")).get("/v1/apps").await);
    let raw = browser.request(reqwest::Method::POST, "/v1/capture/values").header("content-type", "application/json");
    answers.push(browser.send(raw.body(format!("{{\"values\": \"{canary}"))).await);
    let raw = browser.request(reqwest::Method::POST, "/v1/capture/values").header("content-type", "text/plain");
    answers.push(browser.send(raw.body(canary.clone())).await);
    for answer in answers {
        assert!(answer.status >= 400, "{}", answer.text);
        assert!(!answer.text.contains(&canary), "{}", answer.text);
        assert!(answer.header("content-type").unwrap_or("").starts_with("application/problem+json"), "{answer:?}");
        assert!(!answer.code().is_empty());
    }
    assert!(!siv.log_text().contains(&canary), "the process log repeats input");
}

#[tokio::test]
async fn each_wrong_way_of_asking_has_its_code() {
    let siv = Siv::start();
    let app = siv.app();
    assert_eq!(app.get("/v1/nothing").await.refusal(), (404, "not_found".to_owned()));
    assert_eq!(app.get("/v1/values").await.refusal(), (405, "method.not_allowed".to_owned()));
    let big = json!({"secureValueKey": "x".repeat(200_000)});
    assert_eq!(app.post("/v1/values/lookup", &big).await.refusal(), (413, "body.too_large".to_owned()));
    let text = app.request(reqwest::Method::POST, "/v1/values/lookup").header("content-type", "text/plain").body("{}");
    assert_eq!(app.send(text).await.refusal(), (415, "media_type".to_owned()));
    let broken =
        app.request(reqwest::Method::POST, "/v1/values/lookup").header("content-type", "application/json").body("{");
    assert_eq!(app.send(broken).await.refusal(), (400, "malformed".to_owned()));
    assert_eq!(
        app.post("/v1/values/lookup", &json!({"secureValueKey": "svk_nope"})).await.refusal(),
        (422, "validation".to_owned())
    );
}

#[tokio::test]
async fn a_path_is_matched_as_it_stands() {
    let siv = Siv::start();
    let app = siv.app();
    for path in [
        "//v1/apps",
        "/v1//apps",
        "/v1/apps/",
        "/v1/./apps",
        "/V1/apps",
        "/v1/apps%2f",
        "/v1/flows/../apps",
        "/v1/%61pps;x",
    ] {
        let url: String = format!("{}{path}", app.base());
        let host = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
        let raw = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            siv.operator().bearer()
        );
        let answer = raw_request(&host, raw.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or("");
        assert!(["404", "400"].contains(&status), "{path}: {answer}");
    }
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let siv = Siv::start();
    let host = siv.app().base().trim_start_matches("http://").to_owned();
    for head in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "content-length: 4\r\ncontent-length: 5",
        "transfer-encoding: xchunked",
        "content-length: +4",
    ] {
        let raw = format!("POST /v1/values HTTP/1.1\r\nhost: {host}\r\n{head}\r\n\r\n0\r\n\r\n");
        let answer = raw_request(&host, raw.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{head}: {answer}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_early() {
    let siv = Siv::start();
    let app = siv.app();
    let host = app.base().trim_start_matches("http://").to_owned();
    let bearer = app.bearer().to_owned();
    let post = |length: usize, body: &str| {
        format!(
            "POST /v1/values/lookup HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {bearer}\r\n\
            content-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    // One byte under the limit is read and found wanting, one byte over it is not read; a declared GiB is not waited for.
    for (length, body, status) in [
        (64 * 1024, "x".repeat(64 * 1024), "400"),
        (64 * 1024 + 1, "x".repeat(64 * 1024 + 1), "413"),
        (1 << 30, "{\"secureValueKey\":\"".to_owned(), "413"),
    ] {
        let answer = raw_request(&host, post(length, &body).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {answer}");
    }
    let long = format!("x-long: {}\r\n", "y".repeat(64 * 1024));
    let many: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let few_hundred: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    for head in [&long, &many, &few_hundred] {
        let raw = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n{head}\r\n");
        let answer = raw_request(&host, raw.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{}: {answer}", head.len());
    }
    siv.browser().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let siv = Siv::start();
    let browser = siv.browser().with_bearer(&siv.session(&["card-number"]).await);
    let host = browser.base().trim_start_matches("http://").to_owned();
    let raw = format!(
        "POST /v1/capture/values HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
        content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"values\":",
        browser.bearer()
    );
    let answer = raw_request(&host, raw.as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(answer.is_empty() || ["400", "408", "503"].contains(&status), "{answer}");
}

#[tokio::test]
async fn a_strangers_body_is_waited_for_less_long_than_that_of_somebody_known() {
    let siv = Siv::start();
    let browser = siv.browser().with_bearer(&siv.session(&["card-number"]).await);
    let host = browser.base().trim_start_matches("http://").to_owned();
    let head = |path: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\n{more}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
        )
    };
    let known = head("/v1/capture/values", &format!("authorization: Bearer {}\r\n", browser.bearer()));
    let strangers = [head("/v1/capture/sessions/open", ""), head("/f/demo-shop/report", "")];
    // Whoever is known begins first and would end first, were they waited for alike.
    let mut known = std::pin::pin!(raw_request(&host, known.as_bytes()));
    let began = tokio::time::timeout(std::time::Duration::from_millis(500), known.as_mut()).await;
    assert!(began.is_err(), "{began:?}");
    for stranger in &strangers {
        tokio::select! {
            biased;
            answer = raw_request(&host, stranger.as_bytes()) => assert!(answer.starts_with("HTTP/1.1 503"), "{answer}"),
            answer = known.as_mut() => panic!("{answer}"),
        }
    }
}

/// Sends bytes; everything that came back until the other side closed the connection. That it does is a part of the test.
async fn raw_request(host: &str, bytes: &[u8]) -> String {
    let reply = tests::wire::send(host, bytes, std::time::Duration::from_secs(90)).await;
    assert!(reply.is_closed, "the connection stays open: {}", reply.text);
    reply.text
}
