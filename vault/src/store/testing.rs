//! A tenant for one test: real keys, a real database in a temporary folder, the real committer, a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use super::administration::{Act, Administrator, credential_message};
use super::committer::own_work::OwnWork;
use super::contract::postgres::Cluster;
use super::kek_states::{self, Successor, Wish};
use super::records::{FlowRecord, StoredCredential};
use super::{Caller, Catalog, Changes, Committer, DatabaseSettings, Store, meddling, tenants};
use crate::access_log::{Leaf, NodeIdentity, ParsedEntry};
use crate::domain::credential::CredentialRecord;
use crate::domain::tenant::KeyProviderKind;
use crate::domain::{
    Actor, ActorKind, AppDocument, AppName, Clock, Credential, CredentialId, CredentialKind, DataKeyId, FlowName,
    Origin, RequestContext, RequestId, Tenant, TenantName, Timestamp,
};
use crate::keys::{KekState, Keys, MacPurpose, RootKeySource};
use crate::store::EntryFilter;

const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

/// One tenant with the rooms up to the store.
pub(crate) struct TestVault {
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) committer: Committer,
    pub(crate) catalog: Catalog,
    pub(crate) tenant: TenantName,
    settings: DatabaseSettings,
    // Dropped last: the files are in it.
    folder: Arc<tempfile::TempDir>,
}

impl TestVault {
    /// The tenant `demo`, whose flows may reveal.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::Sqlite { path: folder.path().join("siv.db") };
        Self::start_on(settings, folder).await
    }

    /// The same on PostgreSQL.
    pub(crate) async fn start_on_postgres() -> Self {
        let address = Cluster::shared().database().await;
        let settings = DatabaseSettings::Postgres { address, migration_lock: true };
        Self::start_on(settings, tempfile::tempdir().unwrap()).await
    }

    /// A second node on the same database, with the same keys and clock.
    pub(crate) async fn second_node(&self) -> Self {
        Self::node(self.settings.clone(), (self.keys.clone(), self.clock.clone()), Arc::clone(&self.folder)).await
    }

    async fn node(settings: DatabaseSettings, (keys, clock): (Keys, Clock), folder: Arc<tempfile::TempDir>) -> Self {
        let store = Store::open(&settings, keys.clone(), clock.clone()).await.unwrap();
        let identity = NodeIdentity::generate(keys.realm().clone(), "node-1", "test", clock.now()).unwrap();
        let committer = Committer::start(store.clone(), keys.clone(), clock.clone(), identity).await.unwrap();
        let catalog = Catalog::start(store.clone());
        let tenant: TenantName = "demo".parse().unwrap();
        Self { keys, clock, store, committer, catalog, tenant, settings, folder }
    }

    async fn start_on(settings: DatabaseSettings, folder: tempfile::TempDir) -> Self {
        let clock = Clock::held(NOW);
        let root = RootKeySource::FileBeside(folder.path().join("root.key"));
        let realm: crate::domain::Realm = "eu-1".parse().unwrap();
        let place = folder.path().join("keys");
        let keys = Keys::create_or_open(&place, root, realm, clock.clone(), true).await.unwrap();
        let vault = Self::node(settings, (keys, clock), Arc::new(folder)).await;
        let own = Tenant {
            name: vault.tenant.clone(),
            reveal: true,
            sealed: false,
            key_provider: KeyProviderKind::Local,
            cache_seconds: 60,
            created_at: NOW,
        };
        let ground = tenants::Ground { store: &vault.store, committer: &vault.committer, keys: &vault.keys };
        tenants::create(own, &vault.by(TenantName::system()), ground).await.unwrap();
        vault
    }

    fn by(&self, tenant: TenantName) -> Administrator {
        Administrator {
            tenant,
            generation: None,
            context: context(&self.clock, Actor::anonymous()),
            realm: self.keys.realm().clone(),
            deadline: self.clock.now().plus(Duration::from_secs(10)),
        }
    }

    async fn act(&self, act: Act) {
        self.committer.submit(act).await.unwrap();
        self.catalog.refresh(&self.tenant);
    }

    /// Applies an app.
    pub(crate) async fn apply_app(&self, toml: &str) {
        let document = AppDocument::from_toml(toml).unwrap();
        self.act(Act::apply_app(self.by(self.tenant.clone()), &document).unwrap()).await;
    }

    /// Applies a flow, unchecked.
    pub(crate) async fn apply_flow(&self, name: &str, app: &str, purpose: &str, toml: &str) {
        let record = FlowRecord {
            name: name.parse().unwrap(),
            app: app.parse().unwrap(),
            purpose: purpose.parse().unwrap(),
            toml: toml.to_owned(),
            applied_at: self.clock.now(),
        };
        self.act(Act::apply_flow(self.by(self.tenant.clone()), record, None).unwrap()).await;
    }

    /// An app's server.
    pub(crate) async fn app(&self, app: &str) -> Caller {
        self.caller(CredentialKind::App, Some(app.parse().unwrap()), None).await
    }

    /// A flow's caller.
    pub(crate) async fn flow(&self, flow: &str) -> Caller {
        self.caller(CredentialKind::Flow, None, Some(flow.parse().unwrap())).await
    }

    async fn caller(&self, kind: CredentialKind, app: Option<AppName>, flow: Option<FlowName>) -> Caller {
        let now = self.clock.now();
        let id = CredentialId::generate(now);
        let secret = Credential::generate(kind, *id.as_bytes()).unwrap();
        let record = CredentialRecord {
            credential_id: id,
            kind,
            name: format!("a {kind}"),
            app,
            flow,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            suspended: false,
        };
        let message = credential_message(&secret, &record, &self.tenant, self.keys.realm());
        let hash = self.keys.mac(MacPurpose::Credential).mac(&message);
        let stored = StoredCredential { record: record.clone(), hash };
        self.act(Act::create_credential(self.by(self.tenant.clone()), &stored).unwrap()).await;
        let actor = Actor { id: id.to_string(), kind: ActorKind::Credential(kind), name: Some(record.name.clone()) };
        Caller {
            tenant: self.catalog.tenant(&self.tenant).await.unwrap().unwrap(),
            context: context(&self.clock, actor),
            credential: record,
            secret: Arc::new(secret),
            asked: String::new(),
        }
    }

    /// Says that the tenant's first key is compromised: it gets a successor.
    pub(crate) async fn compromise(&self) {
        self.clock.advance(Duration::from_secs(1));
        let wish = Wish { kek_id: None, version: 1, state: KekState::Compromised, successor: Successor::First };
        let ground = tenants::Ground { store: &self.store, committer: &self.committer, keys: &self.keys };
        kek_states::change(&self.by(self.tenant.clone()), wish, false, ground).await.unwrap();
        self.keys.forget_tenant(&self.tenant);
    }

    /// Closes data keys, as another node does: nobody tells this one but the generation.
    pub(crate) async fn close(&self, data_keys: Vec<DataKeyId>) {
        let changes = move || Changes { closed_data_keys: data_keys.clone(), ..Changes::default() };
        let deadline = self.clock.now().plus(Duration::from_secs(10));
        self.committer.submit(OwnWork::new(self.tenant.clone(), deadline, changes).moving()).await.unwrap();
    }

    /// Ends a caller's credential.
    pub(crate) async fn revoke(&self, caller: &Caller) {
        self.catalog.refresh(&self.tenant);
        let tenant = self.catalog.tenant(&self.tenant).await.unwrap().unwrap();
        let (version, stored) = tenant.credentials.get(&caller.credential.credential_id).unwrap();
        let by = self.by(self.tenant.clone());
        self.act(Act::revoke_credential(by, stored, *version, self.clock.now()).unwrap()).await;
    }

    /// The next commit happens, but nobody hears of it; or, as ever, who asked does.
    pub(crate) async fn lose_the_next_answer(&self, is_lost: bool) {
        self.store.writer().await.lose_the_next_answer(is_lost);
    }

    /// While it is held nothing is written, as with a database that is away.
    pub(crate) async fn hold_the_writer(&self) -> impl Sized + '_ {
        self.store.writer().await
    }

    /// The same caller with the settings of now, as its next request would come.
    pub(crate) async fn again(&self, caller: &Caller) -> Caller {
        let tenant = self.catalog.tenant(&self.tenant).await.unwrap().unwrap();
        let context = RequestContext { request_id: RequestId::generate(self.clock.now()), ..caller.context.clone() };
        Caller { tenant, context, ..caller.clone() }
    }

    /// Somebody with the database's password at work, past every check.
    pub(crate) async fn meddle(&self, sql: &'static str) {
        meddling::meddle(&self.folder.path().join("siv.db"), sql).await;
    }

    /// The entries of the tenant's log with this action, oldest first.
    pub(crate) async fn entries(&self, action: &str) -> Vec<ParsedEntry> {
        let filter = EntryFilter { action: Some(action.to_owned()), ..EntryFilter::default() };
        let page = self.store.entries(&self.tenant, &filter, None, 1000).await.unwrap();
        page.entries.iter().map(|entry| Leaf::parse(&entry.leaf).unwrap()).collect()
    }
}

pub(crate) fn context(clock: &Clock, actor: Actor) -> RequestContext {
    RequestContext {
        request_id: RequestId::generate(clock.now()),
        actor,
        on_behalf_of: None,
        origin: Origin { address: Some("192.0.2.1".to_owned()), app: None },
        reference: None,
    }
}
