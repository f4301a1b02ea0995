//! PostgreSQL in the file's place: the whole line over the real binary.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Actor, Postgres};

use super::command_line::{APP, FLOW, Installation, Serving, credential, text, write};

fn installation(postgres: &Postgres) -> Installation {
    let installation = Installation::described();
    installation.rewrite("sqlite:rows/siv.db", &postgres.address());
    installation
}

/// The tenant `acme` with its app, its flow and one credential of each kind.
struct Acme {
    operator: String,
    auditor: String,
    app: String,
    flow: String,
}

fn acme(installation: &Installation, operator: String, serving: &Serving) -> Acme {
    let run = |arguments: &[&str]| {
        let output = serving.command(&operator, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null)
    };
    let folder = installation.folder.path();
    run(&["tenant", "create", "acme", "--cache-seconds", "60", "--json"]);
    run(&["app", "apply", &write(folder, "shop.toml", APP), "--tenant", "acme", "--json"]);
    run(&["flow", "apply", &write(folder, "flow.toml", FLOW), "--tenant", "acme", "--json"]);
    let make = |kind: &str, bound: &[&str]| {
        let named = ["credential", "create", "--kind", kind, "--name", kind, "--tenant", "acme", "--json"];
        credential(&run(&[&named[..], bound].concat()))
    };
    let (auditor, app) = (make("auditor", &[]), make("app", &["--app", "shop"]));
    let flow = make("flow", &["--flow", "card-summary"]);
    Acme { operator, auditor, app, flow }
}

/// A captured card's key; else what was answered.
async fn capture(acme: &Acme, serving: &Serving) -> Result<String, tests::Answer> {
    let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
    let answer = Actor::new(&serving.private, Some(&acme.app)).post("/v1/values", &items).await;
    answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned).ok_or(answer)
}

async fn summary(acme: &Acme, card: &str, serving: &Serving) -> tests::Answer {
    let inputs = json!({ "inputs": { "card": card } });
    Actor::new(&serving.private, Some(&acme.flow)).post("/v1/flows/card-summary/invoke", &inputs).await
}

/// Exports the log and verifies it offline.
fn verify(acme: &Acme, installation: &Installation, serving: &Serving) {
    let vkey = serving.command(&acme.auditor, &["log", "vkey"]);
    assert!(vkey.status.success(), "{}", text(&vkey.stderr));
    let vkey = write(installation.folder.path(), "vkey", &text(&vkey.stdout));
    let out = installation.folder.path().join("bundle").display().to_string();
    let exported = serving.command(&acme.auditor, &["log", "export", "--out", &out]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let checked = serving.command("", &["log", "verify", &out, "--vkey", &vkey]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

#[tokio::test]
async fn the_whole_line_runs_on_postgresql() {
    let postgres = Postgres::start();
    let installation = installation(&postgres);
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    let acme = acme(&installation, operator, &serving);
    let card = capture(&acme, &serving).await.unwrap();
    let answer = summary(&acme, &card, &serving).await.expect(200);
    assert_eq!(answer.json()["outputs"]["last4"], "4242");
    verify(&acme, &installation, &serving);
    serving.stop();
    let serving = Serving::start(&installation);
    let answer = summary(&acme, &card, &serving).await.expect(200);
    assert_eq!(answer.json()["outputs"]["last4"], "4242");
    serving.stop();
}

#[tokio::test]
async fn a_node_outlives_its_database_and_loses_nothing_acknowledged() {
    let mut postgres = Postgres::start();
    let installation = installation(&postgres);
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    let acme = acme(&installation, operator, &serving);
    let mut cards = Vec::new();
    for _ in 0..3 {
        cards.push(capture(&acme, &serving).await.unwrap());
    }
    postgres.kill();
    for _ in 0..3 {
        assert!(capture(&acme, &serving).await.is_err());
        assert_eq!(summary(&acme, &cards[0], &serving).await.status, 503);
    }
    postgres.start_again();
    let healed = async {
        loop {
            if let Ok(card) = capture(&acme, &serving).await {
                return card;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    cards.push(tokio::time::timeout(Duration::from_secs(60), healed).await.expect("it goes on by itself"));
    for card in &cards {
        let answer = summary(&acme, card, &serving).await.expect(200);
        assert_eq!(answer.json()["outputs"]["last4"], "4242");
    }
    verify(&acme, &installation, &serving);
    let listed = serving.command(&acme.operator, &["tenant", "list"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    serving.stop();
}

#[test]
fn a_postgresql_that_could_lose_commits_or_is_named_unsafely_is_refused_at_start() {
    let installation = Installation::described();
    for (address, why) in [
        ("postgres://siv@a.example,b.example/siv", "one host"),
        ("postgres://siv@db.example/siv", "verify-full"),
        ("postgres://siv@localhost/siv?options=-csynchronous_commit%3Doff", "not for choosing"),
    ] {
        installation.rewrite("sqlite:rows/siv.db", address);
        let refused = installation.run(&["init"]);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(said.contains("database") && said.contains(why) && said.lines().count() == 1, "{said}");
    }
    assert!(!installation.folder.path().join("key-store").exists(), "nothing was made");
}

#[test]
fn a_database_without_tables_is_not_filled_where_the_key_store_has_an_installation() {
    let postgres = Postgres::start();
    let installation = Installation::described();
    installation.rewrite("sqlite:rows/siv.db", &postgres.create_database("siv_rows"));
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    assert!(serving.command(&operator, &["tenant", "create", "acme"]).status.success());
    serving.stop();
    installation.rewrite("sqlite:rows/siv.db", &postgres.create_database("siv_orws"));
    let checkpoint = write(installation.folder.path(), "checkpoint", "none");
    // Twice: the first must have written nothing.
    for command in [&["serve"][..], &["init"], &["recover", "--accept-database-of", &checkpoint], &["serve"]] {
        let refused = installation.run(command);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {said}");
        for part in ["holds no installation", "Nothing was written", "put back the backup", "mend `database`"] {
            assert!(said.contains(part), "{command:?}: {said}");
        }
    }
    installation.rewrite("sqlite:rows/siv.db", &postgres.address_of("siv_rows"));
    Serving::start(&installation).stop();
    assert!(text(&installation.run(&["init"]).stderr).contains("used already"), "it is the one it was");
}
