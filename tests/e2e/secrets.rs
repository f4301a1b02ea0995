//! A secret stands nowhere but where it must.

use serde_json::json;
use tests::bodies::{canary, holds, spellings};
use tests::{Siv, bodies};

#[tokio::test]
async fn a_captured_value_stands_in_no_file_and_in_no_log_line() {
    let mut siv = Siv::start();
    let password = canary();
    let card = bodies::card_number();
    let key = siv.capture("password", &password).await;
    let card_key = siv.capture("card-number", &card).await;
    let cvc = siv.capture("card-cvc", "123").await;
    let phc = bodies::phc(&password);
    siv.invoke("verify-password", json!({"password": key, "phc": phc})).await.expect(200);
    siv.invoke("charge-card", json!({"card": card_key, "cvc": cvc, "amount": 1, "order": "o"})).await.expect(200);
    siv.invoke("reveal-card", json!({"card": card_key})).await.expect(200);
    siv.verify_log().unwrap();
    let secret_half = key[30..].to_owned();
    let bundle = siv.folder().to_owned();
    assert!(siv.runs());
    scan(&bundle, &[&password, &card, &secret_half]);
    siv.terminate();
    scan(&bundle, &[&password, &card, &secret_half]);
}

fn scan(root: &std::path::Path, secrets: &[&str]) {
    let (mut folders, mut files) = (vec![root.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            files += 1;
            for secret in secrets {
                for spelling in spellings(secret) {
                    assert!(!holds(&bytes, &spelling), "{} holds a secret", path.display());
                }
            }
        }
    }
    assert!(files > 5, "nothing was scanned");
}

#[tokio::test]
async fn a_planted_secret_is_found_by_the_scan() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = canary();
    for (at, spelling) in spellings(&secret).into_iter().enumerate() {
        let wrapped = [b"some bytes ".to_vec(), spelling, b" and more".to_vec()].concat();
        std::fs::write(folder.path().join(at.to_string()), wrapped).unwrap();
    }
    let result = std::panic::catch_unwind(|| scan(folder.path(), &[&secret]));
    assert!(result.is_err());
}

#[tokio::test]
async fn secrets_stand_neither_in_arguments_nor_in_the_environment() {
    let siv = Siv::start();
    let bearer = siv.app().bearer().to_owned();
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{}/{file}", siv.pid())).unwrap_or_default();
        assert!(!holds(&bytes, bearer.as_bytes()));
        assert!(!holds(&bytes, b"siv_"));
    }
}

#[tokio::test]
async fn the_process_leaves_no_core_and_cannot_be_dumped() {
    let siv = Siv::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", siv.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // A process that is not dumpable belongs to root in /proc, and its memory map is closed to its own user.
    let status = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "cat"])
        .arg(format!("/proc/{}/maps", siv.pid()))
        .output()
        .unwrap();
    assert!(!status.status.success());
}
