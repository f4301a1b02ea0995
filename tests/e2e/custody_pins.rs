//! PINs that a token refused, or never answered, are counted; the count has a way out that is no custodian's own.

use tests::custody::{Custody, Customer, text, words};
use tests::token::{LABEL, PIN, Provider, Token};

/// What is told of a PIN that a custodian brings for a move into the token.
fn brings(custody: &Custody, guest: &Customer, token: &Token, pin: &str) -> Result<(), String> {
    let options = custody.options(token, LABEL, pin);
    let told = custody.command(&guest.custodian, &[&["keys", "rotate"], &words(&options)[..]].concat());
    if told.status.success() { Ok(()) } else { Err(text(&told)) }
}

#[tokio::test]
async fn an_operator_takes_back_that_pins_were_refused_and_the_right_one_is_tried() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let guest = custody.customer("guest", &[], 0);
    // Each refusal says how many more there are.
    for (pin, left) in [("0000000005", "siv tries 1 more here"), ("0000000006", "siv tries no other here for a day")] {
        let why = brings(&custody, &guest, &token, pin).unwrap_err();
        assert!(why.contains("hsm.pin") && why.contains(left), "{why}");
    }
    let tried = token.calls("C_Login");
    let why = brings(&custody, &guest, &token, PIN).unwrap_err();
    assert!(why.contains("no other is tried before 20") && why.contains("siv tenant forget-pins --serial"), "{why}");
    assert_eq!(token.calls("C_Login"), tried, "not even the right one");
    // The refusal says word by word what to do.
    let (_, command) = why.split_once("(`siv ").unwrap();
    let (command, _) = command.split_once('`').unwrap();
    let command: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(command[command.len() - 2..], ["--tenant", "guest"]);
    // Neither a custodian nor an operator of the tenant alone; and only what was counted.
    for credential in [&guest.custodian, &guest.second, &guest.auditor] {
        assert!(!custody.command(credential, &command).status.success());
    }
    let made = custody.operate(&[
        "credential",
        "create",
        "--kind",
        "operator",
        "--name",
        "own",
        "--tenant",
        "guest",
        "--json",
    ]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert!(!custody.command(made["credential"].as_str().unwrap(), &command).status.success());
    assert!(!custody.operate(&command[..command.len() - 2]).status.success(), "nobody made a tenant there");
    assert!(brings(&custody, &guest, &token, PIN).is_err());
    let forgotten = custody.operate(&command);
    assert!(forgotten.status.success() && text(&forgotten).starts_with("2 PINs"), "{}", text(&forgotten));
    assert!(text(&forgotten).contains("siv tries 2 now"), "{}", text(&forgotten));
    let entries = custody.entries(&guest, "key.provider.pins-forgotten").await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["facts"]["tried"], "2");
    brings(&custody, &guest, &token, PIN).unwrap();
}

#[tokio::test]
async fn a_pin_in_whose_login_the_module_died_stays_counted() {
    let token = Token::shimmed(Provider::SoftHsm);
    let mut custody = Custody::of(&[&token]);
    let guest = custody.customer("guest", &[], 0);
    token.inject("C_Login crash\n");
    let tried = token.calls("C_Login");
    for pin in ["0000000005", "0000000006"] {
        let why = brings(&custody, &guest, &token, pin).unwrap_err();
        assert!(why.contains("hsm.token"), "{why}");
    }
    assert_eq!(token.calls("C_Login"), tried + 2);
    let entries = custody.entries(&guest, "key.provider.login-unanswered").await;
    assert_eq!(entries.len(), 2, "the token may have counted each: {entries:?}");
    assert!(entries.iter().all(|entry| entry["outcome"] == "unknown" && entry["facts"]["tokenLabel"] == LABEL));
    assert_eq!(custody.entries(&guest, "key.provider.quarantined").await.len(), 0);
    token.inject("");
    // What this process remembers of silent logins ends with it; the count does not.
    custody.restart();
    let tried = token.calls("C_Login");
    let why = brings(&custody, &guest, &token, PIN).unwrap_err();
    assert!(why.contains("no other is tried before 20"), "{why}");
    assert_eq!(token.calls("C_Login"), tried, "the token may have counted both");
    let entries = custody.entries(&guest, "key.provider.login-unanswered").await;
    assert_eq!(entries.len(), 2, "what was not tried has none");
}
