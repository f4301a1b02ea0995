//! A node: the inner rooms opened and started, the two listeners in front of them, and the orderly end of all of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access_log::NodeIdentity;
use crate::capture::Capture;
use crate::config::{self, Database, KeyStore, Settings};
use crate::console;
use crate::domain::{TenantName, chain};
use crate::flows::{EgressPolicy, Passwords, Relay, Runner};
use crate::http::{self, Listener, Listeners, Rates, Rooms, State, Unsealed};
use crate::sequencer::{self, LogReader, Sequencer};
use crate::store::key_upkeep::KeyUpkeep;
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Catalog, Committer, FirstWords};
use crate::wiping_allocator::WipingAllocator;

use super::failure::Failure;
use super::installation::Installation;
use super::{rotate_root, sealed_start};

/// A node gives a sign of life every five seconds.
const NAMESAKE: Duration = Duration::from_secs(11);
/// Costly password checks under way at the same time: each takes up to 64 MiB.
const PASSWORDS_AT_ONCE: usize = 4;
/// How long memory that is free stays with the process.
const MEMORY_KEPT: Duration = Duration::from_secs(60);

/// An opened installation and its one writer, without listeners: all that `siv init` needs.
pub(super) struct Writer {
    pub(super) installation: Installation,
    pub(super) committer: Committer,
    pub(super) catalog: Catalog,
    /// This boot, as entries of the vault's own doing name it.
    pub(super) boot: String,
}

impl Writer {
    /// Starts writing; from here on a boot is open that `stop` has to close.
    pub(super) async fn start(settings: &Settings, installation: Installation) -> Result<Self, Failure> {
        let identity = identity(settings, &installation)?;
        Self::start_after(FirstWords::new(), identity, installation).await
    }

    /// The same for a recovery, whose words come first in their logs.
    pub(super) async fn start_after(
        words: FirstWords,
        identity: NodeIdentity,
        installation: Installation,
    ) -> Result<Self, Failure> {
        let (store, keys, clock) = (installation.store.clone(), installation.keys.clone(), installation.clock.clone());
        let boot = identity.boot().to_string();
        let committer = Committer::start_after(words, store, keys, clock, identity).await;
        let committer = committer.map_err(|error| not_begun(&error))?;
        let catalog = Catalog::start(installation.store.clone());
        Ok(Self { installation, committer, catalog, boot })
    }

    /// Writes what is queued and says in every log that this boot ended in order.
    pub(super) async fn stop(&self) -> Result<(), Failure> {
        let stopped = self.committer.stop().await;
        stopped.map_err(|error| Failure::new("the node's end could not be recorded").because(chain(&error)))
    }
}

/// A new identity for this start of the node.
pub(super) fn identity(settings: &Settings, installation: &Installation) -> Result<NodeIdentity, Failure> {
    let (realm, now) = (installation.keys.realm().clone(), installation.clock.now());
    let build = concat!("siv/", env!("CARGO_PKG_VERSION"));
    NodeIdentity::generate(realm, &settings.node, build, now).map_err(|error| not_begun(&error))
}

fn not_begun(error: &dyn std::error::Error) -> Failure {
    Failure::new("the node could not begin to write").because(chain(error))
}

/// Bound sockets: the addresses are known before anything is opened.
pub(super) struct Sockets {
    public: TcpListener,
    private: TcpListener,
    pub(super) public_address: SocketAddr,
    pub(super) private_address: SocketAddr,
}

impl Sockets {
    /// Binds both listeners.
    pub(super) async fn bind(settings: &Settings) -> Result<Self, Failure> {
        let (public, public_address) = bind("public", settings.public.address).await?;
        let (private, private_address) = bind("private", settings.private.address).await?;
        Ok(Self { public, private, public_address, private_address })
    }

    /// The same sockets once more: whoever accepts first has the connection.
    pub(super) fn again(&self) -> Result<Self, Failure> {
        let again = |socket: &TcpListener| {
            let socket = std::net::TcpListener::from(socket.as_fd().try_clone_to_owned()?);
            TcpListener::from_std(socket)
        };
        let failed = |error| Failure::new("a listener's socket cannot be shared").because(error);
        let (public, private) = (again(&self.public).map_err(failed)?, again(&self.private).map_err(failed)?);
        Ok(Self { public, private, ..*self })
    }
}

/// Binds one address, or says which it was.
pub(super) async fn bind(listener: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| {
        let failure = Failure::new(format!("the {listener} listener cannot have {address}")).because(&error);
        if error.kind() == std::io::ErrorKind::AddrInUse {
            failure.so("end what listens there, or choose another address; port 0 takes a free one")
        } else {
            failure
        }
    };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok((socket, address))
}

/// Where this machine itself reaches a listener: one that is bound to every address is reached on loopback.
pub(super) fn reachable(bound: SocketAddr) -> SocketAddr {
    let loopback = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(loopback, bound.port())
}

/// What was taken for a moment, as by a long list, does not stay with the process for good.
async fn give_memory_back() {
    loop {
        tokio::time::sleep(MEMORY_KEPT).await;
        let _ = tokio::task::spawn_blocking(WipingAllocator::give_back).await;
    }
}

/// A node that serves.
pub(super) struct Node {
    pub(super) writer: Writer,
    sequencer: Sequencer,
    state: State,
    serving: JoinHandle<()>,
    ending: CancellationToken,
}

impl Node {
    /// Puts the rooms together and opens the doors.
    pub(super) async fn start(
        settings: &Settings,
        installation: Installation,
        sockets: Sockets,
        unsealed: Option<&Unsealed>,
    ) -> Result<Self, Failure> {
        let doors = doors_of(settings, sockets)?;
        refuse_second(settings, &installation).await?;
        warn_of_namesake(settings, &installation).await;
        let writer = Writer::start(settings, installation).await?;
        if let Some(unsealed) = unsealed {
            sealed_start::record(&writer, unsealed).await?;
        }
        rotate_root::record(&writer).await?;
        // Before the doors open: until the logs are compared with what was signed, nothing may be served.
        let Installation { keys, store, .. } = writer.installation.clone();
        let sequencer = Sequencer::start(store, keys, writer.committer.clone()).await;
        let sequencer =
            sequencer.map_err(|error| Failure::new("the logs could not be compared").because(chain(&error)))?;
        let rooms = rooms(settings, &writer, &doors.addresses)?;
        let state = State::new(rooms, doors.http_settings(settings)?);
        let ending = CancellationToken::new();
        tokio::spawn(upkeep(settings, &writer).run(ending.clone()));
        tokio::spawn(ending.clone().run_until_cancelled_owned(give_memory_back()));
        let reader = LogReader::new(state.rooms().store.clone(), state.rooms().keys.clone());
        let listeners = doors.listeners.with_console(console::routes(state.clone(), reader));
        let serving = tokio::spawn(http::serve(state.clone(), listeners, ending.clone()));
        Ok(Self { writer, sequencer, state, serving, ending })
    }

    /// Says on `/readyz` that it will end, and serves on.
    pub(super) fn announce_end(&self) {
        self.state.announce_end();
    }

    /// Takes nothing new, finishes what is in flight, records the end.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        self.ending.cancel();
        if self.serving.await.is_err() {
            tracing::error!("the listeners ended in disorder");
        }
        let stopped = self.writer.stop().await;
        self.sequencer.stop().await;
        self.writer.installation.keys.close_hsms();
        stopped
    }

    /// Waits until this node can do nothing more: another one took it for dead and noted where its part of the log ends, or a
    /// part of its sequencer ended by itself.
    pub(super) async fn closed(&self) {
        tokio::select! {
            () = self.writer.committer.closed() => {}
            () = self.sequencer.ended() => {}
        }
    }

    /// Ends without a last word: it was said for this node already. A new start has a name of its own in the log, which is
    /// the only honest way to go on.
    pub(super) async fn leave(self) -> Result<(), Failure> {
        let broke = self.sequencer.has_ended();
        self.ending.cancel();
        let _ = self.serving.await;
        self.sequencer.stop().await;
        if broke {
            return Err(Failure::new(
                "a part of this node that watches its logs ended by itself: its own log says which",
            )
            .so("start it again: nothing that it acknowledged is lost, and it goes on in a new part"));
        }
        Err(Failure::new(
            "this node gave no sign of life for half a minute (it was frozen, or cut off from the database), so another \
             node closed its part of the log",
        )
        .so("start it again: nothing that it acknowledged is lost, and it goes on in a new part"))
    }
}

/// A key store in a folder is one node's. On a database of a file that is so by itself; on a server another node could have
/// come with a copy of the folder, and what each makes in its own would be missing from the other's.
async fn refuse_second(settings: &Settings, installation: &Installation) -> Result<(), Failure> {
    if !matches!((&settings.database, &settings.key_store), (Database::Postgres { .. }, KeyStore::Directory(_))) {
        return Ok(());
    }
    let alone = sequencer::is_alone(&installation.store).await;
    match alone
        .map_err(|error| Failure::new("whether another node is at work cannot be told").because(chain(&error)))?
    {
        true => Ok(()),
        false => Err(Failure::new("another node works on this database, and a key store in a folder is for one node")
            .so("stop the other one; several nodes share a key store in a second database, never copies of a folder")),
    }
}

/// Nodes have ids of their own, so two of one name lose nothing; but entries, metrics and logs name them alike. After a crash it is
/// this node's own last start.
async fn warn_of_namesake(settings: &Settings, installation: &Installation) {
    let (store, now) = (&installation.store, installation.clock.now());
    if !installation.keys.is_shared() {
        return;
    }
    for beat in store.open_heartbeats().await.unwrap_or_default() {
        if now.since(beat.time) > NAMESAKE {
            continue;
        }
        let row = store.row(Table::NodeKeys, &TenantName::system(), &beat.boot.to_string()).await;
        let record = row.ok().flatten().and_then(|row| NodeKeyRecord::from_row(&row).ok());
        if record.is_some_and(|record| record.node == settings.node) {
            tracing::warn!(
                node = settings.node,
                "another node of this name gave a sign of life just now: give each its own `node` in the settings, or nobody \
                 tells them apart in the access log"
            );
            return;
        }
    }
}

/// What is done about tenants' keys without anybody asking.
fn upkeep(settings: &Settings, writer: &Writer) -> KeyUpkeep {
    let Installation { keys, store, .. } = writer.installation.clone();
    let oldest = settings.kek_rotation_days.map(|days| Duration::from_secs(u64::from(days.get()) * 86_400));
    KeyUpkeep::new((store, writer.catalog.clone()), writer.committer.clone(), keys, oldest)
}

/// The listeners, with what others must know of them.
pub(super) struct Doors {
    pub(super) listeners: Listeners,
    public: SocketAddr,
    addresses: Vec<SocketAddr>,
}

/// The listeners on bound sockets.
pub(super) fn doors_of(settings: &Settings, sockets: Sockets) -> Result<Doors, Failure> {
    let addresses = vec![sockets.public_address, sockets.private_address];
    let public = listener(settings, &settings.public, sockets.public)?;
    let private = listener(settings, &settings.private, sockets.private)?;
    Ok(Doors { listeners: Listeners::new(public, private), public: sockets.public_address, addresses })
}

fn listener(settings: &Settings, own: &config::Listener, socket: TcpListener) -> Result<Listener, Failure> {
    let mut listener = Listener::plain(socket);
    if settings.limits.connections > 0 {
        listener.most_connections = settings.limits.connections;
    }
    let (Some(certificate), Some(key)) = (&own.tls_certificate, &own.tls_key) else { return Ok(listener) };
    let acceptor = http::tls::acceptor(certificate, key);
    let acceptor = acceptor.map_err(|error| Failure::new("a listener cannot speak TLS").because(chain(&error)))?;
    Ok(listener.with_tls(acceptor))
}

impl Doors {
    /// What the listeners are told.
    pub(super) fn http_settings(&self, settings: &Settings) -> Result<http::Settings, Failure> {
        let limits = &settings.limits;
        let default_tenant = if settings.development { Some(demo_tenant()?) } else { None };
        Ok(http::Settings {
            public_origin: settings.public_url.clone().unwrap_or_else(|| format!("http://{}", reachable(self.public))),
            plain_capture: settings.plain_capture,
            default_tenant,
            rates: Rates {
                captures_per_minute: limits.captures_per_minute,
                open_sessions_per_minute: limits.open_sessions_per_minute,
                requests_per_second: limits.requests_per_second,
                credential_per_second: limits.credential_per_second,
                loopback_free: settings.development,
            },
            most_requests: limits.requests,
            request_time: Duration::from_secs(limits.request_seconds),
            trusted_proxies: settings.trusted_proxies.clone(),
            disks: disks(settings),
        })
    }
}

/// The folders of this machine that must not run full.
fn disks(settings: &Settings) -> Vec<(&'static str, PathBuf)> {
    let mut disks = Vec::new();
    if let KeyStore::Directory(folder) = &settings.key_store {
        disks.push(("key_store", folder.clone()));
    }
    if let Database::Sqlite(file) = &settings.database {
        disks.extend(file.parent().map(|folder| ("database", folder.to_owned())));
    }
    disks
}

/// The tenant that `siv dev` means where none is named.
fn demo_tenant() -> Result<TenantName, Failure> {
    super::demo::TENANT.parse().map_err(|_| Failure::new("the demo's tenant has no name"))
}

fn rooms(settings: &Settings, writer: &Writer, own: &[SocketAddr]) -> Result<Rooms, Failure> {
    let Installation { keys, store, clock } = writer.installation.clone();
    let (committer, catalog) = (writer.committer.clone(), writer.catalog.clone());
    let own_url = settings.public_url.as_deref().and_then(|url| url.parse().ok());
    let egress = EgressPolicy { allow_loopback_http: settings.development, forbidden: own.to_vec(), own_url };
    let relay = Relay::new(egress.clone());
    let capture = Capture::new(store.clone(), committer.clone(), keys.clone(), catalog.clone(), clock.clone());
    let passwords = Passwords::new(PASSWORDS_AT_ONCE);
    let runner =
        Runner::new(store.clone(), committer.clone(), keys.clone(), catalog.clone(), clock.clone(), (relay, passwords));
    Ok(Rooms { store, committer, keys, catalog, capture, runner, egress, clock })
}
