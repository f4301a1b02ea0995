//! What the static check of a flow lets through and what it refuses.

use super::*;
use crate::domain::{Timestamp, tenant::KeyProviderKind};
use crate::flows::document::tests::{CHARGE, refusal};

const SHOP: &str = include_str!("../../cli/demo/demo-shop.toml");

fn tenant(reveal: bool) -> Tenant {
    Tenant {
        name: "demo".parse().unwrap(),
        reveal,
        sealed: false,
        key_provider: KeyProviderKind::Local,
        cache_seconds: 300,
        created_at: Timestamp::from_millis(0),
    }
}

fn check_in(text: &str, app: &str, destinations: &[(&str, &str)], reveal: bool) -> Result<Checked, String> {
    let app = AppDocument::from_toml(app).unwrap();
    let destinations = destinations.iter().map(|(name, host)| (name.parse().unwrap(), (*host).to_owned())).collect();
    let (tenant, egress) = (tenant(reveal), EgressPolicy::default());
    let flow = Flow::from_toml(text).map_err(|error| error.to_string())?;
    let around = Surroundings { app: &app, tenant: &tenant, destinations: &destinations, egress: &egress };
    flow.check(&around).map_err(|error| error.to_string())
}

fn check(text: &str) -> Result<Checked, String> {
    check_in(text, SHOP, &[("acquirer", "acquirer.example")], true)
}

fn check_replaced(from: &str, to: &str) -> Result<Checked, String> {
    assert!(CHARGE.contains(from), "{from}");
    check(&CHARGE.replace(from, to))
}

#[test]
fn the_demo_flows_hold() {
    for (text, fields) in [
        (include_str!("../../cli/demo/charge-card.toml"), 2),
        (include_str!("../../cli/demo/verify-password.toml"), 1),
        (include_str!("../../cli/demo/card-summary.toml"), 1),
        (include_str!("../../cli/demo/reveal-card.toml"), 1),
    ] {
        let checked = check(text).unwrap();
        assert_eq!(checked.fields.len(), fields, "{checked:?}");
    }
    assert_eq!(check(CHARGE).unwrap().hosts, BTreeSet::from(["acquirer.example".to_owned()]));
}

#[test]
fn a_secure_input_reaches_no_output_without_a_declassifier() {
    let why = refusal(&CHARGE.replace("{{ inputs.card | last4 }}", "{{ inputs.card }}"));
    assert_eq!(why, "outputs.last4: path inputs.card → outputs.last4 has no declassifier");
    let why = refusal(&CHARGE.replace("{{ inputs.card | last4 }}", "{{ destination.acquirer.apiKey }}"));
    assert_eq!(why, "outputs.last4: path destination.acquirer.apiKey → outputs.last4 has no declassifier");
    // A MAC of a short secret is that secret for who can try all: it is no declassifier.
    let mac = "[[steps]]\nid = \"mac\"\n[steps.hmac]\nvalue = \"{{ inputs.cvc }}\"\nsecret = \"destination.acquirer.apiKey\"\n[outputs]\nmac = \"{{ steps.mac.mac }}\"";
    let why = refusal(&CHARGE.replace("[outputs]", mac));
    assert_eq!(why, "outputs.mac: path inputs.cvc → steps.mac.value → steps.mac.mac → outputs.mac has no declassifier");
    let typed = mac.replace("inputs.cvc", "inputs.order");
    assert!(
        refusal(&CHARGE.replace("[outputs]", &typed))
            .contains("destination.acquirer.apiKey → steps.mac.secret → steps.mac.mac")
    );
}

#[test]
fn a_secure_input_reaches_no_part_of_an_address_nor_a_headers_name() {
    for url in [
        "{{ inputs.card }}",
        "https://{{ inputs.card }}/v1",
        "https://{{ inputs.card }}",
        "https://acquirer.example:{{ inputs.card }}/v1",
        "https://acquirer.example{{ inputs.card }}/v1",
        "https://acquirer.example/{{ inputs.card }}",
        "https://acquirer.example/v1/{{ inputs.card }}/charges",
        "https://acquirer.example/v1?number={{ inputs.card }}",
        "https://acquirer.example/v1#{{ inputs.card }}",
        "https://acquirer.example/v1/{{ destination.acquirer.apiKey }}",
    ] {
        let why = refusal(&CHARGE.replace("https://acquirer.example/v1/charges", url));
        let source = if url.contains("inputs.card") { "inputs.card" } else { "destination.acquirer.apiKey" };
        assert!(why.contains(&format!("path {source} → steps.charge.url")), "{url}: {why}");
    }
    let why = refusal(&CHARGE.replace("authorization =", "\"x-{{ inputs.card }}\" ="));
    assert!(why.contains("path inputs.card → steps.charge.headers"), "{why}");
    for url in [
        "https://acquirer.example/v1/{{ inputs.order }}/charges",
        "https://acquirer.example/{{ inputs.card | last4 }}?a=b",
    ] {
        check_replaced("https://acquirer.example/v1/charges", url).unwrap();
    }
    let why = refusal(
        &CHARGE.replace("https://acquirer.example/v1/charges", "https://acquirer.example/v1?o={{ inputs.order }}"),
    );
    assert!(why.contains("query"), "{why}");
}

#[test]
fn only_a_listed_input_is_revealed_and_only_where_the_tenant_allows_it() {
    let text = CHARGE.replace("{{ inputs.card | last4 }}", "{{ inputs.card }}");
    let text = text.replace("app     =", "reveal = [\"card\"]\napp     =");
    check(&text).unwrap();
    let why = check_in(&text, SHOP, &[], false).unwrap_err();
    assert!(why.contains("reveal") && why.contains("switch"), "{why}");
    let cvc = text
        .replace("reveal = [\"card\"]", "reveal = [\"cvc\"]")
        .replace("{{ inputs.card }}\"\n", "{{ inputs.cvc }}\"\n");
    assert!(check(&cvc).unwrap_err().contains("never revealed"));
    let unused = text.replace("reveal = [\"card\"]", "reveal = [\"card\", \"amount\"]");
    assert!(check(&unused).unwrap_err().contains("reveal.amount"));
    let unshown = CHARGE.replace("app     =", "reveal = [\"card\"]\napp     =");
    assert!(check(&unshown).unwrap_err().contains("no output shows it"));
}

#[test]
fn inputs_are_fields_of_the_app() {
    for (from, to, why) in [
        ("secure = \"card-cvc\"", "secure = \"pin\"", "does not have"),
        ("app     = \"demo-shop\"", "app = \"other-shop\"", "another app"),
    ] {
        let refused = check_replaced(from, to).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn a_flow_that_no_field_is_bound_to_yet_holds_and_says_so() {
    let unbound = |from: &str, to: &str| {
        check_replaced(from, to).unwrap();
        let flow = Flow::from_toml(&CHARGE.replace(from, to)).unwrap();
        flow.unbound(&AppDocument::from_toml(SHOP).unwrap()).join("; ")
    };
    assert_eq!(unbound("charge-card", "charge-card"), "");
    let other_field = unbound("secure = \"card-cvc\"", "secure = \"password\"");
    assert!(other_field.contains("inputs.cvc: the flows of password") && other_field.contains("purposes"));
    let other_name = unbound("name    = \"charge-card\"", "name = \"steal-card\"");
    assert!(other_name.contains("inputs.card") && other_name.contains("inputs.cvc"), "{other_name}");
    let other_purpose = unbound("purpose = \"payment\"", "purpose = \"marketing\"");
    assert!(other_purpose.contains("the purposes of card-number do not hold marketing"), "{other_purpose}");
}

#[test]
fn filters_and_password_steps_fit_the_type_of_their_field() {
    for filter in ["expiry", "last4"] {
        let refused = check_replaced("inputs.card | last4", &format!("inputs.cvc | {filter}")).unwrap_err();
        assert!(refused.contains("outputs.last4"), "{refused}");
    }
    for filter in ["last4", "bin", "brand", "luhn_valid"] {
        check_replaced("inputs.card | last4", &format!("inputs.card | {filter}")).unwrap();
    }
    for step in [
        "[steps.verify]\npassword = \"{{ inputs.card }}\"\nphc = \"{{ inputs.order }}\"",
        "[steps.verify]\npassword = \"{{ inputs.order }}\"\nphc = \"{{ inputs.order }}\"",
        "[steps.hash]\npassword = \"{{ inputs.card }}\"",
        "[steps.equals]\nleft = \"{{ inputs.card }}\"\nright = \"{{ inputs.order }}\"",
        "[steps.equals]\nleft = \"{{ inputs.card | last4 }}\"\nright = \"{{ inputs.card }}\"",
    ] {
        let text = CHARGE.replace("[outputs]", &format!("[[steps]]\nid = \"more\"\n{step}\n[outputs]"));
        let refused = check(&text).unwrap_err();
        assert!(refused.contains("steps.more."), "{refused}");
    }
    let equals = "[[steps]]\nid = \"same\"\n[steps.equals]\nleft = \"{{ inputs.card }}\"\nright = \"{{ inputs.cvc }}\"\n[outputs]\nsame = \"{{ steps.same.equal }}\"";
    check_replaced("[outputs]", equals).unwrap();
}

#[test]
fn a_text_beside_a_short_secret_has_a_pattern() {
    let refused = check_replaced(", pattern = \"^ch_[A-Za-z0-9]+$\"", "").unwrap_err();
    assert!(refused.contains("steps.charge.response.charge") && refused.contains("inputs.cvc"), "{refused}");
    let without_cvc =
        CHARGE.replace("cvc    = { secure = \"card-cvc\" }\n", "").replace("cvc = \"{{ inputs.cvc }}\", ", "");
    check(&without_cvc.replace(", pattern = \"^ch_[A-Za-z0-9]+$\"", "")).unwrap();
}

#[test]
fn a_response_field_may_be_captured_anew_and_then_shown_as_a_key_only() {
    let secure = |field: &str| {
        CHARGE.replace("type = \"text\", max = 64, pattern = \"^ch_[A-Za-z0-9]+$\"", &format!("secure = \"{field}\""))
    };
    assert_eq!(check(&secure("password")).unwrap().fields.len(), 3);
    assert!(check(&secure("iban")).unwrap_err().contains("does not have"));
    let again = "[[steps]]\nid = \"again\"\n[steps.http]\nmethod = \"GET\"\nurl = \"https://acquirer.example/{{ steps.charge.charge }}\"\n[outputs]";
    assert!(check(&secure("password").replace("[outputs]", again)).unwrap_err().contains("steps.again.url"));
}

#[test]
fn a_destinations_secret_goes_to_its_own_host_only() {
    let with = |host| check_in(CHARGE, SHOP, &[("acquirer", host)], true);
    for host in ["acquirer.example", "Acquirer.example", "acquirer.example:443"] {
        // A port in the row is compared; 443 is not named in the flow.
        assert_eq!(with(host).is_ok(), host != "acquirer.example:443", "{host}");
    }
    for host in ["evil.example", "example", "acquirer.example.evil", "xacquirer.example", ""] {
        let refused = with(host).unwrap_err();
        assert!(refused.contains("destination.acquirer.apiKey belongs to another host"), "{host}: {refused}");
    }
    assert!(check_in(CHARGE, SHOP, &[], true).is_ok());
    let flow = Flow::from_toml(CHARGE).unwrap();
    let unset = |name: &str, set: &[&'static str]| {
        flow.unset(&BTreeMap::from([(name.parse().unwrap(), set.iter().copied().collect())]))
    };
    assert!(unset("acquirer", &["apiKey"]).is_empty());
    assert_eq!(unset("acquirer", &["other"]), ["destination.acquirer.apiKey: this secret is not set"]);
    assert_eq!(unset("aquirer", &["apiKey"]), ["destination.acquirer.apiKey: there is no destination acquirer"]);
    let mac = "[[steps]]\nid = \"mac\"\n[steps.hmac]\nvalue = \"{{ inputs.order }}\"\nsecret = \"destination.other.sign\"\n[[steps]]\nid = \"send\"\n[steps.http]\nmethod = \"GET\"\nurl = \"https://acquirer.example/\"\nheaders = { x-mac = \"{{ steps.mac.mac }}\" }\n[outputs]";
    let text = CHARGE.replace("[outputs]", mac);
    assert!(
        check_in(&text, SHOP, &[("other", "other.example")], true)
            .unwrap_err()
            .contains("destination.other.sign belongs to")
    );
    assert!(check_in(&text, SHOP, &[("other", "acquirer.example")], true).is_ok());
    let phc = "[[steps]]\nid = \"p\"\n[steps.verify]\npassword = \"{{ inputs.card }}\"\nphc = \"{{ destination.acquirer.apiKey }}\"\n[outputs]";
    assert!(refusal(&CHARGE.replace("[outputs]", phc)).contains("steps.p.phc"));
    assert!(
        host_serves("127.0.0.1", "127.0.0.1:9000")
            && host_serves("[::1]", "[::1]:80")
            && !host_serves("[::1]", "[::2]:80")
    );
}

#[test]
fn a_host_that_is_never_spoken_to_is_refused_on_save() {
    for (url, why) in [
        ("http://acquirer.example/", "must be https"),
        ("http://127.0.0.1/", "must be https"),
        ("http://localhost:8080/", "must be https"),
        ("https://localhost/", "must be a public one"),
        ("https://127.0.0.1/", "must be a public one"),
        ("https://169.254.169.254/latest/meta-data", "must be a public one"),
        ("https://10.0.0.1:8443/", "must be a public one"),
        ("https://[::1]/", "must be a public one"),
        ("https://[::ffff:7f00:1]/", "must be a public one"),
        ("https://[64:ff9b::a9fe:a9fe]/", "must be a public one"),
        ("https://0.0.0.0/", "must be a public one"),
    ] {
        let text = CHARGE.replace("https://acquirer.example/v1/charges", url);
        let refused = check_in(&text, SHOP, &[], true).unwrap_err();
        assert!(refused.starts_with("the destination is denied") && refused.contains(why), "{url}: {refused}");
        assert!(refused.ends_with("(steps.charge.url)"), "{refused}");
    }
    let public = CHARGE.replace("https://acquirer.example/v1/charges", "https://1.1.1.1/");
    assert!(check_in(&public, SHOP, &[], true).is_ok());
}

#[test]
fn development_may_speak_to_loopback_but_never_to_siv_itself() {
    let own = "127.0.0.1:8081".parse().unwrap();
    let policy = EgressPolicy { allow_loopback_http: true, forbidden: vec![own], own_url: None };
    let admits = |url: &str| policy.admit(&url.parse().unwrap()).is_ok();
    assert!(admits("http://127.0.0.1:9000/") && admits("http://localhost:9000/") && admits("http://[::1]:9000/"));
    assert!(!admits("http://127.0.0.1:8081/") && !admits("http://127.8.8.8:8081/") && !admits("http://[::1]:8081/"));
    assert!(!admits("http://10.0.0.1/") && !admits("http://acquirer.example/") && !admits("https://10.0.0.1/"));
    let everywhere =
        EgressPolicy { allow_loopback_http: true, forbidden: vec!["0.0.0.0:8081".parse().unwrap()], own_url: None };
    assert!(everywhere.admit(&"http://127.0.0.1:8081/".parse().unwrap()).is_err());
}

#[test]
fn used_fields_are_known_so_that_an_app_cannot_drop_them() {
    let flow = Flow::from_toml(CHARGE).unwrap();
    let fields: Vec<String> = flow.used_fields().into_iter().map(|(_, field)| field.to_string()).collect();
    assert_eq!(fields, ["card-cvc", "card-number"]);
}

#[test]
fn an_input_is_verified_once() {
    let verify = include_str!("../../cli/demo/verify-password.toml");
    let step = &verify[verify.find("[[steps]]").unwrap()..verify.find("[outputs]").unwrap()];
    let id = step.lines().find(|line| line.starts_with("id")).unwrap();
    let twice = verify.replace("[outputs]", &format!("{}[outputs]", step.replace(id, "id = \"again\"")));
    let refused = check(&twice).unwrap_err();
    assert!(refused.starts_with("steps.again.password: verifies inputs.password a second time"), "{refused}");
}

#[test]
fn a_text_beside_a_captured_field_that_may_be_short_has_a_pattern() {
    let without_cvc =
        CHARGE.replace("cvc    = { secure = \"card-cvc\" }\n", "").replace("cvc = \"{{ inputs.cvc }}\", ", "");
    let free = without_cvc.replace(", pattern = \"^ch_[A-Za-z0-9]+$\"", "");
    let captured = "[steps.charge.response]\ncode = { from = \"$.code\", secure = \"card-cvc\" }".to_owned();
    let captured =
        free.replace("[steps.http.response]", &captured.replace("steps.charge.response", "steps.http.response"));
    let refused = check(&captured).unwrap_err();
    assert!(
        refused.contains("steps.charge.response.charge") && refused.contains("steps.charge.response.code"),
        "{refused}"
    );
    check(&free).unwrap();
    check(&captured.replace("secure = \"card-cvc\"", "secure = \"password\"")).unwrap();
}

#[test]
fn an_app_that_keeps_what_a_flow_uses_may_change_anything_else() {
    let flow = Flow::from_toml(CHARGE).unwrap();
    let before = AppDocument::from_toml(SHOP).unwrap();
    let survives = |from: &str, to: &str| {
        assert!(SHOP.contains(from), "{from}");
        flow.survives(&before, &AppDocument::from_toml(&SHOP.replace(from, to)).unwrap())
    };
    assert!(survives("[fields.card-expiry]", "[fields.until]"));
    assert!(survives("[\"charge-card\", \"reveal-card\", \"card-summary\"]", "[\"card-summary\"]"));
    assert!(survives("[\"payment\", \"support\"]", "[\"support\"]"));
    assert!(!survives("[fields.card-cvc]", "[fields.cvc]"), "dropped");
    assert!(!survives("type     = \"card-cvc\"", "type     = \"ssn\""), "retyped");
}
