//! The conformance and safety report on real modules.

use hsm::check::{CheckOptions, CheckReport, Verdict, Weight};
use hsm::{Host, HsmError, KekKind, Profile};

use crate::token::{LONG, Provider, Token, named};

fn report(token: &Token, options: &CheckOptions) -> CheckReport {
    Host::check(&token.launch(), &token.configuration(), options, LONG).unwrap()
}

fn options() -> CheckOptions {
    CheckOptions { kek: None, wrong_pin: false, rounds: 5 }
}

fn works(report: &CheckReport, profile: Profile) -> bool {
    report.trials.iter().any(|trial| trial.profile == profile && trial.refusal.is_none())
}

fn line<'a>(report: &'a CheckReport, name: &str) -> &'a hsm::check::Line {
    report.lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("{name} in {report:?}"))
}

#[test]
fn the_report_on_softhsm_says_what_it_cannot_do() {
    let token = Token::new(Provider::SoftHsm);
    let report = report(&token, &options());
    assert_eq!(report.verdict, Verdict::Fit, "{:?}", report.reasons);
    assert_eq!(report.profile, Some(Profile::AesGcmApplicationIv));
    assert!(
        !works(&report, Profile::RsaOaepSha256) && report.mechanisms.iter().any(|m| m == "RSA_PKCS_OAEP"),
        "advertised, not done"
    );
    assert!(works(&report, Profile::AesKwpWrapKeyPad) && !works(&report, Profile::AesKwp));
    assert_eq!(line(&report, "duplicate-labels").weight, Weight::Note);
    assert!(line(&report, "handles-after-login").seen.contains("look missing"), "{report:?}");
    assert!(line(&report, "key-wrapped-away").weight == Weight::Good);
    assert!(report.mechanisms.len() > 60, "the list is the raw one");
    assert_eq!(report.latency.iter().map(|l| l.sessions).collect::<Vec<_>>(), [1, 4, 16]);
    let table = report.to_string();
    for words in
        ["token     siv-test", "verdict: fit; profile to pin: aes-gcm-application-iv", "duplicate-labels", "median"]
    {
        assert!(table.contains(words), "{words} in\n{table}");
    }
}

#[test]
fn the_report_on_kryoptic_prefers_the_pair_and_pins_it() {
    let token = Token::new(Provider::Kryoptic);
    let host = token.host();
    host.create_kek(&named("kek"), KekKind::Aes256, LONG).unwrap();
    drop(host);
    let without = report(&token, &CheckOptions { rounds: 0, ..options() });
    assert_eq!(without.profile, Some(Profile::RsaOaepSha256), "{without:?}");
    let with = report(&token, &CheckOptions { kek: Some(named("kek")), ..options() });
    assert_eq!(with.profile, Some(Profile::AesGcmApplicationIv), "the profile is of the KEK's kind");
    assert_eq!(with.verdict, Verdict::Fit, "{:?}", with.reasons);
    assert!(works(&with, Profile::AesKwp) && works(&with, Profile::AesKwpWrapKey));
    assert_eq!(with.kek.as_ref().unwrap().kind, KekKind::Aes256);
    let table = with.to_string();
    let line =
        |name: &str| table.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name} in\n{table}"));
    assert!(line("rsa-oaep-sha256").contains("not for this key"), "{table}");
    assert!(line("aes-gcm-application-iv ").ends_with("works"), "{table}");
    let key = line("always sensitive");
    assert!(
        key.contains("sensitive yes, ") && key.contains("extractable no, ") && key.contains("local yes"),
        "{table}"
    );
    assert!(line("behaviour;").contains("a note is not weighed"), "{table}");
    let json = serde_json::to_string(&with).unwrap();
    assert_eq!(serde_json::from_str::<CheckReport>(&json).unwrap(), with);
}

#[test]
fn the_report_never_tries_a_wrong_pin_unless_it_is_asked_to() {
    let token = Token::shimmed(Provider::SoftHsm);
    let quiet = report(&token, &CheckOptions { rounds: 0, ..options() });
    assert!(quiet.lines.iter().all(|line| line.name != "wrong-pin"));
    // One to connect, one after the logout that shows what becomes of handles.
    assert_eq!(token.calls("C_Login"), 2);
    let asked = report(&token, &CheckOptions { wrong_pin: true, rounds: 0, ..options() });
    assert_eq!(line(&asked, "wrong-pin").seen, "C_Login: PinIncorrect");
}

#[test]
fn the_report_leaves_no_key_in_the_token() {
    let token = Token::new(Provider::SoftHsm);
    report(&token, &CheckOptions { rounds: 0, ..options() });
    let objects = std::fs::read_dir(token.folder().join("tokens")).unwrap().next().unwrap().unwrap().path();
    let keys = std::fs::read_dir(objects)
        .unwrap()
        .filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "object"));
    // The token itself is kept in files of other names.
    let left: Vec<_> = keys.map(|f| f.unwrap().file_name()).filter(|name| name != "token.object").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_module_that_crashes_in_the_report_is_an_answer() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_GenerateRandom crash\n");
    let crashed = Host::check(&token.launch(), &token.configuration(), &options(), LONG);
    assert!(matches!(crashed, Err(HsmError::Unavailable(_))), "{crashed:?}");
}

#[test]
fn a_module_that_does_no_profile_is_unfit() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_EncryptInit rv=0x70\nC_WrapKey rv=0x70\n");
    let report = report(&token, &CheckOptions { rounds: 0, ..options() });
    assert_eq!(report.verdict, Verdict::Unfit);
    assert_eq!(report.profile, None);
    assert!(report.reasons.iter().any(|why| why.contains("no wrap profile")), "{:?}", report.reasons);
}
