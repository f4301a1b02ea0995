//! A database put back on purpose: `siv recover` takes it on, and everybody can see what was lost.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tests::installation::SETTINGS;
use tests::siv::binary;
use tests::{Actor, Siv};

use super::put_back_whole::copy;
use super::transplant::lookup;

/// The installation of a `siv dev` as one that `siv serve` runs.
struct Served {
    folder: PathBuf,
    child: Option<Child>,
    private: String,
    said: Vec<String>,
}

impl Served {
    fn of(siv: &Siv) -> Self {
        let folder = siv.folder().to_owned();
        for made in ["rows", "root"] {
            fs::create_dir(folder.join(made)).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(folder.join(made), mode).unwrap();
        }
        copy(&siv.data(), &folder.join("rows"));
        fs::rename(siv.data().join("key-store"), folder.join("key-store")).unwrap();
        fs::rename(siv.data().join("root.key"), folder.join("root/root.key")).unwrap();
        fs::write(folder.join("siv.toml"), SETTINGS.replace("\"test\"", "\"dev\"")).unwrap();
        Self { folder, child: None, private: String::new(), said: Vec::new() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("siv.toml"))
            .env_clear()
            .output()
            .unwrap()
    }

    fn begin(&mut self) {
        let errors = fs::File::create(self.folder.join("serve-stderr")).unwrap();
        let mut child = Command::new(binary())
            .args(["serve", "--config"])
            .arg(self.folder.join("siv.toml"))
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("private") {
                self.private = format!("http://{}", address.trim());
            }
            self.said.push(line.clone());
            if line.contains("siv is ready") {
                self.child = Some(child);
                return;
            }
        }
        let _ = child.wait();
        panic!("{}", fs::read_to_string(self.folder.join("serve-stderr")).unwrap());
    }

    fn command(&self, credential: &str, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .env_clear()
            .env("SIV_URL", &self.private)
            .env("SIV_CREDENTIAL", credential)
            .output()
            .unwrap()
    }

    fn actor(&self, bearer: &str) -> Actor {
        Actor::new(&self.private, Some(bearer))
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_put_back_on_purpose_is_taken_on_and_everybody_can_see_what_was_lost() {
    let mut siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let code = siv.capture("card-cvc", "123").await;
    siv.verify_log().unwrap();
    let kept = siv.auditor().checkpoint("").await;
    let checkpoint = siv.folder().join("checkpoint");
    fs::write(&checkpoint, &kept).unwrap();
    siv.terminate();
    let copied = siv.folder().join("kept");
    copy(&siv.data(), &copied);
    siv.begin().unwrap();
    siv.capture("card-number", "4242424242424242").await;
    let lost = siv.folder().join("lost-checkpoint");
    fs::write(&lost, siv.auditor().checkpoint(&kept).await).unwrap();
    siv.terminate();
    copy(&copied, &siv.data());
    let mut served = Served::of(&siv);

    // Without the command nothing is served, and it says why.
    served.begin();
    let stranger = Actor::new(&served.private, None);
    assert_eq!(stranger.get("/readyz").await.expect(503).json()["reasons"], json!(["log"]));
    let said = fs::read_to_string(served.folder.join("serve-stderr")).unwrap();
    assert!(said.contains("does not continue what was signed"), "{said}");
    assert!(served.said.iter().any(|line| line.contains("siv recover --accept-database-of")), "{:?}", served.said);
    served.end();

    let refused = served.run(&["recover", "--accept-database-of", path(&served.folder.join("siv.toml"))]);
    assert!(!refused.status.success(), "not a checkpoint");
    let recovered = served.run(&["recover", "--accept-database-of", path(&checkpoint), "--json"]);
    assert!(recovered.status.success(), "{}", text(&recovered));
    let done: Value = serde_json::from_slice(&recovered.stdout).unwrap();
    assert!(done["valuesVoid"].as_u64().unwrap() >= 1 && done["credentialsSuspended"].as_u64().unwrap() >= 4, "{done}");
    let operator = done["credential"].as_str().unwrap();

    served.begin();
    stranger_sees_it_ready(&served).await;
    let app = served.actor(siv.app().bearer());
    let suspended = lookup(&app, &card).await;
    assert!((400..500).contains(&suspended.status), "suspended until it is confirmed: {}", suspended.text);
    let tenant = siv.dev["tenant"].as_str().unwrap();
    let listed =
        served.actor(operator).get(&format!("/v1/credentials?tenant={tenant}&limit=100")).await.expect(200).json();
    for credential in listed["data"].as_array().unwrap() {
        let id = credential["credentialId"].as_str().unwrap();
        let confirmed = served.command(operator, &["credential", "confirm", id, "--tenant", tenant]);
        assert!(confirmed.status.success(), "{}", text(&confirmed));
    }
    lookup(&app, &card).await.expect(200);
    assert_eq!(lookup(&app, &code).await.refusal().0, 404, "a value with a counted use is void");
    the_new_log_verifies(&served, siv.auditor().bearer(), &lost).await;
    served.end();
}

async fn stranger_sees_it_ready(served: &Served) {
    let stranger = Actor::new(&served.private, None);
    for _ in 0..50 {
        if stranger.get("/readyz").await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{}", fs::read_to_string(served.folder.join("serve-stderr")).unwrap());
}

/// The log goes on under a new name; what was signed under the old one it does not claim to continue.
async fn the_new_log_verifies(served: &Served, auditor: &str, lost: &Path) {
    let (bundle, vkey) = (served.folder.join("bundle"), served.folder.join("vkey-2"));
    let line = served.actor(auditor).get("/v1/log/vkey").await.expect(200).text;
    assert!(line.split('+').next().unwrap().ends_with("/2"), "{line}");
    fs::write(&vkey, line).unwrap();
    let exported = served.command(auditor, &["log", "export", "--out", path(&bundle)]);
    assert!(exported.status.success(), "{}", text(&exported));
    let verify = |more: &[&str]| {
        let arguments = ["log", "verify", path(&bundle), "--vkey", path(&vkey)];
        Command::new(binary()).args(arguments).args(more).env_clear().output().unwrap()
    };
    let verified = verify(&[]);
    assert!(verified.status.success(), "{}", text(&verified));
    assert!(!verify(&["--since", path(lost)]).status.success());
    let said = served.actor(auditor).get("/v1/log/entries?action=admin.log.recovered").await.expect(200).json();
    assert_eq!(said["data"].as_array().unwrap().len(), 1, "{said}");
}
