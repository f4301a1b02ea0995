//! One node as the steps of a random case speak to it.

use serde_json::json;
use zeroize::Zeroizing;

use super::model::{Asked, Told};
use super::random::Fate;
use super::*;
use crate::capture::Error as CaptureError;
use crate::domain::Timestamp;
use crate::store;

/// One node.
pub(super) struct Node {
    pub(super) vault: TestVault,
    pub(super) capture: Capture,
    pub(super) runner: Runner,
}

impl Node {
    pub(super) fn of(vault: TestVault) -> Self {
        let TestVault { store, committer, keys, catalog, clock, .. } = &vault;
        let tools = (Relay::new(EgressPolicy::default()), Passwords::new(2));
        let runner = Runner::new(store.clone(), committer.clone(), keys.clone(), catalog.clone(), clock.clone(), tools);
        let own = capture(&vault);
        Self { vault, capture: own, runner }
    }

    pub(super) async fn invoke(&self, caller: &Caller, inputs: Value, key: Option<&str>) -> Result<Answer, RunError> {
        let body = json!({"inputs": inputs});
        let request = serde_json::from_value(body.clone()).unwrap();
        let key = key.and_then(|key| IdempotencyKey::new(key, Zeroizing::new(body.to_string().into_bytes())));
        let caller = self.vault.again(caller).await;
        let flow = caller.credential.flow.clone().unwrap();
        self.runner.invoke(&caller, &flow, request, key).await
    }

    /// What an owner asks for; nothing where nobody heard the answer.
    pub(super) async fn own(&self, app: &Caller, asked: Asked, key: &str) -> Option<Told> {
        let (app, key) = (self.vault.again(app).await, key.parse().unwrap());
        let done = match asked {
            Asked::Extend(until) => self.capture.extend(&app, key, Timestamp::from_millis(until)).await.map(Some),
            Asked::Delete => self.capture.delete(&app, key).await.map(|()| None),
            _ => self.capture.lookup(&app, key).await.map(Some),
        };
        match done {
            Ok(None) => Some(Told::Deleted),
            Ok(Some(said)) => {
                Some(Told::Described { uses: said.uses_left, ends: said.expires_at.map(Timestamp::as_millis) })
            }
            Err(CaptureError::ValueNotFound) => Some(Told::NotFound),
            Err(CaptureError::PolicyDenied) => Some(Told::Denied),
            Err(CaptureError::Validation(_)) => Some(Told::OutOfRange),
            Err(error) if is_unheard(&error) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Every batch that was handed in before has ended: a later one has.
    pub(super) async fn is_idle(&self, app: &Caller) {
        while self.vault.committer.purge().await.is_err() {}
        let absent = SecureValueKey::generate(self.vault.clock.now()).unwrap();
        let app = self.vault.again(app).await;
        while let Err(error) = self.capture.lookup(&app, absent.reveal_text().to_string().parse().unwrap()).await {
            if matches!(error, CaptureError::ValueNotFound) {
                return;
            }
        }
    }

    pub(super) async fn purge(&self, fate: Fate) {
        self.vault.lose_the_next_answer(fate == Fate::AnswerLost).await;
        let _ = self.vault.committer.purge().await;
        // Nothing may have been over: then there was no commit, and the next one is another step's.
        self.vault.lose_the_next_answer(false).await;
    }
}

pub(super) fn told_of_run(run: Result<Answer, RunError>, read_body: impl Fn(Value) -> Told) -> Option<Told> {
    match run {
        Ok(answer) => Some(read_body(read(&answer))),
        Err(RunError::ValueNotFound) => Some(Told::NotFound),
        Err(error) if is_unheard_run(&error) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Whether nobody can say what was done.
pub(super) fn is_unheard(error: &CaptureError) -> bool {
    match error {
        CaptureError::Store(error) => is_lost(error),
        error => matches!(error, CaptureError::Keys(_)),
    }
}

pub(super) fn is_unheard_run(error: &RunError) -> bool {
    matches!(error, RunError::Store { error, .. } if is_lost(error))
}

/// A commit of a key's own may be the one that nobody hears of, too.
const fn is_lost(error: &store::Error) -> bool {
    matches!(error, store::Error::Unavailable | store::Error::Late | store::Error::Keys(_))
}
