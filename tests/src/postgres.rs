//! A PostgreSQL of a test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A server with its folder. It ends when this process does, because its standard input does.
pub struct Postgres {
    child: Child,
    answers: BufReader<ChildStdout>,
    folder: String,
}

impl Postgres {
    /// Starts a server with default durability, reached by a socket only.
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("throwaway-postgres");
        let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut folder = String::new();
        answers.read_line(&mut folder).unwrap();
        assert!(folder.starts_with('/'), "PostgreSQL does not start; tests/install-dependencies installs it");
        Self { child, answers, folder: folder.trim_end().to_owned() }
    }

    /// The address of the database every server has.
    pub fn address(&self) -> String {
        format!("postgres:///postgres?host={}&user=postgres", self.folder)
    }

    /// Makes a second database and gives its address.
    pub fn create_database(&self, name: &str) -> String {
        let script =
            r#"exec "$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)/createdb" -h "$1" -U postgres "$2""#;
        let made = Command::new("sh").args(["-c", script, "sh", &self.folder, name]).status().unwrap();
        assert!(made.success());
        format!("postgres:///{name}?host={}&user=postgres", self.folder)
    }

    /// Kills the server as a power cut does.
    pub fn kill(&mut self) {
        self.say("kill");
    }

    /// Starts it again.
    pub fn start_again(&mut self) {
        self.say("start");
    }

    fn say(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), word);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
