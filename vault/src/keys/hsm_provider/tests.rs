//! Whose turn it is: to make a key in a token, and to call one.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use std::sync::Arc;
use std::time::Duration;

use super::running::Running;
use super::silence::{Heard, login};
use super::{AT_ONCE, CALL, HsmKek, HsmSetup};
use crate::domain::{Clock, KeyProviderId, TenantName};
use crate::keys::Seen;
use crate::keys::fixture::{NOW, Records, open, tenant};

#[tokio::test]
async fn a_key_that_takes_long_holds_up_the_next_one_of_its_own_tenant_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
    let hsm = &keys.inner.provider.hsm;
    let [slow, other]: [TenantName; 2] = ["slow", "other"].map(|name| name.parse().unwrap());
    let held = hsm.turn_to_make(&slow).await.unwrap();
    drop(hsm.turn_to_make(&other).await.unwrap());
    let mut next = pin!(hsm.turn_to_make(&slow));
    assert!(poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await, "it waits for its turn");
    drop(hsm.turn_to_make(&other).await.unwrap());
    drop(held);
    drop(next.await.unwrap());
    // Nobody's turn is remembered once it is over.
    drop(hsm.turn_to_make(&other).await.unwrap());
    assert!(!hsm.making.lock().unwrap().contains_key(&slow));
}

/// A host whose worker is on its way for ever, or has no place.
fn starting(crew: &Arc<hsm::Crew>, tenant: &str) -> Arc<Running> {
    host_of("/bin/sleep", crew, tenant)
}

fn host_of(program: &str, crew: &Arc<hsm::Crew>, tenant: &str) -> Arc<Running> {
    let launch = hsm::Launch {
        program: program.into(),
        arguments: vec!["600".into()],
        environment: Vec::new(),
        crew: Arc::clone(crew),
    };
    let configuration = hsm::Configuration {
        module: "/none".into(),
        module_sha256: None,
        token: hsm::TokenSelector::default(),
        pin: hsm::PinSource::Given(hsm::Pin::new(b"1234").unwrap()),
        sessions: 1,
        memory_bytes: 1 << 30,
        canaries: Vec::new(),
        sha1_for_tests: false,
    };
    let host = hsm::Host::start(launch, configuration, hsm::Limits::default()).unwrap();
    let place = (tenant.parse().unwrap(), KeyProviderId::generate(NOW));
    Arc::new(Running::new(place, 1, Arc::new(host), Vec::new()))
}

#[tokio::test]
async fn calls_that_wait_for_their_workers_take_no_turn_of_those_whose_worker_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
    let (hsm, crew) = (&keys.inner.provider.hsm, hsm::Crew::new(1));
    let hosts = ["one", "two", "three"].map(|tenant| starting(&crew, tenant));
    let kek = hsm::KekSelector { label: Some("kek".to_owned()), id: None };
    let waiting = hosts.iter().map(|running| {
        let kek = kek.clone();
        hsm.call(running, CALL, move |host, left| host.describe(&kek, left))
    });
    let waiting = futures_util::future::join_all(waiting);
    let watching = async {
        // Each of them is in its call by then.
        for _ in 0..200 {
            if hsm.waiting.available_permits() + hosts.len() == super::WAIT_AT_ONCE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let left = (hsm.turns.available_permits(), hsm.waiting.available_permits());
        assert_eq!(left, (AT_ONCE, super::WAIT_AT_ONCE - hosts.len()));
    };
    let (waited, ()) = futures_util::future::join(waiting, watching).await;
    assert!(waited.iter().all(Result::is_err));
}

#[test]
fn of_the_looks_of_one_tenant_only_the_one_whose_turn_it_is_holds_a_thread() {
    // One for the look that waits for the token, one for everybody else.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(2).build().unwrap();
    let done = runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        let launch = hsm::Launch {
            program: "/bin/sleep".into(),
            arguments: vec!["600".into()],
            environment: Vec::new(),
            crew: hsm::Crew::new(1),
        };
        // Longer than this test.
        keys.use_hsms(HsmSetup { launch, modules: None, lost_after: Duration::from_secs(60) });
        let provider = keys.silent_token(&tenant(), NOW).await;
        let records = Records::with_kek(&keys).await;
        records.providers.lock().unwrap().push((1, provider.clone()));
        let mut kek = records.keks.lock().unwrap().pop().unwrap();
        kek.hsm = Some(Box::new(HsmKek::in_no_token(provider.provider_id)));
        let (hsm, tenant) = (&keys.inner.provider.hsm, tenant());
        let looks = async {
            let looks =
                futures_util::future::join(hsm.look(&records, &tenant, &kek), hsm.look(&records, &tenant, &kek));
            panic!("it said something: {:?}", looks.await);
        };
        let other = async {
            while hsm.hosts().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // The second would have come as far by then.
            tokio::time::sleep(Duration::from_millis(500)).await;
            tokio::time::timeout(Duration::from_secs(10), tokio::task::spawn_blocking(|| ())).await
        };
        tokio::select! {
            () = looks => unreachable!("it has no end"),
            done = other => done,
        }
    });
    // Whoever waits for the token is not waited for.
    runtime.shutdown_background();
    assert!(done.is_ok(), "both threads were held");
}

#[test]
fn another_spelling_of_an_allowed_module_is_allowed_and_a_refusal_names_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let [file, link, other] = ["module.so", "link.so", "other.so"].map(|name| folder.path().join(name));
    std::fs::write(&file, "").unwrap();
    std::fs::write(&other, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let launch = hsm::Launch {
        program: "/bin/false".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
        crew: hsm::Crew::new(1),
    };
    let allowing = |modules| HsmSetup { launch: launch.clone(), modules, lost_after: Duration::from_secs(1) };
    for (named, asked) in [(&link, &file), (&file, &link), (&file, &file)] {
        assert!(allowing(Some(vec![named.clone()])).allows(asked).is_ok(), "{named:?} {asked:?}");
    }
    let setup = allowing(Some(vec![link.clone()]));
    let refused = setup.allows(&other).unwrap_err().to_string();
    assert!(refused.contains(link.to_str().unwrap()), "{refused}");
    // A link is what it leads to.
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    assert!(setup.allows(&file).is_err() && setup.allows(&other).is_ok() && allowing(None).allows(&file).is_ok());
}

#[test]
fn a_token_that_nobody_could_ask_said_nothing_and_one_whose_starts_failed_did() {
    let crew = hsm::Crew::new(1);
    let beginning = starting(&crew, "beginning");
    assert!(beginning.host().wait(Duration::from_secs(60), |status| status.phase == hsm::Phase::Connecting));
    // Of one the worker is on its way, for the other there is no place.
    for unasked in [beginning, starting(&crew, "waiting")] {
        let heard = login(&unasked.host(), Duration::from_millis(100));
        assert!(matches!(heard, Err(hsm::HsmError::Overloaded)), "the next look asks it");
    }
    let failed = host_of("/bin/false", &hsm::Crew::new(1), "failed");
    assert!(matches!(login(&failed.host(), Duration::from_secs(2)), Ok(Some(Heard::Silence(Seen::Fails)))));
}
