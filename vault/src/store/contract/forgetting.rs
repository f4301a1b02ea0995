//! A request whose beginning nobody heard of was never begun, and the record of it goes.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::on_every_engine;
use super::vault::{Vault, demo};
use crate::domain::{Credential, CredentialKind};
use crate::store::Error;
use crate::store::committer::operation::Changes;
use crate::store::idempotency::{Answer, IdempotencyKey, IdempotencyRequest, Judgement, Repeated, Scope};
use crate::store::once::{Begin, Finish};

on_every_engine!(
    a_request_whose_beginning_nobody_heard_of_may_come_again,
    a_beginning_is_not_taken_back_from_a_repeat,
    a_repeat_in_the_batch_that_takes_its_first_back_is_begun,
);

impl Vault {
    async fn request(&self, secret: &Arc<Credential>) -> Arc<IdempotencyRequest> {
        let given = IdempotencyKey::new("k", Zeroizing::new(b"{}".to_vec())).unwrap();
        let tenant = demo();
        let scope = Scope { tenant: &tenant, route: "POST /", subject: "", session: None, sensitive: false };
        let (now, secret) = (self.clock.now(), Arc::clone(secret));
        Arc::new(IdempotencyRequest::prepare(given, scope, secret, (&self.keys, &self.store), now).await.unwrap())
    }

    fn begin(&self, request: &Arc<IdempotencyRequest>) -> Begin {
        let deadline = self.clock.now().plus(Duration::from_secs(10));
        Begin::new(demo(), Arc::clone(request), &self.keys, deadline).unwrap()
    }

    async fn judged(&self, secret: &Arc<Credential>) -> Judgement {
        let begin = self.begin(&self.request(secret).await);
        self.committer.submit(begin).await.unwrap().output
    }
}

fn secret() -> Arc<Credential> {
    Arc::new(Credential::generate(CredentialKind::Operator, [1; 16]).unwrap())
}

async fn a_request_whose_beginning_nobody_heard_of_may_come_again(vault: Vault) {
    let vault = vault.with_tenant().await;
    let secret = secret();
    // All keys are there: no other commit hears nothing instead.
    vault.write(Changes::default).await.unwrap();
    let begin = vault.begin(&vault.request(&secret).await);
    let undone = begin.undone();
    vault.store.writer().await.lose_the_next_answer(true);
    assert!(matches!(vault.committer.submit(begin).await, Err(Error::Unavailable)));
    let told = vault.judged(&secret).await;
    assert!(matches!(told, Judgement::Refused(Repeated::InProgress)), "it happened: {told:?}");
    undone.carry_out(&vault.committer, &vault.clock).await;
    assert!(matches!(vault.judged(&secret).await, Judgement::Fresh));
    assert!(matches!(vault.judged(&secret).await, Judgement::Refused(Repeated::InProgress)), "the repeat runs");
}

async fn a_beginning_is_not_taken_back_from_a_repeat(vault: Vault) {
    let vault = vault.with_tenant().await;
    let secret = secret();
    // The first was never written; its repeat was.
    let lost = vault.begin(&vault.request(&secret).await).undone();
    let request = vault.request(&secret).await;
    vault.committer.submit(vault.begin(&request)).await.unwrap();
    lost.clone().carry_out(&vault.committer, &vault.clock).await;
    assert!(matches!(vault.judged(&secret).await, Judgement::Refused(Repeated::InProgress)));
    let answer = Answer { status: 201, body: Zeroizing::new(b"done".to_vec()) };
    let finish = Finish::new(demo(), &request, &answer, vault.clock.now().plus(Duration::from_secs(10))).unwrap();
    vault.committer.submit(finish).await.unwrap();
    lost.carry_out(&vault.committer, &vault.clock).await;
    assert!(matches!(vault.judged(&secret).await, Judgement::Replay(_)));
}

async fn a_repeat_in_the_batch_that_takes_its_first_back_is_begun(vault: Vault) {
    let vault = vault.with_tenant().await;
    let secret = secret();
    let begin = vault.begin(&vault.request(&secret).await);
    let undone = begin.undone();
    vault.committer.submit(begin).await.unwrap();
    let repeat = vault.begin(&vault.request(&secret).await);
    // A batch waits for the writer; what comes meanwhile is the next one.
    let held = vault.store.writer().await;
    let after = |millis| tokio::time::sleep(Duration::from_millis(millis));
    let (first, (), repeated, ()) = tokio::join!(
        vault.write(Changes::default),
        async {
            after(200).await;
            undone.carry_out(&vault.committer, &vault.clock).await;
        },
        async {
            after(400).await;
            vault.committer.submit(repeat).await.unwrap().output
        },
        async {
            after(900).await;
            drop(held);
        },
    );
    first.unwrap();
    assert!(matches!(repeated, Judgement::Fresh), "{repeated:?}");
    assert!(matches!(vault.judged(&secret).await, Judgement::Refused(Repeated::InProgress)), "the repeat runs");
}
