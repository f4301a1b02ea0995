//! Which documents of flows are read and which are refused.

use proptest::prelude::*;

use crate::flows::definition::{Action, Body, Flow, Input, ResponseKind};
use crate::flows::error::Error;
use crate::flows::template::JsonTemplate;

/// The flow of design.md section 6.
pub(in crate::flows) const CHARGE: &str = r#"
name    = "charge-card"
purpose = "payment"
app     = "demo-shop"

[inputs]
card   = { secure = "card-number" }
cvc    = { secure = "card-cvc" }
amount = { type = "integer", min = 1 }
order  = { type = "text", max = 64 }

[[steps]]
id = "charge"
[steps.http]
method  = "POST"
url     = "https://acquirer.example/v1/charges"
headers = { authorization = "Bearer {{ destination.acquirer.apiKey }}" }
json    = { number = "{{ inputs.card }}", cvc = "{{ inputs.cvc }}", amount = "{{ inputs.amount }}", reference = "{{ inputs.order }}" }
timeout_seconds = 10
[steps.http.response]
charge = { from = "$.id", type = "text", max = 64, pattern = "^ch_[A-Za-z0-9]+$" }
status = { from = "$.status", type = "enum", values = ["approved", "declined"] }

[outputs]
charge = "{{ steps.charge.charge }}"
status = "{{ steps.charge.status }}"
last4  = "{{ inputs.card | last4 }}"
"#;

/// Why a document is refused.
pub(in crate::flows) fn refusal(text: &str) -> String {
    match Flow::from_toml(text) {
        Ok(_) => panic!("this was not refused: {text}"),
        Err(Error::Invalid(why)) => why,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_document_becomes_a_tree_in_its_own_order() {
    let flow = Flow::from_toml(CHARGE).unwrap();
    let names: Vec<&str> = flow.inputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["card", "cvc", "amount", "order"]);
    assert!(matches!(&flow.inputs[0].1, Input::Secure(field) if field.as_str() == "card-number"));
    let Action::Http(http) = &flow.steps[0].action else { panic!("an http step") };
    assert_eq!(http.destination(), "acquirer.example");
    assert_eq!(http.url.path.before, "/v1/charges");
    let Body::Json(JsonTemplate::Object(members)) = &http.body else { panic!("a JSON object") };
    assert_eq!(
        members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["number", "cvc", "amount", "reference"]
    );
    assert!(matches!(http.response[0].1.kind, ResponseKind::Typed(_)));
    assert_eq!(flow.outputs.len(), 3);
    assert!(flow.relays() && flow.has_intent() && !flow.reveals());
    let summary = serde_json::to_value(flow.summary(3)).unwrap();
    assert_eq!(summary["destinations"][0], "acquirer.example");
    assert_eq!(summary["inputs"][0]["field"], "card-number");
}

#[test]
fn a_filter_that_is_not_known_is_no_fault_of_the_reference_and_a_key_is_named() {
    for (from, to, words) in [
        ("{{ inputs.card | last4 }}", "{{ inputs.card | lastfour }}", "known are last4, bin, brand"),
        ("\"{{ inputs.cvc }}\"", "\"{{ inputs.cvc | upper }}\"", "has a filter that is not known"),
        (
            "Bearer {{ destination.acquirer.apiKey }}",
            "Bearer {{ destination.acquirer.apiKey | x }}",
            "has a filter that",
        ),
        ("app     = \"demo-shop\"", "", "the key app is missing"),
        ("timeout_seconds = 10", "timeout = 10", "the key timeout is not known; known here: method, url, headers"),
    ] {
        let why = refusal(&CHARGE.replace(from, to));
        assert!(why.contains(words), "{to}: {why}");
    }
}

#[test]
fn whatever_is_not_in_the_language_is_refused_by_place() {
    for (from, to, place) in [
        ("purpose = \"payment\"", "purpose = \"payment\"\ncolour = \"red\"", "line"),
        ("name    = \"charge-card\"", "name = \"Charge\"", "line 2"),
        ("min = 1", "minimum = 1", "line"),
        ("min = 1", "min = 2, max = 1", "inputs.amount"),
        ("max = 64 }", "max = 4097 }", "inputs.order"),
        ("max = 64 }", "max = -1 }", "inputs.order"),
        ("type = \"integer\"", "type = \"float\"", "inputs.amount"),
        ("type = \"integer\"", "secure = \"card-cvc\"", "inputs.amount"),
        ("type = \"integer\"", "type = \"boolean\"", "inputs.amount"),
        ("type = \"text\", max = 64 }", "type = \"text\", pattern = \"(\" }", "inputs.order"),
        ("type = \"text\", max = 64 }", "type = \"text\", pattern = \")(\" }", "inputs.order"),
        ("type = \"text\", max = 64 }", "type = \"text\", pattern = \"(a{1000}){1000}\" }", "inputs.order"),
        ("method  = \"POST\"", "method = \"DELETE\"", "steps.charge.method"),
        ("method  = \"POST\"", "method = \"GET\"", "steps.charge"),
        ("timeout_seconds = 10", "timeout_seconds = 31", "steps.charge.timeout_seconds"),
        ("timeout_seconds = 10", "timeout_seconds = 0", "steps.charge.timeout_seconds"),
        ("timeout_seconds = 10", "form = { a = \"b\" }", "steps.charge"),
        ("[steps.http]", "[steps.hash]\npassword = \"{{ inputs.card }}\"\n[steps.http]", "steps.charge"),
        ("authorization =", "host =", "steps.charge.headers.host"),
        ("authorization =", "content-length =", "steps.charge.headers.content-length"),
        ("authorization =", "Transfer-Encoding =", "steps.charge.headers.transfer-encoding"),
        ("authorization =", "\"a b\" =", "steps.charge.headers"),
        ("\"Bearer {{", "\"Bearer\\r\\nx: {{", "steps.charge.headers.authorization"),
        ("apiKey }}", "apiKey }} {{ inputs.card }}", "steps.charge.headers.authorization"),
        ("apiKey }}", "apiKey", "steps.charge.headers.authorization"),
        ("\"{{ inputs.cvc }}\"", "\"cvc: {{ inputs.cvc }}\"", "steps.charge.json.cvc"),
        ("\"{{ inputs.cvc }}\"", "\"{{ inputs.cvc | upper }}\"", "steps.charge.json.cvc"),
        ("\"{{ inputs.cvc }}\"", "\"{{ inputs.cvc[0:3] }}\"", "steps.charge.json.cvc"),
        ("\"{{ inputs.cvc }}\"", "\"{{ {{ inputs.cvc }} }}\"", "steps.charge.json.cvc"),
        ("\"{{ inputs.cvc }}\"", "1.5", "steps.charge.json.cvc"),
        ("\"{{ inputs.cvc }}\"", "\"{{ inputs.pin }}\"", "steps.charge.json.cvc"),
        ("\"{{ inputs.cvc }}\"", "\"{{ steps.charge.charge }}\"", "steps.charge.json.cvc"),
        ("from = \"$.id\"", "from = \"id\"", "steps.charge.response.charge"),
        ("from = \"$.id\"", "from = \"$..a..id\"", "steps.charge.response.charge"),
        ("from = \"$.id\", ", "", "steps.charge.response.charge"),
        ("values = [\"approved\", \"declined\"]", "values = []", "steps.charge.response.status"),
        ("{{ steps.charge.charge }}", "{{ steps.charge.id }}", "outputs.charge"),
        ("{{ steps.charge.charge }}", "{{ steps.other.charge }}", "outputs.charge"),
        ("\"{{ steps.charge.charge }}\"", "\"id {{ steps.charge.charge }}\"", "outputs.charge"),
        ("\"{{ steps.charge.charge }}\"", "\"fixed\"", "outputs.charge"),
        ("{{ steps.charge.charge }}", "{{ inputs.amount | last4 }}", "outputs.charge"),
        ("{{ steps.charge.charge }}", "{{ env.HOME }}", "outputs.charge"),
    ] {
        assert!(CHARGE.contains(from), "{from}");
        let why = refusal(&CHARGE.replace(from, to));
        assert!(why.starts_with(place), "{to}: {why}");
    }
    assert!(refusal(&format!("# {}", "x".repeat(70_000))).contains("64 KiB"));
}

#[test]
fn an_address_has_one_spelling() {
    for url in [
        "https://ACQUIRER.example/v1",
        "https://acquirer.example:443/v1",
        "https://acquirer.example./v1",
        "https://user@acquirer.example/v1",
        "https://user:word@acquirer.example/v1",
        "https://*.example/v1",
        "https://acquirer.example:0/v1",
        "https://acquirer.example:65536/v1",
        "https://127.1/v1",
        "https://0x7f000001/v1",
        "https://2130706433/v1",
        "https://0177.0.0.1/v1",
        "https://[::ffff:127.0.0.1]/v1",
        "https://\u{ff41}cquirer.example/v1",
        "https://acquirer.example\\\\@evil.example/v1",
        "https://acquirer.example/v1/../v2",
        "https://acquirer.example/v1/%2e%2e/v2",
        "https://acquirer.example/v1#part",
        "https://acquirer.example/a b",
        "https:///v1",
        "https://",
        "HTTPS://acquirer.example/v1",
        "ftp://acquirer.example/v1",
        "file:///etc/passwd",
        "//acquirer.example/v1",
        "",
    ] {
        let why = refusal(&CHARGE.replace("https://acquirer.example/v1/charges", url));
        assert!(why.starts_with("steps.charge.url"), "{url}: {why}");
    }
    for url in ["https://acquirer.example", "https://acquirer.example/?a=b%20c", "https://acquirer.example:8443/v1/a-b"]
    {
        assert!(Flow::from_toml(&CHARGE.replace("https://acquirer.example/v1/charges", url)).is_ok(), "{url}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = Flow::from_toml(&text);
    }

    #[test]
    fn no_damage_to_a_document_makes_it_panic(at in 0..CHARGE.len(), gone in 0_usize..12, put in "[\\[\\]{}=\"'.|$a-z0-9 \n\\\\é-]{0,12}") {
        if CHARGE.is_char_boundary(at) {
            let end = (at + gone).min(CHARGE.len());
            let text = format!("{}{put}{}", &CHARGE[..at], &CHARGE[end..]);
            if let Err(Error::Invalid(why)) = Flow::from_toml(&text) {
                prop_assert!(!why.is_empty());
            }
        }
    }

    #[test]
    fn no_value_makes_a_slot_panic(url in "(https://)?[a-z.:/{} ?#@\\[\\]%-]{0,40}", slot in "[{} a-z.|]{0,40}", from in "[$.@?*a-z\\[\\]()'\" 0-9:,-]{0,20}") {
        let text = CHARGE.replace("https://acquirer.example/v1/charges", &url).replace("{{ inputs.cvc }}", &slot);
        let _ = Flow::from_toml(&text);
        let _ = Flow::from_toml(&CHARGE.replace("\"$.id\"", &format!("'''{from}'''")));
    }
}
