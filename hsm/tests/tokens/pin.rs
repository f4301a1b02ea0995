//! A wrong PIN is tried once; then only a person helps.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hsm::{Host, HsmError, Limits, Phase, Pin, PinSource};

use crate::token::{BOTH, LONG, PIN, Provider, Token, data_key};

#[test]
fn a_wrong_pin_is_tried_exactly_once_until_a_person_changes_it() {
    for provider in BOTH {
        let token = Token::shimmed(provider);
        let mut wrong = token.configuration();
        wrong.pin = PinSource::Given(Pin::new(b"0000000000").unwrap());
        let host = Host::start(token.launch(), wrong, Token::limits()).unwrap();
        assert!(host.wait(LONG, |s| s.phase == Phase::Quarantined), "{:?}", host.status());
        let kek = hsm::KekRef { selector: crate::token::named("kek"), profile: hsm::Profile::AesKwp };
        for _ in 0..20 {
            assert!(matches!(host.wrap(&kek, &data_key(), b"", LONG), Err(HsmError::Quarantined(_))));
        }
        // Longer than any back-off would have waited at first.
        assert!(!host.wait(Duration::from_secs(1), |s| s.phase != Phase::Quarantined));
        assert_eq!(token.calls("C_Login"), 1, "{provider:?}");
        assert!(!format!("{:?}", host.status()).contains("0000000000"));
        host.reconfigure(token.configuration());
        assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
        assert_eq!(token.calls("C_Login"), 2);
    }
}

#[test]
fn a_pin_that_was_refused_is_tried_by_no_other_host_of_this_process() {
    for provider in BOTH {
        let token = Token::shimmed(provider);
        let begin = |pin: &str| {
            let mut configuration = token.configuration();
            configuration.pin = PinSource::Given(Pin::new(pin.as_bytes()).unwrap());
            Host::start(token.launch(), configuration, Token::limits()).unwrap()
        };
        // At once, as tenants of one token do after a restart: their logins come one after the other.
        let hosts: Vec<_> = (0..4).map(|_| begin("0000000001")).collect();
        for host in &hosts {
            assert!(host.wait(LONG, |s| s.phase == Phase::Quarantined), "{:?}", host.status());
        }
        assert_eq!(token.calls("C_Login"), 1, "{provider:?}");
        // The right one is not held up by it.
        let right = begin(PIN);
        assert!(right.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", right.status());
    }
}

#[test]
fn a_login_that_does_not_answer_is_no_refusal_and_the_token_heals() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_Login hang\n");
    let limits = Limits { connect: Duration::from_secs(2), ..Token::limits() };
    let host = Host::start(token.launch(), token.configuration(), limits.clone()).unwrap();
    let said = |s: &hsm::Status| s.last_error.as_ref().is_some_and(|e| e.contains("two logins in a row"));
    assert!(host.wait(LONG, |s| s.phase == Phase::Down && said(s)), "{:?}", host.status());
    // Two in a row, then not at the pace of starts; a third where this machine stood still for seconds.
    assert!((2..=3).contains(&token.calls("C_Login")), "{}", token.calls("C_Login"));
    // Another tenant of that token does not try in between, and neither is left to a person.
    let other = Host::start(token.launch(), token.configuration(), limits).unwrap();
    assert!(other.wait(LONG, said), "{:?}", other.status());
    assert!(other.status().phase != Phase::Quarantined && host.status().phase != Phase::Quarantined);
    token.inject("");
    for host in [host, other] {
        assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
    }
}

#[test]
fn a_login_without_an_answer_that_the_token_counted_as_a_wrong_pin_is_left_to_a_person() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_Login hang\n");
    let limits = Limits { connect: Duration::from_secs(5), ..Token::limits() };
    let host = Host::start(token.launch(), token.configuration(), limits).unwrap();
    let until = std::time::Instant::now() + LONG;
    while token.calls("C_Login") == 0 {
        assert!(std::time::Instant::now() < until, "{:?}", host.status());
        std::thread::sleep(Duration::from_millis(10));
    }
    token.inject("C_GetTokenInfo flags=0x10000\n");
    assert!(host.wait(LONG, |s| s.phase == Phase::Quarantined), "{:?}", host.status());
    assert!(host.status().last_error.unwrap().contains("did not answer"), "{:?}", host.status());
    assert_eq!(token.calls("C_Login"), 1);
}

#[test]
fn a_slow_module_with_a_slow_login_is_not_cut_short_at_its_start() {
    let token = Token::shimmed(Provider::SoftHsm);
    // Each within the limit, both together not.
    token.inject("C_Initialize delay=6000\nC_Login delay=6000\n");
    let limits = Limits { connect: Duration::from_secs(10), ..Token::limits() };
    let host = Host::start(token.launch(), token.configuration(), limits).unwrap();
    assert!(host.wait(LONG, |s| matches!(s.phase, Phase::Ready | Phase::Quarantined)), "{:?}", host.status());
    assert_eq!((host.status().phase, token.calls("C_Login")), (Phase::Ready, 1), "{:?}", host.status());
}

#[test]
fn a_slow_login_of_a_running_worker_is_not_cut_short() {
    let token = Token::shimmed(Provider::SoftHsm);
    let limits = Limits { call: Duration::from_millis(500), connect: Duration::from_secs(20), ..Token::limits() };
    let host = token.host_with(token.configuration(), limits);
    let kek = crate::token::kek(&host, "kek", hsm::KekKind::Aes256);
    let wrapped = host.wrap(&kek, &data_key(), b"", LONG).unwrap();
    // Its session is over, and the next login takes as long as four calls may.
    token.inject("C_DecryptInit rv=0xb3 times=1\nC_Login delay=2000\n");
    let until = std::time::Instant::now() + LONG;
    while host.unwrap(&kek, &wrapped, b"", LONG).is_err() {
        assert!(std::time::Instant::now() < until, "{:?}", host.status());
    }
    assert_eq!((token.calls("C_Login"), host.status().starts), (2, 1));
}

#[test]
fn a_slow_login_that_a_look_at_the_canaries_began_is_not_cut_short() {
    let token = Token::shimmed(Provider::SoftHsm);
    let (call, canary, connect) = (Duration::from_millis(500), Duration::from_millis(300), Duration::from_secs(20));
    let host = token.host_with(token.configuration(), Limits { call, canary, connect, ..Token::limits() });
    crate::token::watched(&host, "kek");
    token.inject("C_DecryptInit rv=0xb3 times=1\nC_Login delay=2000\n");
    let until = std::time::Instant::now() + LONG;
    while token.calls("C_Login") < 2 {
        assert!(std::time::Instant::now() < until, "{:?}", host.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    let looked = host.status().canaries_at;
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready && s.canaries_at > looked), "{:?}", host.status());
    assert_eq!((token.calls("C_Login"), host.status().starts), (2, 1), "{:?}", host.status());
}

#[test]
fn a_module_that_dies_at_its_login_is_no_refusal() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_Login crash\n");
    let host = Host::start(token.launch(), token.configuration(), Token::limits()).unwrap();
    let said = |s: &hsm::Status| s.last_error.as_ref().is_some_and(|e| e.contains("two logins in a row"));
    assert!(host.wait(LONG, said), "{:?}", host.status());
    assert!(host.status().phase != Phase::Quarantined && token.calls("C_Login") >= 2);
    token.inject("");
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
}

#[test]
fn who_guesses_pins_of_a_token_is_stopped_before_it_locks() {
    let token = Token::shimmed(Provider::SoftHsm);
    // Whoever counts them: two for each, and none is tried before it was counted.
    let counted: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let guess = |who: &str, pin: &str| {
        let mut configuration = token.configuration();
        configuration.pin = PinSource::Given(Pin::new(pin.as_bytes()).unwrap());
        let (counted, who) = (Arc::clone(&counted), who.to_owned());
        let may_try = Arc::new(move |serial: &str| {
            let mut counted = counted.lock().unwrap();
            let tried = counted.entry(format!("{who} at {serial}")).or_default();
            if *tried == 2 {
                return Err("no other is tried".to_owned());
            }
            *tried += 1;
            Ok(())
        });
        Host::try_out(token.launch(), configuration, Token::limits(), may_try).unwrap()
    };
    for pin in ["0000000002", "0000000003"] {
        let host = guess("guest", pin);
        assert!(host.wait(LONG, |s| s.phase == Phase::Quarantined), "{:?}", host.status());
    }
    let third = guess("guest", "0000000004");
    assert!(
        third.wait(LONG, |s| s.last_error.as_ref().is_some_and(|e| e.contains("no other"))),
        "{:?}",
        third.status()
    );
    assert_eq!(token.calls("C_Login"), 2);
    let owner = token.host();
    assert_eq!(owner.status().phase, Phase::Ready);
    // Nor does it keep the owner from bringing a PIN that is another by now.
    drop(owner);
    token.logged_in(&["--change-pin", "--new-pin", "0987654321"]);
    let changed = guess("owner", "0987654321");
    assert!(changed.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", changed.status());
}

#[test]
fn a_pin_file_is_read_by_the_worker_and_stands_in_no_argument_and_no_environment() {
    let token = Token::shimmed(Provider::SoftHsm);
    let path = token.folder().join("pin");
    std::fs::write(&path, format!("{PIN}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let mut configuration = token.configuration();
    configuration.pin = PinSource::File(path);
    let host = token.host_with(configuration, Token::limits());
    let pid = host.status().worker_pid.unwrap();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!arguments.windows(PIN.len()).any(|part| part == PIN.as_bytes()));
    assert!(!token.environment().is_empty() && token.environment().iter().all(|variable| !variable.contains(PIN)));
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(4), Some("256"), "{files}");
    let memory = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
    assert_eq!(memory.split_whitespace().nth(3), Some("1073741824"), "{memory}");
}

#[test]
fn a_pin_file_that_others_can_read_is_not_used() {
    let token = Token::shimmed(Provider::SoftHsm);
    let path = token.folder().join("pin");
    std::fs::write(&path, PIN).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut configuration = token.configuration();
    configuration.pin = PinSource::File(path.clone());
    let host = Host::start(token.launch(), configuration, Token::limits()).unwrap();
    assert!(host.wait(LONG, |s| s.last_error.as_ref().is_some_and(|e| e.contains("0400"))), "{:?}", host.status());
    assert_eq!(token.calls("C_Login"), 0);
    // Put right by a person; nobody restarts anything.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
}

#[test]
fn a_token_that_one_wrong_pin_would_lock_or_that_is_locked_is_left_to_a_person() {
    for (flags, words) in [("0x20000", "one more wrong PIN"), ("0x40000", "locked")] {
        let token = Token::shimmed(Provider::SoftHsm);
        token.inject(&format!("C_GetTokenInfo flags={flags}\n"));
        let host = Host::start(token.launch(), token.configuration(), Token::limits()).unwrap();
        assert!(host.wait(LONG, |s| s.phase == Phase::Quarantined), "{:?}", host.status());
        assert!(host.status().last_error.unwrap().contains(words), "{:?}", host.status());
        assert_eq!(token.calls("C_Login"), 0);
        token.inject("");
        host.reconfigure(token.configuration());
        assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
    }
}
