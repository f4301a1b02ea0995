//! `siv import`: many values from standard input, each once, none in the clear on its way out.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::bodies::{self, canary, holds, spellings};
use tests::{Actor, Postgres, Served, Siv, siv::binary};

/// `siv import` in a folder, with standard input to be written.
fn start(folder: &Path, arguments: &[&str], caller: &Actor) -> Child {
    let mut command = Command::new(binary());
    command.arg("import").args(arguments).current_dir(folder);
    command.env("SIV_URL", caller.base()).env("SIV_CREDENTIAL", caller.bearer());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// As the demo app.
fn import(siv: &Siv, arguments: &[&str], input: &str) -> Output {
    import_as(&siv.app(), siv.folder(), arguments, input)
}

fn import_as(caller: &Actor, folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = start(folder, arguments, caller);
    // Whoever refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn read(siv: &Siv, name: &str) -> String {
    read_in(siv.folder(), name)
}

fn read_in(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The rows of a CSV of ours without its header.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Reads a captured card back through the revealing flow of the demo.
async fn revealed(siv: &Siv, key: &str) -> String {
    let answer = siv.invoke("reveal-card", json!({"card": key})).await.expect(200).json();
    answer["outputs"]["card"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_line_of_a_csv_becomes_a_value_or_a_reject_that_tells_no_value() {
    let siv = Siv::start();
    let (one, two, secret) = (bodies::card_number(), bodies::card_number(), canary());
    // Quotes, CRLF, a byte order mark, a line in the middle that is no card, and one whose cells are swapped.
    let input = format!(
        "\u{feff}value,field,ttlSeconds\r\n\"{one}\",card-number,86400\r\n4242,card-number,\r\ncard-number,{secret},\r\n\
         {two},card-number,\r\n{one},card-number,{secret}\r\n"
    );
    let arguments = ["--app", "demo-shop", "--out", "keys.csv", "--rejects", "rejects.csv", "--json"];
    let output = import(&siv, &arguments, &input);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["captured"], &summary["rejected"]), (&json!(2), &json!(3)));
    let keys = rows(&read(&siv, "keys.csv"));
    assert_eq!([&keys[0][0], &keys[1][0]], ["2", "5"]);
    assert_eq!((revealed(&siv, &keys[0][3]).await, revealed(&siv, &keys[1][3]).await), (one.clone(), two.clone()));
    assert!(keys[0][4] < keys[1][4], "the first has an end of its own");
    let rejects = read(&siv, "rejects.csv");
    let expected = "line,field,code\n3,card-number,validation too_short\n4,,validation field unknown\n\
                    6,,validation ttlSeconds type\n";
    assert_eq!(rejects, expected);
    for name in ["keys.csv", "rejects.csv"] {
        let mode = std::fs::metadata(siv.folder().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let everything = [said(&output), rejects, read(&siv, "keys.csv")].concat().into_bytes();
    for value in [&one, &two, &secret] {
        assert!(spellings(value).iter().all(|spelling| !holds(&everything, spelling)), "a value was told");
    }
    let again = import(&siv, &arguments, &input);
    assert!(!again.status.success() && said(&again).contains("not there yet"), "keys were written over");
}

#[tokio::test]
async fn columns_named_for_fields_and_json_lines_are_read_too() {
    let siv = Siv::start();
    let (card, password) = (bodies::card_number(), canary());
    let input = format!("customer,pan,login\n7,{card},\n8,,{password}\n9,4242,\n");
    let wide = ["--field-columns", "pan=card-number,login=password", "--out", "wide.jsonl"];
    let output = import(&siv, &wide, &input);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("line 4 card-number: validation too_short"), "{}", said(&output));
    let keys: Vec<Value> = read(&siv, "wide.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&keys[0]["line"], &keys[0]["field"]), (&json!(2), &json!("card-number")));
    assert_eq!((&keys[1]["line"], &keys[1]["field"]), (&json!(3), &json!("password")));
    assert_eq!(revealed(&siv, keys[0]["secureValueKey"].as_str().unwrap()).await, card);
    let lines = format!(
        "{}\n{{\"field\":\"card-number\",\"value\":\"{password}\",\n\n{}\n{{\"field\":\"card-number\",\"value\":{card}}}\n",
        json!({"field": "card-number", "value": card, "flows": ["card-summary"], "purposes": ["support"], "ttlSeconds": 60}),
        json!({"field": "password", "value": password, "uses": 99}),
    );
    let output = import(&siv, &["--format", "jsonl", "--out", "lines.csv"], &lines);
    let told = said(&output);
    assert!(told.contains("line 2: malformed") && told.contains("line 4: validation uses range"), "{told}");
    assert!(told.contains("line 5: validation value type"), "{told}");
    assert!(!told.contains(&password) && !told.contains(&card));
    let keys = rows(&read(&siv, "lines.csv"));
    assert_eq!((keys.len(), keys[0][0].as_str()), (1, "1"));
    // It was narrowed to a flow that does not reveal.
    let refused = siv.invoke("reveal-card", json!({"card": keys[0][3]})).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn an_import_for_another_app_or_by_another_kind_of_credential_captures_nothing() {
    let siv = Siv::start();
    let input = format!("field,value\ncard-number,{}\n", bodies::card_number());
    let output = import(&siv, &["--app", "other", "--out", "other.csv"], &input);
    assert!(!output.status.success() && said(&output).contains("policy.denied"), "{}", said(&output));
    assert!(said(&output).contains("an app credential of other, the app that --app names"), "{}", said(&output));
    let mut child = start(siv.folder(), &["--out", "operator.csv"], &siv.operator());
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    let there = |name: &str| siv.folder().join(name).exists();
    assert!(!there("other.csv") && !there("operator.csv"), "nothing is in them, and the command can be run again");
    assert!(siv.entries("action=value.captured").await.is_empty());
}

/// Waits until a file has so many lines.
fn wait_for_lines(path: &Path, lines: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while std::fs::read_to_string(path).map_or(0, |text| text.lines().count()) < lines {
        assert!(Instant::now() < end, "{} does not grow", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lines of the import that is killed.
const LINES: usize = 600;

/// One line in fifty is no card.
const fn is_card(at: usize) -> bool {
    at % 50 != 7
}

/// Imports cards, killed again and again, then to its end: the key of each card that was captured, one line each.
fn import_killed(app: &str, caller: &Actor, folder: &Path) -> Vec<(String, String)> {
    let cards: Vec<String> = (0..LINES).map(|_| bodies::card_number()).collect();
    let mut input = "field,value\n".to_owned();
    for (at, card) in cards.iter().enumerate() {
        input.push_str(&format!("card-number,{}\n", if is_card(at) { card } else { "4242" }));
    }
    let arguments = ["--app", app, "--out", "keys.csv", "--rejects", "no.csv", "--resume", "state", "--batch", "10"];
    // It gets a part of its input, and is killed while requests are under way; each time it gets further.
    for lines in [31, 150, 290, 430] {
        let mut child = start(folder, &arguments, caller);
        let part: String = input.split_inclusive('\n').take(lines + 121).collect();
        let mut pipe = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let _ = pipe.write_all(part.as_bytes());
            // Held open: it must not believe that this was all.
            std::thread::sleep(Duration::from_millis(300));
        });
        wait_for_lines(&folder.join("keys.csv"), lines);
        let pid = child.id();
        let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(cards.iter().all(|card| !holds(&command_line, card.as_bytes())));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        writer.join().unwrap();
    }
    let output = import_as(caller, folder, &arguments, &input);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let keys = rows(&read_in(folder, "keys.csv"));
    let lines: Vec<usize> = keys.iter().map(|row| row[0].parse().unwrap()).collect();
    let expected: Vec<usize> = (0..LINES).filter(|at| is_card(*at)).map(|at| at + 2).collect();
    assert_eq!(lines, expected, "a line is there twice, or not at all");
    assert_eq!(rows(&read_in(folder, "no.csv")).len(), LINES - expected.len());
    let mode = std::fs::metadata(folder.join("state")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Once more: there is nothing left to do, and another input is not taken for the same one.
    let output = import_as(caller, folder, &arguments, &input);
    assert_eq!(rows(&read_in(folder, "keys.csv")).len(), expected.len(), "{}", said(&output));
    assert!(said(&output).contains("nothing was captured this time"), "{}", said(&output));
    let other = import_as(caller, folder, &arguments, &input[..input.len() / 2]);
    assert!(said(&other).contains("not the one this import began with"), "{}", said(&other));
    keys.into_iter().map(|row| row[3].clone()).zip(lines.iter().map(|line| cards[line - 2].clone())).collect()
}

#[tokio::test]
async fn an_import_that_is_killed_goes_on_and_captures_each_line_once() {
    let siv = Siv::start();
    let captured = import_killed("demo-shop", &siv.app(), siv.folder());
    // As many captures as lines: none was made twice.
    assert_eq!(siv.entries("action=value.captured").await.len(), captured.len());
    for at in [0, 1, captured.len() / 2, captured.len() - 1] {
        let (key, card) = &captured[at];
        assert_eq!(revealed(&siv, key).await, *card);
    }
}

#[tokio::test]
async fn an_import_into_postgresql_that_is_killed_goes_on_and_captures_each_line_once() {
    let postgres = Postgres::start();
    let served = Served::on_postgres(&postgres);
    let captured = import_killed("shop", &served.app(), served.folder());
    assert_eq!(served.entries("action=value.captured").await.len(), captured.len());
    for at in [0, 1, captured.len() / 2, captured.len() - 1] {
        let (key, card) = &captured[at];
        let answer = served.invoke("card-summary", key, None).await.expect(200);
        assert_eq!(answer.json()["outputs"]["last4"], card[card.len() - 4..]);
    }
}

/// A vault that is full at first, then breaks off, then answers; it keeps what each request was sent under.
async fn moody(kept: Arc<Mutex<Vec<(String, String)>>>) -> String {
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::IntoResponse as _;

    let answer = move |headers: HeaderMap, body: String| async move {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        let mut kept = kept.lock().unwrap();
        kept.push((key, body.clone()));
        match kept.len() {
            1 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "{\"code\":\"overloaded\"}").into_response(),
            2 => (StatusCode::OK, "{\"results\":[{\"status\":201,").into_response(),
            _ => {
                let items = serde_json::from_str::<Value>(&body).unwrap()["items"].as_array().unwrap().len();
                let one = json!({"status": 201, "secureValueKey": "svk_x", "valueId": "v", "expiresAt": null});
                (StatusCode::OK, json!({"results": vec![one; items]}).to_string()).into_response()
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/v1/values", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_sends_the_same_request_again_while_the_vault_is_away() {
    let (folder, kept) = (tempfile::TempDir::new().unwrap(), Arc::default());
    let mut command = Command::new(binary());
    command.args(["import", "--out", "keys.csv"]).current_dir(folder.path());
    command.env("SIV_URL", moody(Arc::clone(&kept)).await).env("SIV_CREDENTIAL", "siv_app_x");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"field,value\nnote,a\nnote,b\n").unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("answers 503: each request is sent again"), "{}", said(&output));
    let sent = kept.lock().unwrap();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|request| *request == sent[0]), "another request was sent");
    let keys = std::fs::read_to_string(folder.path().join("keys.csv")).unwrap();
    assert_eq!(rows(&keys).len(), 2);
}

/// An import into nowhere, or into a vault of the test's own.
fn lonely(folder: &Path, base: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.arg("import").args(arguments).current_dir(folder).env("SIV_URL", base).env("SIV_CREDENTIAL", "siv_app_x");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_import_into_a_vault_that_is_not_there_ends_at_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let mut child = lonely(folder.path(), &format!("http://{free}"), &["--out", "keys.csv"]);
    child.stdin.take().unwrap().write_all(b"field,value\nnote,a\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("could not be reached") && said(&output).contains("SIV_URL"), "{}", said(&output));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(!folder.path().join("keys.csv").exists(), "the command can be run again as it stands");
}

#[test]
fn a_header_with_a_misspelt_column_is_refused_before_anything_is_sent() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut child = lonely(folder.path(), "http://127.0.0.1:9", &["--out", "keys.csv"]);
    child.stdin.take().unwrap().write_all(b"field,value,ttl\nnote,a,60\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("of column 3 nothing is known") && said(&output).contains("ttlSeconds"));
}

#[test]
fn an_import_that_is_ended_says_how_it_goes_on() {
    let folder = tempfile::TempDir::new().unwrap();
    // Its input does not end: it waits.
    let mut child = lonely(folder.path(), "http://127.0.0.1:9", &["--out", "keys.csv", "--resume", "state"]);
    let pipe = child.stdin.take().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !folder.path().join("state").exists() {
        assert!(Instant::now() < end, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    tests::process::signal(child.id(), rustix::process::Signal::TERM);
    let output = child.wait_with_output().unwrap();
    drop(pipe);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("--resume state goes on where it was"), "{}", said(&output));
}
