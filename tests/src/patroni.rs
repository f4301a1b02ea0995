//! Two synchronous PostgreSQL nodes under Patroni and etcd, and a proxy that leads to whichever of them is the leader.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::process;

const CONFIG: &str = r#"
scope: siv
name: NAME
restapi: {listen: "127.0.0.1:REST", connect_address: "127.0.0.1:REST"}
etcd3: {hosts: "127.0.0.1:ETCD"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    maximum_lag_on_failover: 0
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters: {wal_level: replica, max_wal_senders: 5, hot_standby: 'on', wal_log_hints: 'on', shared_buffers: 32MB}
  initdb: [{encoding: UTF8}, data-checksums]
postgresql:
  listen: "127.0.0.1:PORT"
  connect_address: "127.0.0.1:PORT"
  data_dir: FOLDER/data-NAME
  bin_dir: BIN
  pgpass: FOLDER/pgpass-NAME
  pg_hba: ["host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256", "local all all trust"]
  authentication:
    superuser: {username: postgres, password: s}
    replication: {username: repl, password: r}
    rewind: {username: rew, password: w}
  parameters: {unix_socket_directories: FOLDER}
"#;

/// One of the two.
struct Member {
    name: &'static str,
    rest: u16,
    port: u16,
    patroni: Option<Child>,
}

/// The cluster. All of it ends when this is dropped.
pub struct Patroni {
    folder: TempDir,
    etcd: Child,
    members: [Member; 2],
    leader: watch::Receiver<Option<u16>>,
    proxy: u16,
}

impl Patroni {
    /// Starts it, and waits until one is the leader and the other its synchronous standby.
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        if let Some(user) = postgres_user() {
            chown(folder.path(), Some(user), Some(user)).unwrap();
        }
        let (client, peer) = (format!("http://127.0.0.1:{}", free()), format!("http://127.0.0.1:{}", free()));
        let store = folder.path().join("etcd").display().to_string();
        let cluster = format!("default={peer}");
        let etcd = [
            ("--data-dir", store.as_str()),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &cluster),
        ];
        let etcd: Vec<&str> = etcd.iter().flat_map(|(name, value)| [*name, *value]).collect();
        let etcd = spawn("etcd", &etcd, &folder);
        let mut members = ["n1", "n2"].map(|name| Member { name, rest: free(), port: free(), patroni: None });
        for member in &mut members {
            let text = CONFIG
                .replace("NAME", member.name)
                .replace("REST", &member.rest.to_string())
                .replace("PORT", &member.port.to_string())
                .replace("ETCD", client.rsplit(':').next().unwrap())
                .replace("FOLDER", &folder.path().display().to_string())
                .replace("BIN", &bin().display().to_string());
            let config = folder.path().join(member.name);
            fs::write(&config, text).unwrap();
            fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
            member.patroni = Some(spawn("patroni", &[config.to_str().unwrap()], &folder));
        }
        let places = [0, 1].map(|at| (members[at].rest, members[at].port));
        let (say, leader) = watch::channel(None);
        tokio::spawn(follow(places, say));
        let proxy = forward(leader.clone()).await;
        let cluster = Self { folder, etcd, members, leader, proxy };
        cluster.is_whole().await;
        cluster
    }

    /// The address siv is given: the proxy's.
    pub fn address(&self) -> String {
        format!("postgres://postgres:s@127.0.0.1:{}/postgres", self.proxy)
    }

    /// Waits until there are a leader and a synchronous standby.
    pub async fn is_whole(&self) {
        let whole = async {
            loop {
                let roles = self.roles().await;
                let has = |role: &str| roles.iter().any(|known| known == role);
                if has("leader") && has("sync_standby") && self.leader.borrow().is_some() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(240), whole).await.is_err() {
            panic!("the cluster is not whole: {:?}\n{}", self.roles().await, self.log_text());
        }
    }

    async fn roles(&self) -> Vec<String> {
        let mut roles = Vec::new();
        for member in &self.members {
            let Some(said) = ask(member.rest, "/cluster").await else { continue };
            let known: Value = serde_json::from_str(&said.1).unwrap_or_default();
            let of = known["members"].as_array().into_iter().flatten();
            let running = of.filter(|one| ["running", "streaming"].iter().any(|state| one["state"] == *state));
            roles = running.filter_map(|one| one["role"].as_str().map(str::to_owned)).collect();
        }
        roles
    }

    /// `kill -9` of the leader and of its Patroni, as if its machine were gone; which it was.
    pub fn kill_the_leader(&mut self) -> usize {
        let port = self.leader.borrow().expect("there is a leader");
        let at = self.members.iter().position(|member| member.port == port).unwrap();
        let member = &mut self.members[at];
        let file = self.folder.path().join(format!("data-{}/postmaster.pid", member.name));
        let postmaster = fs::read_to_string(file).unwrap().lines().next().unwrap().trim().parse().unwrap();
        let mut patroni = member.patroni.take().unwrap();
        process::signal(patroni.id(), Signal::KILL);
        let mut all = vec![postmaster];
        all.extend(process::children_of(postmaster));
        for signal in [Signal::STOP, Signal::KILL] {
            all.iter().for_each(|pid| process::signal(*pid, signal));
        }
        let _ = patroni.wait();
        at
    }

    /// Waits until the other one leads.
    pub async fn has_another_leader(&self, than: usize) {
        let (mut leader, old) = (self.leader.clone(), self.members[than].port);
        let another = leader.wait_for(|port| port.is_some_and(|port| port != old));
        tokio::time::timeout(Duration::from_secs(180), another).await.expect("a new leader").unwrap();
    }

    /// The machine of a member is there again.
    pub fn start_again(&mut self, at: usize) {
        let member = &mut self.members[at];
        let config = self.folder.path().join(member.name);
        member.patroni = Some(spawn("patroni", &[config.to_str().unwrap()], &self.folder));
    }

    fn log_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut patroni) = member.patroni.take() {
                process::signal(patroni.id(), Signal::KILL);
                let _ = patroni.wait();
            }
            let file = self.folder.path().join(format!("data-{}/postmaster.pid", member.name));
            let pid = fs::read_to_string(file).ok().and_then(|text| text.lines().next()?.trim().parse().ok());
            if let Some(postmaster) = pid {
                process::signal(postmaster, Signal::QUIT);
                while process::is_alive(postmaster) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        process::signal(self.etcd.id(), Signal::KILL);
        let _ = self.etcd.wait();
    }
}

/// The user `postgres`, whom the server wants where a test runs as root.
fn postgres_user() -> Option<u32> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find_map(|line| line.strip_prefix("postgres:")).expect("there is a user postgres");
    user.split(':').nth(1)?.parse().ok()
}

fn spawn(program: &str, arguments: &[&str], folder: &TempDir) -> Child {
    // It ends when this process does, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if postgres_user().is_some() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program);
    let log = File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap());
    command.stderr(log).spawn().unwrap_or_else(|why| panic!("{program}: {why}; tests/install-dependencies long"))
}

/// The folder of the server's programs.
fn bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    versions.map(|version| version.unwrap().path().join("bin")).max().unwrap()
}

/// A port that nobody listens on.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Status and body.
async fn ask(rest: u16, path: &str) -> Option<(u16, String)> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap();
    let answer = http.get(format!("http://127.0.0.1:{rest}{path}")).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

/// Asks both, as a load balancer does, which of them leads.
async fn follow(places: [(u16, u16); 2], say: watch::Sender<Option<u16>>) {
    while !say.is_closed() {
        let mut leader = None;
        for (rest, port) in places {
            if ask(rest, "/primary").await.is_some_and(|(status, _)| status == 200) {
                leader = Some(port);
            }
        }
        say.send_if_modified(|known| std::mem::replace(known, leader) != leader);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Leads every connection to the leader, and ends those to one that is no leader any more.
async fn forward(leader: watch::Receiver<Option<u16>>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let leader = Arc::new(leader);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut leader = leader.as_ref().clone();
            tokio::spawn(async move {
                let Some(port) = *leader.borrow_and_update() else { return };
                let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = leader.changed() => {}
                }
            });
        }
    });
    port
}
