//! What is read outside a batch, on the readers' connections.

use super::column::Columns;
use super::{SqliteStore, deciding, key_rows, requests, transaction, values};
use crate::domain::{AppName, DataKeyClass, DataKeyId, Epoch, KekId, Realm, RunId, TenantName, ValueId};
use crate::keys::KekRecord;
use crate::store::Error;
use crate::store::batch::{LoadedValue, Stored};
use crate::store::committer::operation::Generation;
use crate::store::rows::{CaptureKeyRow, DataKeyRow, RunRow, SealsRow, Table};

impl SqliteStore {
    pub(in crate::store) async fn value(
        &self,
        value_id: ValueId,
        tenant: &TenantName,
        realm: &Realm,
    ) -> Result<Option<LoadedValue>, Error> {
        Ok(values::read(&[value_id], tenant, realm, &mut *self.reader().await?).await?.pop())
    }

    pub(in crate::store) async fn run(&self, run_id: RunId, tenant: &TenantName) -> Result<Option<RunRow>, Error> {
        Ok(requests::read_runs(&[run_id], tenant, &mut *self.reader().await?).await?.pop())
    }

    /// The row, and whether an entry speaks of one that is not there.
    pub(in crate::store) async fn row(
        &self,
        table: Table,
        key: &str,
        tenant: &TenantName,
    ) -> Result<(Option<Stored>, Vec<Vec<u8>>), Error> {
        let mut reader = self.reader().await?;
        let found = deciding::read(table, &[key], tenant, &mut reader).await?.pop();
        let missing = match found {
            Some(_) => Vec::new(),
            None => deciding::last_words(table, key, tenant, &mut reader).await?,
        };
        Ok((found, missing))
    }

    pub(in crate::store) async fn rows(&self, table: Table, tenant: &TenantName) -> Result<Vec<Stored>, Error> {
        deciding::read_all(table, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn rows_after(
        &self,
        table: Table,
        part: (&str, usize),
        tenant: &TenantName,
    ) -> Result<Vec<Stored>, Error> {
        deciding::read_part(table, part, tenant, &mut *self.reader().await?).await
    }

    /// Everything that decides about a tenant, in one snapshot with the generation it stands under.
    pub(in crate::store) async fn settings(
        &self,
        tables: &[Table],
        tenant: &TenantName,
    ) -> Result<(Generation, Vec<Stored>), Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let generation = transaction::generation(tenant, &mut snapshot).await?;
        let mut rows = Vec::new();
        for table in tables {
            rows.extend(deciding::read_all(*table, tenant, &mut snapshot).await?);
        }
        snapshot.commit().await?;
        Ok((generation, rows))
    }

    pub(in crate::store) async fn row_by_id(&self, table: Table, key: &str) -> Result<Vec<Stored>, Error> {
        deciding::read_by_id(table, key, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn owner_of_app(&self, app: &AppName) -> Result<Option<TenantName>, Error> {
        deciding::owner_of_app(app, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn generations(&self) -> Result<Vec<(TenantName, Generation)>, Error> {
        let rows =
            sqlx::query("SELECT tenant, generation FROM generations").fetch_all(&mut *self.reader().await?).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let columns = Columns::of("generations", row);
            let tenant = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
            Ok((tenant, Generation(columns.number("generation")?)))
        };
        rows.iter().map(read).collect()
    }

    pub(in crate::store) async fn tenants(&self) -> Result<Vec<TenantName>, Error> {
        let names: Vec<String> = sqlx::query_scalar("SELECT tenant FROM tenants ORDER BY tenant")
            .fetch_all(&mut *self.reader().await?)
            .await?;
        names.iter().map(|name| TenantName::from_store(name).map_err(|_| Error::Unreadable("tenants"))).collect()
    }

    pub(in crate::store) async fn find_data_keys(
        &self,
        class: DataKeyClass,
        epoch: Epoch,
        tenant: &TenantName,
    ) -> Result<Vec<DataKeyRow>, Error> {
        key_rows::find_data_keys(class, epoch, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn load_data_key(
        &self,
        id: DataKeyId,
        tenant: &TenantName,
    ) -> Result<Option<DataKeyRow>, Error> {
        key_rows::load_data_key(id, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn data_keys_after(
        &self,
        after: Option<DataKeyId>,
        limit: u32,
        tenant: &TenantName,
    ) -> Result<Vec<DataKeyRow>, Error> {
        key_rows::data_keys_after(after, limit, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn data_keys_elsewhere(
        &self,
        kek_id: KekId,
        version: u32,
        tenant: &TenantName,
    ) -> Result<u64, Error> {
        key_rows::data_keys_elsewhere(kek_id, version, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn data_keys_by_kek(
        &self,
        tenant: &TenantName,
    ) -> Result<Vec<(KekId, u32, u64)>, Error> {
        key_rows::data_keys_by_kek(tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn count_values(&self, most: u64, tenant: &TenantName) -> Result<u64, Error> {
        key_rows::count_values(most, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn seals(
        &self,
        between: (&[u8], &[u8]),
        limit: u32,
        tenant: &TenantName,
    ) -> Result<Vec<SealsRow>, Error> {
        values::seals(between, limit, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn capture_key(
        &self,
        key_id: &[u8; 16],
        tenant: &TenantName,
    ) -> Result<Option<CaptureKeyRow>, Error> {
        key_rows::capture_key(key_id, tenant, &mut *self.reader().await?).await
    }

    pub(in crate::store) async fn capture_key_under(
        &self,
        data_key: DataKeyId,
        tenant: &TenantName,
    ) -> Result<Option<CaptureKeyRow>, Error> {
        key_rows::capture_key_under(data_key, tenant, &mut *self.reader().await?).await
    }

    /// Inserts a data key of its own commit and gives the stored one. `may_wrap` judges its KEK's row as it is in the same
    /// transaction: [`Error::Stale`] if it says no.
    pub(in crate::store) async fn insert_data_key(
        &self,
        row: &DataKeyRow,
        may_wrap: impl Fn(&[Stored]) -> bool,
    ) -> Result<DataKeyRow, Error> {
        let kek = KekRecord::key_of(row.kek_id, row.kek_version);
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let connection = &mut *batch.transaction;
        let stored = match deciding::read(Table::Keks, &[&kek], &row.tenant, connection).await {
            Ok(kek) if may_wrap(&kek) => key_rows::insert_data_key(row, connection).await,
            Ok(_) => Err(Error::Stale),
            Err(error) => Err(error),
        };
        let done = batch.finish(stored).await;
        writer.settle(done).await
    }

    /// Inserts a capture key pair of its own commit and gives the stored one.
    pub(in crate::store) async fn insert_capture_key(&self, row: &CaptureKeyRow) -> Result<CaptureKeyRow, Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let stored = key_rows::stored_capture_key(row, &mut batch.transaction).await;
        let done = batch.finish(stored).await;
        writer.settle(done).await
    }
}
