//! `siv serve`: a node in production.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{Environment, RootKey, Settings};
use crate::telemetry;

use super::failure::Failure;
use super::installation::{Installation, Making};
use super::node::{Node, Sockets};
use super::output::Output;
use super::root_key;
use super::sealed_start::SealedStart;
use super::signals;

/// Run a node.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  siv serve --config /etc/siv/siv.toml")]
pub(super) struct Command {
    /// The settings (docs/siv.toml shows every one).
    #[arg(long, default_value = "siv.toml", value_name = "FILE")]
    config: PathBuf,
}

impl Command {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let settings = Settings::load(&self.config)?;
        telemetry::start(environment.log_level.unwrap_or(settings.log_level));
        let mut ended = std::pin::pin!(signals::ended());
        let sockets = Sockets::bind(&settings).await?;
        let (public, private) = (sockets.public_address, sockets.private_address);
        // Where it listens is said once something answers there.
        let listens = || {
            output.line(&format!("public   {public}"));
            output.line(&format!("private  {private}"));
        };
        let node = if settings.root_key == RootKey::Sealed {
            let sealed = SealedStart::open(&settings, &sockets).await?;
            listens();
            output.line("siv is sealed: bring the passphrase of its root key with `siv unseal`");
            let unsealed = tokio::select! {
                unsealed = sealed.unsealed() => unsealed,
                () = &mut ended => {
                    tracing::info!("siv is asked to end");
                    sealed.close().await;
                    tracing::info!("siv has ended");
                    return Ok(());
                }
            };
            let installation = Installation::with(&settings, environment, unsealed.keys.clone(), Making::No).await?;
            let node = Node::start(&settings, installation, sockets, Some(&unsealed)).await?;
            sealed.close().await;
            node
        } else {
            let root = root_key::configured(&settings, environment)?;
            let installation = Installation::open(&settings, environment, root, Making::No).await?;
            let node = Node::start(&settings, installation, sockets, None).await?;
            listens();
            node
        };
        tracing::info!(%public, %private, "siv serves");
        if !node.writer.installation.store.log_health().is_serving() {
            output.line("closed   the database does not continue what was signed, so nothing is served: put the newer one back, or stop and run siv recover --accept-database-of CHECKPOINT");
        }
        output.line("siv is ready");
        let asked = async {
            ended.await;
            drain(settings.drain, &node).await;
        };
        tokio::select! {
            () = asked => node.stop().await.inspect(|()| tracing::info!("siv has ended")),
            () = node.closed() => node.leave().await,
        }
    }
}

/// Serves on and says that it is not ready, so that whatever balances load sends nothing to a door that closes. Who asks a
/// second time does not want to wait.
async fn drain(time: Duration, node: &Node) {
    tracing::info!(drain_seconds = time.as_secs(), "siv is asked to end");
    node.announce_end();
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = signals::ended() => {}
    }
}
