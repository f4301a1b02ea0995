//! Workers that die, modules that crash or hang, tokens that go away and come back: the caller gets an answer, and the HSM heals by itself.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hsm::{Host, HsmError, KekKind, KekRef, Limits, Phase};

use crate::token::{BOTH, LONG, Provider, Token, data_key, kek, watched};

const CONTEXT: &[u8] = b"context";

fn heals(host: &Host, kek: &KekRef, wrapped: &[u8]) {
    let until = Instant::now() + LONG;
    loop {
        match host.unwrap(kek, wrapped, CONTEXT, Duration::from_secs(2)) {
            Ok(key) => return assert_eq!(key, data_key()),
            Err(error) => assert!(error.is_outage(), "{error:?}"),
        }
        assert!(Instant::now() < until, "it never healed: {:?}", host.status());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_worker_killed_under_load_is_replaced_and_no_answer_is_wrong() {
    for provider in BOTH {
        let token = Token::new(provider);
        let host = token.host();
        let kek = watched(&host, "kek");
        let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
        let (stop, good) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        match host.unwrap(&kek, &wrapped, CONTEXT, Duration::from_secs(2)) {
                            Ok(key) => {
                                assert_eq!(key, data_key());
                                good.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => assert!(error.is_outage(), "{error:?}"),
                        }
                    }
                });
            }
            for round in 1..=3 {
                let before = good.load(Ordering::Relaxed);
                let pid = host.status().worker_pid.unwrap().to_string();
                assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
                assert!(host.wait(LONG, |s| s.starts > round && s.phase == Phase::Ready), "{:?}", host.status());
                let until = Instant::now() + LONG;
                while good.load(Ordering::Relaxed) == before {
                    assert!(Instant::now() < until, "no call succeeded after round {round}");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        heals(&host, &kek, &wrapped);
    }
}

#[test]
fn a_worker_ends_with_its_host_and_leaves_no_process() {
    let token = Token::new(Provider::SoftHsm);
    let host = token.host();
    let pid = host.status().worker_pid.unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    drop(host);
    let until = Instant::now() + LONG;
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < until, "the worker outlived its host");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_module_that_crashes_takes_nothing_with_it() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    let kek = watched(&host, "kek");
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    token.inject("C_Decrypt crash\n");
    assert!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap_err().is_outage());
    assert!(host.wait(LONG, |s| s.phase != Phase::Ready));
    token.inject("");
    heals(&host, &kek, &wrapped);
    assert!(host.status().starts >= 2);
}

#[test]
fn a_module_that_crashes_while_it_connects_is_started_with_back_off_and_heals() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_Initialize crash\n");
    let host = Host::start(token.launch(), token.configuration(), Token::limits()).unwrap();
    assert!(host.wait(LONG, |s| s.starts >= 3), "{:?}", host.status());
    token.inject("");
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
}

#[test]
fn a_hung_call_is_answered_at_its_deadline_and_its_worker_killed() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host_with(token.configuration(), Limits { call: Duration::from_secs(2), ..Token::limits() });
    let kek = watched(&host, "kek");
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    let pid = host.status().worker_pid.unwrap();
    token.inject("C_Decrypt hang\n");
    // A caller without patience leaves; the hung call still costs the worker its life.
    let error = host.unwrap(&kek, &wrapped, CONTEXT, Duration::from_millis(100)).unwrap_err();
    assert_eq!(error, HsmError::DeadlineExceeded);
    assert!(host.wait(LONG, |s| s.worker_pid != Some(pid)), "{:?}", host.status());
    token.inject("");
    heals(&host, &kek, &wrapped);
}

#[test]
fn a_module_that_hangs_while_it_connects_is_killed_too() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_OpenSession hang\n");
    let limits = Limits { connect: Duration::from_millis(500), ..Token::limits() };
    let host = Host::start(token.launch(), token.configuration(), limits).unwrap();
    assert!(host.wait(LONG, |s| s.starts >= 2), "{:?}", host.status());
    token.inject("");
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
}

#[test]
fn a_host_is_given_up_although_its_module_hangs() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_Initialize hang\n");
    let limits = Limits { connect: Duration::from_secs(3600), ..Token::limits() };
    let host = Host::start(token.launch(), token.configuration(), limits.clone()).unwrap();
    assert!(host.wait(LONG, |s| s.phase == Phase::Connecting));
    let until = Instant::now() + LONG;
    while token.calls("C_Initialize") == 0 {
        assert!(Instant::now() < until, "the module was never initialised");
        std::thread::sleep(Duration::from_millis(5));
    }
    // A person mends the configuration meanwhile: the hung start is not waited for.
    token.inject("");
    host.reconfigure(token.configuration());
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
    token.inject("C_Initialize hang\n");
    let hung = Host::start(token.launch(), token.configuration(), limits).unwrap();
    while hung.status().worker_pid.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Would never return.
    drop(hung);
}

#[test]
fn a_worker_inherits_no_environment_and_cannot_gain_rights() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    let pid = host.status().worker_pid.unwrap();
    let environment = token.environment();
    let names: Vec<_> = environment.iter().map(|variable| variable.split('=').next().unwrap()).collect();
    assert!(names.contains(&"SOFTHSM2_CONF"), "{names:?}");
    assert!(names.iter().all(|name| *name == "SOFTHSM2_CONF" || name.starts_with("HSM_SHIM_")), "{names:?}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.lines().any(|line| line.starts_with("NoNewPrivs:") && line.ends_with('1')), "{status}");
}

#[test]
fn a_slow_module_is_waited_for_and_a_full_house_is_refused_at_once() {
    let token = Token::shimmed(Provider::SoftHsm);
    let limits = Limits { in_flight: 2, call: LONG, ..Token::limits() };
    let host = token.host_with(token.configuration(), limits);
    let kek = kek(&host, "kek", KekKind::Aes256);
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    token.inject("C_DecryptInit delay=3000\n");
    std::thread::scope(|scope| {
        let slow: Vec<_> = (0..2).map(|_| scope.spawn(|| host.unwrap(&kek, &wrapped, CONTEXT, LONG))).collect();
        let until = Instant::now() + LONG;
        while host.status().in_flight < 2 {
            assert!(Instant::now() < until, "the calls never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap_err(), HsmError::Overloaded);
        for call in slow {
            assert_eq!(call.join().unwrap().unwrap(), data_key());
        }
    });
    assert_eq!(host.status().starts, 1);
}

#[test]
fn a_token_that_goes_away_and_comes_back_heals_by_itself() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    let kek = watched(&host, "kek");
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    let (here, away) = (token.folder().join("tokens"), token.folder().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let until = Instant::now() + LONG;
    // SoftHSM may still answer from what it holds in memory; it must not answer wrongly.
    while host.unwrap(&kek, &wrapped, CONTEXT, Duration::from_secs(2)).is_ok() {
        assert!(Instant::now() < until, "the token's absence was never noticed");
    }
    for _ in 0..3 {
        let error = host.unwrap(&kek, &wrapped, CONTEXT, Duration::from_secs(2)).unwrap_err();
        assert!(error.is_outage() || error == HsmError::KekNotFound, "{error:?}");
    }
    assert!(token.calls("C_Finalize") > 0, "only an initialisation heals this");
    std::fs::rename(&away, &here).unwrap();
    heals(&host, &kek, &wrapped);
}

#[test]
fn failures_in_a_row_open_the_breaker_and_the_canary_closes_it() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    let kek = watched(&host, "kek");
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    // No room: an outage that tears nothing down by itself.
    token.inject("C_EncryptInit rv=0xb1\n");
    for _ in 0..5 {
        assert!(host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap_err().is_outage());
    }
    let changes = host.status().changes;
    assert!(matches!(host.status().phase, Phase::Degraded | Phase::Ready));
    assert!(changes >= 3, "the breaker never opened: {:?}", host.status());
    // The canary only unwraps: it is well, and the breaker closes.
    assert!(
        host.wait(LONG, |s| s.phase == Phase::Ready && s.changes > 3 || s.changes > changes),
        "{:?}",
        host.status()
    );
    token.inject("");
    heals(&host, &kek, &wrapped);
    assert_eq!(host.status().starts, 1);
}

#[test]
fn two_modules_work_at_once_and_the_death_of_one_leaves_the_other_alone() {
    let (soft, kryoptic) = (Token::shimmed(Provider::SoftHsm), Token::new(Provider::Kryoptic));
    let (one, other) = (soft.host(), kryoptic.host());
    let (first, second) = (watched(&one, "kek"), watched(&other, "kek"));
    let wrapped = other.wrap(&second, &data_key(), CONTEXT, LONG).unwrap();
    one.wrap(&first, &data_key(), CONTEXT, LONG).unwrap();
    soft.inject("* crash\n");
    for _ in 0..50 {
        let _ = one.wrap(&first, &data_key(), CONTEXT, Duration::from_millis(50));
        assert_eq!(other.unwrap(&second, &wrapped, CONTEXT, LONG).unwrap(), data_key());
    }
    assert_eq!(other.status().starts, 1);
    assert!(one.status().starts > 1);
}

#[test]
fn another_file_in_the_place_of_the_onboarded_module_is_not_loaded() {
    let token = Token::shimmed(Provider::SoftHsm);
    let mut configuration = token.configuration();
    configuration.module_sha256 = Some(hsm::ModuleHash([7; 32]));
    let host = Host::start(token.launch(), configuration, Token::limits()).unwrap();
    assert!(host.wait(LONG, |s| s.last_error.as_ref().is_some_and(|e| e.contains("onboarded"))), "{:?}", host.status());
    assert_eq!(token.calls("C_Initialize"), 0);
}

#[test]
fn a_worker_whose_module_hangs_ends_when_its_host_is_gone() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_OpenSession hang\n");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let launch = token.launch();
    // A host that is killed sends nothing more and reaps nobody: one is played by hand.
    let mut worker = Command::new(&launch.program)
        .envs(launch.environment)
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let configuration = format!(
        r#"{{"module":{:?},"module_sha256":null,"token":{{"label":"siv-test"}},"pin_file":null,"sessions":1,"memory_bytes":1073741824,"canaries":[],"sha1_for_tests":false}}"#,
        token.module
    );
    let secrets = [&[7; 32][..], b"1234567890"].concat();
    let fields = [&b"\"Configure\""[..], configuration.as_bytes(), &secrets];
    let body = fields.map(|f| [&u32::try_from(f.len()).unwrap().to_be_bytes()[..], f].concat()).concat();
    let length = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
    let mut socket = &ours;
    std::io::Write::write_all(&mut socket, &[&length[..], &[0; 8], &body].concat()).unwrap();
    let until = Instant::now() + LONG;
    while token.calls("C_OpenSession") == 0 {
        assert!(Instant::now() < until, "it never opened a session");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(worker.try_wait().unwrap(), None);
    drop(ours);
    while worker.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            worker.kill().unwrap();
            panic!("the worker outlived its host");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_worker_started_by_hand_ends_at_once() {
    let status =
        Command::new(env!("CARGO_BIN_EXE_hsm-test-worker")).stdin(std::process::Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}
