//! The log of a real node before foreign verifiers: a bundle that `siv log export` wrote, and a proof that the private
//! listener gave for a receipt.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tests::Siv;

use super::verifier::{accepts, refuses, run};
use super::{ALL, DEEP};

/// A tlog-proof for this body, once its entry is in the tree.
async fn proof(siv: &Siv, of: &Value) -> String {
    for _ in 0..200 {
        let answer = siv.auditor().post("/v1/log/proof", of).await;
        if answer.status == 200 {
            return answer.text;
        }
        assert_eq!(answer.refusal(), (409, "log.pending".to_owned()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the entry is not integrated");
}

/// Exports the log as the auditor; the bundle, the vkey from `dev.json`, and the checkpoint before.
fn export(siv: &Siv, name: &str) -> PathBuf {
    let bundle = siv.folder().join(name);
    let exported = siv.command(siv.auditor().bearer(), &["log", "export", "--out", bundle.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    bundle
}

#[tokio::test]
async fn foreign_verifiers_accept_the_log_of_a_real_node_and_its_proofs() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let used = json!({"inputs": {"card": card}, "reference": "order-\u{1f600}", "onBehalfOf": "user-7"});
    let answer = siv.flow("card-summary").post("/v1/flows/card-summary/invoke", &used).await.expect(200);
    let receipt = proof(&siv, &json!({"receipt": answer.json()["receipts"][0]})).await;
    let old = siv.folder().join("older-checkpoint");
    std::fs::write(&old, siv.auditor().checkpoint("").await).unwrap();
    for _ in 0..300 {
        siv.capture("card-number", "4242424242424242").await;
    }
    let last = proof(&siv, &json!({"index": 290})).await;
    let vkey = siv.folder().join("vkey");
    std::fs::write(&vkey, format!("{}\n", siv.dev["logVkey"].as_str().unwrap())).unwrap();
    let bundle = export(&siv, "bundle");
    for verifier in ALL {
        accepts(verifier, &bundle, &vkey, None);
    }
    for verifier in DEEP {
        accepts(verifier, &bundle, &vkey, Some(&old));
        for (name, text) in [("receipt", &receipt), ("last", &last)] {
            let file = siv.folder().join(name);
            std::fs::write(&file, text).unwrap();
            let arguments = ["--proof".as_ref(), file.as_os_str(), bundle.as_os_str(), vkey.as_os_str()];
            run(verifier, arguments).unwrap_or_else(|why| panic!("{verifier}, {name}: {why}"));
            // The same proof about the entry beside it.
            let index = text.lines().nth(1).unwrap().strip_prefix("index ").unwrap().parse::<u64>().unwrap();
            std::fs::write(&file, text.replacen(&format!("index {index}"), &format!("index {}", index ^ 1), 1))
                .unwrap();
            let why = run(verifier, arguments).expect_err("a proof moved to another entry");
            assert!(why.contains("is not under the signed root"), "{verifier}, {name}: {why}");
        }
    }
    // Somebody with the bundle alone rewrites one entry.
    let entries = bundle.join("tile/entries/000");
    let mut bytes = std::fs::read(&entries).unwrap();
    let at = bytes.windows(5).position(|part| part == b"\"app\"").unwrap();
    bytes[at + 1] ^= 1;
    std::fs::write(entries, bytes).unwrap();
    for verifier in DEEP {
        refuses(verifier, &bundle, &vkey, None, &["is not the one in", "was altered"]);
    }
}
