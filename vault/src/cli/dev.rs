//! `siv dev`: the whole thing on one machine. The vault as `siv serve` runs it, and a demo that uses it from outside.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;

use crate::config::{Environment, Settings};
use crate::domain::{Realm, chain};
use crate::telemetry;

use super::bootstrap::first_operator;
use super::client::Client;
use super::demo::{Acquirer, LIFETIME, Provision, Shop, ShopSettings, last_acquirer, last_shop};
use super::dev_file::{self, DevFile};
use super::failure::Failure;
use super::installation::{Installation, Making, make_folder};
use super::node::{Node, Sockets, bind, reachable};
use super::output::Output;
use super::root_key;
use super::signals;

/// Run the vault with a demo shop on this machine.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  siv dev\n  siv dev --data-dir /tmp/try --public 127.0.0.1:0 --private 127.0.0.1:0 --demo 127.0.0.1:0"
)]
pub(super) struct Command {
    /// Where everything is kept; run again on the same folder it goes on with it.
    #[arg(long, default_value = "siv-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// The public listener, for browsers; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    public: SocketAddr,
    /// The private listener, for flows, administration and auditors.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDR")]
    private: SocketAddr,
    /// The demo shop.
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDR")]
    demo: SocketAddr,
}

/// Where the demo's own servers listen.
struct DemoSockets {
    shop: TcpListener,
    origin: String,
    acquirer: SocketAddr,
}

impl Command {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let folder = self.data_dir.as_path();
        make_folder(folder)?;
        ignored_by_git(folder)?;
        let realm: Realm = "dev".parse().map_err(|_| Failure::new("the realm of `siv dev` is no name"))?;
        let settings = Settings::development(folder, self.public, self.private, realm);
        telemetry::start(environment.log_level.unwrap_or(telemetry::LogLevel::Warn));
        let mut dev = DevFile::read(folder)?;
        // The acquirer first: were its last port taken by a listener of the vault, the saved flow would point at the vault.
        let demo = demo_sockets(folder, self.demo, &dev).await?;
        let sockets = Sockets::bind(&settings).await?;
        dev.public = format!("http://{}", reachable(sockets.public_address));
        dev.private = format!("http://{}", reachable(sockets.private_address));
        dev.demo.clone_from(&demo.origin);

        let root = root_key::configured(&settings, environment)?;
        let installation = Installation::open(&settings, environment, root, Making::Yes).await?;
        let node = Node::start(&settings, installation, sockets, None).await?;
        let ended = signals::ended();
        // Whatever fails now, the node ends in order: its logs say so, and the next start has nothing to mend.
        let begun = match provide(&node, &demo, folder, &mut dev).await {
            Ok(left) => start_shop(demo.shop, &dev).await.map(|()| left),
            Err(failure) => Err(failure),
        };
        if let Ok(left) = &begun {
            announce(&dev, folder, left, output);
            ended.await;
        }
        let stopped = node.stop().await;
        begun.and(stopped)
    }
}

/// Makes what the demo needs; each credential is kept as soon as it was made. What was left alone is told.
async fn provide(node: &Node, demo: &DemoSockets, folder: &Path, dev: &mut DevFile) -> Result<Vec<String>, Failure> {
    if dev.credentials.operator.is_empty() {
        dev.credentials.operator = operator(node, folder).await?;
        dev.write(folder)?;
    }
    let operator = Client::new(&dev.private, SecretString::from(dev.credentials.operator.as_str()))?;
    let provision = Provision { operator, folder, origin: &demo.origin, acquirer: demo.acquirer };
    let left = provision.run(dev).await?;
    let log = dev.tenant.parse().map_err(|_| Failure::new("the demo's tenant has no name"))?;
    let signer = node.writer.installation.keys.log_signer(&log).await;
    let signer = signer.map_err(|error| Failure::new("the demo's log has no key").because(chain(&error)))?;
    dev.log_vkey = signer.vkey();
    dev.write(folder)?;
    Ok(left)
}

#[expect(clippy::disallowed_methods, reason = "dev.json is where `siv dev` shows its credentials")]
async fn operator(node: &Node, folder: &Path) -> Result<String, Failure> {
    match first_operator(&node.writer, LIFETIME).await? {
        Some(first) => Ok(first.text.expose_secret().to_owned()),
        None => Err(Failure::new(format!("{} has data, and its dev.json is gone", folder.display()))
            .because("the credentials stood there and nowhere else; the vault keeps none that it could show again")
            .so("put dev.json back, or begin anew in another folder with --data-dir")),
    }
}

async fn demo_sockets(folder: &Path, wanted: SocketAddr, dev: &DevFile) -> Result<DemoSockets, Failure> {
    // Any port: first the last one, so that the shop keeps its origin and the app its document.
    let same = last_shop(dev).filter(|_| wanted.port() == 0).map(|port| SocketAddr::new(wanted.ip(), port));
    let again = match same {
        Some(same) => bind("demo", same).await.ok(),
        None => None,
    };
    let (shop, address) = match again {
        Some(bound) => bound,
        None => bind("demo", wanted).await?,
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let acquirer = Acquirer::start(last_acquirer(folder).unwrap_or(any)).await;
    let acquirer = acquirer.map_err(|error| Failure::new("the pretended acquirer did not start").because(error))?;
    Ok(DemoSockets { shop, origin: demo_origin(reachable(address)), acquirer })
}

/// The shop is shown under a name, so that its site is another than the vault's address.
fn demo_origin(address: SocketAddr) -> String {
    let port = address.port();
    let text = match address.ip() {
        ip if ip.is_loopback() => format!("http://localhost:{port}"),
        IpAddr::V4(ip) => format!("http://{ip}:{port}"),
        IpAddr::V6(ip) => format!("http://[{ip}]:{port}"),
    };
    // Port 80 has no place in an origin.
    url::Url::parse(&text).map_or(text, |url| url.origin().ascii_serialization())
}

async fn start_shop(listener: TcpListener, dev: &DevFile) -> Result<(), Failure> {
    let flow = |name: &str| dev.credentials.flows.get(name).map(String::as_str).unwrap_or_default();
    let settings = ShopSettings {
        origin: dev.demo.clone(),
        vault: dev.public.clone(),
        private: dev.private.clone(),
        app: dev.app.clone(),
        app_credential: SecretString::from(dev.credentials.app.as_str()),
        charge_card: SecretString::from(flow("charge-card")),
        verify_password: SecretString::from(flow("verify-password")),
        auditor: SecretString::from(dev.credentials.auditor.as_str()),
    };
    Shop::start(listener, settings).await
}

fn announce(dev: &DevFile, folder: &Path, left: &[String], output: &Output) {
    let file = folder.join("dev.json");
    for (name, value) in [
        ("demo shop", dev.demo.as_str()),
        ("public", &dev.public),
        ("private", &dev.private),
        ("console", &format!("{}/console/", dev.private)),
        ("credentials", &file.display().to_string()),
    ] {
        output.line(&format!("{}{}  {value}", output.emphasis(name), " ".repeat(11 - name.len())));
    }
    for sentence in left {
        output.line(sentence);
    }
    output.line("For development only: the root key lies beside what it seals, and captures may come unsealed.");
    output.line("siv is ready");
}

/// A data folder inside somebody's repository must not be committed with its keys.
fn ignored_by_git(folder: &Path) -> Result<(), Failure> {
    let file = folder.join(".gitignore");
    if file.exists() {
        return Ok(());
    }
    dev_file::replace(&file, "*")
        .map_err(|error| Failure::new(format!("{} cannot be written", file.display())).because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shop_is_shown_under_a_name() {
        let origin = |text: &str| demo_origin(text.parse().unwrap());
        assert_eq!(origin("127.0.0.1:8090"), "http://localhost:8090");
        assert_eq!(origin("127.0.0.1:80"), "http://localhost");
        assert_eq!(origin("192.0.2.7:8090"), "http://192.0.2.7:8090");
    }

    #[test]
    fn what_is_bound_to_every_address_is_reached_on_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8081"), "127.0.0.1:8081");
        assert_eq!(reached("[::]:8081"), "[::1]:8081");
        assert_eq!(reached("192.0.2.7:8081"), "192.0.2.7:8081");
    }
}
