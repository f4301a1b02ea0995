//! What the steps of a run do, and what they give out.

use proptest::prelude::*;

use super::*;
use crate::flows::document::tests::CHARGE;
use crate::flows::error::{FailedReason, InputCode, SecretFault};
use crate::flows::relay::EgressPolicy;
use crate::flows::relay::test_destination::{TestDestination, ok};

const CARD: &str = "4242424242424242";

fn plaintext(text: &str) -> Plaintext {
    Plaintext::new(Zeroizing::new(text.to_owned()))
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn text(text: &str) -> Typed {
    Typed::Text(Zeroizing::new(text.to_owned()))
}

fn values(order: &str) -> RunValues {
    let mut values = RunValues::new();
    values.give_plaintext(label("card"), plaintext(CARD));
    values.give_plaintext(label("cvc"), plaintext("123"));
    values.give_typed(label("amount"), Typed::Integer(1200));
    values.give_typed(label("order"), text(order));
    values.give_secret(SecretName::read("destination.acquirer.apiKey").unwrap(), plaintext("key-of-acquirer"));
    values
}

async fn run(document: &str, destination: &TestDestination, values: &mut RunValues) -> Result<String, Error> {
    let document = document.replace("https://acquirer.example", &format!("http://{}", destination.address));
    let flow = Flow::from_toml(&document).unwrap();
    let relay = Relay::new(EgressPolicy { allow_loopback_http: true, ..EgressPolicy::default() });
    let (tenant, passwords) = ("demo".parse().unwrap(), Passwords::new(2));
    flow.perform(values, Tools { tenant: &tenant, relay: &relay, passwords: &passwords }).await?;
    let waiting: Vec<(Label, Label)> =
        values.to_capture().map(|(step, field, _, _)| (step.clone(), field.clone())).collect();
    for (step, field) in waiting {
        values.give_captured(&step, &field, Zeroizing::new("svk_new".to_owned()));
    }
    flow.outputs(values).map(|outputs| serde_json::to_string(&outputs).unwrap())
}

async fn charge(answer: &str) -> Result<String, Error> {
    run(CHARGE, &TestDestination::json(answer).await, &mut values("order-1")).await
}

#[tokio::test]
async fn a_charge_sends_the_plaintexts_and_gives_the_declared_outputs() {
    let destination = TestDestination::json(r#"{"id":"ch_1","status":"approved","other":"4242424242424242"}"#).await;
    let outputs = run(CHARGE, &destination, &mut values("o\"rd</x>&er")).await.unwrap();
    assert_eq!(outputs, r#"{"charge":"ch_1","status":"approved","last4":"4242"}"#);
    assert_eq!(
        destination.body(),
        r#"{"number":"4242424242424242","cvc":"123","amount":1200,"reference":"o\"rd</x>&er"}"#
    );
    assert!(destination.seen()[0].contains("\r\nauthorization: Bearer key-of-acquirer\r\n"));
}

#[tokio::test]
async fn what_a_destination_echoes_is_blocked_in_every_spelling() {
    for id in [
        "ch_4242424242424242",
        "ch_42424242",
        "ch_NDI0MjQyNDI0MjQyNDI0Mg",
        "ch_34323432343234323432343234323432",
        "ch_123",
    ] {
        let answer = format!(r#"{{"id":"{id}","status":"approved"}}"#);
        match charge(&answer).await {
            Err(Error::OutputBlocked(place)) => assert_eq!(place, "steps.charge.response.charge"),
            other => panic!("{id}: {other:?}"),
        }
    }
    let number = CHARGE.replace("type = \"text\", max = 64, pattern = \"^ch_[A-Za-z0-9]+$\"", "type = \"integer\"");
    for id in [CARD, "123", "424242424242"] {
        let destination = TestDestination::json(&format!(r#"{{"id":{id},"status":"approved"}}"#)).await;
        assert!(matches!(run(&number, &destination, &mut values("o")).await, Err(Error::OutputBlocked(_))), "{id}");
    }
    let secret = charge(r#"{"id":"ch_a","status":"approved"}"#).await;
    assert!(secret.is_ok());
}

#[tokio::test]
async fn an_answer_that_is_not_as_declared_is_a_failure_without_its_text() {
    let (charged, status) = ("steps.charge.response.charge", "steps.charge.response.status");
    for (answer, named) in [
        ("", "destination"),
        ("{}", charged),
        ("null", charged),
        ("[]", charged),
        ("{", "destination"),
        (r#"{"id":"ch_1"}"#, status),
        (r#"{"id":"ch_1","status":"maybe"}"#, status),
        (r#"{"id":"4242424242424242","status":"approved"}"#, charged),
        (r#"{"id":"ch_1 ","status":"approved"}"#, charged),
        (r#"{"id":"ch_1\n","status":"approved"}"#, charged),
        (r#"{"id":1,"status":"approved"}"#, charged),
        (r#"{"id":["ch_1"],"status":"approved"}"#, charged),
        (r#"{"id":"ch_1","status":true}"#, status),
        ("{\"id\":\"ch_1\",\"status\":\"approved\"} x", "destination"),
    ] {
        // The field's name is the author's own, and all that is told of the answer.
        let error = charge(answer).await.unwrap_err();
        assert_eq!(error.code(), "destination.failed", "{answer}: {error:?}");
        assert_eq!(error.faults(), [(named.to_owned(), "response".to_owned())], "{answer}");
        assert!(!error.to_string().contains("4242"));
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(charge(&deep).await, Err(Error::DestinationFailed(FailedReason::Response))));
}

#[tokio::test]
async fn each_slot_writes_a_value_in_its_own_spelling() {
    let nasty = "a\"b</x>&c=d+e %25 \u{e4}\u{1f600}'";
    let form = CHARGE.replace("json    = {", "form    = {").replace("[steps.http.response]", "[steps.http.response]\n");
    let destination = TestDestination::json(r#"{"id":"ch_1","status":"approved"}"#).await;
    run(&form, &destination, &mut values(nasty)).await.unwrap();
    let body = destination.body();
    let read: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    assert_eq!(read[3], ("reference".to_owned(), nasty.to_owned()));
    assert_eq!((read.len(), read[0].1.as_str()), (4, CARD));
    let path = CHARGE.replace("/v1/charges", "/v1/{{ inputs.order }}/charges");
    let destination = TestDestination::json(r#"{"id":"ch_1","status":"approved"}"#).await;
    run(&path, &destination, &mut values("a/../b?c#d%2f ")).await.unwrap();
    assert!(destination.seen()[0].starts_with("POST /v1/a%2F..%2Fb%3Fc%23d%252f%20/charges HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_value_that_its_slot_cannot_carry_is_refused_and_nothing_is_sent() {
    let header = CHARGE.replace("Bearer {{ destination.acquirer.apiKey }}", "{{ inputs.order }}");
    let path = CHARGE.replace("/v1/charges", "/v1/{{ inputs.order }}/charges");
    for (document, order) in [
        (&header, "a\r\nx-evil: 1"),
        (&header, "a\nb"),
        (&header, "a\0b"),
        (&header, "\u{e4}"),
        (&header, " a"),
        (&header, ""),
        (&path, ".."),
        (&path, "."),
        (&path, ""),
    ] {
        let destination = TestDestination::json("{}").await;
        match run(document, &destination, &mut values(order)).await {
            Err(Error::Inputs(faults)) => assert_eq!(faults[0].input, "order"),
            other => panic!("{order:?}: {other:?}"),
        }
        assert_eq!(destination.connections(), 0);
    }
    let mut broken = values("o");
    broken.give_secret(SecretName::read("destination.acquirer.apiKey").unwrap(), plaintext("key\n"));
    let destination = TestDestination::json("{}").await;
    let refused = run(CHARGE, &destination, &mut broken).await;
    assert!(matches!(refused, Err(Error::SecretDenied { fault: SecretFault::Unfit, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_response_field_is_captured_and_never_repeated() {
    let document =
        CHARGE.replace("type = \"text\", max = 64, pattern = \"^ch_[A-Za-z0-9]+$\"", "secure = \"password\"");
    let document = document.replace(
        "status = { from = \"$.status\", type = \"enum\", values = [\"approved\", \"declined\"] }",
        "status = { from = \"$.status\", type = \"text\", pattern = \".*\" }",
    );
    let good = TestDestination::json(r#"{"id":"network-token-1","status":"approved"}"#).await;
    assert_eq!(
        run(&document, &good, &mut values("o")).await.unwrap(),
        r#"{"charge":"svk_new","status":"approved","last4":"4242"}"#
    );
    for answer in [
        r#"{"id":"network-token-1","status":"got network-token-1"}"#,
        r#"{"id":"4242424242424242","status":"approved"}"#,
    ] {
        let echo = TestDestination::json(answer).await;
        assert!(matches!(run(&document, &echo, &mut values("o")).await, Err(Error::OutputBlocked(_))), "{answer}");
    }
}

#[tokio::test]
async fn a_run_that_lacks_a_secret_sends_nothing() {
    let destination = TestDestination::json("{}").await;
    let mut values = RunValues::new();
    values.give_plaintext(label("card"), plaintext(CARD));
    assert!(matches!(run(CHARGE, &destination, &mut values).await, Err(Error::Incomplete)));
    assert_eq!(destination.connections(), 0);
}

const LOGIN: &str = r#"
name = "verify-password"
purpose = "login"
app = "demo-shop"
[inputs]
password = { secure = "password" }
again = { secure = "password" }
phc = { type = "text", max = 512 }
[[steps]]
id = "made"
hash = { password = "{{ inputs.password }}" }
[[steps]]
id = "check"
verify = { password = "{{ inputs.password }}", phc = "{{ steps.made.phc }}" }
[[steps]]
id = "given"
verify = { password = "{{ inputs.again }}", phc = "{{ inputs.phc }}" }
[[steps]]
id = "same"
equals = { left = "{{ inputs.password }}", right = "{{ inputs.again }}" }
[outputs]
phc = "{{ steps.made.phc }}"
verified = "{{ steps.check.verified }}"
given = "{{ steps.given.verified }}"
same = "{{ steps.same.equal }}"
"#;

async fn login(again: &str, phc: &str) -> Result<serde_json::Value, Error> {
    let mut values = RunValues::new();
    values.give_plaintext(label("password"), plaintext("correct horse"));
    values.give_plaintext(label("again"), plaintext(again));
    values.give_typed(label("phc"), text(phc));
    let nobody = TestDestination::json("{}").await;
    let outputs = run(LOGIN, &nobody, &mut values).await?;
    assert_eq!(values.verified(&label("check")), Some(true));
    Ok(serde_json::from_str(&outputs).unwrap())
}

#[tokio::test]
async fn passwords_are_hashed_verified_and_compared() {
    let bcrypt = bcrypt::hash("correct horse", 10).unwrap();
    let outputs = login("correct horse", &bcrypt).await.unwrap();
    assert_eq!((&outputs["verified"], &outputs["given"], &outputs["same"]), (&true.into(), &true.into(), &true.into()));
    assert!(outputs["phc"].as_str().unwrap().starts_with("$argon2id$"));
    let outputs = login("wrong horse", &bcrypt).await.unwrap();
    assert_eq!((&outputs["given"], &outputs["same"]), (&false.into(), &false.into()));
    let refused = login("x", "not a hash").await.unwrap_err();
    assert!(matches!(&refused, Error::Inputs(faults) if faults[0].code == InputCode::Hash && faults[0].input == "phc"));
}

#[tokio::test]
async fn a_mac_is_hmac_sha256_of_the_whole_value() {
    let document = CHARGE
        .replace("[[steps]]", "[[steps]]\nid = \"mac\"\nhmac = { value = \"{{ inputs.order }}\", secret = \"destination.acquirer.apiKey\" }\n[[steps]]")
        .replace("Bearer {{ destination.acquirer.apiKey }}", "{{ steps.mac.mac }}");
    let destination = TestDestination::answering(ok(r#"{"id":"ch_1","status":"approved"}"#)).await;
    let mut values = values("what do ya want for nothing?");
    values.give_secret(SecretName::read("destination.acquirer.apiKey").unwrap(), plaintext("Jefe"));
    run(&document, &destination, &mut values).await.unwrap();
    // RFC 4231 section 4.3.
    let mac = "authorization: 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843\r\n";
    assert!(destination.seen()[0].contains(mac));
}

#[test]
fn declassified_and_revealed_outputs_pass_and_nothing_else_does() {
    let document = "name = \"reveal-card\"\npurpose = \"support\"\napp = \"demo-shop\"\nreveal = [\"card\"]\n[inputs]\ncard = { secure = \"card-number\" }\nexpiry = { secure = \"card-expiry\" }\n[outputs]\ncard = \"{{ inputs.card }}\"\nlast4 = \"{{ inputs.card | last4 }}\"\nbin = \"{{ inputs.card | bin }}\"\nbrand = \"{{ inputs.card | brand }}\"\nvalid = \"{{ inputs.card | luhn_valid }}\"\nexpiry = \"{{ inputs.expiry | expiry }}\"\n";
    let flow = Flow::from_toml(document).unwrap();
    let mut values = RunValues::new();
    values.give_plaintext(label("card"), plaintext(CARD));
    values.give_plaintext(label("expiry"), plaintext("12/30"));
    assert_eq!(
        serde_json::to_string(&flow.outputs(&values).unwrap()).unwrap(),
        r#"{"card":"4242424242424242","last4":"4242","bin":"424242","brand":"visa","valid":true,"expiry":"12/30"}"#
    );
    let mut twelve = RunValues::new();
    twelve.give_plaintext(label("card"), plaintext("411111111116"));
    twelve.give_plaintext(label("expiry"), plaintext("12/30"));
    let outputs = serde_json::to_value(flow.outputs(&twelve).unwrap()).unwrap();
    assert_eq!(outputs["bin"], "");
}

#[tokio::test]
async fn a_plaintext_that_a_later_step_brings_back_is_blocked_on_its_way_out() {
    let flow = Flow::from_toml(CHARGE).unwrap();
    let mut values = values("o");
    values.give_result(&label("charge"), &label("charge"), RunValue::Typed(text("ch_4242424242424242")));
    values.give_result(&label("charge"), &label("status"), RunValue::Typed(text("approved")));
    assert!(matches!(flow.outputs(&values), Err(Error::OutputBlocked(place)) if place == "outputs.charge"));
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(answer in any::<String>(), id in any::<String>()) {
        let flow = Flow::from_toml(CHARGE).unwrap();
        let (step, http) = flow.http_steps().next().unwrap();
        let _ = http.extract(step, answer.as_bytes());
        let _ = http.extract(step, serde_json::json!({ "id": id, "status": id }).to_string().as_bytes());
    }
}
