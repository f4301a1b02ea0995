//! The API document (`OpenAPI` 3.1), made from a listener's table of routes.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema,
};

use super::client_files::VERSION;
use super::problem::Code;
use super::route::{Admits, Answers, Described, Reads, Route};
use crate::domain::CredentialKind;

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// The document of a listener.
pub(crate) fn document<'a>(title: &str, routes: impl Iterator<Item = &'a Route>) -> OpenApi {
    let (mut schemas, mut paths) = (Schemas::new(), Paths::new());
    schemas.insert("Problem".to_owned(), problem());
    for route in routes {
        let Some(method) = method(&route.method) else { continue };
        // A rest of a path has a star in our router and none in OpenAPI.
        let path = route.path.replace("{*", "{");
        paths.add_path_operation(path, vec![method], operation(route, &mut schemas));
    }
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas {
        components = components.schema(name, schema);
    }
    for kind in CredentialKind::ALL {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(kind.prefix()).build();
        components = components.security_scheme(kind.as_str(), SecurityScheme::Http(scheme));
    }
    let info = InfoBuilder::new().title(title).version(VERSION).build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

fn operation(route: &Route, schemas: &mut Schemas) -> OperationBuilder {
    let mut operation = OperationBuilder::new().summary(Some(route.about));
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(parameter(name.trim_start_matches('*'), ParameterIn::Path));
    }
    for name in route.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query));
    }
    if route.creates {
        operation = operation.parameter(parameter("Idempotency-Key", ParameterIn::Header));
    }
    match &route.reads {
        Reads::Nothing => {}
        Reads::Json(described) => {
            let content = Content::new(Some(reference(described, schemas)));
            let body = RequestBodyBuilder::new().content("application/json", content);
            let body = body.required(Some(if route.optional { Required::False } else { Required::True }));
            operation = operation.request_body(Some(body.build()));
        }
        Reads::Toml => {
            let body = RequestBodyBuilder::new().content("application/toml", text()).required(Some(Required::True));
            operation = operation.request_body(Some(body.build()));
        }
    }
    let (status, answers) = &route.answers;
    let answer = ResponseBuilder::new().description(route.about);
    let answer = match answers {
        Answers::Nothing => answer,
        Answers::Json(described) => {
            answer.content("application/json", Content::new(Some(reference(described, schemas))))
        }
        Answers::Other(content_type) => answer.content(*content_type, text()),
    };
    let mut operation = operation.response(status.to_string(), answer.build());
    if let Some(described) = &route.asks {
        let asked = ResponseBuilder::new().description("Asked for: a second custodian has to approve");
        let asked = asked.content("application/json", Content::new(Some(reference(described, schemas))));
        operation = operation.response("202", asked.build());
    }
    if let Some(described) = &route.plans {
        let planned = ResponseBuilder::new().description("Of a dry run: what would be done; nothing was");
        let planned = planned.content("application/json", Content::new(Some(reference(described, schemas))));
        operation = operation.response("200", planned.build());
    }
    for status in refusals(route) {
        operation = operation.response(status.to_string(), refusal(&codes(|code| code.status() == status)));
    }
    let operation = operation.response("default", refusal("Refused"));
    match route.admits {
        Admits::Anyone => operation,
        Admits::Only(kind) => operation.security(SecurityRequirement::new(kind.as_str(), Vec::<String>::new())),
    }
}

/// A refusal's description is the list of codes it may have.
fn refusal(description: &str) -> Response {
    let content = Content::new(Some(RefOr::<Schema>::Ref(Ref::from_schema_name("Problem"))));
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

/// The statuses with which an operation refuses.
fn refusals(route: &Route) -> BTreeSet<u16> {
    let (reads, known) = (!matches!(route.reads, Reads::Nothing), matches!(route.admits, Admits::Only(_)));
    let written = route.method != http::Method::GET;
    let mut statuses = BTreeSet::from([400, 429, 500, 503]);
    statuses.extend([401].into_iter().filter(|_| known));
    statuses.extend([403].into_iter().filter(|_| known || route.path.ends_with("/open")));
    statuses.extend([404].into_iter().filter(|_| route.path.contains('{') || reads));
    statuses.extend([413, 415, 422].into_iter().filter(|_| reads));
    statuses.extend([409].into_iter().filter(|_| known && (written || route.path.starts_with("/v1/log/"))));
    statuses.extend([409].into_iter().filter(|_| route.path == "/v1/unseal"));
    statuses.extend([422].into_iter().filter(|_| !route.query.is_empty()));
    statuses.extend([502, 504].into_iter().filter(|_| route.path.ends_with("/invoke")));
    statuses
}

fn codes(of: impl Fn(Code) -> bool) -> String {
    let codes: Vec<_> = Code::ALL.iter().copied().filter(|code| of(*code)).map(Code::as_str).collect();
    codes.join(", ")
}

fn reference(described: &Described, schemas: &mut Schemas) -> RefOr<Schema> {
    for (name, schema) in &described.parts {
        schemas.insert(name.clone(), schema.clone());
    }
    schemas.insert(described.name.clone(), described.schema.clone());
    RefOr::Ref(Ref::from_schema_name(&described.name))
}

fn parameter(name: &str, place: ParameterIn) -> Parameter {
    let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(string())).build()
}

fn string() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build().into()
}

fn text() -> Content {
    Content::new(Some(string()))
}

/// RFC 9457, with our codes.
fn problem() -> RefOr<Schema> {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let code = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(codes));
    let number = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
    let fault = ObjectBuilder::new().property("field", string()).property("code", string());
    let faults = utoipa::openapi::schema::ArrayBuilder::new().items(fault.build());
    let mut object = ObjectBuilder::new();
    for name in ["type", "title", "detail", "requestId", "runId"] {
        object = object.property(name, string());
    }
    object =
        object.property("status", number.build()).property("code", code.build()).property("errors", faults.build());
    for name in ["type", "title", "status", "code"] {
        object = object.required(name);
    }
    object.build().into()
}

fn method(method: &http::Method) -> Option<HttpMethod> {
    match method.as_str() {
        "GET" => Some(HttpMethod::Get),
        "POST" => Some(HttpMethod::Post),
        "PUT" => Some(HttpMethod::Put),
        "DELETE" => Some(HttpMethod::Delete),
        _ => None,
    }
}
