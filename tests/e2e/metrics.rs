//! What a scraper gets: every metric the page names and no other, and nothing that is a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;
use tests::bodies::{canary, holds, spellings};
use tests::{Siv, bodies};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{name}: {why}"))
}

async fn scrape(siv: &Siv) -> String {
    siv.stranger().get("/metrics").await.expect(200).text
}

/// Families by name, with their type.
fn families(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The family of a sample, or of a name that a rule asks for.
fn family<'a>(name: &'a str, families: &BTreeMap<String, String>) -> &'a str {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    of_histogram.filter(|name| families.get(*name).is_some_and(|kind| kind == "histogram")).unwrap_or(name)
}

/// The sum of a metric's samples that have these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let of = |line: &&str| {
        let rest = line.strip_prefix(name)?;
        let ours = (rest.starts_with('{') || rest.starts_with(' ')) && labels.iter().all(|label| rest.contains(label));
        ours.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    };
    text.lines().filter_map(|line| of(&line)).sum()
}

#[tokio::test]
async fn the_page_of_the_metrics_names_every_one_and_no_other() {
    let siv = Siv::start();
    let served = families(&scrape(&siv).await);
    let page = page("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(['{', '`']).next());
    let named: BTreeSet<String> = rows.map(str::to_owned).collect();
    let there: BTreeSet<String> = served.keys().cloned().collect();
    let differ: Vec<_> = there.symmetric_difference(&named).collect();
    assert!(differ.is_empty() && there.len() > 40, "{differ:#?}");
    for (name, kind) in &served {
        assert!(page.contains(&format!("| {kind} |")), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(!name.ends_with("_ms") && !name.ends_with("_millis"), "{name} is not in base units");
    }
}

#[tokio::test]
async fn every_sample_is_of_a_family_with_help_and_is_a_number() {
    let siv = Siv::start();
    siv.capture("card-number", &bodies::card_number()).await;
    let text = scrape(&siv).await;
    let families = families(&text);
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let name = sample.split('{').next().unwrap();
        assert!(families.contains_key(family(name, &families)), "{line} is of no family");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        assert!(seen.insert(sample.to_owned()), "{sample} is there twice");
    }
    for name in families.keys() {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

#[tokio::test]
async fn what_happens_is_counted_and_no_count_tells_a_value_a_key_or_an_address() {
    let siv = Siv::start();
    let (card, password) = (bodies::card_number(), canary());
    let before = scrape(&siv).await;
    let key = siv.capture("card-number", &card).await;
    let password_key = siv.capture("password", &password).await;
    let cvc = siv.capture("card-cvc", "123").await;
    siv.invoke("charge-card", json!({"card": key, "cvc": cvc, "amount": 1, "order": "o"})).await.expect(200);
    siv.invoke("reveal-card", json!({"card": key})).await.expect(200);
    siv.invoke("charge-card", json!({"card": key, "cvc": cvc, "amount": 1, "order": "o"})).await.expect(404);
    siv.browser().get(&format!("/{password}")).await.expect(404);
    let after = scrape(&siv).await;
    let grew = |name: &str, labels: &[&str]| value(&after, name, labels) - value(&before, name, labels);
    assert_eq!(grew("siv_values_stored_total", &[]), 3.0);
    assert_eq!(grew("siv_log_entries_total", &["action=\"value.captured\"", "outcome=\"allowed\""]), 3.0);
    let invoke = ["listener=\"private\"", "method=\"POST\"", "route=\"/v1/flows/{name}/invoke\""];
    let with = |status: &'static str| [&invoke[..], &[status]].concat();
    assert_eq!(grew("siv_http_requests_total", &with("status=\"200\"")), 2.0);
    assert_eq!(grew("siv_http_requests_total", &with("status=\"404\"")), 1.0);
    assert_eq!(grew("siv_http_request_duration_seconds_count", &invoke), 3.0);
    assert_eq!(grew("siv_http_problems_total", &["listener=\"private\"", "code=\"value.not_found\""]), 1.0);
    assert_eq!(grew("siv_http_requests_total", &["listener=\"public\"", "route=\"none\"", "status=\"404\""]), 1.0);
    assert_eq!(grew("siv_relay_requests_total", &["outcome=\"answered\""]), 1.0);
    for name in ["siv_committer_batch_operations_count", "siv_committer_commit_duration_seconds_count"] {
        assert!(grew(name, &[]) >= 3.0, "{name}");
    }
    assert!(grew("siv_data_key_cache_hits_total", &[]) >= 1.0);
    assert!(value(&after, "siv_kms_call_duration_seconds_count", &["operation=\"wrap\""]) >= 1.0);
    for (name, is) in [("siv_log_serving", 1.0), ("siv_store_up", 1.0), ("siv_log_alarms", 0.0)] {
        assert_eq!(value(&after, name, &[]), is, "{name}");
    }
    assert!(value(&after, "siv_disk_free_bytes", &["of=\"key_store\""]) > 0.0);
    assert!(value(&after, "siv_log_self_check_timestamp_seconds", &["pass=\"all\""]) > 1.0e9);
    let mut secrets: Vec<Vec<u8>> = [&card, &password].into_iter().flat_map(|text| spellings(text)).collect();
    for key in [&key, &password_key, &cvc] {
        let key: vault::domain::SecureValueKey = key.parse().unwrap();
        secrets.extend(spellings(&key.value_id().to_string()));
    }
    for who in [siv.app(), siv.operator(), siv.custodian(), siv.auditor(), siv.flow("charge-card")] {
        secrets.push(who.bearer().as_bytes().to_vec());
    }
    secrets.extend([b"svk_".to_vec(), b"siv_app_".to_vec(), b"127.0.0.1".to_vec()]);
    for secret in secrets {
        assert!(!holds(after.as_bytes(), &secret), "{}", String::from_utf8_lossy(&secret));
    }
}

/// Names of metrics in an expression: words that begin as ours or the process's do.
fn asked(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("siv_") || word.starts_with("process_")).collect()
}

#[tokio::test]
async fn every_alert_asks_for_metrics_that_are_served() {
    let siv = Siv::start();
    let served = families(&scrape(&siv).await);
    let page = page("docs/operations.md");
    let rules = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the alert rules");
    let (mut alerts, mut expressions) = (0, 0);
    for line in rules.lines() {
        assert!(!line.contains('\t') && line.len() == line.trim_end().len(), "{line:?}");
        let of = |name: &str| line.trim_start().trim_start_matches("- ").strip_prefix(name);
        alerts += usize::from(of("alert: ").is_some());
        let Some(expression) = of("expr: ") else { continue };
        expressions += 1;
        let names = asked(expression);
        assert!(!names.is_empty() || expression.starts_with("up"), "{expression}");
        for name in names {
            assert!(served.contains_key(family(name, &served)), "{name} of {expression} is not served");
        }
        let depth = |open: char, close: char| expression.matches(open).count() == expression.matches(close).count();
        assert!(depth('(', ')') && depth('{', '}') && depth('[', ']'), "{expression}");
    }
    assert!(alerts >= 10 && alerts == expressions, "{alerts} alerts, {expressions} expressions");
}
