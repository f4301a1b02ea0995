//! What the command line asks for; nothing here measures.

use std::time::Duration;

/// Databases, as the command line names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The file.
    Sqlite,
    /// The server.
    Postgres,
}

impl Engine {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// Parts of a run that can be asked for alone.
pub const PHASES: [&str; 11] =
    ["capture", "hpke", "invoke", "mixed", "bulk", "open", "overload", "growth", "start", "custody", "durability"];

const USAGE: &str =
    "bench [--quick] [--only PHASE,…] [--engine postgres|sqlite] [--clients N,…] [--rounds N] [--seconds N]
      [--preload N] [--tenants N] [--write]
phases: capture hpke invoke mixed bulk open overload growth start custody durability";

/// The flags.
pub struct Flags {
    only: Vec<String>,
    /// The databases, in the order they are measured.
    pub engines: Vec<Engine>,
    /// Closed loops of so many clients.
    pub clients: Vec<usize>,
    /// Rounds of slices; an odd number has a median.
    pub rounds: usize,
    /// How long a slice is.
    pub length: Duration,
    /// Values that the larger of the two vaults holds.
    pub preload: u64,
    /// Tenants with keys in a token, each with a worker of its own.
    pub tenants: usize,
    /// Touches everything, measures nothing.
    pub quick: bool,
    /// Writes docs/performance.md and its pictures.
    pub write: bool,
}

impl Flags {
    /// Reads the arguments; the error is how to write them.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let arguments: Vec<String> = arguments.collect();
        let mut flags = Self::for_all(arguments.iter().any(|argument| argument == "--quick"));
        let mut rest = arguments.into_iter();
        while let Some(flag) = rest.next() {
            match flag.as_str() {
                "--quick" => continue,
                "--write" => {
                    flags.write = true;
                    continue;
                }
                _ => {}
            }
            let given = rest.next().ok_or(USAGE)?;
            flags.take(&flag, &given).ok_or(USAGE)?;
        }
        Ok(flags)
    }

    fn for_all(quick: bool) -> Self {
        Self {
            only: Vec::new(),
            engines: vec![Engine::Postgres, Engine::Sqlite],
            clients: if quick { vec![16] } else { vec![1, 16, 64, 256] },
            rounds: if quick { 1 } else { 5 },
            length: if quick { Duration::from_millis(300) } else { Duration::from_secs(2) },
            preload: if quick { 2_000 } else { 1_000_000 },
            tenants: if quick { 2 } else { 100 },
            quick,
            write: false,
        }
    }

    fn take(&mut self, flag: &str, given: &str) -> Option<()> {
        match flag {
            "--only" => {
                self.only = given.split(',').map(str::to_owned).collect();
                self.only.iter().all(|phase| PHASES.contains(&phase.as_str())).then_some(())?;
            }
            "--engine" => self.engines = vec![engine(given)?],
            "--clients" => self.clients = given.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?,
            "--rounds" => self.rounds = given.parse().ok().filter(|n| *n > 0)?,
            "--seconds" => self.length = Duration::try_from_secs_f64(given.parse().ok()?).ok()?,
            "--preload" => self.preload = given.parse().ok().filter(|n| (1_000..=10_000_000).contains(n))?,
            "--tenants" => self.tenants = given.parse().ok().filter(|n| (1..=1_000).contains(n))?,
            _ => return None,
        }
        Some(())
    }

    /// Whether a phase was asked for.
    pub fn wants(&self, phase: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == phase)
    }
}

fn engine(name: &str) -> Option<Engine> {
    match name {
        "postgres" => Some(Engine::Postgres),
        "sqlite" => Some(Engine::Sqlite),
        _ => None,
    }
}
