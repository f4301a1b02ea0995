//! The whole database put back to an earlier state: what was signed outside it says so.

use std::fs;
use std::path::Path;

use serde_json::json;
use tests::Siv;

use super::transplant::lookup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_put_back_whole_is_not_served() {
    let mut siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    siv.terminate();
    let kept = siv.folder().join("kept");
    copy(&siv.data(), &kept);
    siv.begin().unwrap();
    for _ in 0..3 {
        siv.capture("card-number", "4242424242424242").await;
    }
    siv.terminate();
    copy(&kept, &siv.data());
    match siv.begin() {
        Err(why) => assert!(why.contains("log"), "it says why: {why}"),
        Ok(()) => {
            let ready = siv.stranger().get("/readyz").await;
            assert_eq!((ready.status, &ready.json()["reasons"]), (503, &json!(["log"])), "{}", ready.text);
            assert_eq!(lookup(&siv.app(), &card).await.refusal(), (503, "log.unavailable".to_owned()));
        }
    }
}

/// Copies the database's files, and takes away those that the copy does not have.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["siv.db", "siv.db-wal", "siv.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}
