//! A PostgreSQL of the tests' own: one for the process, a database of it for each test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use sqlx::{Connection, Executor, PgConnection};

use crate::store::settings::PostgresAddress;

/// A server with its folder. It ends when this process does, because its standard input does.
pub(in crate::store) struct Cluster {
    folder: PathBuf,
    words: Mutex<(Child, BufReader<ChildStdout>)>,
    databases: AtomicU32,
}

impl Cluster {
    /// A server for one test, which may do to it what it likes.
    pub(super) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/throwaway-postgres");
        let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut folder = String::new();
        answers.read_line(&mut folder).unwrap();
        assert!(folder.starts_with('/'), "PostgreSQL does not start; tests/install-dependencies installs it");
        Self { folder: folder.trim_end().into(), words: Mutex::new((child, answers)), databases: AtomicU32::new(0) }
    }

    /// The server all tests share.
    pub(in crate::store) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The address of a new database.
    pub(in crate::store) async fn database(&self) -> PostgresAddress {
        let name = format!("siv_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        // A test's own text, made once: the architecture allows no other way to a statement put together.
        let create: &'static str = format!("CREATE DATABASE {name}").leak();
        run(&self.address("postgres"), create).await;
        self.address(&name)
    }

    fn address(&self, database: &str) -> PostgresAddress {
        let folder = self.folder.display();
        PostgresAddress::parse(&format!("postgres:///{database}?host={folder}&user=postgres")).unwrap()
    }

    /// Kills the server as a power cut does.
    pub(super) fn kill(&self) {
        self.say("kill");
    }

    /// Starts it again.
    pub(super) fn start_again(&self) {
        self.say("start");
    }

    fn say(&self, word: &str) {
        let mut words = self.words.lock().unwrap();
        writeln!(words.0.stdin.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        words.1.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), word);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok((child, _)) = self.words.get_mut() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// Runs statements.
pub(in crate::store) async fn run(address: &PostgresAddress, sql: &'static str) {
    let mut connection = connect(address).await;
    connection.execute(sql).await.unwrap();
    connection.close().await.unwrap();
}

pub(super) async fn connect(address: &PostgresAddress) -> PgConnection {
    PgConnection::connect_with(&address.options().unwrap()).await.unwrap()
}
