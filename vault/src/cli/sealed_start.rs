//! The start of a node whose root key a person brings: it listens and says that it is sealed, until the passphrase is there.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access_log::{Action, Entry, Outcome};
use crate::config::Settings;
use crate::domain::{Actor, ActorKind, Clock, TenantName, chain};
use crate::http::{self, SealedNode, Unsealed};
use crate::store::administration::Record;

use super::failure::Failure;
use super::installation::sealed_keys;
use super::node::{Sockets, Writer, doors_of};

/// A sealed node that answers.
pub(super) struct SealedStart {
    node: SealedNode,
    serving: JoinHandle<()>,
    ending: CancellationToken,
}

impl SealedStart {
    /// Opens the doors of a node without its root key.
    pub(super) async fn open(settings: &Settings, sockets: &Sockets) -> Result<Self, Failure> {
        let keys = sealed_keys(settings).await?;
        // The sockets stay the open node's: what comes while it starts waits for it.
        let doors = doors_of(settings, sockets.again()?)?;
        let node = SealedNode::new(keys, doors.http_settings(settings)?, Clock::System);
        let ending = CancellationToken::new();
        let (public, private) = (doors.listeners.public, doors.listeners.private);
        let serving = tokio::spawn(http::serve_sealed(node.clone(), public, private, ending.clone()));
        tracing::info!("siv is sealed: it waits for its root key");
        Ok(Self { node, serving, ending })
    }

    /// Waits for the right passphrase; the doors stay open.
    pub(super) async fn unsealed(&self) -> Unsealed {
        self.node.unsealed().await
    }

    /// Answers what is under way, and ends.
    pub(super) async fn close(self) {
        self.ending.cancel();
        if self.serving.await.is_err() {
            tracing::error!("the sealed node's listeners ended in disorder");
        }
    }
}

/// Writes into the system's log who brought the passphrase, and what was tried before: until now there was no key to sign it.
pub(super) async fn record(writer: &Writer, unsealed: &Unsealed) -> Result<(), Failure> {
    let system = TenantName::system();
    let now = writer.installation.clock.now();
    let node = || Actor { id: writer.boot.clone(), kind: ActorKind::Node, name: None };
    let mut entries = Vec::new();
    for tries in &unsealed.refused {
        let refused = Action::Admin("node.unseal.refused");
        let mut entry = Entry::by(system.clone(), now, refused, Outcome::Denied, node());
        (entry.address, entry.count) = (Some(tries.from.to_string()), Some(tries.count));
        entry.facts = vec![("firstAt", tries.first.to_string()), ("lastAt", tries.last.to_string())];
        entries.push(entry);
    }
    let mut opened = Entry::by(system.clone(), now, Action::Admin("node.unsealed"), Outcome::Allowed, node());
    (opened.address, opened.request_id) = (Some(unsealed.by.address.to_string()), Some(unsealed.by.request_id));
    entries.push(opened);
    let record = Record::new(system, entries, now.plus(super::bootstrap::PATIENCE));
    let failed = |error| Failure::new("the unsealing could not be recorded").because(chain(&error));
    writer.committer.submit(record).await.map(drop).map_err(failed)
}
