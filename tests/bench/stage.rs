//! What stands ready for a run on one engine: databases, the vault with few values, and the yardsticks.

use std::time::Duration;

use super::cost::{self, Machine};
use super::database::{Databases, Rows};
use super::flags::{Engine, Flags};
use super::request::{self, Cards, PLACEHOLDER, Target};
use super::slice::Slice;
use super::vault::Vault;
use super::yardstick::Yardstick;

/// Values in the smaller vault before anything is measured.
pub const FEW: u64 = 1_000;

/// Names of the yardsticks.
pub const BARE: &str = "bare axum echo";
/// Value and entry in a transaction of their own.
pub const TRANSACTION: &str = "reference: one transaction a request";
/// What the nearest peer does.
pub const PEER: &str = "reference: SELECT and two commits";

/// Everything that runs while one engine is measured.
pub struct Stage {
    /// The databases.
    pub databases: Databases,
    /// The vault with few values.
    pub vault: Vault,
    /// Where the yardsticks write.
    pub reference: Option<Rows>,
    /// Numbers of cards.
    pub cards: Cards,
    yardsticks: Vec<(&'static str, Yardstick)>,
    begun: Machine,
    /// What was not answered well. A refusal is honest, so it voids nothing.
    pub remarks: Vec<String>,
    /// Why the figures are void.
    pub void: Vec<String>,
}

impl Stage {
    /// Starts all of it.
    pub async fn set(engine: Engine) -> Self {
        eprintln!("{}: starting the database, the vault and the yardsticks", engine.name());
        let (begun, databases) = (Machine::now(), Databases::start(engine).await);
        let cards = Cards::default();
        let vault = Vault::start("few", FEW, &databases, &cards).await;
        let reference = databases.create("reference").await;
        let address = reference.clone().unwrap_or_else(|| {
            let file = vault.installation.folder.path().join("reference.db");
            format!("sqlite:{}", file.display())
        });
        let yardsticks = vec![
            (BARE, Yardstick::start("bare", None)),
            (TRANSACTION, Yardstick::start("transaction", Some(&address))),
            (PEER, Yardstick::start("peer", Some(&address))),
        ];
        let reference = reference.map(Rows::Postgres);
        Self { databases, vault, reference, cards, yardsticks, begun, remarks: Vec::new(), void: Vec::new() }
    }

    /// A yardstick's requests, if this engine has it.
    pub fn yardstick(&self, name: &'static str) -> Option<Target> {
        let (_, yardstick) = self.yardsticks.iter().find(|(own, _)| *own == name)?;
        let path = if name == BARE { "/echo" } else { "/capture" };
        let body = serde_json::json!({"field": "card-number", "value": PLACEHOLDER});
        let request = request::post(&yardstick.host, path, None, &body);
        let (host, server) = (yardstick.host.clone(), yardstick.pid());
        Some(Target { name, host, server, fill: self.cards.put_into(request), proofs: &[], values: 0, keep_one_of: 0 })
    }

    /// Remarks what was not answered well; nothing but that is no figure at all.
    pub fn judge(&mut self, what: &str, slice: &Slice) {
        let (refused, broken) = (slice.refused, slice.broken);
        if slice.done > 0 && refused + broken == 0 {
            return;
        }
        let complaint = slice.complaint.as_deref().unwrap_or_default();
        let said = format!("{what}: {} good answers, {refused} refused, {broken} broken {complaint}", slice.done);
        if slice.done > refused + broken { &mut self.remarks } else { &mut self.void }.push(said);
    }

    /// Says how the machine is, in one line of the report.
    pub fn machine(&self, when: &str, flags: &Flags) -> (f64, String) {
        let length = Duration::from_millis(if flags.quick { 200 } else { 2_000 });
        let rate = cost::fdatasync_rate(self.vault.installation.folder.path(), length);
        let said = format!(
            "{when} {rate:.0} fdatasync/s (8 KiB overwritten), load average {}, {:.1} % of the machine stolen since the start",
            cost::load_average(),
            self.begun.stolen_since()
        );
        (rate, said)
    }
}
