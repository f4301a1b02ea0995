//! Operations of few rows and of many, which PostgreSQL takes in different ways: every column is written as it was said, on both
//! sides of where the way changes.

use std::sync::Arc;
use std::time::Duration;

use super::on_every_engine;
use super::vault::{Vault, demo, entry};
use crate::access_log::{Action, Entry, Leaf, ObjectVersion, Outcome, Personal, Position};
use crate::domain::{RetentionClass, SecretId};
use crate::store::committer::operation::Changes;
use crate::store::engine;
use crate::store::listing::RawEntry;
use crate::store::rows::ValueRow;
use crate::store::{Error, Store};

on_every_engine!(
    entries_of_any_number_have_every_column_that_they_were_given,
    values_of_any_number_read_back_whole_and_are_purged_when_they_end,
);

/// On both sides of where PostgreSQL takes them another way, and far beyond.
const NUMBERS: [usize; 4] = [3, 127, 128, 200];

impl Store {
    async fn raw(&self, position: &Position) -> Result<RawEntry, Error> {
        Ok(engine!(self, entry_at(position, &demo()))?.expect("it was written"))
    }
}

/// One of so many entries: each column is filled in some and empty in others, and two of a row are never the same.
fn nth(at: usize, number: usize) -> Entry {
    let mut told = entry(&demo(), if at.is_multiple_of(2) { Action::ValueRevealed } else { Action::LogRead });
    let every = |n: usize| at.is_multiple_of(n);
    told.time = told.time.plus(Duration::from_millis(at as u64));
    told.outcome = if every(3) { Outcome::Denied } else { Outcome::Allowed };
    told.actor.id = format!("actor-{at}");
    told.actor.name = every(5).then(|| format!("name {at}"));
    told.app = every(2).then(|| format!("app-{at}").parse().unwrap());
    told.flow = every(3).then(|| (format!("flow-{at}").parse().unwrap(), 4));
    told.object = every(5).then(|| ObjectVersion {
        table: "capture_sessions",
        key: format!("session-{at}-of-{number}"),
        version: at as u64 + 1,
        digest: [7; 32],
    });
    told.state_version = every(7).then_some(at as u64 + 2);
    told.on_behalf_of = every(2).then(|| format!("user {at}"));
    told.address = every(3).then(|| format!("192.0.2.{at}"));
    told.reference = every(4).then(|| format!("order {at}"));
    told
}

async fn entries_of_any_number_have_every_column_that_they_were_given(vault: Vault) {
    let vault = vault.with_tenant().await;
    for number in NUMBERS {
        let told: Vec<Arc<Entry>> = (0..number).map(|at| Arc::new(nth(at, number))).collect();
        let entries = told.clone();
        let done = vault.write(move || Changes { entries: entries.clone(), ..Changes::default() }).await.unwrap();
        for (at, (told, receipt)) in told.iter().zip(done.receipts()).enumerate() {
            let raw = vault.store.raw(&receipt.position).await.unwrap();
            assert!(raw.holds_together(), "{at} of {number}: {:?} beside {:?}", raw.columns, Leaf::parse(&raw.leaf));
            let (columns, object) = (&raw.columns, told.object.as_ref());
            assert_eq!(
                columns.object,
                object.map(|object| (format!("capture_sessions/{}", object.key), object.version))
            );
            assert_eq!((columns.time, columns.state_version), (told.time, told.state_version), "{at} of {number}");
            let read = vault.store.entry_at(&demo(), &receipt.position).await.unwrap().unwrap();
            let open = |member| read.openings.iter().find(|opening| opening.member == member).unwrap().value();
            assert_eq!(read.openings.len(), 4, "{at} of {number}");
            assert_eq!(open(Personal::OnBehalfOf), told.on_behalf_of.as_deref());
            assert_eq!(open(Personal::Address), told.address.as_deref());
            assert_eq!(open(Personal::ActorName), told.actor.name.as_deref());
            assert_eq!(open(Personal::Reference), told.reference.as_deref());
        }
        assert_eq!(done.receipts().len(), number);
    }
}

async fn values_of_any_number_read_back_whole_and_are_purged_when_they_end(vault: Vault) {
    let vault = vault.with_tenant().await;
    let mut there = 0;
    for number in NUMBERS {
        let rows: Vec<Arc<ValueRow>> = (0..number)
            .map(|at| {
                let mut row =
                    vault.value(RetentionClass::Stored, at.is_multiple_of(2).then_some(Duration::from_secs(60)));
                row.metadata.app = format!("app-{at}").parse().unwrap();
                row.metadata.field = format!("field-{at}").parse().unwrap();
                row.metadata.created = row.metadata.created.plus(Duration::from_millis(at as u64));
                row.metadata.uses = at.is_multiple_of(3).then_some(9);
                row.metadata.subject = at.is_multiple_of(5).then_some([9; 32]);
                row.metadata.session = row.metadata.session.filter(|_| at.is_multiple_of(7));
                row.verifier = [u8::try_from(at).unwrap(); 32];
                row.pepper_id = SecretId::generate(vault.clock.now());
                row.sealed = vec![1; at + 30];
                Arc::new(row)
            })
            .collect();
        let new_values = rows.clone();
        vault.write(move || Changes { new_values: new_values.clone(), ..Changes::default() }).await.unwrap();
        for row in &rows {
            let read = vault.store.value(&demo(), row.metadata.value_id).await.unwrap().unwrap();
            assert_eq!(format!("{:?}", read.row), format!("{row:?}"), "one of {number}");
        }
        there += i64::try_from(number).unwrap();
        assert_eq!(vault.number("SELECT count(*) FROM secure_values").await, there);
        let late = "SELECT count(*) FROM secure_values WHERE purge_after IS DISTINCT FROM expires";
        assert_eq!(vault.number(late).await, 0, "{number}");
    }
}
