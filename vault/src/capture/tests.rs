//! Captures on a real store: what a session admits, what comes twice, what a key's owner may do.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;
use zeroize::Zeroizing;

use super::*;
use crate::crypto::seal_capture;
use crate::domain::{Actor, CaptureSessionId, Credential, SecureValueKey};
use crate::store::idempotency::{Answer, Repeated};
use crate::store::testing::{TestVault, context};

const APP: &str = r#"
name = "shop"
session_mode = "open"
[fields.card]
type = "card-number"
retention = "stored"
flows = ["charge", "reveal"]
purposes = ["payment", "support"]
[fields.cvc]
type = "card-cvc"
flows = ["charge"]
purposes = ["payment"]
[fields.note]
type = "text"
flows = ["charge"]
purposes = ["payment"]
uses = 5
"#;

struct Bench {
    vault: TestVault,
    capture: Capture,
    app: Caller,
}

impl Bench {
    async fn start() -> Self {
        let vault = TestVault::start().await;
        vault.apply_app(APP).await;
        let app = vault.app("shop").await;
        let capture = capture(&vault);
        Self { vault, capture, app }
    }

    async fn session(&self, json: &str) -> (Arc<Credential>, CaptureSessionId) {
        let request: SessionRequest = serde_json::from_str(json).unwrap();
        let app = self.vault.again(&self.app).await;
        let opened = read(&self.capture.open_session(&app, request, None).await.unwrap());
        let token = Credential::parse(opened["captureToken"].as_str().unwrap()).unwrap();
        (Arc::new(token), opened["captureSessionId"].as_str().unwrap().parse().unwrap())
    }

    async fn put(&self, token: &Arc<Credential>, items: Vec<CaptureItem>) -> Result<Answer, Error> {
        let context = context(&self.vault.clock, Actor::anonymous());
        let admitted = self.capture.admit(Arc::clone(token)).await?;
        self.capture.capture_values(admitted, items, &context, None).await
    }

    async fn describe(&self, token: &Arc<Credential>) -> Result<SessionDescription, Error> {
        self.capture.describe_session(self.capture.admit(Arc::clone(token)).await?).await
    }

    async fn seal(&self, token: &Arc<Credential>, session: CaptureSessionId, field: &str, text: &str) -> String {
        let described = self.describe(token).await.unwrap();
        let (mut key_id, mut public) = ([0; 16], [0; 65]);
        Base64UrlUnpadded::decode(&described.keys[0].key_id, &mut key_id).unwrap();
        Base64UrlUnpadded::decode(&described.keys[0].public_key, &mut public).unwrap();
        let field = field.parse().unwrap();
        let sealed = seal_capture(&public, &key_id, &described.app, session, &field, text).unwrap();
        Base64UrlUnpadded::encode_string(&sealed)
    }

    async fn card(&self) -> SecureValueKey {
        let app = self.vault.again(&self.app).await;
        let answer = self.capture.put_values(&app, vec![item("card", "4242424242424242")], None).await.unwrap();
        read(&answer)["results"][0]["secureValueKey"].as_str().unwrap().parse().unwrap()
    }
}

pub(crate) fn capture(vault: &TestVault) -> Capture {
    let TestVault { store, committer, keys, catalog, clock, .. } = vault;
    Capture::new(store.clone(), committer.clone(), keys.clone(), catalog.clone(), clock.clone())
}

pub(crate) fn item(field: &str, text: &str) -> PutItem {
    PutItem {
        field: field.to_owned(),
        value: Zeroizing::new(text.to_owned()),
        flows: Vec::new(),
        purposes: Vec::new(),
        ttl_seconds: None,
        uses: None,
    }
}

fn plain(field: &str, text: &str) -> CaptureItem {
    CaptureItem { field: field.to_owned(), content: Content::Plain(Zeroizing::new(text.to_owned())) }
}

fn sealed(field: &str, body: &str) -> CaptureItem {
    CaptureItem { field: field.to_owned(), content: Content::Sealed(body.to_owned()) }
}

pub(crate) fn read(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn twice(key: &str, body: &str) -> Option<IdempotencyKey> {
    IdempotencyKey::new(key, Zeroizing::new(body.as_bytes().to_vec()))
}

#[tokio::test]
async fn a_sealed_text_becomes_a_key_and_its_capture_an_entry() {
    let bench = Bench::start().await;
    let (token, session) = bench.session(r#"{"app":"shop","fields":["card"],"subject":"user-7"}"#).await;
    let body = bench.seal(&token, session, "card", "4242 4242 4242 4242").await;
    let answer = bench.put(&token, vec![sealed("card", &body)]).await.unwrap();
    assert_eq!(answer.status, 201);
    let key: SecureValueKey = read(&answer)["values"][0]["secureValueKey"].as_str().unwrap().parse().unwrap();
    let entries = bench.vault.entries("value.captured").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].value_id, Some(key.value_id()));
    assert_eq!(entries[0].capture_session, Some(session));
    assert_eq!(entries[0].actor.id, session.to_string());
}

#[tokio::test]
async fn a_sealed_body_is_taken_once_and_only_where_it_was_sealed_for() {
    let bench = Bench::start().await;
    let ask = r#"{"app":"shop","maxValues":9}"#;
    let ((token, session), (other, other_session)) = (bench.session(ask).await, bench.session(ask).await);
    let body = bench.seal(&token, session, "note", "hello").await;
    for (token, field) in [(&other, "note"), (&token, "card")] {
        let refused = bench.put(token, vec![sealed(field, &body)]).await;
        assert!(matches!(&refused, Err(Error::Validation(faults)) if faults[0].code == "sealed"), "{refused:?}");
    }
    let both = bench.put(&token, vec![sealed("note", &body), sealed("note", &body)]).await;
    assert!(matches!(both, Err(Error::Conflict)));
    bench.put(&token, vec![sealed("note", &body)]).await.unwrap();
    assert!(matches!(bench.put(&token, vec![sealed("note", &body)]).await, Err(Error::Conflict)), "a replay");
    for wrong in ["", "AAAA", &body[..body.len() - 4], &body.replace('A', "B")] {
        assert!(matches!(bench.put(&token, vec![sealed("note", wrong)]).await, Err(Error::Validation(_))));
    }
    let same_text = bench.seal(&other, other_session, "note", "hello").await;
    bench.put(&other, vec![sealed("note", &same_text)]).await.unwrap();
}

#[tokio::test]
async fn a_key_that_no_longer_opens_gets_the_answer_of_one_that_never_was() {
    let bench = Bench::start().await;
    let ask = r#"{"app":"shop","maxValues":9}"#;
    let (token, session) = bench.session(ask).await;
    let old = bench.seal(&token, session, "note", "hello").await;
    // The day's erasure key goes; the row of the pair is still there.
    bench.vault.clock.advance(Duration::from_secs(50 * 3600));
    let (token, session) = bench.session(ask).await;
    let refused = bench.put(&token, vec![sealed("note", &old)]).await;
    assert!(matches!(&refused, Err(Error::Validation(faults)) if faults[0].code == "sealed"), "{refused:?}");
    let new = bench.seal(&token, session, "note", "hello").await;
    bench.vault.meddle("UPDATE capture_keys SET sealed = CAST(substr(sealed, 1, 20) || X'00' AS BLOB)").await;
    bench.vault.keys.forget_tenant(&bench.vault.tenant);
    let refused = bench.put(&token, vec![sealed("note", &new)]).await;
    assert!(matches!(&refused, Err(Error::Validation(faults)) if faults[0].code == "sealed"), "{refused:?}");
}

#[tokio::test]
async fn a_session_captures_so_many_values_until_its_end() {
    let bench = Bench::start().await;
    let (token, _) = bench.session(r#"{"app":"shop","fields":["note"],"maxValues":3,"ttlSeconds":60}"#).await;
    let notes = |count: usize| (0..count).map(|_| plain("note", "a")).collect::<Vec<_>>();
    assert!(matches!(bench.put(&token, notes(4)).await, Err(Error::Validation(_))));
    bench.put(&token, notes(2)).await.unwrap();
    assert!(matches!(bench.put(&token, notes(2)).await, Err(Error::Conflict)));
    assert!(matches!(bench.put(&token, vec![plain("card", "4242424242424242")]).await, Err(Error::Validation(_))));
    bench.vault.clock.advance(Duration::from_secs(61));
    assert!(matches!(bench.put(&token, notes(1)).await, Err(Error::AuthExpired)));
    assert!(matches!(bench.describe(&token).await, Err(Error::AuthExpired)));
    let forged = Credential::generate(crate::domain::CredentialKind::Capture, token.id_bytes()).unwrap();
    assert!(matches!(bench.describe(&Arc::new(forged)).await, Err(Error::AuthInvalid)));
}

#[tokio::test]
async fn a_session_that_ends_while_a_capture_is_under_way_takes_nothing() {
    let bench = Bench::start().await;
    let (token, _) = bench.session(r#"{"app":"shop","fields":["note"],"ttlSeconds":60}"#).await;
    let admitted = bench.capture.admit(Arc::clone(&token)).await.unwrap();
    bench.vault.clock.advance(Duration::from_secs(60));
    let context = context(&bench.vault.clock, Actor::anonymous());
    let late = bench.capture.capture_values(admitted, vec![plain("note", "a")], &context, None).await;
    assert!(matches!(late, Err(Error::AuthExpired)), "{late:?}");
    assert!(bench.vault.entries("value.captured").await.is_empty());
}

#[tokio::test]
async fn a_session_that_is_altered_while_it_is_known_captures_nothing_more() {
    let bench = Bench::start().await;
    let (token, _) = bench.session(r#"{"app":"shop","fields":["note"],"maxValues":5}"#).await;
    let note = || vec![plain("note", "a")];
    bench.put(&token, note()).await.unwrap();
    let altered =
        r#"UPDATE capture_sessions SET body = CAST(replace(CAST(body AS TEXT), '"used":1', '"used":0') AS BLOB)"#;
    bench.vault.meddle(altered).await;
    assert!(matches!(bench.put(&token, note()).await, Err(Error::AuthInvalid)));
    assert!(matches!(bench.describe(&token).await, Err(Error::AuthInvalid)), "nor is it known any longer");
    assert_eq!(bench.vault.entries("value.captured").await.len(), 1);
}

#[tokio::test]
async fn parallel_captures_never_take_more_than_the_session_allows() {
    let bench = Bench::start().await;
    let (token, _) = bench.session(r#"{"app":"shop","fields":["note"],"maxValues":7}"#).await;
    let puts = (0..30).map(|_| bench.put(&token, vec![plain("note", "a")]));
    let done = futures_util::future::join_all(puts).await;
    assert_eq!(done.iter().filter(|answer| answer.is_ok()).count(), 7);
    let others = done.iter().filter(|answer| answer.is_err());
    let refused = |answer: &&Result<_, _>| matches!(answer, Err(Error::Conflict));
    assert_eq!(others.clone().filter(refused).count(), 23, "no call is told that its token is none: {done:?}");
    assert_eq!(bench.vault.entries("value.captured").await.len(), 7);
}

#[tokio::test]
async fn one_bad_value_keeps_all_of_a_capture_out_and_none_of_a_servers() {
    let bench = Bench::start().await;
    let (token, _) = bench.session(r#"{"app":"shop"}"#).await;
    let refused = bench.put(&token, vec![plain("card", "4242424242424242"), plain("cvc", "1")]).await;
    let Err(Error::Validation(faults)) = refused else { panic!("{refused:?}") };
    assert_eq!(faults, [Fault { index: Some(1), field: "cvc".to_owned(), code: "too_short" }]);
    assert!(bench.vault.entries("value.captured").await.is_empty());
    let items = vec![item("card", "4242424242424241"), item("card", "4242424242424242"), item("nope", "1")];
    let answer = bench.capture.put_values(&bench.app, items, None).await.unwrap();
    let results = read(&answer)["results"].clone();
    let statuses: Vec<_> = results.as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [422, 201, 422]);
    assert_eq!(results[0]["code"], "validation");
    assert_eq!(bench.vault.entries("value.captured").await.len(), 1);
}

#[tokio::test]
async fn a_server_may_narrow_a_field_and_never_widen_it() {
    let bench = Bench::start().await;
    let note = |change: &dyn Fn(&mut PutItem)| {
        let mut item = item("note", "a");
        change(&mut item);
        item
    };
    let items = vec![
        note(&|item| item.uses = Some(2)),
        note(&|item| item.ttl_seconds = Some(60)),
        note(&|item| item.uses = Some(6)),
        note(&|item| item.uses = Some(0)),
        note(&|item| item.ttl_seconds = Some(1801)),
        note(&|item| item.flows = vec!["reveal".to_owned()]),
        note(&|item| item.purposes = vec!["payment".to_owned(), "nope".to_owned()]),
    ];
    let answer = bench.capture.put_values(&bench.app, items, None).await.unwrap();
    let results = read(&answer)["results"].clone();
    let statuses: Vec<_> = results.as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 422, 422, 422, 422, 422]);
    let key: SecureValueKey = results[0]["secureValueKey"].as_str().unwrap().parse().unwrap();
    assert_eq!(bench.capture.lookup(&bench.app, key).await.unwrap().uses_left, Some(2));
}

#[tokio::test]
async fn fifty_parallel_repeats_capture_one_value() {
    let bench = Bench::start().await;
    let (token, _) = bench.session(r#"{"app":"shop","fields":["cvc"]}"#).await;
    let context = context(&bench.vault.clock, Actor::anonymous());
    let put = async |key, body| {
        let items = vec![plain("cvc", "123")];
        let admitted = bench.capture.admit(Arc::clone(&token)).await?;
        bench.capture.capture_values(admitted, items, &context, twice(key, body)).await
    };
    let answers = futures_util::future::join_all((0..50).map(|_| put("one", "{}"))).await;
    let bodies: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap().body.clone()).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(bench.vault.entries("value.captured").await.len(), 1);
    assert!(matches!(put("one", "{} ").await, Err(Error::Repeated(Repeated::Mismatch))));
    assert!(matches!(put("two", "{}").await, Err(Error::Conflict)), "another key is another request");
    bench.vault.clock.advance(Duration::from_secs(120));
    assert_eq!(put("one", "{}").await.unwrap().body, bodies[0]);
}

#[tokio::test]
async fn an_answer_opens_for_nobody_but_who_got_it() {
    let bench = Bench::start().await;
    let other = bench.vault.app("shop").await;
    let app = bench.vault.again(&bench.app).await;
    let put = |caller: Caller, body: &'static str| {
        let capture = bench.capture.clone();
        async move { capture.put_values(&caller, vec![item("note", "a")], twice("k", body)).await }
    };
    let first = put(app.clone(), "1").await.unwrap();
    assert_eq!(put(app, "1").await.unwrap().body, first.body);
    assert!(matches!(put(other, "1").await, Err(Error::Repeated(Repeated::Completed))));
}

#[tokio::test]
async fn a_key_s_owner_looks_up_extends_and_deletes() {
    let bench = Bench::start().await;
    let answer = bench.capture.put_values(&bench.app, vec![item("note", "a"), item("cvc", "123")], None).await.unwrap();
    let text = |at: usize| read(&answer)["results"][at]["secureValueKey"].as_str().unwrap().to_owned();
    let (note, cvc) = (text(0), text(1));
    let key = |text: &str| text.parse::<SecureValueKey>().unwrap();
    let (capture, app, now) = (&bench.capture, &bench.app, bench.vault.clock.now());
    let found = capture.lookup(app, key(&note)).await.unwrap();
    assert_eq!((found.uses_left, found.expires_at), (Some(5), Some(now.plus(Duration::from_secs(1800)))));
    let day = Duration::from_secs(86_400);
    let longer = capture.extend(app, key(&note), now.plus(day * 2)).await.unwrap();
    assert_eq!(longer.expires_at, Some(now.plus(day * 2)));
    assert!(matches!(capture.extend(app, key(&note), now.plus(day * 8)).await, Err(Error::Validation(_))));
    assert!(matches!(
        capture.extend(app, key(&cvc), now.plus(Duration::from_secs(60))).await,
        Err(Error::PolicyDenied)
    ));
    let extended = bench.vault.entries("value.extended").await;
    assert_eq!((extended.len(), extended[0].state_version), (1, Some(1)));
    bench.vault.clock.advance(day);
    let app = &bench.vault.again(app).await;
    assert!(matches!(capture.lookup(app, key(&cvc)).await, Err(Error::ValueNotFound)), "its 15 minutes are over");
    assert_eq!(capture.lookup(app, key(&note)).await.unwrap().uses_left, Some(5), "an extension holds");
    capture.delete(app, key(&note)).await.unwrap();
    assert!(matches!(capture.delete(app, key(&note)).await, Err(Error::ValueNotFound)));
    assert_eq!(bench.vault.entries("value.deleted").await.len(), 1);
}

#[tokio::test]
async fn wrong_secrets_and_other_apps_learn_nothing_and_are_recorded() {
    let bench = Bench::start().await;
    bench.vault.apply_app(&APP.replace("\"shop\"", "\"other\"")).await;
    let other = bench.vault.app("other").await;
    let key = bench.card().await;
    let forged = SecureValueKey::from_parts(key.value_id(), [7; 20]);
    let absent = SecureValueKey::generate(bench.vault.clock.now()).unwrap();
    let app = bench.vault.again(&bench.app).await;
    for (caller, key) in [(&app, forged), (&app, absent), (&other, key)] {
        assert!(matches!(bench.capture.delete(caller, key).await, Err(Error::ValueNotFound)));
    }
    let denied = bench.vault.entries("access.denied").await;
    let rules: Vec<_> = denied.iter().map(|entry| entry.rule.clone().unwrap()).collect();
    assert_eq!(rules, ["value.wrong-secret", "value.absent", "value.absent"]);
    assert!(denied.iter().all(|entry| entry.value_id.is_some() && entry.field.is_none()));
}

#[tokio::test]
async fn the_frame_opens_a_session_only_where_the_app_says_so() {
    let bench = Bench::start().await;
    let opened = read(&bench.capture.open_session_from_frame("shop").await.unwrap());
    let token = Arc::new(Credential::parse(opened["captureToken"].as_str().unwrap()).unwrap());
    assert_eq!(bench.describe(&token).await.unwrap().fields.len(), 3);
    bench.vault.apply_app(&APP.replace("\"open\"", "\"server\"")).await;
    assert!(matches!(bench.capture.open_session_from_frame("shop").await, Err(Error::PolicyDenied)));
    assert!(matches!(bench.capture.open_session_from_frame("nope").await, Err(Error::NotFound)));
}
