//! A crash at every step of the end of one KEK version whose token is lost: it did not begin, or it is done, and nothing is between.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::crash::Crash;
use tests::served::retried;
use tests::token::{LABEL, PIN, Provider, Token};
use tests::{Actor, Answer, Siv};

use crate::two_places::{sample, settled};

/// So generous that only what never comes meets it.
const LONG: Duration = Duration::from_secs(60);

/// A stopped vault whose tenant left a token that is lost, with a card that only the token's version opens; its custodian has asked
/// for the end of that version.
struct Asked {
    siv: Siv,
    token: Token,
    card: String,
    second: String,
    approval: String,
    extent: Value,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

fn variables(token: &Token) -> Vec<(String, String)> {
    let text = |text: &std::ffi::OsString| text.to_str().unwrap().to_owned();
    token.variables.iter().map(|(name, value)| (text(name), text(value))).collect()
}

impl Asked {
    async fn new() -> Self {
        let token = Token::new(Provider::SoftHsm);
        let mut siv = Siv::unstarted();
        siv.set_environment(variables(&token));
        siv.begin().unwrap_or_else(|why| panic!("{why}"));
        let body = json!({"kind": "custodian", "name": "second"});
        let second = text(&siv.operator().post("/v1/credentials", &body).await.expect(201).json()["credential"]);
        let hsm = json!({"module": token.module, "token": LABEL, "pin": PIN});
        let into = json!({"keyProvider": "hsm", "hsm": hsm});
        siv.custodian().post("/v1/keks/rotate", &into).await.expect(201);
        siv.custodian().post("/v1/keks/rewrap", &json!({})).await.expect(200);
        let item = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        let card = siv.app().post("/v1/values", &item).await.expect(200).json();
        let leave = siv.custodian().post("/v1/keks/rotate", &json!({"keyProvider": "local"})).await.expect(202).json();
        let path = format!("/v1/approvals/{}", text(&leave["approval"]["approvalId"]));
        siv.custodian().with_bearer(&second).post(&path, &json!({})).await.expect(200);
        // A token that refuses its PIN is silent at once; one that does not answer is waited for each time.
        token.logged_in(&["--change-pin", "--new-pin", "0987654321"]);
        assert_eq!(siv.terminate(), Some(0));
        siv.begin().unwrap_or_else(|why| panic!("{why}"));
        let (custodian, version) = (siv.custodian(), json!({"version": 2}));
        // Where the machine is so busy that nothing was heard of the token in time, it is asked again.
        let extent = retried(|| custodian.post("/v1/keks/lost", &version)).await.expect(202).json();
        assert!(extent["values"].as_u64().unwrap() > 0 && extent["dataKeys"].as_u64().unwrap() > 1, "{extent}");
        assert_eq!(siv.terminate(), Some(0));
        let (card, approval) = (text(&card["results"][0]["secureValueKey"]), text(&extent["approval"]["approvalId"]));
        Self { siv, token, card, second, approval, extent }
    }

    /// A copy of it, running, and its counter.
    async fn running(&self) -> (Siv, Crash) {
        let mut siv = Siv::copy_of(&self.siv);
        let crash = Crash::new(siv.folder());
        siv.set_environment([crash.environment(), variables(&self.token)].concat());
        siv.begin().unwrap_or_else(|why| panic!("{why}"));
        settled(&crash).await;
        (siv, crash)
    }

    fn second(&self, siv: &Siv) -> Actor {
        siv.custodian().with_bearer(&self.second)
    }

    async fn approve(&self, siv: &Siv) -> Answer {
        self.second(siv).post(&format!("/v1/approvals/{}", self.approval), &json!({})).await
    }

    async fn version(&self, siv: &Siv) -> Value {
        let listed = siv.custodian().get("/v1/keks").await.expect(200).json();
        listed["data"].as_array().unwrap().iter().find(|kek| kek["version"] == 2).unwrap().clone()
    }

    async fn opens(&self, siv: &Siv) -> Answer {
        let inputs = json!({"inputs": {"card": self.card}});
        siv.flow("card-summary").post("/v1/flows/card-summary/invoke", &inputs).await
    }

    /// Holds it to what was promised, once it is done.
    async fn is_done(&self, siv: &Siv, point: &str) {
        let kek = self.version(siv).await;
        assert_eq!(kek["ended"], "stated lost by the custodians, not verified by the vault", "{point}: {kek}");
        let path = format!("/v1/keks/certificate?kek={}.2", text(&kek["kekId"]));
        let end = Instant::now() + LONG;
        let certificate = loop {
            let answer = self.second(siv).get(&path).await;
            if answer.status == 200 {
                break answer.json()["certificate"].clone();
            }
            assert!(Instant::now() < end, "{point}: {}", answer.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let (data_keys, values) = (&certificate["destroyed"]["dataKeys"], &certificate["destroyed"]["values"]);
        assert_eq!((data_keys, values), (&self.extent["dataKeys"], &self.extent["values"]), "{point}: all of it, once");
        let page = siv.auditor().get("/v1/log/entries?action=key.kek.lost&limit=10").await.expect(200).json();
        assert_eq!(page["data"].as_array().unwrap().len(), 1, "{point}: it is said once");
        let (refused, left) = (self.opens(siv).await, siv.custodian().post("/v1/keks/rewrap", &json!({})).await);
        assert_eq!((refused.status, refused.code()), (404, "value.not_found".to_owned()), "{point}");
        assert_eq!(left.expect(200).json()["left"], 0, "{point}: nothing refers to it any more");
        siv.verify_log().unwrap_or_else(|why| panic!("{point}: {why}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_lost_version_that_is_killed_anywhere_did_not_begin_or_is_done() {
    let asked = Asked::new().await;
    let steps = {
        let (siv, crash) = asked.running().await;
        let before = crash.counted();
        asked.approve(&siv).await.expect(200);
        let steps = crash.counted() - before;
        asked.is_done(&siv, "not killed").await;
        steps
    };
    let (mut inside, mut begun, points) = (0, 0, sample(steps, 4));
    for step in &points {
        let point = format!("killed at step {step} of {steps}");
        let (mut siv, crash) = asked.running().await;
        crash.at_step(*step);
        if asked.approve(&siv).await.status == 0 {
            inside += 1;
            assert_eq!(siv.ended_by(), Some(9), "{point}: it was not the step that ended it");
        } else {
            siv.kill();
        }
        siv.set_environment(variables(&asked.token));
        siv.begin().unwrap_or_else(|why| panic!("{point}, it does not start again: {why}"));
        if asked.version(&siv).await["state"] == "lost" {
            begun += 1;
        } else {
            // It did not begin: the certificate counts all of it.
            asked.approve(&siv).await.expect(200);
        }
        asked.is_done(&siv, &point).await;
    }
    println!("{steps} steps, {inside} of {} before the answer, {begun} after it had begun", points.len());
    assert!(inside > 0, "no point lay inside");
}
