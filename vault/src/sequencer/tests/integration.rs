//! From a commit to a proof.

use super::{NOW, Vault, tenant};
use crate::access_log::bundle::{IndexRange, verify};
use crate::access_log::{Action, Entry, LogProof, Outcome, Receipt};
use crate::domain::{Actor, TenantName};
use crate::sequencer::{Error, Part, Sequencer};
use crate::store::{Changes, Decision, Generation, Operation, Reads, Rows};

/// One entry, for its receipt.
struct One(TenantName);

impl Operation for One {
    type Output = ();

    fn tenant(&self) -> &TenantName {
        &self.0
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> crate::domain::Timestamp {
        NOW.plus(std::time::Duration::from_secs(60))
    }

    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn hold(&mut self, _: std::sync::Arc<crate::crypto::DataKey>) {}

    fn decide(&mut self, _: &dyn Rows) -> Decision<()> {
        let entry = Entry::by(self.0.clone(), NOW, Action::LogRead, Outcome::Allowed, Actor::anonymous());
        Decision::Write(Changes { entries: vec![entry], ..Changes::default() }, ())
    }
}

#[tokio::test]
async fn what_is_committed_gets_an_index_and_a_signed_head() {
    let vault = Vault::start().await;
    vault.write(300).await;
    assert!(matches!(vault.reader().checkpoint(&tenant()).await, Err(Error::Pending)));
    let refused = vault.integrator().run().await.unwrap();
    assert_eq!(refused, []);
    let head = vault.store.head(&tenant()).await.unwrap().unwrap();
    // The boot announces itself first.
    assert_eq!(head.size, 301);
    let files = vault.bundle(Part::Whole).await.0;
    let report = verify(&files, &[vault.vkey(&tenant()).await], None).unwrap();
    assert_eq!((report.checkpoint.size, report.checkpoint.root), (301, head.root));
    let heads = vault.keys.read_heads().await.unwrap();
    assert!(heads.iter().any(|noted| noted.log == tenant() && noted.size == 301), "noted outside the database");
}

#[tokio::test]
async fn integration_in_steps_and_at_once_give_one_tree() {
    let vault = Vault::start().await;
    let mut integrator = vault.integrator();
    for count in [1, 3, 252, 2, 40] {
        vault.write(count).await;
        // A fresh one each second time: what it remembers makes no difference.
        if count % 2 == 0 {
            integrator = vault.integrator();
        }
        integrator.run().await.unwrap();
        let files = vault.bundle(Part::Whole).await.0;
        verify(&files, &[vault.vkey(&tenant()).await], None).unwrap();
    }
    let part = Part::Indices(IndexRange { from: 258, to: 259 });
    let files = vault.bundle(part).await.0;
    let report = verify(&files, &[vault.vkey(&tenant()).await], None).unwrap();
    assert_eq!((report.range.from, report.range.to), (256, 299));
    assert!(!files.contains_key("tile/entries/000"));
}

#[tokio::test]
async fn a_receipt_becomes_a_proof_that_others_can_check() {
    let vault = Vault::start().await;
    let receipt = vault.committer.submit(One(tenant())).await.unwrap().receipts[0];
    let text = receipt.to_string();
    assert!(matches!(vault.reader().proof_of_receipt(&tenant(), &text).await, Err(Error::Pending)));
    vault.integrator().run().await.unwrap();
    let proof: LogProof = vault.reader().proof_of_receipt(&tenant(), &text).await.unwrap().parse().unwrap();
    proof.verify(&receipt.leaf_hash, &[vault.vkey(&tenant()).await]).unwrap();
    assert!(matches!(vault.reader().proof_of_receipt(&TenantName::system(), &text).await, Err(Error::Receipt)));
    let forged = Receipt { leaf_hash: [0; 32], ..receipt }.to_string();
    assert!(matches!(vault.reader().proof_of_receipt(&tenant(), &forged).await, Err(Error::Receipt)));
    assert!(matches!(vault.reader().proof_of_index(&tenant(), 99).await, Err(Error::Pending)));
}

#[tokio::test]
async fn tiles_are_served_as_the_standard_spells_them() {
    let vault = Vault::start().await;
    vault.write(299).await;
    vault.integrator().run().await.unwrap();
    let reader = vault.reader();
    let whole = vault.bundle(Part::Whole).await.0;
    for name in whole.keys().filter(|name| name.starts_with("tile/")) {
        assert_eq!(reader.tile(&tenant(), name).await.unwrap(), whole[name], "{name}");
    }
    let partial = reader.tile(&tenant(), "tile/0/000.p/7").await.unwrap();
    assert_eq!(partial, whole["tile/0/000"][..7 * 32], "as an older checkpoint had it");
    for path in ["tile/0/001", "tile/0/001.p/45", "tile/0/0", "tile/entries/002.p/1", "tile/1/000.p/2", "x"] {
        assert!(matches!(reader.tile(&tenant(), path).await, Err(Error::Absent)), "{path}");
    }
}

#[tokio::test]
async fn the_sequencer_integrates_by_itself_and_to_the_end() {
    let vault = Vault::start().await;
    let sequencer = Sequencer::start(vault.store.clone(), vault.keys.clone(), vault.committer.clone()).await.unwrap();
    vault.write(5).await;
    let integrated = async {
        while vault.store.head(&tenant()).await.unwrap().is_none_or(|head| head.size < 6) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), integrated).await.expect("nothing is integrated");
    assert!(vault.store.log_health().is_serving());
    vault.committer.stop().await.unwrap();
    sequencer.stop().await;
    assert!(vault.store.lanes().await.unwrap().is_empty(), "node.stopped is integrated too");
}

#[test]
fn a_part_is_two_times_or_two_indices() {
    assert_eq!(Part::parse(None, None).unwrap(), Part::Whole);
    assert_eq!(Part::parse(Some("5"), None).unwrap(), Part::Indices(IndexRange { from: 5, to: u64::MAX }));
    assert!(matches!(Part::parse(Some("2026-11-24T03:00:36Z"), None), Ok(Part::Times(..))));
    for (from, to) in [("6", "5"), ("x", "5"), ("2026-11-24T03:00:36Z", "5")] {
        assert!(Part::parse(Some(from), Some(to)).is_err(), "{from} {to}");
    }
}
