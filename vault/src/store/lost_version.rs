//! The end of one KEK version whose token is lost while data keys are wrapped under it: two custodians state it, and what only
//! that version opens ends with it, in one commit. The tenant goes on with its other versions.

use std::collections::{BTreeMap, BTreeSet};

use super::administration::Administrator;
use super::approvals::{ApprovalRecord, Approved, Over, TwoPersonAct, in_force};
use super::decree::Decree;
use super::kek_states::versions;
use super::key_records::MOST_COUNTED;
use super::records::Body as _;
use super::rows::{DataKeyRow, Table};
use super::tenants::Ground;
use super::{Error, Store, resealing};
use crate::access_log::{Action, Entry, LostClass};
use crate::domain::text::hex;
use crate::domain::{DataKeyClass, DataKeyId, KekId, TenantName};
use crate::keys::{KekEnd, KekRecord, KekState, Looked, NotAsked, Seen};

/// So many rows of values, and of data keys, are looked at in one reading. In tests a few, so that there are several.
const LOOK: u32 = if cfg!(test) { 64 } else { 8192 };
/// So many rows of values are looked at in all, whichever data keys they rest on: what is counted is told to a person who waits.
const MOST_LOOKED: u64 = if cfg!(test) { 512 } else { MOST_COUNTED };

/// Sums over the classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Data keys.
    pub data_keys: u64,
    /// Values.
    pub values: u64,
    /// That these are so many or more.
    pub at_least: bool,
}

/// One version, and what ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Losing {
    /// The version.
    pub kek: KekRecord,
    /// The version of its row.
    pub row: u64,
    /// What becomes unopenable.
    pub losses: Vec<LostClass>,
    /// What was seen of its token.
    pub seen: Seen,
}

/// What became of asking for it.
#[derive(Debug)]
pub enum Asked {
    /// It could be approved.
    Possible(Losing),
    /// There is no such version, or several KEKs have one of this number.
    Absent,
    /// It wraps: the tenant needs a successor first.
    Active,
    /// Its state never becomes that.
    NotAllowed(KekState),
    /// It lies in the built-in KMS: no token of it can be lost.
    NotInToken,
    /// Its token answers with its key: nothing is lost.
    Answers,
    /// This node cannot ask its token: nothing follows from that.
    NotAsked(NotAsked),
}

impl Losing {
    /// The act that a second custodian has to approve: of exactly this version as it is, and of exactly this key.
    #[must_use]
    pub fn act(&self) -> Option<TwoPersonAct> {
        let (kek, row, key) = (self.kek.row_key(), self.row, identity(&self.kek)?);
        let serial = self.kek.hsm.as_ref().and_then(|hsm| hsm.serial.clone());
        Some(TwoPersonAct::LoseVersion { kek, row, key, serial, losses: self.losses.clone(), seen: self.seen })
    }

    /// How many data keys end, and how many values with them.
    #[must_use]
    pub fn total(&self) -> Total {
        total(&self.losses)
    }
}

fn total(losses: &[LostClass]) -> Total {
    losses.iter().fold(Total::default(), |sum, loss| Total {
        data_keys: sum.data_keys + loss.data_keys,
        values: sum.values + loss.values.unwrap_or(0),
        at_least: sum.at_least || loss.values_at_least,
    })
}

/// What tells a version's key from every other: the proof of its known answer.
fn identity(kek: &KekRecord) -> Option<String> {
    kek.hsm.as_ref().map(|hsm| hex::encode(&hsm.canary.check))
}

/// Judges whether a version can be stated to be lost, and counts what would end with it. Its token is waited for.
///
/// # Errors
/// [`Error::Keys`] where the token neither answers nor is silent; [`Error::Database`]; [`Error::Tampered`] also where a data key names
/// the version and was not wrapped under it.
pub async fn judge(
    (kek_id, version): (Option<KekId>, u32),
    tenant: &TenantName,
    ground: Ground<'_>,
) -> Result<Asked, Error> {
    let found = versions(tenant, ground.store).await?;
    let is_meant = |kek: &KekRecord| kek.version == version && kek_id.is_none_or(|kek_id| kek.kek_id == kek_id);
    let mut meant = found.into_iter().filter(|(_, kek)| is_meant(kek));
    let (Some((row, kek)), None) = (meant.next(), meant.next()) else { return Ok(Asked::Absent) };
    if kek.state.may_wrap() {
        return Ok(Asked::Active);
    }
    if !kek.state.may_become(KekState::Lost) {
        return Ok(Asked::NotAllowed(kek.state));
    }
    if kek.hsm.is_none() {
        return Ok(Asked::NotInToken);
    }
    let seen = match ground.keys.look_for_kek(ground.store, tenant, &kek).await? {
        Looked::Gone(KekEnd { seen: Some(seen), .. }) => seen,
        Looked::NotAsked(why) => return Ok(Asked::NotAsked(why)),
        Looked::Answers | Looked::Gone(_) => return Ok(Asked::Answers),
    };
    let losses = losses(&wrapped(&kek, tenant, ground).await?, tenant, ground.store).await?;
    Ok(Asked::Possible(Losing { kek, row, losses, seen }))
}

/// Ends the version as a second custodian approves it: its state, its data keys, the approval and the entry that a certificate
/// is made from are one commit. Killed before it nothing happened; the PIN of a token that no other version needs goes with the
/// next look at the tenant's keys.
pub(in crate::store) async fn end(
    by: &Administrator,
    (version, given): (u64, ApprovalRecord),
    ground: Ground<'_>,
) -> Result<Approved, Error> {
    let (tenant, store) = (&by.tenant, ground.store);
    let TwoPersonAct::LoseVersion { kek: wanted, row, key, losses: told, seen, .. } = &given.act else {
        return Err(Error::Rule("another act"));
    };
    let found = versions(tenant, store).await?;
    let meant = found.into_iter().find(|(at, kek)| {
        let is_it = kek.row_key() == *wanted && at == row && identity(kek).as_ref() == Some(key);
        is_it && kek.state.may_become(KekState::Lost) && !kek.state.may_wrap()
    });
    let Some((at, kek)) = meant else { return Ok(Approved::Over(Over::Changed)) };
    let ended = match ground.keys.look_for_kek(store, tenant, &kek).await? {
        Looked::Gone(ended) => ended,
        Looked::Answers => return Ok(Approved::Over(Over::Answers)),
        Looked::NotAsked(why) => return Ok(Approved::Over(Over::NotAsked(why))),
    };
    // Silent in one way or another both times; a token that came back without its key is another finding than its silence.
    if ended.seen.is_none_or(|now| now.is_answer() != seen.is_answer()) {
        return Ok(Approved::Over(Over::Changed));
    }
    let rows = wrapped(&kek, tenant, ground).await?;
    // Nothing comes to rest on any of them from now on: what is counted is what there is. Should the act not be done, others were
    // begun beside them, and they only open.
    resealing::close(tenant, rows.iter().map(|row| row.data_key_id).collect(), ground).await?;
    let losses = losses(&rows, tenant, store).await?;
    // Nothing is wrapped under it any more: what is there now was there when it was asked, or fewer.
    if !losses.iter().all(|loss| told.iter().any(|told| is_within(loss, told))) {
        return Ok(Approved::Over(Over::Changed));
    }
    // The token took its time: the credential that asked is judged again where it is written.
    let Some((asker, asker_at)) = in_force(given.requested_by, tenant, store).await? else {
        return Ok(Approved::Over(Over::Withdrawn));
    };
    let now = store.clock().now();
    let record = ApprovalRecord { completed_at: Some(now), ..given };
    let deadline = now.plus(PATIENCE);
    let mut decree = Decree::new(Administrator { generation: None, deadline, ..by.clone() })
        .until(record.expires_at)
        .patient(PATIENCE);
    decree.rest_on(Table::Credentials, asker, asker_at);
    let entry = entry(&decree, (&kek, &ended), &losses, &record)?;
    let lost = KekRecord { state: KekState::Lost, ended: Some(ended), ..kek };
    // First, so that the receipt is of it.
    decree.push(lost.to_row(tenant, &lost.row_key(), at + 1)?, entry);
    let approval = Entry { facts: record.facts(tenant, &by.realm), ..decree.entry(Action::Key("approval.given")) };
    decree.push(record.to_row(tenant, &record.approval_id.to_string(), version + 1)?, approval);
    decree.lose(rows.iter().map(|row| ground.keys.mark_lost(row)).collect());
    let receipt = match decree.submit(ground.committer).await {
        Ok(Some(receipt)) => receipt,
        // A data key was wrapped anew meanwhile: what was counted is not what is there.
        Ok(None) | Err(Error::Conflict) => return Ok(Approved::Over(Over::Changed)),
        Err(error) => return Err(error),
    };
    ground.keys.forget_tenant(tenant);
    // It is done, whatever becomes of this: it serves a database that is put back.
    if let Some(end) = lost.ended.clone()
        && let Err(error) = ground.keys.write_end(tenant, &lost, end).await
    {
        tracing::warn!(%tenant, kek = lost.row_key(), %error, "the end of a key could not be written down in the key store");
    }
    Ok(Approved::Done { record, receipt: Some(receipt), waiting: None })
}

/// How long the commit may take: what was waited for before has used up what the request had, and thousands of data keys may go.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The part after `key.` of the entry that says that a version is lost.
pub const VERSION_LOST: &str = "kek.lost";

/// Whether no more of a class is lost than was told.
fn is_within(loss: &LostClass, told: &LostClass) -> bool {
    let values = told.values_at_least || (!loss.values_at_least && loss.values <= told.values);
    loss.class == told.class && loss.data_keys <= told.data_keys && values
}

/// What the log says of it, and a certificate after it.
fn entry(
    decree: &Decree,
    (kek, ended): (&KekRecord, &KekEnd),
    losses: &[LostClass],
    record: &ApprovalRecord,
) -> Result<Entry, Error> {
    let Total { data_keys, values, at_least } = total(losses);
    let mut facts = vec![
        ("kek", kek.row_key()),
        ("version", kek.version.to_string()),
        ("before", kek.state.to_string()),
        ("approval", record.approval_id.to_string()),
        ("requestedBy", record.requested_by.to_string()),
        ("approvedBy", record.approved_by.map(|id| id.to_string()).unwrap_or_default()),
        ("dataKeys", data_keys.to_string()),
        ("values", values.to_string()),
        ("losses", told(losses)?),
    ];
    facts.extend(at_least.then(|| ("valuesAtLeast", "true".to_owned())));
    facts.extend(ended.facts());
    Ok(Entry { kek_id: Some(kek.kek_id), facts, ..decree.entry(Action::Key(VERSION_LOST)) })
}

/// As an entry says it.
pub(in crate::store) fn told(losses: &[LostClass]) -> Result<String, Error> {
    serde_json::to_string(losses).map_err(|_| Error::Rule("losses must serialise"))
}

/// The data keys that a version wraps. Each is held to its seal and MAC: a row that somebody made
/// name the version ends with none. Those whose erasure key's time is over ended with that.
async fn wrapped(
    kek: &KekRecord,
    tenant: &TenantName,
    Ground { store, keys, .. }: Ground<'_>,
) -> Result<Vec<DataKeyRow>, Error> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let found = store.data_keys_after(tenant, after, LOOK).await?;
        let Some(last) = found.last() else { break };
        after = Some(last.data_key_id);
        for row in found.into_iter().filter(|row| (row.kek_id, row.kek_version) == (kek.kek_id, kek.version)) {
            match keys.is_bound(&row).await? {
                Some(true) => rows.push(row),
                Some(false) => {
                    tracing::error!(%tenant, data_key_id = %row.data_key_id, "a data key names a key version that it was not wrapped under");
                    keys.tell_of_altered(tenant, kek);
                    return Err(Error::Tampered("a data key names a key version that it was not wrapped under"));
                }
                None => {}
            }
        }
    }
    Ok(rows)
}

/// What data keys seal, by class.
async fn losses(rows: &[DataKeyRow], tenant: &TenantName, store: &Store) -> Result<Vec<LostClass>, Error> {
    let mut by_class: BTreeMap<DataKeyClass, (u64, Counted)> = BTreeMap::new();
    let mut times: BTreeMap<(DataKeyClass, u64), Vec<&DataKeyRow>> = BTreeMap::new();
    for row in rows {
        by_class.entry(row.class).or_default().0 += 1;
        times.entry((row.class, row.epoch.0)).or_default().push(row);
    }
    // Each class by itself: many short-lived values are not to hide how many stored ones there are.
    let mut looked: BTreeMap<DataKeyClass, u64> = BTreeMap::new();
    for ((class, _), keys) in times.into_iter().filter(|((class, _), _)| class.is_of_values()) {
        let seen = &mut by_class.entry(class).or_default().1;
        let looked = looked.entry(class).or_default();
        *looked += count(&keys, MOST_LOOKED.saturating_sub(*looked), (tenant, seen), store).await?;
    }
    Ok(by_class.into_iter().map(|(class, counts)| loss(class, counts)).collect())
}

fn loss(class: DataKeyClass, (data_keys, Counted { values, at_least }): (u64, Counted)) -> LostClass {
    let holds = match class {
        DataKeyClass::SensitiveAuthentication | DataKeyClass::Session | DataKeyClass::Stored => None,
        DataKeyClass::Capture => Some("key pairs that browsers seal to: values on their way are sent again"),
        DataKeyClass::Idempotency | DataKeyClass::IdempotencySensitive => {
            Some("answers that an Idempotency-Key repeats")
        }
        DataKeyClass::LogOpening => Some("names of persons and network addresses in entries of the log"),
        DataKeyClass::Configuration => Some("secrets of destinations"),
    };
    LostClass {
        class: class.as_str().to_owned(),
        data_keys,
        values: holds.is_none().then_some(values),
        values_at_least: holds.is_none() && at_least,
        holds: holds.map(str::to_owned),
    }
}

/// Values of a class.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    values: u64,
    /// That these are so many or more: not all were looked at.
    at_least: bool,
}

/// Counts the values that rest on data keys of one class and epoch; how many rows were looked at, `most` of them at most. The other
/// data keys of that time may have many more.
async fn count(
    keys: &[&DataKeyRow],
    most: u64,
    (tenant, seen): (&TenantName, &mut Counted),
    store: &Store,
) -> Result<u64, Error> {
    // What was "or more" once stays so: nothing is read for it.
    let Some(first) = keys.first().filter(|_| !seen.at_least) else { return Ok(0) };
    let ids: BTreeSet<DataKeyId> = keys.iter().map(|row| row.data_key_id).collect();
    let (after, before) = resealing::ids_of(first);
    let (mut after, mut looked) = (after.as_bytes().to_vec(), 0);
    loop {
        let rows = store.seals((&after, before.as_bytes()), LOOK, tenant).await?;
        let Some(last) = rows.last() else { return Ok(looked) };
        if looked >= most {
            seen.at_least = true;
            return Ok(looked);
        }
        after.clone_from(&last.key);
        looked += rows.len() as u64;
        let seals = rows.iter().filter_map(|row| row.seals);
        let its =
            seals.filter(|seals| ids.contains(&seals.data_key) || seals.state.is_some_and(|id| ids.contains(&id)));
        seen.values += its.count() as u64;
    }
}
