//! A tenant whose key lies in a token (SoftHSM) beside one of the built-in KMS, and many such tenants right after a start and when
//! their data keys are wrapped anew.

use std::time::Instant;

use serde_json::json;
use tests::token::{PIN, Provider};
use tests::{Actor, Token};

use super::cold::{self, Cold};
use super::figures::Spread;
use super::flags::Flags;
use super::measure;
use super::request;
use super::stage::{FEW, Stage};
use super::vault::{TENANT, Vault};

/// Clients of the closed loops.
const CLIENTS: usize = 64;

/// Tenants that share a token. SoftHSM opens every object of all its tokens when it is initialised, and reads every object of one
/// token for each look for a key.
const TO_A_TOKEN: usize = 20;
/// Tenants that ask at once right after a start, the second time.
const AT_ONCE: usize = 16;
/// Tenants whose keys are rotated and rewrapped.
const ROTATED: usize = 100;

/// What was measured.
pub struct Custody {
    /// Rates of the token's tenant over those of the other: captures, uses.
    pub warm: [Spread; 2],
    /// Tenants with keys in tokens, and how many tokens.
    pub tenants: [usize; 2],
    /// One start after which they ask one after the other, and one after which several ask at once.
    pub cold: Vec<Cold>,
    /// Data keys wrapped anew, each unwrapped and read back: of many tenants, and of one that has many.
    pub rewrapped: [Rewrapped; 2],
}

/// Data keys that were wrapped anew.
#[derive(Clone, Copy, Default)]
pub struct Rewrapped {
    /// How many.
    pub moved: u64,
    /// In how many requests.
    pub requests: usize,
    /// How long they took.
    seconds: f64,
}

impl Rewrapped {
    /// Data keys a second.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn rate(self) -> f64 {
        self.moved as f64 / self.seconds.max(1e-9)
    }

    /// Rotates a tenant's key, which is not measured, and wraps its data keys under the new one.
    async fn add(&mut self, custodian: &Actor) {
        custodian.post("/v1/keks/rotate", &json!({})).await.expect(201);
        let begun = Instant::now();
        let done = custodian.post("/v1/keks/rewrap", &json!({})).await.expect(200);
        self.seconds += begun.elapsed().as_secs_f64();
        self.moved += done.json()["moved"].as_u64().unwrap_or(0);
        self.requests += 1;
    }
}

/// Runs all of it on a vault of its own.
pub async fn run(stage: &mut Stage, flags: &Flags) -> Custody {
    let token = Token::new(Provider::SoftHsm);
    let mut vault = Vault::start_in(Some(&token), "custody", FEW, &stage.databases, &stage.cards).await;
    let warm = warm(&vault, stage, flags).await;
    let names: Vec<String> = (0..flags.tenants).map(|at| format!("tenant-{at}")).collect();
    let tokens = names.len().div_ceil(TO_A_TOKEN);
    let labels: Vec<String> = (0..tokens).map(|at| format!("customer-{at}")).collect();
    labels.iter().for_each(|label| token.another(label));
    let mut apps = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        apps.push(vault.tenant(name, Some(described(&token, &labels[at % tokens]))).await);
        if at % 100 == 99 {
            eprintln!("  {} of {} tenants have a key in a token", at + 1, names.len());
        }
    }
    let mut cold = Vec::new();
    for at_once in [1, AT_ONCE] {
        cold.extend(cold::run(&mut vault, &apps, at_once, stage).await);
    }
    let mut of_many = Rewrapped::default();
    for name in names.iter().take(ROTATED) {
        of_many.add(&vault.custodian(name).await).await;
    }
    let of_one = of_one(&vault, if flags.quick { 2 } else { 100 }).await;
    vault.stop();
    Custody { warm, tenants: [names.len(), tokens], cold, rewrapped: [of_many, of_one] }
}

/// Of a tenant with so many data keys and more. A day brings it one of each class; here as many compromises do, after each of which
/// values are sealed under another.
async fn of_one(vault: &Vault, data_keys: u32) -> Rewrapped {
    let (custodian, shop) = (vault.custodian(TENANT).await, vault.app());
    for version in 1..=data_keys {
        custodian.post("/v1/keks/rotate", &json!({})).await.expect(201);
        let compromised = json!({"version": version, "state": "compromised"});
        custodian.post("/v1/keks/state", &compromised).await.expect(200);
        shop.post("/v1/values", &request::items(1)).await.expect(200);
        custodian.post("/v1/keks/rewrap", &json!({})).await.expect(200);
        let destroyed = json!({"version": version, "state": "destroyed"});
        custodian.post("/v1/keks/state", &destroyed).await.expect(200);
    }
    let mut rewrapped = Rewrapped::default();
    rewrapped.add(&custodian).await;
    rewrapped
}

async fn warm(vault: &Vault, stage: &mut Stage, flags: &Flags) -> [Spread; 2] {
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 1..=flags.rounds {
        for (kind, ratios) in ratios.iter_mut().enumerate() {
            let mut rates = [0.0; 2];
            let mut pair = [(0, &stage.vault), (1, vault)];
            // Each is the first in every other round.
            pair.rotate_left(round % 2);
            let mut judged = Vec::new();
            for (at, vault) in pair {
                let target = if kind == 0 { vault.capture() } else { vault.invoke(false) };
                let whole = (Some(vault), Some(&vault.rows));
                let sample = measure::closed(&target, (CLIENTS, flags.length), whole, &stage.databases).await;
                rates[at] = sample.slice.rate();
                judged.push((at == 0, target.name, sample.slice));
            }
            for (own, name, mut slice) in judged {
                stage.judge(&format!("custody, {name}"), &slice);
                if own {
                    stage.vault.acknowledged.take(&mut slice);
                }
            }
            eprintln!("  custody, round {round}: {:.0}/s local, {:.0}/s in the token", rates[0], rates[1]);
            ratios.push(rates[1] / rates[0].max(1e-9));
        }
    }
    ratios.map(|ratios| Spread::of(ratios.into_iter()))
}

/// What a request says of the token of this label.
pub fn described(token: &Token, label: &str) -> serde_json::Value {
    json!({"module": token.module, "token": label, "pin": PIN})
}
