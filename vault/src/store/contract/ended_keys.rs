//! What rests on no generation seals nothing under a data key that has ended meanwhile.

use std::sync::Arc;

use super::on_every_engine;
use super::vault::{Vault, demo};
use crate::domain::{DataKeyId, RetentionClass};
use crate::keys::KeyRecords as _;
use crate::store::committer::operation::{Changes, Decision, Reads};
use crate::store::resealing::Passed;
use crate::store::rows::ValueRow;

on_every_engine!(
    what_rests_on_no_generation_hears_that_its_data_key_has_ended,
    a_data_key_that_something_is_sealed_under_stays_until_that_is_durable,
    no_value_is_sealed_anew_under_a_data_key_that_has_ended,
);

impl Vault {
    /// Writes a value under a data key, as the end of a run does: only if something may be sealed under it.
    async fn seal_under(&self, id: DataKeyId, meanwhile: impl FnMut() + Send + 'static) -> bool {
        self.seal(ValueRow { data_key_id: id, ..self.value(RetentionClass::Stored, None) }, meanwhile).await
    }

    /// Likewise this one.
    pub(super) async fn seal(&self, row: ValueRow, mut meanwhile: impl FnMut() + Send + 'static) -> bool {
        let (id, row) = (row.data_key_id, Arc::new(row));
        let reads = Reads { data_keys: vec![id], ..Reads::default() };
        let ask = self.ask(reads, move |rows, _| {
            meanwhile();
            let may = rows.may_seal_under(id);
            let new_values = may.then(|| Arc::clone(&row)).into_iter().collect();
            Decision::Write(Changes { new_values, ..Changes::default() }, may)
        });
        self.committer.submit(ask).await.unwrap().output
    }
}

async fn what_rests_on_no_generation_hears_that_its_data_key_has_ended(vault: Vault) {
    let vault = vault.with_tenant().await;
    let ids = vault.data_keys().await;
    let (other, committer) = vault.second_node().await;
    assert!(vault.seal_under(ids[0], || ()).await);
    // It ends with its version, on another node, and this one has not heard of it.
    let lost = vault.keys.mark_lost(&other.load_data_key(&demo(), ids[0]).await.unwrap().unwrap());
    let end = vault.ask(Reads::default(), move |_, _| {
        Decision::Write(Changes { lost_data_keys: vec![lost.clone()], ..Changes::default() }, ())
    });
    committer.submit(end).await.unwrap();
    assert!(!vault.seal_under(ids[0], || ()).await, "nothing is sealed under it any more");
    assert!(vault.seal_under(ids[1], || ()).await, "the others are there");
    assert_eq!(vault.number("SELECT count(*) FROM secure_values").await, 2);
    // One that ends in the same batch, before it, is gone too.
    let id = ids[1];
    let gone = vault.ask(Reads::default(), move |_, _| {
        Decision::Write(Changes { removed_data_keys: vec![id], ..Changes::default() }, ())
    });
    let (gone, sealed) = futures_util::future::join(vault.committer.submit(gone), vault.seal_under(id, || ())).await;
    assert!(gone.is_ok() && !sealed);
}

async fn a_data_key_that_something_is_sealed_under_stays_until_that_is_durable(vault: Vault) {
    let vault = Arc::new(vault.with_tenant().await);
    let id = vault.data_keys().await[0];
    let delete = format!("DELETE FROM data_keys WHERE data_key_id = {}", vault.literal(id.as_bytes()));
    let (removing, remove) = (Arc::clone(&vault), delete.clone());
    // Between its reading and its commit somebody wants to take the data key away.
    let sealed = vault.seal_under(id, move || {
        let (vault, sql) = (Arc::clone(&removing), remove.clone());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(vault.tamper_at_once(&sql))
        };
        assert!(!std::thread::spawn(work).join().unwrap(), "it was taken away in between");
    });
    assert!(sealed.await);
    assert!(vault.tamper_at_once(&delete).await, "nothing holds it any more");
}

async fn no_value_is_sealed_anew_under_a_data_key_that_has_ended(vault: Vault) {
    let vault = vault.with_tenant().await;
    let values = [vault.captured(None).await, vault.captured(Some(3)).await];
    let old = vault.row(values[0]).await.data_key_id;
    vault.compromise(1).await;
    let after = vault.captured(None).await;
    let new = vault.row(after).await.data_key_id;
    // It ends on another node, and this one still seals with it.
    let row = vault.store.load_data_key(&demo(), new).await.unwrap().unwrap();
    let lost = vault.keys.mark_lost(&row);
    vault.write(move || Changes { lost_data_keys: vec![lost.clone()], ..Changes::default() }).await.unwrap();
    assert_eq!(vault.pass(true).await, Passed { left: 1, ..Passed::default() });
    for value_id in values {
        assert_eq!(vault.row(value_id).await.data_key_id, old);
        assert!(vault.is_genuine(value_id).await, "it still opens");
    }
    // As soon as it hears of it, they go under another one.
    vault.keys.forget_tenant(&demo());
    assert_eq!(vault.pass(false).await, Passed { moved: 2, left: 1, ..Passed::default() });
    for value_id in values {
        assert!(vault.row(value_id).await.data_key_id != new && vault.is_genuine(value_id).await);
    }
}
