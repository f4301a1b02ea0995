//! How many workers run at once, and what a host keeps whose worker ended because another one needed its place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hsm::{Configuration, Crew, Host, HsmError, Launch, Limits, Phase, Pin, PinSource};

use crate::token::{LONG, PIN, Provider, Token, data_key, kek, watched};

fn launch(token: &Token, crew: &Arc<Crew>) -> Launch {
    Launch { crew: Arc::clone(crew), ..token.launch() }
}

fn with_pin(token: &Token, pin: &str) -> Configuration {
    Configuration { pin: PinSource::Given(Pin::new(pin.as_bytes()).unwrap()), ..token.configuration() }
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

/// Takes the only place of a crew for a moment.
fn take_place(token: &Token, crew: &Arc<Crew>) {
    let other = Host::start(launch(token, crew), token.configuration(), Token::limits()).unwrap();
    assert!(other.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", other.status());
}

#[test]
fn a_worker_that_made_room_is_followed_at_the_next_call_by_one_that_knows_its_key() {
    let (token, crew) = (Token::shimmed(Provider::SoftHsm), Crew::new(1));
    let host = Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap();
    let kek = watched(&host, "kek");
    let wrapped = host.wrap(&kek, &data_key(), b"", LONG).unwrap();
    let first = host.status().worker_pid.unwrap_or_default();
    take_place(&token, &crew);
    assert!(host.wait(LONG, |s| s.phase == Phase::Idle && s.worker_pid.is_none()), "{:?}", host.status());
    assert!(!runs(first), "its place was free before another took it");
    let logins = token.calls("C_Login");
    // It does not come back by itself.
    assert!(!host.wait(Duration::from_secs(1), |s| s.phase != Phase::Idle));
    assert_eq!(token.calls("C_Login"), logins);
    let opened = host.unwrap(&kek, &wrapped, b"", LONG).unwrap();
    assert_eq!(&opened[..], &data_key()[..]);
    assert_eq!(token.calls("C_Login"), logins + 1);
    take_place(&token, &crew);
    assert!(host.wait(LONG, |s| s.phase == Phase::Idle), "{:?}", host.status());
    // Another key takes the place of its own while nobody watches.
    let thief = token.host();
    thief.destroy_kek(&kek.selector, None, LONG).unwrap();
    thief.create_kek(&kek.selector, hsm::KekKind::Aes256, LONG).unwrap();
    assert_eq!(host.unwrap(&kek, &wrapped, b"", LONG).map(drop), Err(HsmError::KekReplaced));
}

#[test]
fn a_worker_that_nobody_asks_stays_as_long_as_there_is_room() {
    let token = Token::shimmed(Provider::SoftHsm);
    // Each would have ended by now, where idleness ends one.
    let limits = Limits { idle: Duration::from_millis(50), canary: Duration::from_millis(200), ..Token::limits() };
    let host = token.host_with(token.configuration(), limits);
    assert!(!host.wait(Duration::from_secs(2), |s| s.phase == Phase::Idle), "{:?}", host.status());
    assert_eq!((host.status().starts, token.calls("C_Login")), (1, 1));
}

#[test]
fn a_call_that_was_given_up_takes_no_place_later() {
    let (token, crew) = (Token::shimmed(Provider::SoftHsm), Crew::new(1));
    let busy = Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap();
    let key = kek(&busy, "kek", hsm::KekKind::Aes256);
    let wrapped = busy.wrap(&key, &data_key(), b"", LONG).unwrap();
    token.inject("C_Decrypt delay=2000 times=1\n");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| busy.unwrap(&key, &wrapped, b"", LONG).map(drop));
        while busy.status().in_flight == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let other = Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap();
        let refused = other.unwrap(&key, &wrapped, b"", Duration::from_millis(300)).map(drop);
        assert_eq!(refused, Err(HsmError::Overloaded));
        assert_eq!(slow.join().unwrap(), Ok(()));
        // Its neighbour is idle from now on, and keeps its worker.
        assert!(!busy.wait(Duration::from_secs(1), |s| s.phase != Phase::Ready), "{:?}", busy.status());
        assert_eq!((other.status().starts, busy.status().starts), (0, 1));
    });
}

#[test]
fn a_host_that_is_well_again_counts_no_longer_as_one_that_failed() {
    let (token, crew) = (Token::shimmed(Provider::SoftHsm), Crew::new(4));
    token.inject("C_Initialize crash\n");
    let start = || Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap();
    let hosts = [start(), start(), start()];
    for host in &hosts {
        assert!(host.wait(LONG, |s| s.failed > 0), "{:?}", host.status());
    }
    token.inject("");
    for host in &hosts {
        assert!(host.wait(LONG, |s| s.phase == Phase::Ready && s.failed == 0), "{:?}", host.status());
    }
    // They make room, and come back at once: not one after the other, as those of failed tokens do.
    let key = kek(&hosts[0], "kek", hsm::KekKind::Aes256);
    let wrapped = hosts[0].wrap(&key, &data_key(), b"", LONG).unwrap();
    let others: Vec<Host> = (0..4).map(|_| start()).collect();
    for host in &others {
        assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
    }
    assert!(hosts.iter().all(|host| host.status().phase == Phase::Idle));
    token.inject("C_Initialize delay=3000\n");
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| host.unwrap(&key, &wrapped, b"", LONG).map(drop).unwrap());
        }
        let connecting = || hosts.iter().filter(|host| host.status().phase == Phase::Connecting).count();
        let until = std::time::Instant::now() + LONG;
        while connecting() < 3 {
            assert!(std::time::Instant::now() < until, "one waits for the other");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn as_many_workers_run_as_may_and_the_one_that_was_idle_longest_ends_for_another() {
    let (token, crew) = (Token::shimmed(Provider::SoftHsm), Crew::new(2));
    let hosts: Vec<Host> = (0..4)
        .map(|_| {
            let host = Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap();
            assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
            host
        })
        .collect();
    let key = kek(&hosts[3], "kek", hsm::KekKind::Aes256);
    let wrapped = hosts[3].wrap(&key, &data_key(), b"", LONG).unwrap();
    for round in 0..3 {
        for host in &hosts {
            assert!(host.unwrap(&key, &wrapped, b"", LONG).is_ok(), "{round}: {:?}", host.status());
            let with_worker: Vec<_> = hosts.iter().filter_map(|host| host.status().worker_pid).collect();
            assert!(with_worker.len() <= 2 && with_worker.iter().any(|pid| runs(*pid)), "{with_worker:?}");
        }
    }
    // Who came last kept theirs.
    let idle: Vec<bool> = hosts.iter().map(|host| host.status().phase == Phase::Idle).collect();
    assert_eq!(idle, [true, true, false, false]);
}

#[test]
fn where_all_workers_are_at_work_a_call_waits_and_is_refused_and_nobody_is_cut_short() {
    let (token, crew) = (Token::shimmed(Provider::SoftHsm), Crew::new(1));
    let busy = Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap();
    let key = kek(&busy, "kek", hsm::KekKind::Aes256);
    let wrapped = busy.wrap(&key, &data_key(), b"", LONG).unwrap();
    token.inject("C_Decrypt delay=4000 times=1\n");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| busy.unwrap(&key, &wrapped, b"", LONG).map(drop));
        while busy.status().in_flight == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let other = Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap();
        let refused = other.unwrap(&key, &wrapped, b"", Duration::from_millis(500)).map(drop);
        assert_eq!(refused, Err(HsmError::Overloaded));
        assert_eq!((other.status().phase, other.status().starts), (Phase::Idle, 0));
        assert_eq!(slow.join().unwrap(), Ok(()));
        assert_eq!(other.unwrap(&key, &wrapped, b"", LONG).map(drop), Ok(()));
    });
    assert_eq!(busy.status().starts, 1);
}

#[test]
fn a_refused_pin_is_remembered_though_its_place_went_to_another() {
    let (token, crew) = (Token::shimmed(Provider::SoftHsm), Crew::new(1));
    let limits = Token::limits();
    let refused = Host::start(launch(&token, &crew), with_pin(&token, "0000000000"), limits.clone()).unwrap();
    assert!(refused.wait(LONG, |s| s.phase == Phase::Quarantined), "{:?}", refused.status());
    let before = (refused.status().starts, refused.status().changes);
    let well = Host::start(launch(&token, &crew), with_pin(&token, PIN), limits).unwrap();
    let key = kek(&well, "kek", hsm::KekKind::Aes256);
    take_place(&token, &crew);
    let logins = token.calls("C_Login");
    refused.wake();
    for _ in 0..3 {
        assert!(matches!(refused.wrap(&key, &data_key(), b"", LONG), Err(HsmError::Quarantined(_))));
    }
    assert_eq!((refused.status().phase, token.calls("C_Login")), (Phase::Quarantined, logins));
    // Not even for a moment: what remembers the PIN forgets it after a while.
    assert_eq!((refused.status().starts, refused.status().changes), before);
}

#[test]
fn tokens_that_hang_keep_no_others_from_their_workers() {
    let (dead, token, crew) = (Token::shimmed(Provider::SoftHsm), Token::shimmed(Provider::SoftHsm), Crew::new(4));
    dead.inject("C_Initialize hang\n");
    let limits = Limits { connect: Duration::from_millis(500), ..Token::limits() };
    let hanging: Vec<Host> =
        (0..8).map(|_| Host::start(launch(&dead, &crew), dead.configuration(), limits.clone()).unwrap()).collect();
    for host in &hanging {
        assert!(host.wait(LONG, |s| s.last_error.is_some()), "{:?}", host.status());
    }
    // One place in four is theirs from now on: three others run side by side.
    let well: Vec<Host> =
        (0..3).map(|_| Host::start(launch(&token, &crew), token.configuration(), Token::limits()).unwrap()).collect();
    for host in &well {
        assert!(host.wait(LONG, |s| s.canaries_at.is_some()), "{:?}", host.status());
    }
    for _ in 0..20 {
        let hung = hanging.iter().filter(|host| host.status().worker_pid.is_some()).count();
        assert!(hung <= 1, "{hung} of them run");
        std::thread::sleep(Duration::from_millis(20));
    }
    let selector = crate::token::named("none");
    for host in &well {
        assert_eq!(host.describe(&selector, LONG).unwrap_err(), HsmError::KekNotFound);
    }
}
