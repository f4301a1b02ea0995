//! What is read outside a batch, on the readers' connections.

use super::column::Columns;
use super::{PostgresStore, deciding, generations, key_rows, requests, values};
use crate::domain::{AppName, DataKeyClass, DataKeyId, Epoch, KekId, Realm, RunId, TenantName, ValueId};
use crate::keys::KekRecord;
use crate::store::Error;
use crate::store::batch::{LoadedValue, Stored};
use crate::store::committer::operation::Generation;
use crate::store::rows::{CaptureKeyRow, DataKeyRow, RunRow, SealsRow, Table};

impl PostgresStore {
    pub(in crate::store) async fn value(
        &self,
        value_id: ValueId,
        tenant: &TenantName,
        realm: &Realm,
    ) -> Result<Option<LoadedValue>, Error> {
        super::reading!(self, |connection| Ok(values::read(&[value_id], tenant, realm, connection).await?.pop()))
    }

    pub(in crate::store) async fn run(&self, run_id: RunId, tenant: &TenantName) -> Result<Option<RunRow>, Error> {
        super::reading!(self, |connection| Ok(requests::read_runs(&[run_id], tenant, connection).await?.pop()))
    }

    /// The row, and whether an entry speaks of one that is not there.
    pub(in crate::store) async fn row(
        &self,
        table: Table,
        key: &str,
        tenant: &TenantName,
    ) -> Result<(Option<Stored>, Vec<Vec<u8>>), Error> {
        super::reading!(self, |connection| {
            let found = deciding::read(table, &[key], tenant, connection).await?.pop();
            let missing = match found {
                Some(_) => Vec::new(),
                None => deciding::last_words(table, key, tenant, connection).await?,
            };
            Ok((found, missing))
        })
    }

    pub(in crate::store) async fn rows(&self, table: Table, tenant: &TenantName) -> Result<Vec<Stored>, Error> {
        super::reading!(self, |connection| deciding::read_all(table, tenant, connection).await)
    }

    pub(in crate::store) async fn rows_after(
        &self,
        table: Table,
        part: (&str, usize),
        tenant: &TenantName,
    ) -> Result<Vec<Stored>, Error> {
        super::reading!(self, |connection| deciding::read_part(table, part, tenant, connection).await)
    }

    /// Everything that decides about a tenant, in one snapshot with the generation it stands under.
    pub(in crate::store) async fn settings(
        &self,
        tables: &[Table],
        tenant: &TenantName,
    ) -> Result<(Generation, Vec<Stored>), Error> {
        super::snapshot!(self, |connection| {
            let generation = generations::read(tenant, connection).await?;
            let mut rows = Vec::new();
            for table in tables {
                rows.extend(deciding::read_all(*table, tenant, connection).await?);
            }
            Ok((generation, rows))
        })
    }

    pub(in crate::store) async fn row_by_id(&self, table: Table, key: &str) -> Result<Vec<Stored>, Error> {
        super::reading!(self, |connection| deciding::read_by_id(table, key, connection).await)
    }

    pub(in crate::store) async fn owner_of_app(&self, app: &AppName) -> Result<Option<TenantName>, Error> {
        super::reading!(self, |connection| deciding::owner_of_app(app, connection).await)
    }

    pub(in crate::store) async fn generations(&self) -> Result<Vec<(TenantName, Generation)>, Error> {
        super::reading!(self.vital, |connection| {
            let rows = sqlx::query("SELECT tenant, generation FROM generations").fetch_all(connection).await?;
            let read = |row: &sqlx::postgres::PgRow| {
                let columns = Columns::of("generations", row);
                let tenant = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
                Ok((tenant, Generation(columns.number("generation")?)))
            };
            rows.iter().map(read).collect()
        })
    }

    pub(in crate::store) async fn tenants(&self) -> Result<Vec<TenantName>, Error> {
        super::reading!(self, |connection| {
            let names: Vec<String> =
                sqlx::query_scalar("SELECT tenant FROM tenants ORDER BY tenant").fetch_all(connection).await?;
            names.iter().map(|name| TenantName::from_store(name).map_err(|_| Error::Unreadable("tenants"))).collect()
        })
    }

    pub(in crate::store) async fn find_data_keys(
        &self,
        class: DataKeyClass,
        epoch: Epoch,
        tenant: &TenantName,
    ) -> Result<Vec<DataKeyRow>, Error> {
        super::reading!(self, |connection| key_rows::find_data_keys(class, epoch, tenant, connection).await)
    }

    pub(in crate::store) async fn load_data_key(
        &self,
        id: DataKeyId,
        tenant: &TenantName,
    ) -> Result<Option<DataKeyRow>, Error> {
        super::reading!(self, |connection| key_rows::load_data_key(id, tenant, connection).await)
    }

    pub(in crate::store) async fn data_keys_after(
        &self,
        after: Option<DataKeyId>,
        limit: u32,
        tenant: &TenantName,
    ) -> Result<Vec<DataKeyRow>, Error> {
        super::reading!(self, |connection| key_rows::data_keys_after(after, limit, tenant, connection).await)
    }

    pub(in crate::store) async fn data_keys_elsewhere(
        &self,
        kek_id: KekId,
        version: u32,
        tenant: &TenantName,
    ) -> Result<u64, Error> {
        super::reading!(self, |connection| key_rows::data_keys_elsewhere(kek_id, version, tenant, connection).await)
    }

    pub(in crate::store) async fn data_keys_by_kek(
        &self,
        tenant: &TenantName,
    ) -> Result<Vec<(KekId, u32, u64)>, Error> {
        super::reading!(self, |connection| key_rows::data_keys_by_kek(tenant, connection).await)
    }

    pub(in crate::store) async fn count_values(&self, most: u64, tenant: &TenantName) -> Result<u64, Error> {
        super::reading!(self, |connection| key_rows::count_values(most, tenant, connection).await)
    }

    pub(in crate::store) async fn seals(
        &self,
        between: (&[u8], &[u8]),
        limit: u32,
        tenant: &TenantName,
    ) -> Result<Vec<SealsRow>, Error> {
        super::reading!(self, |connection| values::seals(between, limit, tenant, connection).await)
    }

    pub(in crate::store) async fn capture_key(
        &self,
        key_id: &[u8; 16],
        tenant: &TenantName,
    ) -> Result<Option<CaptureKeyRow>, Error> {
        super::reading!(self, |connection| key_rows::capture_key(key_id, tenant, connection).await)
    }

    pub(in crate::store) async fn capture_key_under(
        &self,
        data_key: DataKeyId,
        tenant: &TenantName,
    ) -> Result<Option<CaptureKeyRow>, Error> {
        super::reading!(self, |connection| key_rows::capture_key_under(data_key, tenant, connection).await)
    }

    /// Inserts a data key of its own commit and gives the stored one. `may_wrap` judges its KEK's row as it is in the same
    /// generations: [`Error::Stale`] if it says no.
    pub(in crate::store) async fn insert_data_key(
        &self,
        row: &DataKeyRow,
        may_wrap: impl Fn(&[Stored]) -> bool,
    ) -> Result<DataKeyRow, Error> {
        let kek = KekRecord::key_of(row.kek_id, row.kek_version);
        super::writing!(self, |connection| {
            deciding::share(Table::Keks, &kek, &row.tenant, connection).await?;
            let found = deciding::read(Table::Keks, &[&kek], &row.tenant, connection).await?;
            if may_wrap(&found) { key_rows::insert_data_key(row, connection).await } else { Err(Error::Stale) }
        })
    }

    /// Inserts a capture key pair of its own commit and gives the stored one.
    pub(in crate::store) async fn insert_capture_key(&self, row: &CaptureKeyRow) -> Result<CaptureKeyRow, Error> {
        super::writing!(self, |connection| key_rows::stored_capture_key(row, connection).await)
    }
}
