//! `PUT /v1/destinations/{name}`, `GET /v1/destinations`: secrets go in; names of them come out.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State as Shared};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::DestinationName;
use crate::http::authentication::{By, Operator};
use crate::http::json::{Json as Body, Members, SensitiveText};
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::routes::of_a_tenant;
use crate::http::state::State;
use crate::store::administration::Act;
use crate::store::destinations::{Place, SealedSecrets};
use crate::store::records::DestinationRecord;
use crate::store::{Caller, destinations};

/// A destination's secrets are at most that many.
const MOST_SECRETS: usize = 32;

/// A destination as its owner sets it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutDestination {
    /// The host, with its port if that is not 443.
    host: String,
    /// Secrets by name. Those not named stay, unless the host changes.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    secrets: Members<SensitiveText>,
}

/// What is told of a destination: names, never secrets.
#[derive(Serialize, ToSchema)]
pub(crate) struct DestinationSummary {
    name: String,
    version: u64,
    host: String,
    secrets: Vec<String>,
}

impl DestinationSummary {
    fn of(version: u64, record: &DestinationRecord) -> Self {
        let secrets = record.secrets.keys().cloned().collect();
        Self { name: record.name.to_string(), version, host: record.host.clone(), secrets }
    }
}

/// Sets a destination.
pub(crate) async fn put(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    Path(name): Path<String>,
    Body { body, .. }: Body<PutDestination>,
) -> Result<Json<DestinationSummary>, Problem> {
    of_a_tenant(&caller)?;
    let name: DestinationName = name.parse().map_err(|_| Problem::new(Code::NotFound))?;
    check(&body)?;
    let sealed = seal(&state, &caller, &name, &body).await?;
    let (tenant, named) = (caller.tenant_name().clone(), name.clone());
    let applied = state
        .administer(caller, move |tenant, by| {
            let there = tenant.destinations.get(&named).map(|(_, record)| record);
            Ok(Act::put_destination(by, &sealed.over(there, &named))?)
        })
        .await?;
    applied.version().ok_or(Problem::new(Code::Conflict))?;
    let tenant = state.tenant(&tenant).await?;
    let (version, record) = tenant.destinations.get(&name).ok_or(Problem::new(Code::Conflict))?;
    Ok(Json(DestinationSummary::of(*version, record)))
}

/// Lists the tenant's destinations: hosts, and names of secrets.
pub(crate) async fn list(By(caller, _): By<Operator>, uri: Uri) -> Result<Json<Listed<DestinationSummary>>, Problem> {
    let there = caller.tenant.destinations.iter();
    part(there.map(|(name, (version, record))| (name.to_string(), DestinationSummary::of(*version, record))), &uri)
}

fn check(body: &PutDestination) -> Result<(), Problem> {
    let url = url::Url::parse(&format!("https://{}/", body.host)).map_err(|_| Problem::invalid("host", "host"))?;
    let spelled = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    if spelled != body.host || body.host.is_empty() {
        return Err(Problem::invalid("host", "host"));
    }
    let named = |name: &String| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        !name.is_empty() && name.len() <= 63 && name.bytes().all(word)
    };
    if body.secrets.0.len() > MOST_SECRETS || !body.secrets.0.keys().all(named) {
        return Err(Problem::invalid("secrets", "names"));
    }
    Ok(())
}

async fn seal(
    state: &State,
    caller: &Caller,
    name: &DestinationName,
    body: &PutDestination,
) -> Result<SealedSecrets, Problem> {
    let rooms = state.rooms();
    let secrets: BTreeMap<&str, &str> =
        body.secrets.0.iter().map(|(name, text)| (name.as_str(), text.0.as_str())).collect();
    let there = caller.tenant.destinations.get(name).map(|(_, record)| record);
    let place = Place { realm: rooms.keys.realm(), tenant: caller.tenant_name(), destination: name, host: &body.host };
    Ok(destinations::seal(&secrets, there, &place, &rooms.keys, &rooms.store, state.now()).await?)
}
