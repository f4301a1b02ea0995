//! The system log takes the tenants' checkpoints: whoever keeps its checkpoint has all of them.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};

use super::record::record;
use super::{Error, checkpoints};
use crate::access_log::{Action, Entry, Outcome};
use crate::domain::{Actor, TenantName};
use crate::keys::Keys;
use crate::store::{Committer, Store};

/// Remembers what the system log already has of each tenant.
pub(super) struct Anchoring {
    store: Store,
    keys: Keys,
    noted: BTreeMap<TenantName, u64>,
}

impl Anchoring {
    pub(super) const fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys, noted: BTreeMap::new() }
    }

    /// Writes one entry for each tenant whose log grew since it was last noted.
    pub(super) async fn run(&mut self, committer: &Committer) -> Result<(), Error> {
        let now = self.store.clock().now();
        let (mut entries, mut noted) = (Vec::new(), self.noted.clone());
        for (log, head) in self.store.heads().await? {
            if log.is_system() || noted.get(&log) == Some(&head.size) {
                continue;
            }
            let checkpoint = match checkpoints::newest(&log, &self.store, &self.keys).await {
                Ok((_, checkpoint)) => checkpoint,
                Err(Error::Pending) => continue,
                Err(error) if error.is_evidence() => {
                    self.store.log_health().alarm(&format!("log {log}: the newest checkpoint: {}", error.words()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            // What is noted is what was signed, whatever the head says.
            if noted.get(&log) == Some(&checkpoint.size) {
                continue;
            }
            noted.insert(log.clone(), checkpoint.size);
            let actor = Actor::node(committer.identity().boot());
            let action = Action::Admin("log.checkpoint");
            let mut entry = Entry::by(TenantName::system(), now, action, Outcome::Allowed, actor);
            entry.facts = vec![
                ("log", log.to_string()),
                ("origin", checkpoint.origin),
                ("size", checkpoint.size.to_string()),
                ("root", Base64::encode_string(&checkpoint.root)),
            ];
            entries.push(entry);
        }
        for chunk in entries.chunks(200) {
            record(chunk.to_vec(), committer, now).await?;
        }
        self.noted = noted;
        Ok(())
    }
}
