//! The system's random numbers fail: nothing is made up in their place.

use serde_json::json;
use tests::crash::Crash;
use tests::{Answer, Siv};

/// `EIO`, and `ENOSYS` as on a kernel without the call; the devices fail alike.
const ERRORS: [i32; 2] = [5, 38];

async fn put(siv: &Siv) -> Answer {
    let item = json!({"field": "card-number", "value": "4242424242424242"});
    siv.app().post("/v1/values", &json!({"items": [item]})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_random_numbers_nothing_is_captured_and_nothing_is_lost() {
    for error in ERRORS {
        let mut siv = Siv::unstarted();
        let crash = Crash::new(siv.folder());
        siv.set_environment(crash.environment());
        siv.begin().unwrap();
        let first = put(&siv).await.expect(200).json()["results"][0]["secureValueKey"].clone();
        crash.random_fails(error);
        for _ in 0..20 {
            let answer = put(&siv).await;
            assert!(!answer.text.contains("svk_"), "error {error}: a key without random numbers: {}", answer.text);
            assert!(!answer.text.contains("panicked") && !answer.text.contains(".rs"), "{}", answer.text);
            let session = json!({"app": "demo-shop", "fields": ["card-number"]});
            let session = siv.app().post("/v1/capture/sessions", &session).await;
            assert!(
                !session.text.contains("siv_cap_"),
                "error {error}: a token without random numbers: {}",
                session.text
            );
        }
        crash.random_fails(0);
        if !siv.runs() || put(&siv).await.status != 200 {
            siv.kill();
            siv.begin().unwrap();
        }
        put(&siv).await.expect(200);
        siv.app().post("/v1/values/lookup", &json!({"secureValueKey": first})).await.expect(200);
        siv.verify_log().unwrap();
    }
}

#[test]
fn without_random_numbers_no_installation_is_made() {
    for error in ERRORS {
        let mut siv = Siv::unstarted();
        let crash = Crash::new(siv.folder());
        crash.random_fails(error);
        siv.set_environment(crash.environment());
        assert!(siv.begin().is_err(), "error {error}: it is ready without random numbers");
        assert!(!siv.data().join("root.key").exists(), "error {error}: a root key without random numbers");
    }
}
