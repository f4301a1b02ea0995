//! Custodians over the routes: who may, what is answered, what a shredded tenant answers from then on.

use serde_json::{Value, json};

use super::vault::{Answer, Sent, Vault};

impl Vault {
    async fn second_custodian(&mut self) {
        let body = Sent::Json(json!({"kind": "custodian", "name": "the second custodian"}));
        let made = self.ask("POST", "/v1/credentials", "operator", body).await.expect(201).json();
        self.credentials.insert("second", made["credential"].as_str().unwrap().to_owned());
    }

    async fn post(&self, path: &str, who: &str, body: Value) -> Answer {
        self.ask("POST", path, who, Sent::Json(body)).await
    }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_tenant_is_shredded_by_two_custodians_and_answers_sealed_from_then_on() {
    let mut vault = Vault::demo().await;
    vault.second_custodian().await;
    let item = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
    let put = vault.post("/v1/values", "app", item.clone()).await.expect(200).json();
    let key = put["results"][0]["secureValueKey"].as_str().unwrap().to_owned();

    let dry = vault.post("/v1/keks/shred", "custodian", json!({"dryRun": true})).await.expect(200).json();
    assert_eq!((&dry["values"], &dry["approval"], &dry["dryRun"]), (&json!(1), &Value::Null, &json!(true)));
    assert!(dry["dataKeys"].as_u64().unwrap() >= 1 && dry["keks"][0]["state"] == "active", "{dry}");
    assert!(vault.entries("key.approval.requested").await.is_empty(), "a dry run asks for nothing");

    let asked = vault.post("/v1/keks/shred", "custodian", json!({})).await.expect(202).json();
    let approval = &asked["approval"];
    let path = format!("/v1/approvals/{}", approval["approvalId"].as_str().unwrap());
    let own = vault.post(&path, "custodian", json!({})).await;
    assert_eq!(own.refusal(), refused(403, "policy.denied"));
    assert_eq!(vault.entries("access.denied").await[0]["rule"], "approval.second_person");
    let wrong = vault.post(&path, "second", json!({"digest": "00"})).await;
    assert_eq!(wrong.refusal(), refused(409, "conflict"));
    let listed = vault.ask("GET", "/v1/approvals", "second", Sent::Nothing).await.expect(200).json();
    assert_eq!((&listed["data"][0]["digest"], &listed["data"][0]["state"]), (&approval["digest"], &json!("requested")));
    let open = vault.post("/v1/values/lookup", "app", json!({"secureValueKey": key})).await;
    assert_eq!(open.status, 200, "nothing is destroyed yet: {}", open.text);

    let given = vault.post(&path, "second", json!({"digest": approval["digest"]})).await.expect(200).json();
    assert_eq!((&given["state"], &given["act"]), (&json!("completed"), &json!("shred-tenant")));
    let certificate = &given["certificate"]["certificate"];
    assert_eq!(certificate["destroyed"]["what"], "tenant");
    assert_eq!(certificate["destroyed"]["requestedBy"], approval["requestedBy"]);
    assert_eq!(certificate["destroyed"]["approvedBy"], given["approvedBy"]);
    assert!(given["certificate"]["receipt"].as_str().unwrap().starts_with("siv-receipt.1."));

    // From here on: sealed, for good.
    let sealed = refused(503, "tenant.sealed");
    assert_eq!(vault.post("/v1/values/lookup", "app", json!({"secureValueKey": key})).await.refusal(), sealed);
    assert_eq!(vault.post("/v1/values", "app", item).await.refusal(), sealed);
    let invoke = json!({"inputs": {"card": key}});
    assert_eq!(vault.post("/v1/flows/card-summary/invoke", "flow", invoke).await.refusal(), sealed);
    let unseal = vault.ask("POST", "/v1/tenants/demo/unseal", "custodian", Sent::Nothing).await;
    assert_eq!(unseal.refusal(), refused(409, "conflict"));
    let again = vault.post("/v1/keks/shred", "custodian", json!({})).await;
    assert_ne!(again.status, 202, "{}", again.text);
    let keks = vault.ask("GET", "/v1/keks", "custodian", Sent::Nothing).await.expect(200).json();
    assert_eq!(keks["data"][0]["state"], "destroyed");
    // The log can still be read and written.
    assert_eq!(vault.entries("key.tenant.shredded").await.len(), 1);
    // This test has no sequencer: before integration nothing is certified by what lies in the database.
    let early = vault.ask("GET", "/v1/keks/certificate", "custodian", Sent::Nothing).await;
    assert_eq!(early.refusal(), refused(409, "log.pending"));
}

#[tokio::test]
async fn states_are_changed_by_the_custodian_as_the_table_says() {
    let vault = Vault::demo().await;
    let state = |body: Value| vault.ask("POST", "/v1/keks/state", "custodian", Sent::Json(body));
    let in_use = state(json!({"version": 1, "state": "destroyed"})).await;
    assert_eq!((in_use.status, &in_use.json()["errors"][0]["code"]), (409, &json!("in_use")));
    let unknown = state(json!({"version": 1, "state": "retired"})).await;
    assert_eq!((unknown.status, &unknown.json()["errors"][0]["field"]), (422, &json!("state")));
    assert_eq!(state(json!({"version": 9, "state": "compromised"})).await.refusal(), refused(404, "not_found"));
    let dry = state(json!({"version": 1, "state": "compromised", "dryRun": true})).await.expect(200).json();
    assert_eq!(dry["state"], "compromised");
    assert!(vault.entries("key.kek.compromised").await.is_empty());
    state(json!({"version": 1, "state": "compromised"})).await.expect(200);
    let back = state(json!({"version": 1, "state": "active"})).await;
    assert_eq!((back.status, &back.json()["errors"][0]["code"]), (409, &json!("transition")));
    let keks = vault.ask("GET", "/v1/keks", "custodian", Sent::Nothing).await.expect(200).json();
    let states: Vec<&str> = keks["data"].as_array().unwrap().iter().map(|kek| kek["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["compromised", "active"]);
    assert_eq!(vault.entries("key.kek.compromised").await[0]["facts"]["before"], "deactivated");
}

#[tokio::test]
async fn leaving_strict_mode_takes_a_second_custodian_and_entering_it_one() {
    let mut vault = Vault::demo().await;
    vault.second_custodian().await;
    let set =
        async |seconds: u32| vault.post("/v1/tenants/demo/cache", "custodian", json!({"cacheSeconds": seconds})).await;
    assert_eq!(set(301).await.status, 422);
    assert_eq!(set(60).await.expect(200).json()["cacheSeconds"], 60);
    assert_eq!(set(0).await.expect(200).json()["cacheSeconds"], 0);
    let asked = set(60).await.expect(202).json();
    assert_eq!(asked["cacheSeconds"], 0, "it is strict still");
    let again = set(60).await.expect(202).json();
    assert_eq!(again["approval"]["approvalId"], asked["approval"]["approvalId"], "it waits already");
    let path = format!("/v1/approvals/{}", asked["approval"]["approvalId"].as_str().unwrap());
    assert_eq!(vault.post(&path, "custodian", json!({})).await.status, 403);
    let given = vault.ask("POST", &path, "second", Sent::Nothing).await.expect(200).json();
    assert_eq!((&given["state"], &given["certificate"]), (&json!("completed"), &Value::Null));
    let tenants = vault.ask("GET", "/v1/tenants", "operator", Sent::Nothing).await.expect(200).json();
    assert_eq!(tenants["data"][0]["cacheSeconds"], 60);
    let facts = &vault.entries("admin.tenant.cache").await[2]["facts"];
    assert_eq!((&facts["before"], &facts["seconds"]), (&json!("0"), &json!("60")));
    // A custodian makes no credential: the second one is nobody's own.
    let body = json!({"kind": "custodian", "name": "mine"});
    assert_eq!(vault.post("/v1/credentials", "custodian", body).await.status, 403);
}
