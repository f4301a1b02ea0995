//! `siv unseal`: brings a node that was started sealed the passphrase of its root key.

use std::time::Duration;

use clap::Args;
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::config::Environment;

use super::client::Client;
use super::failure::Failure;
use super::output::Output;
use super::passphrase::PassphraseFrom;
use super::refused::refused;

/// How often the node is asked whether it serves, with a pause between; how often a try that has to wait is repeated.
const LOOKS: usize = 240;
const PAUSE: Duration = Duration::from_millis(500);
const TRIES: usize = 30;

/// Give the node at `SIV_URL` the passphrase of its root key (`root_key = "sealed"` in its settings).
///
/// No credential is needed: without the root key a node can check none. Each node is unsealed on its own, and is sealed again
/// after each restart. A wrong passphrase changes nothing, makes its sender wait, and stands in the system's log later.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  SIV_URL=https://vault.internal:8081 siv unseal\n  siv unseal --passphrase-file -")]
pub(super) struct Command {
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

impl Command {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let client = Client::without_credential(environment)?;
        // Asked first: nobody types a passphrase for a node that is open.
        if is_open(&client).await? {
            output.sentence(&json!({ "sealed": false }), "the node is not sealed: nothing was done");
            return Ok(());
        }
        let passphrase = self.passphrase.read()?;
        bring(&client, &offer(passphrase)).await?;
        for _ in 0..LOOKS {
            match is_open(&client).await {
                Ok(false) => tokio::time::sleep(PAUSE).await,
                Ok(true) => {
                    output.sentence(&json!({ "sealed": false }), "the node is open");
                    return Ok(());
                }
                Err(failure) => return Err(failure.so("the passphrase was right, and the node ended: see its own log")),
            }
        }
        Err(Failure::new("the passphrase was right, and the node does not serve yet").so("see its own log and /readyz"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the passphrase goes to the node, inside the request")]
#[expect(clippy::needless_pass_by_value, reason = "the passphrase ends here")]
fn offer(passphrase: secrecy::SecretString) -> Zeroizing<String> {
    Zeroizing::new(json!({ "passphrase": passphrase.expose_secret() }).to_string())
}

/// Offers the passphrase; waits where the node is busy with another try.
async fn bring(client: &Client, offer: &Zeroizing<String>) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (status, wait, problem) = client.offer("/v1/unseal", offer).await?;
        return match (status, problem.get("code").and_then(Value::as_str)) {
            // 409: somebody else was first, and it is open.
            (StatusCode::NO_CONTENT | StatusCode::CONFLICT, _) => Ok(()),
            (StatusCode::TOO_MANY_REQUESTS, _) if tries < TRIES => {
                let seconds = wait.unwrap_or(1);
                Output::progress(&format!("somebody tried a moment ago: waiting {seconds} s"));
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                continue;
            }
            (StatusCode::UNPROCESSABLE_ENTITY, Some("validation")) => {
                Err(Failure::new("this is not the passphrase").so(
                    "try again; each refusal makes you wait longer. Where the key store was made with a file or a systemd \
                     credential no passphrase fits: the node's log says what was noted; name that as `root_key` in the settings",
                ))
            }
            // The public listener takes no passphrase, sealed or not.
            (StatusCode::NOT_FOUND, _) | (_, Some("tenant.sealed")) => Err(elsewhere()),
            _ => Err(refused(status, &problem)),
        };
    }
}

/// Whether the node has its root key: only then it knows of tenants.
async fn is_open(client: &Client) -> Result<bool, Failure> {
    let (_, readiness) = client.look("/readyz").await?;
    if readiness.get("reasons").is_none() {
        return Err(elsewhere());
    }
    Ok(readiness.get("tenants").is_some())
}

fn elsewhere() -> Failure {
    Failure::new("this is not the private listener of a siv").so("check SIV_URL")
}
