//! One version of a key whose token is lost: two custodians end it with what only it opens, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use super::vault::{NOW, Vault, demo};
use super::{on_every_engine, on_sqlite};
use crate::access_log::{Destroyed, DestructionCertificate, Leaf};
use crate::domain::{CredentialId, DataKeyClass, DataKeyId, KekId, RetentionClass, TenantName, ValueId};
use crate::keys::KeyRecords as _;
use crate::keys::{self, DataKeyRow, KekRecord, KekState, LostDataKey, NotAsked, ProviderRecord, Seen};
use crate::store::approvals::{self, ApprovalRecord, Approved, Over, Place, TwoPersonAct};
use crate::store::kek_rotation;
use crate::store::kek_states::{Changed, versions};
use crate::store::lost_version::{self, Asked, Losing};
use crate::store::records::Body as _;
use crate::store::rows::ValueRow;
use crate::store::{Changes, Error};

on_every_engine!(
    a_version_whose_token_is_lost_ends_by_the_word_of_two_with_what_only_it_opens,
    what_is_asked_of_a_lost_version_is_of_that_version_and_that_key_as_they_are,
    only_a_version_that_wraps_nothing_any_more_and_lies_in_a_token_can_be_lost,
    a_data_key_that_was_wrapped_anew_meanwhile_ends_with_no_lost_version,
    a_data_key_that_somebody_took_away_is_not_said_to_be_lost,
    a_data_key_that_somebody_made_name_a_lost_version_ends_with_none,
    what_keeps_a_node_from_asking_a_token_is_no_silence_of_it,
    many_values_beside_a_lost_version_do_not_hold_its_count_up,
    a_mark_goes_when_the_time_of_its_class_is_over,
);

mod of_approvals {
    use super::*;

    on_sqlite!(one_tenants_error_keeps_no_others_old_approvals);
}

mod at_once;

/// What comes of it once the token was tried: where a machine is busy, no attempt may end within the second that tests wait for one.
async fn heard<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    for _ in 0..20 {
        match ask().await {
            Err(Error::Keys(error)) if error.is_unasked() => {}
            told => return told,
        }
    }
    ask().await
}

/// A tenant that left a token which no node reaches: version 2, under which two data keys and a value are.
struct Scene {
    vault: Vault,
    custodians: [CredentialId; 2],
    under: Vec<DataKeyId>,
    beside: DataKeyId,
    value: ValueId,
}

impl Scene {
    async fn of(vault: Vault) -> Self {
        let vault = vault.with_tenant().await;
        let custodians = [vault.custodian().await, vault.custodian().await];
        let made = vault.data_keys().await;
        let value = vault.captured(None).await;
        let token = vault.move_into_token().await;
        let (under, beside) = (made[..2].to_vec(), made[2]);
        for id in &under {
            let row = vault.store.load_data_key(&demo(), *id).await.unwrap().unwrap();
            let row = vault.keys.bound_to(row, &token).await;
            vault.write(move || Changes { data_keys: vec![row.clone()], ..Changes::default() }).await.unwrap();
        }
        let scene = Self { vault, custodians, under, beside, value };
        let asked = scene.ask(TwoPersonAct::LeaveToken { kek: token.row_key(), place: Place::Local }).await;
        assert!(matches!(scene.approve(&asked).await, Approved::Done { .. }));
        scene.vault.keys.forget_tenant(&demo());
        scene
    }

    async fn judged(&self, version: u32) -> Asked {
        self.judging(version).await.unwrap()
    }

    async fn judging(&self, version: u32) -> Result<Asked, Error> {
        self.vault.keys.forget_attempts();
        let tenant = demo();
        heard(|| lost_version::judge((None, version), &tenant, self.vault.ground())).await
    }

    async fn losing(&self) -> Losing {
        match self.judged(2).await {
            Asked::Possible(losing) => losing,
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, act: TwoPersonAct) -> ApprovalRecord {
        let one = self.custodians[0];
        approvals::request(&self.vault.by_custodian(one), one, act, self.vault.ground()).await.unwrap()
    }

    async fn approve(&self, asked: &ApprovalRecord) -> Approved {
        self.approving(asked).await.unwrap()
    }

    async fn approving(&self, asked: &ApprovalRecord) -> Result<Approved, Error> {
        self.vault.keys.forget_attempts();
        let by = self.vault.by();
        heard(|| approvals::approve(&by, self.custodians[1], (asked.approval_id, None), self.vault.ground())).await
    }

    /// As somebody does who can write to the database: which version a data key names.
    async fn name(&self, id: DataKeyId, version: u32) {
        let id = self.vault.literal(id.as_bytes());
        self.vault.tamper(&format!("UPDATE data_keys SET kek_version = {version} WHERE data_key_id = {id}")).await;
        self.vault.keys.forget_tenant(&demo());
    }

    async fn why_not(&self, act: TwoPersonAct) -> Over {
        match self.approve(&self.ask(act).await).await {
            Approved::Over(why) => why,
            other => panic!("{other:?}"),
        }
    }

    async fn there(&self, id: DataKeyId) -> Option<DataKeyRow> {
        self.vault.store.load_data_key(&demo(), id).await.unwrap()
    }

    async fn opened(&self, id: DataKeyId) -> Result<(), keys::Error> {
        self.vault.keys.data_key(&self.vault.store, &demo(), id).await.map(drop)
    }
}

async fn a_version_whose_token_is_lost_ends_by_the_word_of_two_with_what_only_it_opens(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let losing = scene.losing().await;
    let told: Vec<_> = losing.losses.iter().map(|loss| (&*loss.class, loss.data_keys, loss.values)).collect();
    assert_eq!(told, [("session", 1, Some(0)), ("stored", 1, Some(1))]);
    assert_eq!(losing.seen, Seen::Fails, "its worker ends at each start");
    let asked = scene.ask(losing.act().unwrap()).await;
    assert!(matches!(vault.approve(scene.custodians[0], &asked).await, Approved::Own));
    assert_eq!(vault.state(2).await, KekState::Deactivated, "asking ends nothing");
    for id in &scene.under {
        assert!(scene.there(*id).await.is_some());
    }
    let Approved::Done { record, receipt, .. } = scene.approve(&asked).await else { panic!("it is not done") };
    assert!(record.completed_at.is_some());
    assert_eq!((vault.state(2).await, vault.state(3).await), (KekState::Lost, KekState::Active));
    for id in &scene.under {
        assert!(scene.there(*id).await.is_none());
        assert!(matches!(scene.opened(*id).await, Err(keys::Error::Lost)));
    }
    scene.opened(scene.beside).await.unwrap();
    assert!(vault.store.value(&demo(), scene.value).await.unwrap().is_some(), "its row stays, and opens for nobody");
    // The certificate is made from that very entry, and says no more than was seen.
    let entry = vault.store.entry_at(&demo(), &receipt.unwrap().position).await.unwrap().unwrap();
    let certificate = DestructionCertificate::of(&Leaf::parse(&entry.leaf).unwrap(), &[0; 32]).unwrap();
    let Destroyed::Version { end, data_keys, values, losses, requested_by, approved_by, .. } = certificate.destroyed
    else {
        panic!("{certificate:?}")
    };
    assert_eq!(end.how, "stated lost by the custodians, not verified by the vault");
    assert_eq!(end.seen.as_deref(), Some(Seen::Fails.as_str()));
    assert_eq!((end.kek, data_keys, values, losses.len()), (losing.kek.row_key(), 2, 1, 2));
    assert_eq!([requested_by, approved_by], scene.custodians.map(|id| id.to_string()));
    assert_eq!((vault.said("key.kek.lost").await, vault.said("key.approval.given").await), (1, 2));
    // What comes after it goes on: no reference is left, the same class begins anew, and the tenant's end is its end.
    let done = kek_rotation::rewrap(&vault.by(), kek_rotation::Stretch::default(), vault.ground()).await.unwrap();
    assert_eq!(done.left, 0);
    vault.keys.data_key_to_seal(&vault.store, &demo(), DataKeyClass::Session, vault.clock.now()).await.unwrap();
    vault.upkeep(None).pass().await.unwrap();
    let shred = vault.ask_to_shred(scene.custodians[0]).await;
    assert!(matches!(scene.approve(&shred).await, Approved::Done { record, .. } if record.completed_at.is_some()));
    assert_eq!(vault.state(2).await, KekState::Lost, "nobody says of it that it was destroyed");
}

async fn what_is_asked_of_a_lost_version_is_of_that_version_and_that_key_as_they_are(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let act = scene.losing().await.act().unwrap();
    let TwoPersonAct::LoseVersion { kek, row, key, serial, losses, seen } = act.clone() else { panic!("not the act") };
    let of = |kek: &str, row, key: &str, fewer: usize| TwoPersonAct::LoseVersion {
        kek: kek.to_owned(),
        row,
        key: key.to_owned(),
        serial: serial.clone(),
        losses: losses[fewer..].to_vec(),
        seen,
    };
    let other = KekRecord::key_of(kek.split('.').next().unwrap().parse::<KekId>().unwrap(), 1);
    for changed in
        [of(&other, row, &key, 0), of(&kek, row - 1, &key, 0), of(&kek, row, "00", 0), of(&kek, row, &key, 1)]
    {
        assert_eq!(scene.why_not(changed).await, Over::Changed);
    }
    // Another finding than the one both were told.
    let TwoPersonAct::LoseVersion { losses, .. } = act.clone() else { panic!("not the act") };
    let (kek, key, serial) = (kek.clone(), key.clone(), serial.clone());
    let answered = TwoPersonAct::LoseVersion { kek, row, key, serial, losses, seen: Seen::NoKey };
    assert_eq!(scene.why_not(answered).await, Over::Changed);
    // Whatever becomes of the version meanwhile ends the request.
    let asked = scene.ask(act).await;
    assert!(matches!(vault.wish(2, KekState::Compromised).await, Changed::Done(_)));
    assert!(matches!(scene.approve(&asked).await, Approved::Over(Over::Changed)));
    assert!(scene.there(scene.under[0]).await.is_some() && vault.said("key.kek.lost").await == 0);
    // As it is now it can be asked for again.
    let asked = scene.ask(scene.losing().await.act().unwrap()).await;
    assert!(matches!(scene.approve(&asked).await, Approved::Done { .. }));
    let (_, lost) =
        versions(&demo(), &vault.store).await.unwrap().into_iter().find(|(_, kek)| kek.version == 2).unwrap();
    assert!(lost.compromised_at.is_some(), "what stood beside it stays spoilt");
}

async fn only_a_version_that_wraps_nothing_any_more_and_lies_in_a_token_can_be_lost(vault: Vault) {
    let scene = Scene::of(vault).await;
    assert!(matches!(scene.judged(3).await, Asked::Active));
    assert!(matches!(scene.judged(1).await, Asked::NotInToken));
    assert!(matches!(scene.judged(9).await, Asked::Absent));
    assert_eq!(scene.vault.wish(2, KekState::Lost).await, Changed::NotAllowed, "it takes two");
    let asked = scene.ask(scene.losing().await.act().unwrap()).await;
    assert!(matches!(scene.approve(&asked).await, Approved::Done { .. }));
    assert!(matches!(scene.judged(2).await, Asked::NotAllowed(KekState::Lost)));
    for state in [KekState::Active, KekState::Compromised, KekState::Destroyed] {
        assert_eq!(scene.vault.wish(2, state).await, Changed::NotAllowed, "{state}");
    }
}

async fn a_data_key_that_was_wrapped_anew_meanwhile_ends_with_no_lost_version(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let rows = [scene.there(scene.under[0]).await.unwrap(), scene.there(scene.under[1]).await.unwrap()];
    let marks: Vec<LostDataKey> = rows.iter().map(|row| vault.keys.mark_lost(row)).collect();
    // It comes under the active version between the count and the commit.
    let moved = DataKeyRow { kek_version: 3, ..rows[1].clone() };
    vault.write(move || Changes { data_keys: vec![moved.clone()], ..Changes::default() }).await.unwrap();
    let lost = vault.write(move || Changes { lost_data_keys: marks.clone(), ..Changes::default() }).await;
    assert!(lost.is_err(), "what was counted is not what is there");
    for id in &scene.under {
        assert!(scene.there(*id).await.is_some(), "all of them or none");
    }
}

async fn a_data_key_that_somebody_took_away_is_not_said_to_be_lost(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let asked = scene.ask(scene.losing().await.act().unwrap()).await;
    assert!(matches!(scene.approve(&asked).await, Approved::Done { .. }));
    // A writer to the database takes away another one, and gives it the mark of one that was lost.
    vault
        .tamper(&format!("DELETE FROM data_keys WHERE data_key_id = {}", vault.literal(scene.beside.as_bytes())))
        .await;
    vault.keys.forget_tenant(&demo());
    assert!(matches!(scene.opened(scene.beside).await, Err(keys::Error::NoDataKey)));
    let (from, to) = (vault.literal(scene.under[0].as_bytes()), vault.literal(scene.beside.as_bytes()));
    vault.tamper(&format!("UPDATE lost_data_keys SET data_key_id = {to} WHERE data_key_id = {from}")).await;
    assert!(matches!(scene.opened(scene.beside).await, Err(keys::Error::NoDataKey)));
    assert!(matches!(scene.opened(scene.under[1]).await, Err(keys::Error::Lost)));
}

async fn a_data_key_that_somebody_made_name_a_lost_version_ends_with_none(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let asked = scene.ask(scene.losing().await.act().unwrap()).await;
    scene.name(scene.beside, 2).await;
    assert!(matches!(scene.approving(&asked).await, Err(Error::Tampered(_))));
    assert!(matches!(scene.judging(2).await, Err(Error::Tampered(_))));
    let is_alarm = |news: keys::HsmNews| matches!(news.what, keys::News::Alarm { .. });
    assert!(vault.keys.hsm_news().is_some_and(is_alarm) || vault.said("key.provider.alarm").await > 0);
    assert_eq!(vault.state(2).await, KekState::Deactivated);
    for id in scene.under.iter().chain([&scene.beside]) {
        assert!(scene.there(*id).await.is_some(), "nothing ended");
    }
    // Put back it opens, and the act is what it was.
    scene.name(scene.beside, 1).await;
    scene.opened(scene.beside).await.unwrap();
    assert!(matches!(scene.approving(&asked).await, Ok(Approved::Done { .. })));
    scene.opened(scene.beside).await.unwrap();
}

async fn what_keeps_a_node_from_asking_a_token_is_no_silence_of_it(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let losing = scene.losing().await;
    let asked = scene.ask(losing.act().unwrap()).await;
    let provider = losing.kek.hsm.as_ref().unwrap().provider;
    let (version, genuine) = vault.store.key_provider(&demo(), provider).await.unwrap().unwrap();
    let other = |at: u64, pin_version, module: &str| {
        let module = module.to_owned();
        let record = ProviderRecord { pin_version, module, ..genuine.clone() };
        vault.decree(record.to_row(&demo(), &provider.to_string(), at).unwrap())
    };
    let module = &*genuine.module;
    for (at, pin, module, why) in [
        (version + 1, 9, module, NotAsked::NoPin),
        (version + 2, 1, "/bin/true", NotAsked::OtherModule),
        (version + 3, 1, "/no/such/module.so", NotAsked::NoModule),
    ] {
        other(at, pin, module).await.unwrap();
        let judged = scene.judged(2).await;
        assert!(matches!(judged, Asked::NotAsked(found) if found == why), "{judged:?}");
        assert!(matches!(scene.approve(&asked).await, Approved::Over(Over::NotAsked(found)) if found == why));
    }
    for id in &scene.under {
        assert!(scene.there(*id).await.is_some(), "nothing ended");
    }
    assert_eq!(vault.state(2).await, KekState::Deactivated);
    other(version + 4, 1, module).await.unwrap();
    assert!(matches!(scene.approve(&asked).await, Approved::Done { .. }));
}

async fn many_values_beside_a_lost_version_do_not_hold_its_count_up(vault: Vault) {
    let scene = Scene::of(vault).await;
    let (vault, beside) = (&scene.vault, scene.beside);
    let exactly = scene.losing().await.total();
    assert_eq!((exactly.values, exactly.at_least), (1, false));
    // Of the same day, under a data key that stays.
    for _ in 0..3 {
        let value = || ValueRow { data_key_id: beside, ..vault.value(RetentionClass::Stored, None) };
        let rows: Vec<Arc<ValueRow>> = (0..250).map(|_| value().into()).collect();
        vault.write(move || Changes { new_values: rows.clone(), ..Changes::default() }).await.unwrap();
    }
    let losing = scene.losing().await;
    assert!(losing.total().values <= 1 && losing.total().at_least, "not all were looked at, and it says so");
    let stored = losing.losses.iter().find(|loss| loss.class == "stored").unwrap();
    assert!(stored.values_at_least);
    let asked = scene.ask(losing.act().unwrap()).await;
    let Approved::Done { receipt, .. } = scene.approve(&asked).await else { panic!("it is not done") };
    let entry = vault.store.entry_at(&demo(), &receipt.unwrap().position).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&entry.leaf).into_owned();
    assert!(said.contains("valuesAtLeast"), "{said}");
}

async fn a_mark_goes_when_the_time_of_its_class_is_over(vault: Vault) {
    let vault = vault.with_tenant().await;
    let now = vault.clock.now();
    let mut marks = Vec::new();
    // More than one statement takes on SQLite.
    for class in [DataKeyClass::Stored, DataKeyClass::SensitiveAuthentication] {
        for part in 0..70 {
            let at = now.plus(Duration::from_secs(part * 24 * 60 * 60));
            let id = vault.keys.data_key_to_seal(&vault.store, &demo(), class, at).await.unwrap().id();
            marks.push(vault.keys.mark_lost(&vault.store.load_data_key(&demo(), id).await.unwrap().unwrap()));
        }
    }
    let written = marks.clone();
    vault.write(move || Changes { lost_data_keys: written.clone(), ..Changes::default() }).await.unwrap();
    assert_eq!(vault.number("SELECT count(*) FROM lost_data_keys").await, 140);
    assert_eq!(
        vault.number("SELECT count(*) FROM data_keys WHERE class IN ('stored', 'sensitive-authentication')").await,
        0
    );
    // Once more: nothing is there any more, and none is marked twice.
    let again = marks.clone();
    assert!(vault.write(move || Changes { lost_data_keys: again.clone(), ..Changes::default() }).await.is_err());
    vault.clock.advance(Duration::from_secs(10 * 24 * 60 * 60));
    vault.committer.purge().await.unwrap();
    let left = vault.number("SELECT count(*) FROM lost_data_keys").await;
    assert!((70 + 59..=70 + 61).contains(&left), "{left}");
    vault.clock.advance(Duration::from_secs(70 * 24 * 60 * 60));
    vault.committer.purge().await.unwrap();
    assert_eq!(
        vault.number("SELECT count(*) FROM lost_data_keys WHERE class = 'stored'").await,
        70,
        "its values may live on"
    );
    assert_eq!(vault.number("SELECT count(*) FROM lost_data_keys").await, 70);
}

async fn one_tenants_error_keeps_no_others_old_approvals(vault: Vault) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let vault = vault.with_tenant().await;
    // By name one stands before it and one behind.
    let tenants: [TenantName; 3] = ["acme".parse().unwrap(), demo(), "zeta".parse().unwrap()];
    let mut asked = Vec::new();
    for tenant in &tenants {
        if *tenant != demo() {
            vault.make_tenant(tenant).await;
        }
        let by = crate::store::administration::Administrator { tenant: tenant.clone(), ..vault.by() };
        let act = TwoPersonAct::LeaveStrict { cache_seconds: 5, settings: 1 };
        let one = CredentialId::generate(NOW);
        asked.push(approvals::request(&by, one, act, vault.ground()).await.unwrap());
    }
    vault.clock.advance(32 * DAY);
    // The key of one row of the second tenant is no text: what is asked for its old approvals fails as a whole.
    let broken = format!(
        "INSERT INTO approvals SELECT tenant, CAST(X'2fff' AS TEXT), version, body, mac, mac_key_id FROM approvals WHERE tenant = '{}'",
        demo()
    );
    vault.tamper(&broken).await;
    let old = vault.store.purge_approvals().await;
    assert!(matches!(old, Ok(2)), "{old:?}");
    for (tenant, asked) in tenants.iter().zip(&asked) {
        let sql = format!("SELECT count(*) FROM approvals WHERE tenant = '{tenant}' AND key = '{}'", asked.approval_id);
        assert_eq!(vault.number(sql.leak()).await, i64::from(*tenant == demo()), "{tenant}");
    }
}
