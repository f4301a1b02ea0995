//! What somebody meets who takes a wrong turn: commands say what is the matter and what to do, and do no harm meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::siv::binary;
use tests::{Installation, Postgres, Served, Serving};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn beside_a_database_that_lost_its_key_store_no_other_is_made() {
    let installation = Installation::described();
    installation.init();
    let (keys, away) = (installation.folder.path().join("key-store"), installation.folder.path().join("away"));
    fs::rename(&keys, &away).unwrap();
    for command in ["serve", "init"] {
        let refused = installation.run(&[command]);
        assert!(!refused.status.success(), "{command}");
        let why = said(&refused);
        assert!(why.contains("put back the newest backup of the key store"), "{command}: {why}");
        assert!(!keys.exists(), "{command} left something where the backup has to go");
        // Where it listens is no news before it does.
        assert!(refused.stdout.is_empty(), "{command}: {}", String::from_utf8_lossy(&refused.stdout));
    }
    fs::rename(&away, &keys).unwrap();
    Serving::start(&installation).stop();
}

#[test]
fn beside_a_database_that_does_not_answer_no_key_store_is_made() {
    let mut postgres = Postgres::start();
    let installation = Installation::of_node("one", &postgres.address(), "dir:key-store");
    installation.init();
    let (keys, away) = (installation.folder.path().join("key-store"), installation.folder.path().join("away"));
    fs::rename(&keys, &away).unwrap();
    postgres.stop();
    let refused = installation.run(&["init"]);
    assert!(
        !refused.status.success() && said(&refused).contains("the database cannot be opened"),
        "{}",
        said(&refused)
    );
    assert!(!keys.exists(), "it left something where the backup has to go");
    postgres.start_again();
    let refused = installation.run(&["init"]);
    assert!(said(&refused).contains("put back the newest backup of the key store"), "{}", said(&refused));
    fs::rename(&away, &keys).unwrap();
    Serving::start(&installation).stop();
}

#[tokio::test]
async fn an_installation_without_an_operator_is_not_recovered_for_that() {
    let mut served = Served::on_sqlite();
    let once = served.put("once").await.unwrap();
    let operator = served.operator();
    let checkpoint = served.folder().join("checkpoint");
    fs::write(&checkpoint, served.auditor().checkpoint("").await).unwrap();
    // The last one goes, by its own hand.
    let own = operator.bearer().to_owned();
    let listed = printed(&served.command(&own, &["credential", "list", "--json"]));
    let of_operators = listed["data"].as_array().unwrap().iter().filter(|credential| credential["kind"] == "operator");
    for credential in of_operators {
        printed(
            &served.command(&own, &["credential", "revoke", credential["credentialId"].as_str().unwrap(), "--json"]),
        );
    }
    assert_eq!(operator.get("/v1/tenants").await.status, 401);
    assert_eq!(served.terminate(), Some(0));
    let recover = |served: &Served, more: &[&str]| {
        served.run(&[&["recover", "--accept-database-of", checkpoint.to_str().unwrap(), "--json"], more].concat())
    };
    let dry = printed(&recover(&served, &["--dry-run"]));
    assert_eq!((&dry["needed"], &dry["why"]), (&json!(false), &Value::Null), "{dry}");
    assert!(dry["valuesVoid"].as_u64().unwrap() >= 1, "{dry}");
    let refused = said(&recover(&served, &[]));
    assert!(refused.contains("no operator's credential is in force") && refused.contains("costs"), "{refused}");
    served.begin().unwrap();
    let there = served.app().post("/v1/values/lookup", &json!({"secureValueKey": once})).await;
    assert_eq!(there.status, 200, "it is not void: {}", there.text);
    assert_eq!(served.terminate(), Some(0));
    // Who says that it may cost all that has an operator again.
    assert!(printed(&recover(&served, &["--even-if-nothing-is-missing"]))["credential"].is_string());
}

#[tokio::test]
async fn a_recovery_of_a_database_that_lost_nothing_is_refused_and_costs_no_credential() {
    let mut served = Served::on_sqlite();
    served.put("card-number").await.unwrap();
    served.verify_log().unwrap();
    let checkpoint = served.folder().join("checkpoint");
    fs::write(&checkpoint, served.auditor().checkpoint("").await).unwrap();
    let vkey = served.auditor().get("/v1/log/vkey").await.expect(200).text;
    assert_eq!(served.terminate(), Some(0));
    let recover = |more: &[&str]| {
        served.run(&[&["recover", "--accept-database-of", checkpoint.to_str().unwrap(), "--json"], more].concat())
    };
    let dry = printed(&recover(&["--dry-run"]));
    assert_eq!((&dry["dryRun"], &dry["needed"]), (&json!(true), &json!(false)), "{dry}");
    assert!(dry["credentialsSuspended"].as_u64().unwrap() >= 5 && dry.get("credential").is_none(), "{dry}");
    let of_acme = dry["logs"].as_array().unwrap().iter().find(|log| log["log"] == "acme").unwrap();
    assert_eq!(of_acme["signed"], of_acme["kept"]);
    let refused = recover(&[]);
    assert!(!refused.status.success() && said(&refused).contains("nothing is to be recovered"), "{}", said(&refused));

    served.begin().unwrap();
    served.put("card-number").await.unwrap();
    assert_eq!(served.auditor().get("/v1/log/vkey").await.expect(200).text, vkey, "the log goes on under its name");
    assert_eq!(served.terminate(), Some(0));

    // When the key store was put back too, nothing is missing by its word, and a person knows better.
    let recover = |more: &[&str]| {
        served.run(&[&["recover", "--accept-database-of", checkpoint.to_str().unwrap(), "--json"], more].concat())
    };
    let done = printed(&recover(&["--even-if-nothing-is-missing"]));
    assert_eq!(done["credentialsSuspended"], dry["credentialsSuspended"]);
    // Its credential may never have reached anybody: it can be said again, until that one did something.
    let again = printed(&recover(&[]));
    served.begin().unwrap();
    let operator = again["credential"].as_str().unwrap();
    let listed = printed(&served.command(operator, &["credential", "list", "--tenant", "acme", "--json"]));
    let one = listed["data"][0]["credentialId"].as_str().unwrap();
    printed(&served.command(operator, &["credential", "confirm", one, "--tenant", "acme", "--json"]));
    assert_eq!(served.terminate(), Some(0));
    let refused = served.run(&["recover", "--accept-database-of", checkpoint.to_str().unwrap()]);
    assert!(said(&refused).contains("nothing is to be recovered"), "{}", said(&refused));
}

#[tokio::test]
async fn the_log_is_listed_from_the_command_line_with_the_filters_of_the_interface() {
    let served = Served::on_sqlite();
    served.put_all("card-number", &["4242424242424242", "5555555555554444", "4111111111111111"]).await;
    let auditor = served.auditor().bearer().to_owned();
    let list =
        |more: &[&str]| served.command(&auditor, &[&["log", "entries", "--action", "value.captured"], more].concat());
    let all = printed(&list(&["--json"]));
    assert_eq!((all["data"].as_array().unwrap().len(), &all["page"]["next"]), (3, &Value::Null));
    let first = printed(&list(&["--json", "--limit", "2"]));
    let cursor = first["page"]["next"].as_str().unwrap();
    let rest = printed(&list(&["--json", "--cursor", cursor]));
    // Integration goes on meanwhile and gives them their indices.
    let values = |list: &Value| -> Vec<Value> {
        list["data"].as_array().unwrap().iter().map(|entry| entry["valueId"].clone()).collect()
    };
    assert_eq!([values(&first), values(&rest)].concat(), values(&all));
    let value = all["data"][1]["valueId"].as_str().unwrap();
    let history = printed(&served.command(&auditor, &["log", "entries", "--value-id", value, "--json"]));
    assert!(history["data"].as_array().unwrap().iter().all(|entry| entry["valueId"] == value), "{history}");
    let table = list(&["--limit", "1"]);
    let (rows, told) = (String::from_utf8_lossy(&table.stdout).into_owned(), said(&table));
    assert!(rows.contains("value.captured") && rows.lines().count() == 2, "{rows}");
    assert!(told.contains("--cursor"), "{told}");
    // Of a word that no entry has an empty table would look like nothing having happened.
    for (option, word, told) in [
        ("--action", "key.rotated", "key.kek.rotated, "),
        ("--action", "key.", "key.kek.rotated, "),
        ("--action", "opened", "known begin with value, relay"),
        ("--outcome", "refused", "allowed, denied, failed, unknown"),
    ] {
        let refused = served.command(&auditor, &["log", "entries", option, word]);
        let said = said(&refused);
        assert!(!refused.status.success() && said.contains(": unknown (") && said.contains(told), "{word}: {said}");
        let member = option.trim_start_matches('-');
        let answer = served.auditor().get(&format!("/v1/log/entries?{member}={word}")).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()));
        assert!(!answer.text.contains(&format!("\"{word}\"")), "input is not repeated: {}", answer.text);
    }
    let none = served.command(&auditor, &["log", "entries", "--action", "key.kek.lost"]);
    assert!(none.status.success(), "{}", said(&none));
    assert_eq!(String::from_utf8_lossy(&none.stdout), "no entries match\n");
    let refused = served.command(&auditor, &["log", "entries", "--from", "yesterday"]);
    assert!(said(&refused).contains("from: time"), "{}", said(&refused));
}

#[tokio::test]
async fn what_a_bundle_is_held_to_is_looked_at_before_the_bundle() {
    let served = Served::on_sqlite();
    served.put("card-number").await.unwrap();
    served.verify_log().unwrap();
    let auditor = served.auditor().bearer().to_owned();
    let place = |name: &str| served.folder().join(name).display().to_string();
    let (bundle, vkey, garbage) = (place("held"), place("held.vkey"), place("garbage"));
    fs::write(&vkey, served.auditor().get("/v1/log/vkey").await.expect(200).text).unwrap();
    fs::write(&garbage, "2026-11-01T00:00:00Z\n").unwrap();
    let exported = served.command(&auditor, &["log", "export", "--out", &bundle]);
    assert!(exported.status.success(), "{}", said(&exported));
    let verify = |more: &[&str]| said(&served.command(&auditor, &[&["log", "verify", &bundle], more].concat()));
    for since in [&garbage, "2026-11-01T00:00:00Z"] {
        let told = verify(&["--vkey", &vkey, "--since", since]);
        assert!(told.contains("--since names the file of a checkpoint") && told.contains("--from 2026"), "{told}");
        assert!(!told.contains("do not rely") && !told.contains("does not hold"), "{told}");
    }
    let told = verify(&["--vkey", &place("absent")]);
    assert!(told.contains("  next  name the file that `siv log vkey` filled"), "{told}");
    let kept = format!("{bundle}/checkpoint");
    assert_eq!(verify(&["--vkey", &vkey, "--since", &kept]), "");
}

#[tokio::test]
async fn refusals_name_what_is_wrong_and_what_to_do() {
    let served = Served::on_sqlite();
    let operator = served.operator().bearer().to_owned();
    for (arguments, whats) in [
        (&["tenant", "create", "acme"][..], &["name: taken", "choose another name"][..]),
        (&["app", "list"], &["names a tenant with --tenant"]),
        (&["app", "list", "--tenant", "acne"], &["tenant: unknown"]),
        (&["app", "apply", "shop.toml"], &["tenant: missing", "--tenant"]),
    ] {
        let path = served.folder().join("shop.toml").display().to_string();
        let arguments: Vec<&str> =
            arguments.iter().map(|argument| if *argument == "shop.toml" { &*path } else { argument }).collect();
        let output = served.command(&operator, &arguments);
        assert!(whats.iter().all(|what| said(&output).contains(what)), "{arguments:?}: {}", said(&output));
    }
    let fields = served.command(&operator, &["app", "list", "--tenant", "acme"]);
    let fields = String::from_utf8_lossy(&fields.stdout).into_owned();
    assert!(fields.contains("card-number, once (card-number)") || fields.contains("once (card-number)"), "{fields}");
    // The query is not repeated, and what it may hold is told.
    let wrong = served.auditor().get("/v1/log/entries?valueid=x").await;
    assert_eq!(wrong.refusal(), (400, "malformed".to_owned()));
    assert!(wrong.text.contains("valueId") && !wrong.text.contains("valueid"), "{}", wrong.text);
    let syntax = served.auditor().get("/v1/log/entries?valueId=x").await.expect(422).json();
    assert_eq!((&syntax["errors"][0]["field"], &syntax["errors"][0]["code"]), (&json!("valueId"), &json!("syntax")));
    // A value of another field, in an input.
    let other = served.put("once").await.unwrap();
    let body = json!({ "inputs": { "card": other } });
    let bound = served.flow("card-summary").post("/v1/flows/card-summary/invoke", &body).await.expect(403).json();
    assert_eq!((&bound["code"], &bound["errors"][0]["field"]), (&json!("policy.denied"), &json!("inputs.card")));
    let plain = served.stranger().base().replace("http://", "https://");
    let mut command = Command::new(binary());
    command.args(["tenant", "list"]).env_clear().env("SIV_URL", plain).env("SIV_CREDENTIAL", &operator);
    let output = command.output().unwrap();
    assert!(said(&output).contains("let SIV_URL begin with http://"), "{}", said(&output));
}

#[tokio::test]
async fn an_export_says_how_many_entries_come_with_a_later_one() {
    let served = Served::on_sqlite();
    let (auditor, mut made) = (served.auditor().bearer().to_owned(), 0);
    let mut export = |more: &[&str]| {
        made += 1;
        let out = served.folder().join(format!("bundle-{made}"));
        let arguments = [&["log", "export", "--out", out.to_str().unwrap()], more].concat();
        let done = served.command(&auditor, &arguments);
        assert!(done.status.success(), "{}", said(&done));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    // Integration takes a second: what was captured just now waits, but for the one time that it came in between.
    let mut waits = String::new();
    for _ in 0..20 {
        served.put_all("card-number", &["4242424242424242"; 3]).await;
        waits = export(&[]);
        if waits.contains("ends before now") {
            break;
        }
    }
    assert!(waits.contains("entries waited for their index, and come with a later export"), "{waits}");
    served.put_all("card-number", &["4242424242424242"]).await;
    let before = export(&["--to", "1"]);
    assert!(!before.contains("ends before now"), "what waits was not asked for: {before}");
    let end = Instant::now() + Duration::from_secs(60);
    while export(&[]).contains("ends before now") {
        assert!(Instant::now() < end, "nothing is written, and something waits for ever");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[test]
fn a_secure_value_key_in_the_place_of_an_id_is_refused_without_being_sent_or_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let key = format!("svk_{}", "0".repeat(64));
    for place in [
        &["log", "entries", "--value-id"][..],
        &["log", "entries", "--actor"],
        &["keys", "certificate", "--value"],
        &["keys", "certificate", "--lost"],
    ] {
        let mut command = Command::new(binary());
        command.args(place).arg(&key).env_clear().env("SIV_CREDENTIAL", format!("siv_aud_{}", "0".repeat(77)));
        command.env("SIV_URL", format!("http://{}", listener.local_addr().unwrap()));
        let refused = command.output().unwrap();
        let told = said(&refused);
        assert!(!refused.status.success() && told.contains("secureValueKey") && told.contains("not sent"), "{told}");
        assert!(!told.contains(&key), "{told}");
        let came = listener.accept();
        assert!(matches!(&came, Err(error) if error.kind() == ErrorKind::WouldBlock), "{place:?}: {came:?}");
    }
}

#[test]
fn arguments_that_are_none_are_told_as_json_to_who_asked_for_it() {
    let run = |arguments: &[&str]| Command::new(binary()).args(arguments).env_clear().output().unwrap();
    let refused = run(&["tenant", "create", "--json"]);
    assert_eq!(refused.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&refused.stderr).unwrap_or_else(|_| panic!("{}", said(&refused)));
    assert!(told["error"]["what"].is_string() && told["error"]["next"].is_string(), "{told}");
    let text = run(&["tenant", "create"]);
    assert!(text.status.code() == Some(2) && said(&text).contains("Usage"), "{}", said(&text));
    let help = run(&["--help", "--json"]);
    assert!(help.status.success() && help.stderr.is_empty());
}

#[test]
fn a_root_key_that_is_made_is_told_and_one_that_is_not_there_is_told_as_that() {
    let installation = Installation::described();
    let first = installation.run(&["init", "--json"]);
    assert!(first.status.success() && said(&first).contains("keep a copy of it elsewhere"), "{}", said(&first));
    let root = printed(&first)["rootKey"].as_str().map(std::path::PathBuf::from).unwrap();
    assert!(root.ends_with("root/root.key"), "{}", root.display());
    let again = installation.run(&["init", "--json"]);
    assert!(again.status.success() && printed(&again)["rootKey"].is_null());
    assert!(!said(&again).contains("root key"), "{}", said(&again));
    let root = installation.folder.path().join("root/root.key");
    fs::remove_file(&root).unwrap();
    for command in ["serve", "init"] {
        let refused = said(&installation.run(&[command]));
        assert!(refused.contains("there is no root key at ") && refused.contains("root/root.key"), "{refused}");
        assert!(refused.contains("copy it from the first node") && !refused.contains("database"), "{refused}");
        assert!(!root.exists(), "{command} made another one");
    }
}

#[test]
fn a_secret_that_was_typed_as_an_argument_is_not_repeated() {
    let run = |arguments: &[&str]| Command::new(binary()).args(arguments).env_clear().output().unwrap();
    for (arguments, next) in [
        (&["unseal", "correct-horse-battery"][..], "--passphrase-file"),
        (&["credential", "revoke", "correct-horse-battery"], "SIV_CREDENTIAL"),
        (&["unseal", "correct-horse-battery", "--json"], "--passphrase-file"),
    ] {
        let refused = run(arguments);
        let told = said(&refused);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(!told.contains("horse") && told.contains(next), "{told}");
    }
}
