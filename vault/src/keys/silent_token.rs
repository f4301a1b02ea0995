//! A token that nobody can log in to, for tests of what follows from its silence.

use std::path::Path;
use std::time::Duration;

use super::key_store::SecretName;
use super::{DataKeyRow, HsmSetup, KekRecord, Keys, MacPurpose, ProviderRecord, wrapping};
use crate::domain::{KeyProviderId, TenantName, Timestamp};

/// A program that ends at once, whatever it is asked.
const SILENT: &str = "/bin/false";

impl Keys {
    /// Its configuration; its PIN is in the key store. Its worker ends before it says a word, and is waited for no longer than a test may.
    pub(crate) async fn silent_token(&self, tenant: &TenantName, now: Timestamp) -> ProviderRecord {
        let launch = hsm::Launch {
            program: SILENT.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            crew: hsm::Crew::new(8),
        };
        self.use_hsms(HsmSetup { launch, modules: None, lost_after: Duration::from_secs(1) });
        let provider_id = KeyProviderId::generate(now);
        self.inner.store.create_secret(&SecretName::hsm_pin(tenant, provider_id, 1), b"1234").await.unwrap();
        ProviderRecord {
            provider_id,
            module: SILENT.to_owned(),
            module_sha256: hsm::ModuleFile::examine(Path::new(SILENT)).unwrap().sha256,
            token: hsm::TokenSelector { label: Some("silent".to_owned()), ..hsm::TokenSelector::default() },
            pin_version: 1,
            quarantined: false,
            changed_at: now,
        }
    }

    /// The row as it is under a version of that token: seal and MAC hold, and nobody opens it.
    pub(crate) async fn bound_to(&self, row: DataKeyRow, kek: &KekRecord) -> DataKeyRow {
        let erasure = self.erasure_key_left(&row).await.unwrap().unwrap();
        let (mechanism, kek_id) = (kek.mechanism.clone(), kek.kek_id);
        let mut row = DataKeyRow { kek_id, kek_version: kek.version, mechanism, ..row };
        let erasure = erasure.as_ref().map(super::fixture::bytes_of);
        let mac = self.inner.macs.newest(MacPurpose::DataKey);
        row.sealed = wrapping::stored(&[7; 40], &mac, erasure.as_ref(), self.realm(), &row).unwrap();
        row
    }

    /// Its next attempt is made at once, and not after a pause.
    pub(crate) fn forget_attempts(&self) {
        self.close_hsms();
    }
}
