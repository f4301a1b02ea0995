//! From a commit to a proof.

use super::{NOW, Vault, tenant};
use crate::access_log::bundle::{IndexRange, verify};
use crate::access_log::{Action, Entry, LogProof, Outcome, Receipt, leaf_hash};
use crate::domain::{Actor, DataKeyClass, TenantName};
use crate::sequencer::record::record;
use crate::sequencer::{Error, Part, Sequencer, Tar};
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
        Decision::Write(Changes { entries: vec![entry.into()], ..Changes::default() }, ())
    }
}

#[tokio::test]
async fn what_is_committed_gets_an_index_and_a_signed_head() {
    let vault = Vault::start().await;
    vault.write(300).await;
    assert!(matches!(vault.reader().checkpoint(&tenant()).await, Err(Error::Pending)));
    assert_eq!(vault.integrate().await, []);
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
async fn integration_opens_nothing_that_entries_say_of_persons() {
    let (vault, system) = (Vault::start().await, TenantName::system());
    let write = async || {
        let actor = Actor { name: Some("Ada".to_owned()), ..Actor::anonymous() };
        let entry = Entry::by(system.clone(), NOW, Action::LogRead, Outcome::Allowed, actor);
        record(vec![entry], &vault.committer, NOW).await.unwrap();
    };
    write().await;
    let class = DataKeyClass::LogOpening;
    let id = vault.keys.data_key_to_seal(&vault.store, &system, class, NOW).await.unwrap().id();
    vault.integrate().await;
    write().await;
    vault.keys.forget_tenant(&system);
    // A sequencer that has just begun looks at the entry before: for that no customer's token is asked, nor waited for.
    assert_eq!(vault.integrate().await, []);
    assert!(vault.keys.cached(&system, id).is_none());
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
        integrator.run(std::time::Duration::MAX).await.unwrap();
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
    let receipt = vault.committer.submit(One(tenant())).await.unwrap().receipts()[0];
    let text = receipt.to_string();
    assert!(matches!(vault.reader().proof_of_receipt(&tenant(), &text).await, Err(Error::Pending)));
    vault.integrate().await;
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
    vault.integrate().await;
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
    let waits = vault.store.all_lanes().await.unwrap().iter().any(|(_, waits)| *waits);
    assert!(!waits, "node.stopped is integrated too");
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

#[tokio::test]
async fn an_entry_is_on_a_page_whether_it_is_being_integrated_or_not() {
    let vault = Vault::start().await;
    vault.write(2).await;
    let (store, mut integrator) = (vault.store.clone(), vault.integrator());
    let integrating = tokio::spawn(async move {
        for _ in 0..60 {
            integrator.run(std::time::Duration::MAX).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let reading = tokio::spawn(async move {
        for _ in 0..120 {
            let page = store.entries(&tenant(), &crate::store::EntryFilter::default(), None, 1000).await.unwrap();
            let numbers = page.entries.iter().map(|entry| entry.position.number);
            assert!(numbers.eq(0..page.entries.len() as u64), "an entry fell between the lists, or is in both");
        }
    });
    vault.write(3).await;
    for _ in 0..20 {
        vault.write(1).await;
    }
    reading.await.unwrap();
    integrating.await.unwrap();
}

#[tokio::test]
async fn a_round_of_integration_ends_when_its_time_is_up() {
    let vault = Vault::start().await;
    vault.write(600).await;
    let mut integrator = vault.integrator();
    integrator.run(std::time::Duration::ZERO).await.unwrap();
    let size = vault.store.head(&tenant()).await.unwrap().unwrap().size;
    assert!(size < 601, "one step: {size}");
    assert!(vault.store.checkpoint(&tenant(), Some(size)).await.unwrap().is_some(), "and signed as far as it went");
    integrator.run(std::time::Duration::MAX).await.unwrap();
    assert_eq!(vault.store.head(&tenant()).await.unwrap().unwrap().size, 601);
}

#[tokio::test]
async fn a_head_is_signed_with_its_entries_and_noted_outside_as_soon_as_that_is_possible() {
    let vault = Vault::start().await;
    vault.write(1).await;
    let mut integrator = vault.integrator();
    integrator.run(std::time::Duration::MAX).await.unwrap();
    let file = vault.dir.path().join("keys/heads");
    let kept = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"x").unwrap();
    vault.write(1).await;
    assert!(integrator.run(std::time::Duration::MAX).await.is_err(), "the file cannot be written");
    let head = vault.store.head(&tenant()).await.unwrap().unwrap();
    assert!(vault.store.checkpoint(&tenant(), Some(head.size)).await.unwrap().is_some());
    std::fs::write(&file, kept).unwrap();
    // Nothing grew meanwhile.
    integrator.run(std::time::Duration::MAX).await.unwrap();
    let noted = |heads: Vec<crate::keys::Head>| heads.iter().any(|of| of.log == tenant() && of.size == head.size);
    assert!(noted(vault.keys.read_heads().await.unwrap()));
}

#[tokio::test]
async fn what_another_sequencer_did_first_is_read_again_for_the_logs_of_that_step_alone() {
    let vault = Vault::start().await;
    vault.write(1).await;
    let mut integrator = vault.integrator();
    integrator.run(std::time::Duration::MAX).await.unwrap();
    let (mut stale, head) = (integrator.edges.clone(), vault.store.head(&tenant()).await.unwrap().unwrap());
    let other: TenantName = "other".parse().unwrap();
    stale.insert(other.clone(), stale[&tenant()].clone());
    vault.write(1).await;
    vault.integrate().await;
    // Its lane is believed, and what it remembers of logs is not.
    integrator.run(std::time::Duration::MAX).await.unwrap();
    assert!(integrator.edges.is_empty(), "another one's work is seen in its lane");
    integrator.edges = stale;
    vault.write(1).await;
    integrator.run(std::time::Duration::MAX).await.unwrap();
    assert!(integrator.edges.contains_key(&other) && !integrator.edges.contains_key(&tenant()));
    assert_eq!(vault.store.head(&tenant()).await.unwrap().unwrap().size, head.size + 1, "a stale head adds nothing");
    integrator.run(std::time::Duration::MAX).await.unwrap();
    assert_eq!(vault.store.head(&tenant()).await.unwrap().unwrap().size, head.size + 2);
    assert_eq!(vault.alarms(), "");
}

#[tokio::test]
async fn a_tar_holds_the_files_of_the_bundle_and_nothing_else() {
    let vault = Vault::start().await;
    vault.write(300).await;
    vault.integrate().await;
    let whole = vault.bundle(Part::Whole).await.0;
    let (mut tar, mut pieces) = Tar::new(NOW);
    let reader = vault.reader();
    let writing = tokio::spawn(async move {
        let done = reader.export(&tenant(), Part::Whole, &mut tar).await.map(drop);
        tar.finish(done);
    });
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.recv().await {
        bytes.extend(piece.unwrap());
    }
    writing.await.unwrap();
    assert_eq!(bytes.len() % 512, 0);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut found = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, mut content) = (entry.path().unwrap().to_string_lossy().into_owned(), Vec::new());
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        found.insert(name, content);
    }
    assert!(found == whole);
}

#[tokio::test]
async fn an_export_that_nobody_takes_ends_and_is_not_taken_for_a_whole() {
    let vault = Vault::start().await;
    vault.write(300).await;
    vault.integrate().await;
    let (mut tar, mut pieces) = Tar::with_patience(NOW, std::time::Duration::from_millis(50));
    let (reader, log) = (vault.reader(), tenant());
    let exporting = reader.export(&log, Part::Whole, &mut tar);
    // Longer than it could take; without the patience it takes for ever.
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), exporting).await.unwrap();
    tar.finish(done.map(drop));
    let mut last = None;
    while let Some(piece) = pieces.recv().await {
        last = Some(piece);
    }
    assert!(last.unwrap().is_err());
}

#[tokio::test]
async fn a_batch_of_this_process_is_its_own_only_as_it_was_committed() {
    let vault = Vault::start().await;
    for _ in 0..4 {
        vault.write(3).await;
    }
    let (pending, _) = vault.store.pending(vault.boot(), 0, 0, 256).await.unwrap();
    let own = vault.store.own_batches();
    let [first, second, third, fourth] = &pending[..4] else { panic!("four batches") };
    let hashes: Vec<_> = first.entries.iter().map(|(.., leaf)| leaf_hash(leaf)).collect();
    assert_eq!(own.take(first), Some(hashes));
    assert_eq!(own.take(first), None, "it is forgotten then");
    let mut altered = second.clone();
    altered.entries[0].2.push(b' ');
    assert_eq!(own.take(&altered), None);
    let mut moved = third.clone();
    moved.entries[0].1.number += 1;
    assert_eq!(own.take(&moved), None);
    let mut signed = fourth.clone();
    signed.batch.signature[0] ^= 1;
    assert_eq!(own.take(&signed), None);
    assert!(own.take(fourth).is_some(), "what it is not keeps nothing from what it is");
    // However little is remembered: the signature says the rest.
    assert_eq!(vault.integrate().await, []);
}
