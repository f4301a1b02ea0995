//! A wanted restore: what is taken on, what becomes void, what everybody can see of it.

use super::{NOW, Vault, copy_of_database, put_back, tenant};
use crate::access_log::bundle::verify;
use crate::access_log::{Checkpoint, Leaf};
use crate::domain::credential::CredentialRecord;
use crate::domain::{Actor, CredentialId, CredentialKind, Origin, RequestContext, RequestId, TenantName};
use crate::sequencer::{Error, Part, Recovery, Sequencer};
use crate::store::administration::{Act, Administrator};
use crate::store::records::{Body as _, StoredCredential};
use crate::store::rows::Table;

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

    async fn recovery(&self, note: &str) -> Result<Recovery, Error> {
        Recovery::check(note, self.store.clone(), self.keys.clone()).await
    }
}

#[tokio::test]
async fn a_restored_database_goes_on_under_new_origins_that_name_the_loss() {
    let vault = Vault::start().await;
    vault.add_operator().await;
    vault.write(3).await;
    vault.integrator().run().await.unwrap();
    let kept = vault.reader().checkpoint(&TenantName::system()).await.unwrap();
    let kept_of_demo = vault.reader().checkpoint(&tenant()).await.unwrap();
    let before = vault.vkey(&tenant()).await;
    let dir = vault.end().await;
    let copy = copy_of_database(dir.path());

    let vault = Vault::start_in(dir).await;
    vault.write(5).await;
    vault.integrator().run().await.unwrap();
    let lost = vault.reader().checkpoint(&TenantName::system()).await.unwrap();
    let lost_size = vault.store.head(&tenant()).await.unwrap().unwrap().size;
    let dir = vault.end().await;
    put_back(copy.path(), dir.path());

    let vault = Vault::start_in(dir).await;
    assert!(matches!(vault.recovery(&lost).await, Err(Error::Checkpoint)), "the database is not of that checkpoint");
    assert!(vault.recovery(&kept_of_demo).await.is_ok(), "any log's checkpoint will do");
    assert!(matches!(vault.recovery("x").await, Err(Error::Checkpoint)));
    let done = vault.recovery(&kept).await.unwrap().run(&vault.committer).await.unwrap();
    assert_eq!(done.suspended, 1);
    let of_demo = done.logs.iter().find(|(log, ..)| *log == tenant()).unwrap();
    assert!(of_demo.1 == lost_size && of_demo.2 < lost_size, "{of_demo:?}");

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
    let leaves = vault.store.leaves(&tenant(), 0..size).await.unwrap();
    let entries = leaves.iter().map(|(.., leaf)| Leaf::parse(leaf).unwrap());
    let named: Vec<_> = entries.filter(|entry| entry.action == "admin.log.recovered").collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].fact("lostSize"), Some(lost_size.to_string().as_str()));
    assert_eq!(named[0].fact("origin"), Some(after.name()));
    vault.committer.stop().await.unwrap();
    sequencer.stop().await;
    let noted = vault.keys.read_heads().await.unwrap();
    assert!(noted.iter().any(|head| head.log == tenant() && head.size >= size));
    let system = vault.reader().checkpoint(&TenantName::system()).await.unwrap();
    assert!(Checkpoint::open(&system, &[vault.vkey(&TenantName::system()).await]).is_ok());
}
