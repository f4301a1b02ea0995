//! What somebody can do who may write to the database: rows and columns changed behind a stopped vault's back.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

/// A stopped vault's database.
pub struct Database {
    connection: SqliteConnection,
}

/// A column as the schema has it.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    kind: String,
    may_be_null: bool,
}

/// One row: its table and the condition that finds it.
#[derive(Debug, Clone)]
pub struct Place {
    pub table: &'static str,
    pub condition: String,
}

impl Place {
    /// The row of a table with this tenant and key; a key of bytes is given in hexadecimal.
    pub fn new(table: &'static str, tenant: &str, key: &str) -> Self {
        let key = match table {
            "secure_values" | "value_states" => format!("value_id = X'{key}'"),
            "data_keys" => format!("class = '{key}'"),
            _ => format!("key = '{key}'"),
        };
        Self { table, condition: format!("tenant = '{tenant}' AND {key}") }
    }
}

/// What is done to a column of a row.
#[derive(Debug, Clone)]
pub enum Change {
    /// Its value is another: a byte flipped, a number higher by one, a longer text, something where there was nothing.
    Alter,
    /// It is taken away.
    Clear,
    /// It changes places with that of another row.
    Swap(Place),
}

impl Database {
    /// Opens it.
    pub async fn open(data: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(data.join("siv.db"));
        Self { connection: SqliteConnection::connect_with(&options).await.unwrap() }
    }

    /// Closes it; what was written goes into the file.
    pub async fn close(self) {
        self.connection.close().await.unwrap();
    }

    /// The columns of a table, from the schema itself: a new one cannot be forgotten.
    pub async fn columns(&mut self, table: &str) -> Vec<Column> {
        let rows = sqlx::query(AssertSqlSafe(format!("PRAGMA table_info({table})")));
        let rows = rows.fetch_all(&mut self.connection).await.unwrap();
        let column = |row: &sqlx::sqlite::SqliteRow| Column {
            name: row.get("name"),
            kind: row.get("type"),
            may_be_null: row.get::<i64, _>("notnull") == 0,
        };
        let columns: Vec<Column> = rows.iter().map(column).collect();
        assert!(!columns.is_empty(), "{table}");
        columns
    }

    /// Runs SQL; how many rows it changed.
    pub async fn run(&mut self, sql: String) -> u64 {
        let done = sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut self.connection).await;
        done.unwrap_or_else(|why| panic!("{sql}: {why}")).rows_affected()
    }

    /// Keeps a row as it is now, for [`Database::put_back`].
    pub async fn keep(&mut self, place: &Place, name: &str) {
        let Place { table, condition } = place;
        self.run(format!("CREATE TABLE IF NOT EXISTS kept_{name} AS SELECT * FROM {table} WHERE {condition}")).await;
    }

    /// Puts a kept row in the place of the one that is there now, if one is.
    pub async fn put_back(&mut self, place: &Place, name: &str) {
        let Place { table, condition } = place;
        self.run(format!("DELETE FROM {table} WHERE {condition}")).await;
        let put = self.run(format!("INSERT INTO {table} SELECT * FROM kept_{name}")).await;
        assert!(put > 0, "{table}: {condition}");
        self.run(format!("DROP TABLE kept_{name}")).await;
    }

    /// Changes one column of one row; false if that would change nothing.
    pub async fn change(&mut self, place: &Place, column: &Column, change: &Change) -> bool {
        match change {
            Change::Alter => self.alter(place, column).await,
            Change::Clear if !column.may_be_null => false,
            Change::Clear => {
                let (Place { table, condition }, name) = (place, &column.name);
                let sql = format!("UPDATE {table} SET {name} = NULL WHERE {condition} AND {name} IS NOT NULL");
                self.run(sql).await == 1
            }
            Change::Swap(other) => self.swap(place, other, column).await,
        }
    }

    async fn alter(&mut self, place: &Place, column: &Column) -> bool {
        let (Place { table, condition }, name) = (place, &column.name);
        let something = match column.kind.as_str() {
            "INTEGER" => format!("coalesce({name} + 1, 4102444800000)"),
            "TEXT" => format!("coalesce({name} || 'x', 'x')"),
            _ => self.flipped(place, name).await,
        };
        let done = self.run(format!("UPDATE {table} SET {name} = {something} WHERE {condition}")).await;
        assert_eq!(done, 1, "{table}.{name}: {condition}");
        true
    }

    /// The bytes of a column with the last bit flipped, as SQL.
    async fn flipped(&mut self, Place { table, condition }: &Place, name: &str) -> String {
        let sql = format!("SELECT {name} FROM {table} WHERE {condition}");
        let bytes: Option<Vec<u8>> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await.unwrap();
        let mut bytes = bytes.unwrap_or_else(|| vec![0; if name == "subject" { 32 } else { 16 }]);
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        format!("X'{}'", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }

    async fn swap(&mut self, one: &Place, other: &Place, column: &Column) -> bool {
        let name = &column.name;
        let table = one.table;
        for temporary in ["one", "other"] {
            self.run(format!("DROP TABLE IF EXISTS temp.{temporary}")).await;
        }
        self.run(format!("CREATE TEMP TABLE one AS SELECT * FROM {table} WHERE {}", one.condition)).await;
        self.run(format!("CREATE TEMP TABLE other AS SELECT * FROM {table} WHERE {}", other.condition)).await;
        let same = format!("SELECT count(*) FROM one, other WHERE one.{name} IS NOT other.{name}");
        let differ: i64 = sqlx::query_scalar(AssertSqlSafe(same)).fetch_one(&mut self.connection).await.unwrap();
        if differ == 0 {
            return false;
        }
        let columns = self.columns(table).await;
        let listed = |own: &str, foreign: &str| {
            let of = |c: &Column| format!("{}.{}", if c.name == *name { foreign } else { own }, c.name);
            columns.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        let gone = self.run(format!("DELETE FROM {table} WHERE ({}) OR ({})", one.condition, other.condition)).await;
        assert_eq!(gone, 2, "{table}: {} and {}", one.condition, other.condition);
        let (first, second) = (listed("one", "other"), listed("other", "one"));
        let sql =
            format!("INSERT INTO {table} SELECT {first} FROM one, other UNION ALL SELECT {second} FROM one, other");
        assert_eq!(self.run(sql).await, 2);
        true
    }
}
