//! A PostgreSQL of a test's own, and what may happen to one.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Signal;

use super::process;

/// A server with its folder. It ends when this process does, because its standard input does.
pub struct Postgres {
    child: Child,
    answers: BufReader<ChildStdout>,
    folder: String,
}

impl Postgres {
    /// Starts a server with default durability, reached by a socket only.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings, such as `restart_after_crash=off`.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::launch(settings, Vec::new())
    }

    /// A server that finds this in its environment.
    pub fn start_in(environment: Vec<(String, String)>) -> Self {
        Self::launch(&[], environment)
    }

    /// A streaming standby of another one.
    pub fn standby_of(primary: &Self) -> Self {
        Self::launch(&[], vec![("SIV_STANDBY_OF".to_owned(), primary.folder.clone())])
    }

    fn launch(settings: &[&str], environment: Vec<(String, String)>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("throwaway-postgres");
        let mut command = Command::new(script);
        command.envs(environment);
        let mut child = command.args(settings).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut folder = String::new();
        answers.read_line(&mut folder).unwrap();
        assert!(folder.starts_with('/'), "PostgreSQL does not start; tests/install-dependencies installs it");
        Self { child, answers, folder: folder.trim_end().to_owned() }
    }

    /// The address of the database every server has.
    pub fn address(&self) -> String {
        self.address_of("postgres")
    }

    /// Makes a second database and gives its address.
    pub fn create_database(&self, name: &str) -> String {
        let script =
            r#"exec "$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)/createdb" -h "$1" -U postgres "$2""#;
        let made = Command::new("sh").args(["-c", script, "sh", &self.folder, name]).status().unwrap();
        assert!(made.success());
        format!("postgres:///{name}?host={}&user=postgres", self.folder)
    }

    /// Copies a database that nobody uses under another name, and takes away what had it.
    pub fn replace_database(&self, from: &str, to: &str) {
        let script = r#"bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
            "$bin/dropdb" --if-exists -f -h "$1" -U postgres --maintenance-db=template1 "$3" &&
            "$bin/createdb" -h "$1" -U postgres --maintenance-db=template1 -T "$2" "$3""#;
        let copied = Command::new("sh").args(["-c", script, "sh", &self.folder, from, to]).status().unwrap();
        assert!(copied.success());
    }

    /// The address of a database of this server.
    pub fn address_of(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=postgres", self.folder)
    }

    /// Where its files lie: for who damages them while it is stopped.
    pub fn data(&self) -> PathBuf {
        Path::new(&self.folder).join("data")
    }

    /// Ends the server at once and without a word, as `pg_ctl restart -m immediate` does.
    pub fn kill(&mut self) {
        self.say("kill");
    }

    /// Ends the server in order: nothing is left for its next start to recover.
    pub fn stop(&mut self) {
        self.say("stop");
    }

    /// Starts it again.
    pub fn start_again(&mut self) {
        self.say("start");
    }

    /// `kill -9` of every process of it.
    pub fn kill_nine(&mut self) {
        let all = self.processes();
        // Stopped first: the postmaster must see no child die, and make none.
        for signal in [Signal::STOP, Signal::KILL] {
            all.iter().for_each(|pid| process::signal(*pid, signal));
        }
        while all.iter().any(|pid| process::is_alive(*pid)) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // As after a restart of the machine nobody has its number: where nobody buries it, the dead one would still have it.
        for lock in ["data/postmaster.pid", ".s.PGSQL.5432.lock"] {
            let _ = fs::remove_file(format!("{}/{lock}", self.folder));
        }
    }

    /// No process of it does anything until [`Postgres::thaw`]: connections are taken by the system, and nobody answers.
    pub fn freeze(&self) {
        self.processes().iter().for_each(|pid| process::signal(*pid, Signal::STOP));
    }

    /// They go on.
    pub fn thaw(&self) {
        self.processes().iter().for_each(|pid| process::signal(*pid, Signal::CONT));
    }

    /// From its next start on, strace does to its system calls what this says: `fdatasync:error=EIO:when=40..41` and the
    /// like, counted in each process of it on its own.
    pub fn inject(&mut self, fault: &str) {
        let answered = self.ask(&format!("fault {fault}"));
        assert_eq!(answered, "fault");
    }

    /// From its next start on, nothing fails any more.
    pub fn mend(&mut self) {
        let answered = self.ask("fault");
        assert_eq!(answered, "fault");
    }

    /// True if its postmaster is there.
    pub fn runs(&self) -> bool {
        self.postmaster().is_some_and(process::is_alive)
    }

    /// What it wrote about itself.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(format!("{}/log", self.folder)).unwrap_or_default()).into_owned()
    }

    fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(format!("{}/data/postmaster.pid", self.folder)).ok()?;
        file.lines().next()?.trim().parse().ok()
    }

    /// The postmaster first, so that whoever stops them in this order lets it make no new one.
    fn processes(&self) -> Vec<u32> {
        let Some(postmaster) = self.postmaster() else { return Vec::new() };
        let mut all = vec![postmaster];
        all.extend(process::children_of(postmaster));
        all
    }

    fn say(&mut self, word: &str) {
        assert_eq!(self.ask(word), word);
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A frozen one could not be ended.
        self.thaw();
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
