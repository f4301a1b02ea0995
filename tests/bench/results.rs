//! What the run on one engine gave, phase by phase.

use super::bulk::{self, Bulk};
use super::custody::{self, Custody};
use super::durability::{self, Durability};
use super::figures::Table;
use super::flags::{Engine, Flags};
use super::growth::{self, Growth};
use super::paths;
use super::pressure::{self, Overload, Steady};
use super::stage::Stage;
use super::start::{self, Start};
use super::wal;

/// The figures of one engine; a phase that was not asked for is nothing.
pub struct Results {
    /// The engine.
    pub engine: Engine,
    /// Closed loops.
    pub table: Table,
    /// Many values in one request.
    pub bulk: Option<Bulk>,
    /// Six tenths of the most.
    pub steady: Option<Steady>,
    /// Multiples of the most; the last is the one that has a goal.
    pub overload: Vec<Overload>,
    /// Many stored values.
    pub growth: Option<Growth>,
    /// Keys in a token.
    pub custody: Option<Custody>,
    /// Starts.
    pub start: Option<Start>,
    /// Both killed.
    pub durability: Option<Durability>,
    /// Bytes in the columns of a captured value and its entry.
    pub columns: f64,
    /// Durable writes of the disk a second, before and after.
    pub disk: [f64; 2],
    /// The same in words, with the load.
    pub machine: [String; 2],
    /// What was not answered well.
    pub remarks: Vec<String>,
    /// Why the figures are void.
    pub void: Vec<String>,
}

impl Results {
    /// Runs what the flags ask for. What is killed comes last.
    pub async fn of(engine: Engine, flags: &Flags) -> Self {
        let mut stage = Stage::set(engine).await;
        let before = stage.machine("Before:", flags);
        let table = paths::run(&paths::wanted(flags), &mut stage, flags).await;
        let bulk = match flags.wants("bulk") {
            true => Some(bulk::run(&mut stage, flags).await),
            false => None,
        };
        let steady = match flags.wants("open") {
            true => Some(pressure::steady(&table, &mut stage, flags).await),
            false => None,
        };
        let mut overload = Vec::new();
        for factor in [2, 10].into_iter().filter(|factor| flags.wants("overload") && (*factor > 2 || !flags.quick)) {
            overload.push(pressure::overload(factor, &mut stage, flags).await);
        }
        let growth = match flags.wants("growth") {
            true => Some(growth::run(&mut stage, flags).await),
            false => None,
        };
        let start = match flags.wants("start") {
            true => Some(start::run(&mut stage, flags).await),
            false => None,
        };
        let custody = match flags.wants("custody") {
            true => Some(custody::run(&mut stage, flags).await),
            false => None,
        };
        let (columns, after) = (wal::columns(&stage.vault.rows).await, stage.machine("after:", flags));
        let durability = match flags.wants("durability") {
            true => durability::run(&mut stage, flags).await,
            false => None,
        };
        Self {
            engine,
            table,
            bulk,
            steady,
            overload,
            growth,
            custody,
            start,
            durability,
            columns,
            disk: [before.0, after.0],
            machine: [before.1, after.1],
            remarks: stage.remarks,
            void: stage.void,
        }
    }
}
