//! The access log, as an auditor meets it.

use serde_json::json;
use tests::Siv;

async fn integrated(siv: &Siv) -> Vec<serde_json::Value> {
    for _ in 0..100 {
        let entries = siv.entries("").await;
        // Reading is an entry too, so the newest may always be pending.
        if entries.iter().filter(|e| e["action"] != "log.read").all(|e| e["integrated"] == true) {
            return entries;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("entries are not integrated");
}

#[tokio::test]
async fn an_exported_log_verifies_offline_and_a_changed_one_does_not() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    siv.invoke("card-summary", json!({"card": card})).await.expect(200);
    integrated(&siv).await;
    siv.verify_log().unwrap();
    let bundle = std::fs::read_dir(siv.folder()).unwrap().map(|e| e.unwrap().path());
    let bundle = bundle.into_iter().find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("bundle-")).unwrap();
    let entries = bundle.join("tile/entries");
    let mut folders = vec![entries];
    let mut file = None;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { file = Some(path) }
        }
    }
    let file = file.expect("a bundle of entries");
    let original = std::fs::read(&file).unwrap();
    let vkey = siv.folder().join("vkey");
    let verify = || {
        std::process::Command::new(tests::siv::binary())
            .args(["log", "verify", bundle.to_str().unwrap(), "--vkey", vkey.to_str().unwrap()])
            .output()
            .unwrap()
    };
    for at in [10, original.len() / 2, original.len() - 1] {
        let mut wrong = original.clone();
        wrong[at] ^= 1;
        std::fs::write(&file, wrong).unwrap();
        let output = verify();
        assert!(!output.status.success());
        assert!(!output.stderr.is_empty(), "the first fault is named");
    }
    std::fs::write(&file, original).unwrap();
    assert!(verify().status.success());
}

#[tokio::test]
async fn every_act_has_its_entry() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    siv.invoke("card-summary", json!({"card": card})).await.expect(200);
    siv.invoke("reveal-card", json!({"card": card})).await.expect(200);
    siv.app().post("/v1/values/delete", &json!({"secureValueKey": card})).await.expect(204);
    siv.operator().get("/v1/log/entries").await.expect(403);
    let entries = integrated(&siv).await;
    for action in
        ["value.captured", "value.dereferenced", "value.revealed", "value.deleted", "access.denied", "node.started"]
    {
        assert!(entries.iter().any(|e| e["action"] == action), "no entry of {action}");
    }
    assert!(entries.iter().any(|e| e["action"].as_str().unwrap().starts_with("admin.")));
    assert!(entries.iter().any(|e| e["action"].as_str().unwrap().starts_with("key.")));
    let opened = entries.iter().find(|e| e["action"] == "value.dereferenced").unwrap();
    for member in [
        "index",
        "time",
        "actor",
        "flow",
        "purpose",
        "valueId",
        "field",
        "type",
        "retention",
        "runId",
        "kekId",
        "dataKeyId",
        "requestId",
    ] {
        assert!(!opened[member].is_null(), "{member} is missing: {opened:#}");
    }
}

#[tokio::test]
async fn a_receipt_is_redeemed_for_an_inclusion_proof() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let answer = siv.invoke("card-summary", json!({"card": card})).await.expect(200);
    let receipt = answer.json()["receipts"][0].clone();
    for _ in 0..50 {
        let proof = siv.auditor().post("/v1/log/proof", &json!({"receipt": receipt})).await;
        if proof.status == 200 {
            assert!(proof.text.starts_with("c2sp.org/tlog-proof@v1\n"), "{}", proof.text);
            return;
        }
        assert_eq!(proof.refusal(), (409, "log.pending".to_owned()));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the entry was not integrated within five seconds");
}

#[tokio::test]
async fn reading_the_log_is_an_entry() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let found = siv.app().post("/v1/values/lookup", &json!({"secureValueKey": card})).await.expect(200).json();
    let history = siv.entries(&format!("valueId={}", found["valueId"].as_str().unwrap())).await;
    assert!(history.iter().any(|e| e["action"] == "value.captured"));
    siv.verify_log().unwrap();
    let reads = siv.entries("action=log.read").await;
    assert!(reads.len() >= 2, "the history and the export: {reads:#?}");
}

#[tokio::test]
async fn the_public_key_and_the_checkpoint_are_those_of_dev_json() {
    let siv = Siv::start();
    let vkey = siv.auditor().get("/v1/log/vkey").await.expect(200);
    assert_eq!(vkey.text.trim(), siv.dev["logVkey"].as_str().unwrap());
    integrated(&siv).await;
    let checkpoint = siv.auditor().get("/v1/log/checkpoint").await.expect(200);
    let origin = vkey.text.split('+').next().unwrap();
    assert_eq!(checkpoint.text.lines().next().unwrap(), origin);
}

#[tokio::test]
async fn a_filter_that_no_entry_can_meet_is_refused_and_not_answered_with_nothing() {
    let siv = Siv::start();
    let refused = siv.auditor().get("/v1/log/entries?outcome=refused").await.expect(422);
    assert_eq!(refused.json()["errors"][0]["field"], "outcome", "{}", refused.text);
    siv.auditor().get("/v1/log/entries?outcome=denied").await.expect(200);
}
