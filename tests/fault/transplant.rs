//! Rows and columns moved, altered and put back behind a stopped vault's back (promise 5): what was touched is refused.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};
use tests::{Actor, Answer, Siv};
use vault::domain::SecureValueKey;

use super::database::{Change, Column, Database, Place};

/// Columns on which nothing rests, each with the reason. Everything else must be refused when it is touched.
const LOOK_UPS: [(&str, &str, &str); 4] = [
    (
        "secure_values",
        "purge_after",
        "when the purge may look at the row: earlier only takes it away, later keeps a dead one",
    ),
    ("data_keys", "created", "tells an operator its age; what counts is the epoch"),
    ("data_keys", "part", "which of an epoch's data keys seals what is new: any of them may, and all of them open"),
    (
        "data_keys",
        "closed",
        "nothing new is sealed under it: another one is begun, and it goes only after all values were looked at",
    ),
];
/// Tables with one row that decides about a whole tenant.
const DECIDING: [&str; 6] = ["tenants", "apps", "flows", "destinations", "credentials", "keks"];

/// A tenant that nobody else needs: what is done to it shows on it alone.
#[derive(Clone)]
struct Victim {
    tenant: String,
    app: Actor,
    credential_id: String,
    card: String,
}

impl Victim {
    async fn create(siv: &Siv, number: usize) -> Self {
        let (operator, tenant) = (siv.operator(), format!("t-{number}"));
        operator.post("/v1/tenants", &json!({"name": tenant, "cacheSeconds": 0})).await.expect(201);
        let app = format!(
            "name = \"app-{number}\"\norigins = [\"https://shop.example\"]\nsession_mode = \"server\"\n\
             [fields.card-number]\ntype = \"card-number\"\nretention = \"stored\"\nttl_seconds = 31536000\n\
             purposes = [\"support\"]\nflows = [\"summary\"]\n"
        );
        operator.put_toml(&format!("/v1/apps/app-{number}?tenant={tenant}"), &app).await.expect(200);
        let flow = format!(
            "name = \"summary\"\npurpose = \"support\"\napp = \"app-{number}\"\n[inputs]\n\
             card = {{ secure = \"card-number\" }}\n[outputs]\nlast4 = \"{{{{ inputs.card | last4 }}}}\"\n"
        );
        operator.put_toml(&format!("/v1/flows/summary?tenant={tenant}"), &flow).await.expect(200);
        let destination = json!({"host": "acquirer.example", "secrets": {"apiKey": "k"}});
        operator.put(&format!("/v1/destinations/acquirer?tenant={tenant}"), &destination).await.expect(200);
        let credential = json!({"kind": "app", "name": "server", "app": format!("app-{number}")});
        let made = operator.post(&format!("/v1/credentials?tenant={tenant}"), &credential).await.expect(201).json();
        let app = siv.app().with_bearer(made["credential"].as_str().unwrap());
        let card = put(&app, json!([card()])).await.remove(0);
        Self { tenant, app, credential_id: made["credentialId"].as_str().unwrap().to_owned(), card }
    }

    /// Its row of a table.
    fn row(&self, table: &'static str) -> Place {
        let key = match table {
            "tenants" => &self.tenant,
            "apps" => &self.tenant.replace("t-", "app-"),
            "flows" => "summary",
            "destinations" => "acquirer",
            "credentials" => &self.credential_id,
            "data_keys" => "stored",
            "keks" => return Place { table, condition: format!("tenant = '{}'", self.tenant) },
            _ => panic!("{table}"),
        };
        Place::new(table, &self.tenant, key)
    }
}

fn card() -> Value {
    json!({"field": "card-number", "value": "4242424242424242", "ttlSeconds": 86400})
}

async fn put(app: &Actor, items: Value) -> Vec<String> {
    let answer = app.post("/v1/values", &json!({ "items": items })).await.expect(200).json();
    let key = |result: &Value| result["secureValueKey"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned();
    answer["results"].as_array().unwrap().iter().map(key).collect()
}

pub(super) async fn lookup(app: &Actor, key: &str) -> Answer {
    app.post("/v1/values/lookup", &json!({"secureValueKey": key})).await
}

async fn extend(app: &Actor, key: &str, days: u64) {
    let end = std::time::SystemTime::now() + Duration::from_secs(days * 86_400);
    let end = jiff::Timestamp::try_from(end).unwrap().to_string();
    app.post("/v1/values/extend", &json!({"secureValueKey": key, "expiresAt": end})).await.expect(200);
}

fn value_id(key: &str) -> String {
    let key: SecureValueKey = key.parse().unwrap();
    key.value_id().as_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

fn is_exempt(table: &str, column: &Column) -> bool {
    LOOK_UPS.iter().any(|(t, c, _)| *t == table && *c == column.name)
}

/// All that can be done to the columns of a table: with which of two fresh rows each takes.
pub(super) async fn changes(database: &mut Database, table: &str) -> Vec<(Column, &'static str)> {
    let columns = database.columns(table).await.into_iter().filter(|column| !is_exempt(table, column));
    columns.flat_map(|column| ["alter", "clear", "swap"].map(|what| (column.clone(), what))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_column_of_a_value_can_be_altered_or_moved() {
    let mut siv = Siv::start();
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    let mut cases = Vec::new();
    for table in ["secure_values", "value_states"] {
        cases.extend(changes(&mut database, table).await.into_iter().map(|(column, what)| (table, column, what)));
    }
    database.close().await;
    siv.begin().unwrap();

    // Two unlike rows for each case: another tenant, app, field, class, session, subject, count of uses, binding.
    let (foreign, shop) = (Victim::create(&siv, 0).await, siv.app());
    let mut pairs = Vec::new();
    for (at, chunk) in cases.chunks(50).enumerate() {
        let theirs = put(&foreign.app, Value::Array(chunk.iter().map(|_| card()).collect())).await;
        let session = json!({"app": siv.dev["app"], "maxValues": 100, "subject": format!("person {at}")});
        let session = shop.post("/v1/capture/sessions", &session).await.expect(201).json();
        let browser = siv.browser().with_bearer(session["captureToken"].as_str().unwrap());
        let of = |table| if table == "secure_values" { "password" } else { "card-number" };
        let values = chunk.iter().map(|(table, ..)| json!({"field": of(*table), "value": "4242424242424242"}));
        let values = json!({"values": values.collect::<Vec<_>>()});
        let ours = browser.post("/v1/capture/values", &values).await.expect(201).json();
        let ours = ours["values"].as_array().unwrap().iter().map(|v| v["secureValueKey"].as_str().unwrap().to_owned());
        pairs.extend(ours.zip(theirs));
    }
    // States of other versions, ends and tenants.
    let states = cases.iter().zip(&pairs).filter(|((table, ..), _)| *table == "value_states");
    stream::iter(states)
        .for_each_concurrent(16, |(_, (ours, theirs))| async {
            extend(&siv.app(), ours, 2).await;
            extend(&foreign.app, theirs, 3).await;
            extend(&foreign.app, theirs, 4).await;
        })
        .await;
    for (ours, theirs) in &pairs {
        lookup(&shop, ours).await.expect(200);
        lookup(&foreign.app, theirs).await.expect(200);
    }

    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    let mut touched = Vec::new();
    for ((table, column, what), pair) in cases.iter().zip(&pairs) {
        let (one, other) =
            (Place::new(table, "demo", &value_id(&pair.0)), Place::new(table, &foreign.tenant, &value_id(&pair.1)));
        let change = match *what {
            "alter" => Change::Alter,
            "clear" => Change::Clear,
            _ => Change::Swap(other),
        };
        touched.push(database.change(&one, column, &change).await);
    }
    database.close().await;
    siv.begin().unwrap();
    let (shop, foreign) = (siv.app(), siv.app().with_bearer(foreign.app.bearer()));
    let mut wrong = Vec::new();
    for (((table, column, what), (ours, theirs)), touched) in cases.iter().zip(&pairs).zip(touched) {
        let both = [(&shop, ours, touched), (&foreign, theirs, touched && *what == "swap")];
        for (app, key, refused) in both {
            let answer = lookup(app, key).await;
            let right =
                if refused { answer.refusal() == (404, "value.not_found".to_owned()) } else { answer.status == 200 };
            if !right {
                wrong.push(format!("{table}.{} {what} (touched: {refused}): {}", column.name, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(siv.entries("action=access.denied").await.iter().any(|e| e["reason"] == "tampered"), "it is an alarm");
    siv.verify_log().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_older_row_of_a_value_can_be_put_back() {
    let mut siv = Siv::start();
    let cards = put(&siv.app(), json!([card(), card(), card(), card(), card()])).await;
    let [earlier, removed, deleted, whole, stateless] = cards.as_slice() else { panic!("{cards:?}") };
    for key in [earlier, removed, whole] {
        extend(&siv.app(), key, 3).await;
    }
    siv.terminate();
    let state = |key: &str| Place::new("value_states", "demo", &value_id(key));
    let value = |key: &str| Place::new("secure_values", "demo", &value_id(key));
    let mut database = Database::open(&siv.data()).await;
    database.keep(&state(earlier), "state").await;
    database.keep(&value(deleted), "deleted").await;
    database.keep(&value(whole), "whole").await;
    database.keep(&state(whole), "whole_state").await;
    database.close().await;
    siv.begin().unwrap();
    extend(&siv.app(), earlier, 2).await;
    for key in [deleted, whole] {
        siv.app().post("/v1/values/delete", &json!({"secureValueKey": key})).await.expect(204);
    }
    extend(&siv.app(), stateless, 2).await;
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    database.put_back(&state(earlier), "state").await;
    database.put_back(&value(deleted), "deleted").await;
    database.put_back(&value(whole), "whole").await;
    database.put_back(&state(whole), "whole_state").await;
    for key in [removed, stateless] {
        let gone = database.run(format!("DELETE FROM value_states WHERE {}", state(key).condition)).await;
        assert_eq!(gone, 1);
    }
    database.close().await;
    siv.begin().unwrap();
    for (what, key) in [
        ("an older state", earlier),
        ("no state", removed),
        ("a deleted value", deleted),
        ("a deleted value with its state", whole),
        ("a shortened value without its state", stateless),
    ] {
        assert_eq!(lookup(&siv.app(), key).await.refusal(), (404, "value.not_found".to_owned()), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_value_stays_spent_whatever_is_put_back() {
    let mut siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let code = siv.capture("card-cvc", "123").await;
    let password = siv.capture("password", "correct horse battery").await;
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    let value = |key: &str| Place::new("secure_values", "demo", &value_id(key));
    let state = |key: &str| Place::new("value_states", "demo", &value_id(key));
    database.keep(&value(&code), "code").await;
    database.close().await;
    siv.begin().unwrap();
    let charge = json!({"card": card, "cvc": code, "amount": 1, "order": "o"});
    siv.invoke("charge-card", charge.clone()).await.expect(200);
    let phc = tests::bodies::phc("correct horse battery");
    for _ in 0..2 {
        siv.invoke("verify-password", json!({"password": password, "phc": phc})).await.expect(200);
    }
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    database.put_back(&value(&code), "code").await;
    let raised =
        database.run(format!("UPDATE value_states SET uses_left = 3 WHERE {}", state(&password).condition)).await;
    assert_eq!(raised, 1);
    database.close().await;
    siv.begin().unwrap();
    let gone = (404, "value.not_found".to_owned());
    assert_eq!(siv.invoke("charge-card", charge).await.refusal(), gone, "a spent code came back");
    let again = siv.invoke("verify-password", json!({"password": password, "phc": phc})).await;
    assert_eq!(again.refusal(), gone, "uses were raised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_that_decides_can_be_altered_moved_or_put_back() {
    let mut siv = Siv::start();
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    let mut cases = Vec::new();
    for table in DECIDING.into_iter().chain(["data_keys"]) {
        for (column, what) in changes(&mut database, table).await {
            cases.push((table, column, what));
        }
    }
    database.close().await;
    siv.begin().unwrap();
    // No column here may be empty. A row that is given to a tenant that does not exist is taken away, and an app, flow or
    // destination that is taken away denies only.
    let taken_away = |table: &str| ["apps", "flows", "destinations"].contains(&table);
    cases.retain(|(table, column, what)| {
        *what != "clear" && !(*what == "alter" && column.name == "tenant" && taken_away(table))
    });
    let wanted: usize = cases.iter().map(|(_, _, what)| if *what == "swap" { 2 } else { 1 }).sum();
    let victims = stream::iter(0..wanted).map(|number| Victim::create(&siv, number)).buffered(24);
    let mut victims = victims.collect::<Vec<_>>().await.into_iter();
    siv.terminate();

    let mut database = Database::open(&siv.data()).await;
    let mut touched = Vec::new();
    for (table, column, what) in &cases {
        let victim = victims.next().unwrap();
        let mut hit = vec![victim.clone()];
        let change = if *what == "swap" {
            hit.extend(victims.next());
            Change::Swap(hit[1].row(table))
        } else {
            Change::Alter
        };
        let name = format!("{table}.{} {what}", column.name);
        if database.change(&victim.row(table), column, &change).await {
            touched.extend(hit.into_iter().map(|victim| (name.clone(), victim)));
        } else {
            assert_eq!(*what, "swap", "{name} changed nothing");
        }
    }
    database.close().await;
    siv.begin().unwrap_or_else(|why| panic!("the demo's tenant was not touched: {why}"));
    let mut wrong = Vec::new();
    for (name, victim) in &touched {
        let answer = lookup(&siv.app().with_bearer(victim.app.bearer()), &victim.card).await;
        if ![401, 403, 404, 503].contains(&answer.status) {
            wrong.push(format!("{name}: {} {}", answer.status, answer.text));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), touched.len());
    println!("{} rows were touched and refused", touched.len());
    let untouched = siv.capture("card-number", "4242424242424242").await;
    lookup(&siv.app(), &untouched).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_older_row_that_decides_can_be_put_back() {
    let mut siv = Siv::start();
    let mut victims =
        stream::iter(0..6).map(|number| Victim::create(&siv, number)).buffered(6).collect::<Vec<_>>().await;
    let older = ["tenants", "apps", "flows", "destinations", "credentials"];
    let custodian = json!({"kind": "custodian", "name": "custodian"});
    let custodian = siv.operator().post("/v1/credentials?tenant=t-0", &custodian).await.expect(201).json();
    let custodian = custodian["credential"].as_str().unwrap().to_owned();
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    for (table, victim) in older.iter().zip(&victims) {
        database.keep(&victim.row(table), table).await;
    }
    database.close().await;
    siv.begin().unwrap();
    let operator = siv.operator();
    operator.with_bearer(&custodian).post("/v1/tenants/t-0/seal", &json!({})).await.expect(200);
    let app = "name = \"app-1\"\norigins = [\"https://other.example\"]\nsession_mode = \"server\"\n\
               [fields.card-number]\ntype = \"card-number\"\nretention = \"stored\"\nttl_seconds = 31536000\n\
               purposes = [\"support\"]\nflows = [\"summary\"]\n";
    operator.put_toml("/v1/apps/app-1?tenant=t-1", app).await.expect(200);
    let flow = "name = \"summary\"\npurpose = \"support\"\napp = \"app-2\"\n[inputs]\n\
                card = { secure = \"card-number\" }\n[outputs]\nbrand = \"{{ inputs.card | brand }}\"\n";
    operator.put_toml("/v1/flows/summary?tenant=t-2", flow).await.expect(200);
    let destination = json!({"host": "other.example", "secrets": {"apiKey": "k2"}});
    operator.put("/v1/destinations/acquirer?tenant=t-3", &destination).await.expect(200);
    let revoke = format!("/v1/credentials/{}/revoke?tenant=t-4", victims[4].credential_id);
    operator.post(&revoke, &json!({})).await.expect(204);
    siv.terminate();
    let mut database = Database::open(&siv.data()).await;
    for (table, victim) in older.iter().zip(&victims) {
        database.put_back(&victim.row(table), table).await;
    }
    database.close().await;
    siv.begin().unwrap();
    let whole = victims.pop().unwrap();
    for (table, victim) in older.iter().zip(&victims) {
        let answer = lookup(&siv.app().with_bearer(victim.app.bearer()), &victim.card).await;
        assert!([401, 403, 404, 503].contains(&answer.status), "{table}: {} {}", answer.status, answer.text);
    }
    lookup(&siv.app().with_bearer(whole.app.bearer()), &whole.card).await.expect(200);
}
