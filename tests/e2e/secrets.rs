//! A secret stands nowhere but where it must.

use base64ct::Encoding as _;
use serde_json::{Value, json};
use tests::bodies::{canary, holds, scan, spellings};
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
    // An answer that is kept for repeats holds a secureValueKey: sealed, like everything else.
    let browser = siv.browser().with_bearer(&siv.session(&["password"]).await);
    let again = canary();
    let body = json!({"values": [{"field": "password", "value": again}]});
    let first = browser.post_once("/v1/capture/values", "kept", &body).await.expect(201);
    assert_eq!(first.json(), browser.post_once("/v1/capture/values", "kept", &body).await.expect(201).json());
    let kept = first.json()["values"][0]["secureValueKey"].as_str().unwrap().to_owned();
    siv.verify_log().unwrap();
    let mut secrets: Vec<Vec<u8>> = [&password, &card, &again].into_iter().flat_map(|s| spellings(s)).collect();
    for key in [&key, &card_key, &kept] {
        secrets.extend(spellings(&key[30..]));
        secrets.push(key.parse::<vault::domain::SecureValueKey>().unwrap().secret().to_vec());
    }
    let folder = siv.folder().to_owned();
    assert!(siv.runs());
    let log = siv.log_text();
    assert!(log.contains("\"DEBUG\""), "the log is scanned at its most talkative");
    for span in ["request", "batch", "kms", "integration", "relay"] {
        assert!(log.contains(&format!("\"name\":\"{span}\"")), "no line of a span {span} was there to scan");
    }
    assert!(log.contains("\"route\":\"/v1/flows/{name}/invoke\"") && log.contains("\"outcome\":\"answered\""));
    scan(&folder, &secrets);
    siv.terminate();
    scan(&folder, &secrets);
}

/// The line at the end of a request's span, as soon as it is written.
fn line_of_request(member: &str, id: &str, siv: &Siv) -> Value {
    for _ in 0..200 {
        let log = siv.log_text();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ends = lines.filter(|line| line["message"] == "close" && line["span"]["name"] == "request");
        if let Some(end) = ends.find(|line| line["span"][member] == id) {
            return end;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("no line of a request has the {member} {id}");
}

#[tokio::test]
async fn the_line_of_a_request_has_the_id_that_its_answer_names() {
    let siv = Siv::start();
    let wrong = siv.stranger().get("/v1/log/entries").await.expect(401);
    let right = siv.auditor().get("/v1/log/entries").await.expect(200);
    for answer in [&wrong, &right] {
        let line = line_of_request("request_id", answer.header("x-request-id").unwrap(), &siv);
        let status = &line["span"]["status"];
        assert_eq!((&line["span"]["route"], status), (&json!("/v1/log/entries"), &json!(answer.status)));
    }
    assert_ne!(wrong.header("x-request-id"), right.header("x-request-id"));
    // A caller's own stands beside the vault's, and is the one in the answer.
    let request = siv.auditor().request(reqwest::Method::GET, "/v1/log/entries").header("x-request-id", "order-4711");
    let given = siv.auditor().send(request).await.expect(200);
    assert_eq!(given.header("x-request-id"), Some("order-4711"));
    let line = line_of_request("given_id", "order-4711", &siv);
    assert!(line["span"]["request_id"].as_str().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()), "{line}");
}

#[tokio::test]
async fn a_planted_secret_is_found_by_the_scan() {
    let folder = tempfile::TempDir::new().unwrap();
    let secret = canary();
    for (at, spelling) in spellings(&secret).into_iter().enumerate() {
        let wrapped = [b"some bytes ".to_vec(), spelling, b" and more".to_vec()].concat();
        std::fs::write(folder.path().join(at.to_string()), wrapped).unwrap();
    }
    for spelling in spellings(&secret) {
        let found = std::panic::catch_unwind(|| scan(folder.path(), &[spelling])).unwrap_err();
        let found = found.downcast_ref::<String>().unwrap();
        assert!(found.ends_with("holds a secret"), "{found}");
    }
}

#[tokio::test]
async fn secrets_stand_neither_in_arguments_nor_in_the_environment() {
    let siv = Siv::start();
    let mut secrets = vec![b"siv_".to_vec()];
    for bearer in [siv.app(), siv.operator(), siv.custodian(), siv.auditor(), siv.flow("charge-card")] {
        secrets.push(bearer.bearer().as_bytes().to_vec());
    }
    let root = std::fs::read(siv.data().join("root.key")).unwrap();
    assert_eq!(root.len(), 32);
    secrets.push(root.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes());
    secrets.push(base64ct::Base64Unpadded::encode_string(&root).into_bytes());
    secrets.push(root);
    // Files that cannot be read, or hold nothing, would prove nothing.
    for (file, known) in [("cmdline", "--data-dir"), ("environ", "SIV_LOG=trace")] {
        let bytes = std::fs::read(format!("/proc/{}/{file}", siv.pid())).expect("this test needs root");
        assert!(holds(&bytes, known.as_bytes()), "{file} is not what it was started with");
        assert!(secrets.iter().all(|secret| !holds(&bytes, secret)), "{file} holds a secret");
    }
}

/// The number of `nobody`, who owns nothing here.
const NOBODY: u32 = 65_534;

/// Whether `nobody` can read this of a process, by the command given.
fn nobody_reads(command: &[&str]) -> bool {
    let id = NOBODY.to_string();
    let mut read = std::process::Command::new("setpriv");
    read.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]).args(command);
    read.output().expect("setpriv is installed").status.success()
}

/// What a shell of the same user tries: the map, a byte of the memory, the environment.
fn doors(pid: u32) -> Vec<(&'static str, bool)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("this test needs root");
    let start = maps.lines().next().unwrap().split('-').next().unwrap();
    let skip = format!("skip={}", u64::from_str_radix(start, 16).unwrap());
    let path = |file: &str| format!("/proc/{pid}/{file}");
    let input = format!("if={}", path("mem"));
    vec![
        ("maps", nobody_reads(&["cat", &path("maps")])),
        ("mem", nobody_reads(&["dd", &input, "bs=1", "count=1", &skip, "iflag=skip_bytes"])),
        ("environ", nobody_reads(&["cat", &path("environ")])),
    ]
}

#[tokio::test]
async fn the_process_leaves_no_core_and_cannot_be_dumped() {
    // Both run as the user who then tries to read them; what is open on one and closed on the other is the vault's doing.
    let siv = Siv::start_as(NOBODY);
    let id = NOBODY.to_string();
    let mut ordinary = std::process::Command::new("setpriv");
    ordinary.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sleep", "60"]);
    let mut ordinary = ordinary.spawn().unwrap();
    for _ in 0..500 {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", ordinary.id())).unwrap();
        if name.trim() == "sleep" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let (closed, open) = (doors(siv.pid()), doors(ordinary.id()));
    ordinary.kill().unwrap();
    ordinary.wait().unwrap();
    assert!(open.iter().all(|(_, read)| *read), "the control cannot be read: {open:?}");
    assert!(closed.iter().all(|(_, read)| !*read), "{closed:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", siv.pid())).unwrap();
    let user = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(user.split_whitespace().skip(1).all(|one| one == id), "{user}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", siv.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
