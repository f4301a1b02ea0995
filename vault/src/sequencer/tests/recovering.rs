//! A wanted restore: what is taken on, what becomes void, what everybody can see of it.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::{NOW, Opened, Vault, copy_of_database, put_back, tenant};
use crate::access_log::bundle::verify;
use crate::access_log::{Action, Checkpoint, Distrust, Entry, Leaf, Outcome, VerifierKey};
use crate::domain::credential::CredentialRecord;
use crate::domain::{
    Actor, Binding, CredentialId, CredentialKind, DataKeyId, FieldType, Metadata, Origin, Realm, RequestContext,
    RequestId, RetentionClass, SecretId, TenantName, Timestamp, ValueId,
};
use crate::keys::{KekRecord, KekState};
use crate::sequencer::{Error, Part, Recovered, Recovery, Sequencer};
use crate::store::administration::{Act, Administrator};
use crate::store::records::{Body as _, StoredCredential};
use crate::store::rows::{Table, ValueRow};
use crate::store::{Changes, Decision, Generation, Operation, Reads, Rows};

impl Vault {
    async fn add_operator(&self) {
        let context = RequestContext {
            request_id: RequestId::generate(NOW),
            actor: Actor::node(self.committer.identity().boot()),
            on_behalf_of: None,
            origin: Origin::default(),
            reference: None,
        };
        let by = Administrator {
            tenant: TenantName::system(),
            generation: None,
            context,
            realm: self.keys.realm().clone(),
            deadline: NOW.plus(std::time::Duration::from_secs(60)),
        };
        let record = CredentialRecord {
            credential_id: CredentialId::generate(NOW),
            kind: CredentialKind::Operator,
            name: "ada".to_owned(),
            app: None,
            flow: None,
            created_at: NOW,
            expires_at: None,
            revoked_at: None,
            suspended: false,
        };
        let act = Act::create_credential(by, &StoredCredential { record, hash: [7; 32] }).unwrap();
        self.committer.submit(act).await.unwrap();
    }
}

impl Opened {
    async fn recovery(&self, note: &str) -> Result<Recovery, Error> {
        Recovery::check(note, self.store.clone(), self.keys.clone()).await
    }

    /// Recovers as the command does.
    async fn recover(self, note: &str) -> (Vault, Recovered) {
        let mut recovery = self.recovery(note).await.unwrap();
        let identity = self.identity();
        let words = recovery.begin(identity.boot()).await.unwrap();
        let vault = self.start_after(words, identity).await;
        let done = recovery.run(&vault.committer).await.unwrap();
        (vault, done)
    }
}

/// A copy of a database, the checkpoint it had reached, and the folder with what came after it; entries wait in the copy.
struct PutBack {
    dir: TempDir,
    kept: String,
    kept_of_demo: Checkpoint,
    lost: String,
    lost_size: u64,
    before: VerifierKey,
}

async fn put_back_after(prepare: impl AsyncFnOnce(&Vault)) -> PutBack {
    let vault = Vault::start().await;
    vault.add_operator().await;
    prepare(&vault).await;
    vault.write(3).await;
    vault.integrate().await;
    let kept = vault.reader().checkpoint(&TenantName::system()).await.unwrap();
    let before = vault.vkey(&tenant()).await;
    let kept_of_demo = vault.reader().checkpoint(&tenant()).await.unwrap();
    let kept_of_demo = Checkpoint::open(&kept_of_demo, std::slice::from_ref(&before)).unwrap();
    vault.write(2).await;
    let dir = vault.end().await;
    let copy = copy_of_database(dir.path());
    let vault = Vault::start_in(dir).await;
    vault.write(5).await;
    vault.integrate().await;
    let lost = vault.reader().checkpoint(&TenantName::system()).await.unwrap();
    let lost_size = vault.store.head(&tenant()).await.unwrap().unwrap().size;
    let dir = vault.end().await;
    put_back(copy.path(), dir.path());
    PutBack { dir, kept, kept_of_demo, lost, lost_size, before }
}

async fn nothing(_: &Vault) {}

#[tokio::test]
async fn a_restored_database_goes_on_under_new_origins_that_name_the_loss_first() {
    let PutBack { dir, kept, kept_of_demo, lost, lost_size, before } = put_back_after(nothing).await;
    let opened = Opened::open(dir, NOW).await;
    assert!(matches!(opened.recovery(&lost).await, Err(Error::Checkpoint)), "the database is not of that checkpoint");
    assert!(matches!(opened.recovery("x").await, Err(Error::Checkpoint)));
    let (vault, done) = opened.recover(&kept).await;
    assert_eq!(done.suspended, 1);
    let of_demo = done.logs.iter().find(|(log, ..)| *log == tenant()).unwrap();
    assert!(of_demo.1 == lost_size && of_demo.2 == kept_of_demo.size, "{of_demo:?}");

    let rows = vault.store.rows(Table::Credentials, &TenantName::system()).await.unwrap();
    assert!(rows.iter().all(|row| StoredCredential::from_row(row).unwrap().record.suspended));
    let sequencer = Sequencer::start(vault.store.clone(), vault.keys.clone(), vault.committer.clone()).await.unwrap();
    assert!(vault.store.log_health().is_serving());
    let after = vault.vkey(&tenant()).await;
    assert_ne!(before.name(), after.name());
    let files = vault.bundle(Part::Whole).await.0;
    let report = verify(&files, std::slice::from_ref(&after), None).unwrap();
    assert!(report.checkpoint.origin.ends_with("/demo/2"), "{}", report.checkpoint.origin);
    assert!(verify(&files, &[before], None).is_err(), "the old key speaks for the old log only");
    let size = report.checkpoint.size;
    // The first entry under the new origin, before this boot's announcement and what waited in the copy.
    for (log, at) in done.logs.iter().map(|(log, _, kept)| (log, *kept)) {
        let leaves = vault.store.leaves(log, at..at + 2).await.unwrap();
        let [first, second] = [0, 1].map(|at: usize| Leaf::parse(&leaves[at].2).unwrap());
        assert_eq!((&*first.action, &*second.action), ("admin.log.recovered", "node.started"), "{log}");
        assert_eq!(first.fact("keptSize"), Some(at.to_string().as_str()));
    }
    let named = vault.entries_of("admin.log.recovered", &tenant()).await;
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].fact("lostSize"), Some(lost_size.to_string().as_str()));
    assert_eq!(named[0].fact("origin"), Some(after.name()));
    assert_eq!(vault.entries_of("admin.log.recovered", &TenantName::system()).await.len(), 2, "its own and demo's");
    vault.committer.stop().await.unwrap();
    sequencer.stop().await;
    let noted = vault.keys.read_heads().await.unwrap();
    assert!(noted.iter().any(|head| head.log == tenant() && head.size >= size));
    let system = vault.reader().checkpoint(&TenantName::system()).await.unwrap();
    assert!(Checkpoint::open(&system, &[vault.vkey(&TenantName::system()).await]).is_ok());
}

/// A tenant that was made in the very second of the copy: its tree came only after it.
#[tokio::test]
async fn a_log_that_waited_for_its_first_tree_in_the_copy_names_the_loss_first_too() {
    let vault = Vault::start().await;
    vault.add_operator().await;
    vault.integrate().await;
    let kept = vault.reader().checkpoint(&TenantName::system()).await.unwrap();
    vault.meddle("INSERT INTO tenants VALUES ('demo', 'demo', 1, x'', x'', x'')").await;
    vault.write(2).await;
    let dir = vault.end().await;
    let copy = copy_of_database(dir.path());
    let vault = Vault::start_in(dir).await;
    vault.write(5).await;
    vault.integrate().await;
    let lost_size = vault.store.head(&tenant()).await.unwrap().unwrap().size;
    vault.reader().checkpoint(&tenant()).await.unwrap();
    let dir = vault.end().await;
    put_back(copy.path(), dir.path());
    let (vault, _) = Opened::open(dir, NOW).await.recover(&kept).await;
    let leaves = vault.store.leaves(&tenant(), 0..4).await.unwrap();
    let first = Leaf::parse(&leaves[0].2).unwrap();
    assert_eq!(&*first.action, "admin.log.recovered");
    assert_eq!(first.fact("lostSize"), Some(lost_size.to_string().as_str()));
    assert_eq!(leaves.len(), 4, "this boot's first words, and the two that waited");
}

#[tokio::test]
async fn any_logs_checkpoint_will_do_and_a_forged_head_will_not() {
    let PutBack { dir, kept, .. } = put_back_after(nothing).await;
    let opened = Opened::open(dir, NOW).await;
    let kept_of_demo = opened.store.checkpoint(&tenant(), None).await.unwrap().unwrap().note;
    assert!(opened.recovery(&kept_of_demo).await.is_ok());
    let database = opened.dir.path().join("siv.db");
    crate::store::meddling::meddle(&database, "UPDATE log_heads SET root = zeroblob(32) WHERE tenant = 'demo'").await;
    assert!(matches!(opened.recovery(&kept).await, Err(Error::History(log)) if log == tenant()));
}

#[tokio::test]
async fn values_with_counted_uses_are_void_and_cannot_be_put_back() {
    let value_id = ValueId::generate(NOW);
    let prepare = async |vault: &Vault| {
        let one = Capturing(value(value_id, vault.keys.realm().clone()));
        vault.committer.submit(one).await.unwrap();
    };
    let PutBack { dir, kept, .. } = put_back_after(prepare).await;
    let (vault, done) = Opened::open(dir, NOW).await.recover(&kept).await;
    assert_eq!(done.voided, 1);
    assert!(vault.store.value(&tenant(), value_id).await.unwrap().is_none());
    let void = vault.entries_of("value.expired", &tenant()).await;
    assert_eq!((void[0].value_id, void[0].state_version), (Some(value_id), Some(1)));
    // Its row once more: it is older than the entry that made it void.
    vault.committer.submit(Capturing(value(value_id, vault.keys.realm().clone()))).await.unwrap();
    let read = vault.store.value(&tenant(), value_id).await.unwrap().unwrap();
    assert!(read.newest_state_version > read.state.map_or(0, |state| state.state.version));
}

#[tokio::test]
async fn a_destroyed_kek_stays_destroyed_though_its_record_came_back() {
    let PutBack { dir, kept, .. } = put_back_after(nothing).await;
    // The destruction reached the key store; the database is of the time before.
    let (opened, system) = (Opened::open(dir, NOW).await, TenantName::system());
    let row = opened.store.rows(Table::Keks, &system).await.unwrap().remove(0);
    let mut kek = KekRecord::from_row(&row).unwrap();
    assert_ne!(kek.state, KekState::Destroyed);
    kek.state = KekState::Destroying;
    opened.keys.destroy_kek(&opened.store, &system, &kek, crate::keys::Statement::None).await.unwrap();
    let (vault, done) = opened.recover(&kept).await;
    assert_eq!(done.destroyed, 1);
    let row = vault.store.row(Table::Keks, &system, &row.key).await.unwrap().unwrap();
    assert_eq!(KekRecord::from_row(&row).unwrap().state, KekState::Destroyed);
    let said = vault.entries_of("key.kek.destroyed", &system).await;
    assert_eq!(said.len(), 1);
}

#[tokio::test]
async fn a_recovery_that_broke_off_is_run_again_to_its_end() {
    let PutBack { dir, kept, .. } = put_back_after(nothing).await;
    // It got as far as the new keys and its first words.
    let opened = Opened::open(dir, NOW).await;
    let mut recovery = opened.recovery(&kept).await.unwrap();
    let identity = opened.identity();
    let words = recovery.begin(identity.boot()).await.unwrap();
    let vault = opened.start_after(words, identity).await;
    drop(recovery);
    // What it left does not serve.
    assert_eq!(vault.look().await, Some(Distrust::Heads));
    let dir = vault.crash().await;
    // And once more as far as the keys alone.
    let opened = Opened::open(dir, NOW).await;
    opened.recovery(&kept).await.unwrap().begin(opened.identity().boot()).await.unwrap();
    let opened = Opened::open(opened.end().await, NOW).await;
    let (vault, done) = opened.recover(&kept).await;
    assert_eq!(done.suspended, 1);
    assert_eq!(vault.look().await, None);
    let files = vault.bundle(Part::Whole).await.0;
    let report = verify(&files, &[vault.vkey(&tenant()).await], None).unwrap();
    assert!(report.checkpoint.origin.ends_with("/demo/4"), "{}", report.checkpoint.origin);
    let kept = done.logs.iter().find(|(log, ..)| *log == tenant()).unwrap().2;
    let leaves = vault.store.leaves(&tenant(), kept..kept + 1).await.unwrap();
    let first = Leaf::parse(&leaves[0].2).unwrap();
    assert_eq!((&*first.action, first.fact("origin")), ("admin.log.recovered", Some(&*report.checkpoint.origin)));
}

fn value(value_id: ValueId, realm: Realm) -> ValueRow {
    ValueRow {
        metadata: Metadata {
            realm,
            tenant: tenant(),
            app: "demo-shop".parse().unwrap(),
            value_id,
            field: "card-number".parse().unwrap(),
            kind: FieldType::CardNumber,
            retention: RetentionClass::Stored,
            created: NOW,
            expires: None,
            uses: Some(1),
            session: None,
            subject: None,
            binding: Binding { flows: BTreeSet::from(["charge-card".parse().unwrap()]), purposes: BTreeSet::new() },
        },
        verifier: [7; 32],
        pepper_id: SecretId::generate(NOW),
        data_key_id: DataKeyId::generate(NOW),
        sealed: vec![1; 200],
    }
}

/// Captures a value that nobody ever opens.
struct Capturing(ValueRow);

impl Operation for Capturing {
    type Output = ();

    fn tenant(&self) -> &TenantName {
        &self.0.metadata.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        NOW.plus(std::time::Duration::from_secs(60))
    }

    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn hold(&mut self, _: std::sync::Arc<crate::crypto::DataKey>) {}

    fn decide(&mut self, _: &dyn Rows) -> Decision<()> {
        let entry = Entry::by(tenant(), NOW, Action::ValueCaptured, Outcome::Allowed, Actor::anonymous());
        let entry = Entry { value_id: Some(self.0.metadata.value_id), ..entry };
        Decision::Write(
            Changes { entries: vec![entry.into()], new_values: vec![self.0.clone().into()], ..Changes::default() },
            (),
        )
    }
}
