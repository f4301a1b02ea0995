//! Captures with a session: its tokens and its bodies, plain or sealed as the frame seals them, made before a slice begins.

use std::time::Duration;

use futures_util::StreamExt as _;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::Hpke as _;
use serde_json::{Value, json};

use super::cost;
use super::request::{self, SAMPLE, Target};
use super::vault::{Vault, host};

/// Values of one session, a long form's. Neighbouring requests are of different sessions.
const VALUES: usize = 10;

/// How the value comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Unsealed inside TLS.
    Plain,
    /// By HPKE.
    Sealed,
}

/// So many captures by a browser, each request once.
pub async fn captures(vault: &Vault, form: Form, count: usize) -> Target {
    let sessions = count.div_ceil(VALUES).max(2);
    let app = vault.app();
    let asked = json!({"app": "shop", "fields": ["card-number"], "maxValues": VALUES, "ttlSeconds": 3600});
    let token = async |_| {
        let mut answer = app.post("/v1/capture/sessions", &asked).await;
        // A session is none of what is measured: one that is refused is asked for again.
        for _ in 0..10 {
            if answer.status == 503 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                answer = app.post("/v1/capture/sessions", &asked).await;
            }
        }
        answer.expect(201).json()["captureToken"].as_str().unwrap().to_owned()
    };
    let tokens: Vec<String> = futures_util::stream::iter(0..sessions).map(token).buffer_unordered(64).collect().await;
    let browser = vault.browser();
    let described = browser.with_bearer(&tokens[0]).get("/v1/capture/session").await.expect(200).json();
    let host = host(browser.base());
    let halves = [0, 1].map(|half| {
        let (tokens, described, host) = (tokens.clone(), described.clone(), host.clone());
        tokio::task::spawn_blocking(move || {
            let own = (0..count).filter(|at| at % 2 == half);
            own.map(|at| body(&tokens[at % sessions], form, (&described, &host))).collect::<Vec<_>>()
        })
    });
    let mut requests = Vec::with_capacity(count);
    for half in halves {
        requests.extend(half.await.unwrap());
    }
    let name = match form {
        Form::Plain => "siv capture, session, plain form",
        Form::Sealed => "siv capture, session, HPKE form",
    };
    let fill = request::once_each(requests);
    Target { name, host, server: vault.pid(), fill, proofs: &["secureValueKey"], values: 1, keep_one_of: SAMPLE }
}

fn body(token: &str, form: Form, (described, host): (&Value, &str)) -> Vec<u8> {
    let card = tests::bodies::card_number();
    let value = match form {
        Form::Plain => json!({"field": "card-number", "value": card}),
        Form::Sealed => {
            let sealed = tests::bodies::seal(described, token, "card-number", &card);
            json!({"field": "card-number", "sealed": sealed})
        }
    };
    request::post(host, "/v1/capture/values", Some(token), &json!({ "values": [value] }))
}

/// CPU microseconds of one key agreement (DHKEM P-256, receiver's side), on average of many on one thread.
pub fn key_agreement() -> f64 {
    const TIMES: u32 = 1_000;
    let (public, private) = SUITE.generate_key_pair().unwrap();
    let (enc, _) = SUITE.setup_sealer(b"", &public).unwrap();
    let begun = cost::cpu_of_this_thread();
    for _ in 0..TIMES {
        std::hint::black_box(&SUITE.setup_opener(&enc, b"", &private).unwrap());
    }
    (cost::cpu_of_this_thread() - begun) * 1e6 / f64::from(TIMES)
}
