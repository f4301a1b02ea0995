//! A customer's module that hangs, crashes or returns rubbish: one tenant's answer within the time that is promised, none of
//! its neighbour's business, and well again by itself.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::Answer;
use tests::custody::{Custody, Customer, until, words};
use tests::token::{LABEL, PIN, Provider, Token};

/// Two seconds are promised; the rest is for a machine that is busy with other tests.
const ANSWERED: Duration = Duration::from_secs(4);
/// Ten seconds are promised.
const HEALED: Duration = Duration::from_secs(20);

struct Scene {
    token: Token,
    custody: Custody,
    strict: Customer,
    neighbour: Customer,
    keys: [String; 2],
}

impl Scene {
    /// Two tenants with modules of their own; what happens to the first one's is said in its control file.
    async fn new() -> Self {
        let token = Token::shimmed(Provider::SoftHsm);
        let other = Token::labelled(Provider::Kryoptic, "other", PIN);
        let custody = Custody::of(&[&token, &other]);
        let strict = custody.customer_in("strict", (&token, LABEL, PIN), 0);
        let neighbour = custody.customer_in("neighbour", (&other, "other", PIN), 0);
        let key = custody.put(&strict, "4242424242424242").await.unwrap();
        let theirs = custody.put(&neighbour, "5555555555554444").await.unwrap();
        custody.read(&strict, &key).await.expect(200);
        // Its folder must outlive the test.
        std::mem::forget(other);
        Self { token, custody, strict, neighbour, keys: [key, theirs] }
    }

    async fn read(&self) -> (Answer, Duration) {
        let begun = Instant::now();
        (self.custody.read(&self.strict, &self.keys[0]).await, begun.elapsed())
    }

    /// While the fault is there: 503 in time, and the neighbour is served. Then it goes, and all is well.
    async fn bears(&self, fault: &str) {
        self.token.inject(fault);
        let mut slowest = Duration::ZERO;
        for _ in 0..4 {
            let (answer, took) = self.read().await;
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (503, &json!("kms.unavailable")),
                "{fault}: {}",
                answer.text
            );
            slowest = slowest.max(took);
            assert!(took < ANSWERED, "{fault}: answered after {took:?}");
            self.custody.read(&self.neighbour, &self.keys[1]).await.expect(200);
        }
        self.token.inject("");
        let returned = Instant::now();
        until(&format!("{fault}: it heals"), || async { self.read().await.0.status == 200 }).await;
        println!("{}: answered within {slowest:?}, healed after {:?}", fault.trim(), returned.elapsed());
        assert!(returned.elapsed() < HEALED, "{fault}: healed after {:?}", returned.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_hangs_or_crashes_is_answered_for_in_time_and_heals_by_itself() {
    let scene = Scene::new().await;
    scene.bears("C_Decrypt hang\n").await;
    scene.bears("C_Decrypt crash\n").await;
    // Not initialised: healed only by C_Finalize and C_Initialize, all of it anew.
    scene.bears("C_Decrypt rv=0x190\nC_DecryptInit rv=0x190\n").await;
    scene.bears("C_DecryptInit rv=0x30\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_which_making_a_key_hangs_holds_up_no_other_tenants_beginning() {
    let (slow, other) = (Token::shimmed(Provider::SoftHsm), Token::labelled(Provider::Kryoptic, "other", PIN));
    let custody = Custody::of(&[&slow, &other]);
    slow.inject("C_GenerateKey hang\n");
    let options = custody.options(&slow, LABEL, PIN);
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| custody.operate(&[&["tenant", "create", "slow"], &words(&options)[..]].concat()));
        while slow.calls("C_GenerateKey") == 0 {
            assert!(!hangs.is_finished(), "it does not hang");
            std::thread::sleep(Duration::from_millis(20));
        }
        custody.customer_in("quick", (&other, "other", PIN), 0);
        assert!(!hangs.is_finished(), "the other one was made while it hung");
        assert!(!hangs.join().unwrap().status.success());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_from_a_module_is_no_value_and_an_alarm() {
    let scene = Scene::new().await;
    scene.token.inject("C_Decrypt flip\n");
    let (answer, _) = scene.read().await;
    assert_ne!(answer.status, 200, "{}", answer.text);
    scene.custody.read(&scene.neighbour, &scene.keys[1]).await.expect(200);
    scene.token.inject("");
    until("it heals", || async { scene.read().await.0.status == 200 }).await;
}
