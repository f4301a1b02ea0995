//! What the schemas of both PostgreSQL databases promise in their first lines, asked of the server's own catalogs.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::Postgres;

use super::command_line::Installation;

/// Whose relations are looked at; sqlx's own table of migrations is not ours.
const OURS: &str = "WITH places AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'), \
     ours AS (SELECT oid, relname AS name, relkind AS kind FROM pg_class \
     WHERE relnamespace IN (SELECT oid FROM places) AND relname <> '_sqlx_migrations'), \
     columns AS (SELECT t.name || '.' || a.attname AS name, t.oid AS relation, a.* FROM pg_attribute a \
     JOIN ours t ON t.oid = a.attrelid WHERE t.kind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped)";

/// What must not be there, and the names of what is.
const FAULTS: [(&str, &str); 12] = [
    (
        "a table that does not say whose its rows are",
        "SELECT name FROM ours t WHERE kind IN ('r', 'p') AND NOT EXISTS \
         (SELECT FROM columns c WHERE c.relation = t.oid AND c.attname = 'tenant' AND c.attnotnull)",
    ),
    (
        "a table without a primary key",
        "SELECT name FROM ours t WHERE kind IN ('r', 'p') AND NOT EXISTS \
         (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary)",
    ),
    (
        "a primary or unique key that the tenant does not lead",
        "SELECT k.name FROM pg_index i JOIN ours k ON k.oid = i.indexrelid JOIN ours t ON t.oid = i.indrelid \
         LEFT JOIN columns c ON c.relation = t.oid AND c.attnum = i.indkey[0] \
         WHERE i.indisunique AND c.attname IS DISTINCT FROM 'tenant'",
    ),
    (
        "a text that is not compared byte by byte",
        "SELECT c.name FROM columns c JOIN pg_collation o ON o.oid = c.attcollation WHERE o.collname <> 'C'",
    ),
    (
        "a column that the server fills",
        "SELECT c.name FROM columns c WHERE c.attidentity <> '' OR c.attgenerated <> ''",
    ),
    (
        "a default that is no plain constant",
        "SELECT c.name FROM columns c JOIN pg_attrdef d ON d.adrelid = c.relation AND d.adnum = c.attnum \
         WHERE d.adbin::text NOT LIKE '{CONST %'",
    ),
    (
        "a foreign key",
        "SELECT k.conname::text FROM pg_constraint k JOIN ours t ON t.oid = k.conrelid WHERE k.contype = 'f'",
    ),
    ("a trigger", "SELECT g.tgname::text FROM pg_trigger g JOIN ours t ON t.oid = g.tgrelid"),
    ("a rule or a view", "SELECT t.name::text FROM pg_rewrite r JOIN ours t ON t.oid = r.ev_class"),
    ("a sequence or other kind of relation", "SELECT name FROM ours WHERE kind NOT IN ('r', 'p', 'i', 'I')"),
    ("a function", "SELECT proname::text FROM pg_proc WHERE pronamespace IN (SELECT oid FROM places)"),
    ("an event trigger", "SELECT evtname::text FROM pg_event_trigger"),
];

async fn faults(connection: &mut PgConnection) -> Vec<String> {
    let mut found = Vec::new();
    for (what, asked) in FAULTS {
        let sql = AssertSqlSafe(format!("{OURS} SELECT name::text FROM ({asked}) AS faults (name) ORDER BY 1"));
        let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *connection).await.unwrap();
        found.extend(names.into_iter().map(|name| format!("{what}: {name}")));
    }
    found
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    for statement in sql.split(";;") {
        sqlx::query(statement).execute(&mut *connection).await.unwrap_or_else(|why| panic!("{statement}: {why}"));
    }
}

/// What somebody might write into the next migration, for each rule.
const SLIPS: [(&str, &str); 13] = [
    ("does not say whose", "CREATE TABLE slip (a bigint PRIMARY KEY)"),
    ("without a primary key", "CREATE TABLE slip (tenant text COLLATE \"C\" NOT NULL)"),
    ("does not lead", "CREATE UNIQUE INDEX slip ON secrets (kind, tenant, secret_id, version, root_version)"),
    ("does not lead", "CREATE UNIQUE INDEX slip ON secrets (lower(tenant), kind, secret_id, version, root_version)"),
    ("byte by byte", "ALTER TABLE secrets ADD slip text"),
    ("the server fills", "ALTER TABLE secrets ADD slip bigint GENERATED ALWAYS AS (version + 1) STORED"),
    ("no plain constant", "ALTER TABLE secrets ADD slip timestamptz DEFAULT now()"),
    ("a sequence", "ALTER TABLE secrets ADD slip bigserial"),
    (
        "a foreign key",
        "ALTER TABLE secrets ADD FOREIGN KEY (tenant, kind) REFERENCES clear_files (tenant, name) NOT VALID",
    ),
    ("a rule or a view", "CREATE VIEW slip AS SELECT tenant FROM secrets"),
    ("a function", "CREATE FUNCTION slip() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'"),
    (
        "a trigger",
        "CREATE FUNCTION slip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';; \
         CREATE TRIGGER slip BEFORE INSERT ON secrets FOR EACH ROW EXECUTE FUNCTION slip()",
    ),
    (
        "an event trigger",
        "CREATE FUNCTION slip() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';; \
         CREATE EVENT TRIGGER slip ON ddl_command_start EXECUTE FUNCTION slip()",
    ),
];

#[tokio::test]
async fn the_tenant_leads_every_key_and_nothing_runs_inside_the_database() {
    let postgres = Postgres::start();
    let (rows, keys) = (postgres.create_database("rows"), postgres.create_database("keys"));
    Installation::of_node("one", &rows, &keys).init();
    for (place, tables) in [(&rows, 30), (&keys, 2)] {
        let mut connection = PgConnection::connect(place).await.unwrap();
        let sql = AssertSqlSafe(format!("{OURS} SELECT count(*) FROM ours WHERE kind = 'r'"));
        let seen: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        assert!(seen >= tables, "{place} has {seen} tables");
        assert_eq!(faults(&mut connection).await, Vec::<String>::new(), "{place}");
    }
    // And each rule is one that can be broken.
    let mut connection = PgConnection::connect(&keys).await.unwrap();
    for (rule, slip) in SLIPS {
        run(&mut connection, "BEGIN").await;
        run(&mut connection, slip).await;
        let found = faults(&mut connection).await;
        assert!(found.iter().any(|fault| fault.contains(rule)), "{slip}: {found:?}");
        run(&mut connection, "ROLLBACK").await;
    }
    assert_eq!(faults(&mut connection).await, Vec::<String>::new());
}
