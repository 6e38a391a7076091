//! The contract, written from the one table of routes and the shapes of `api`.
//!
//! `docs/openapi.json` is a copy for readers; a test keeps it equal.

use super::table::{Row, Rule, Says, TABLE};
use api::routes;
use axum::{Json, response::IntoResponse};
use utoipa::{
    OpenApi,
    openapi::{
        Components, Content, ContentBuilder, HttpMethod, ObjectBuilder, PathItem, Paths, Ref, RefOr,
        Required, Response, ResponseBuilder, Schema,
        path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{ArrayBuilder, OneOfBuilder, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

/// Every shape that the wire contract has.
#[derive(OpenApi)]
#[openapi(components(schemas(
    api::AppRow,
    api::ApplyRequest,
    api::ArchiveRow,
    api::AuditConfirmation,
    api::AuditJournal,
    api::AuditMore,
    api::AuditNews,
    api::AuditPage,
    api::AuditRequest,
    api::AuditRow,
    api::AuditType,
    api::AuditVerified,
    api::BackupAsked,
    api::BackupFailure,
    api::BackupRow,
    api::BackupStatus,
    api::BackendRow,
    api::Code,
    api::DeployRequest,
    api::DeployRow,
    api::DeployState,
    api::Difference,
    api::EnrolRequest,
    api::Enrolled,
    api::EnvRow,
    api::EnvStatus,
    api::EventPage,
    api::EventRow,
    api::EventSummary,
    api::ActDone,
    api::ActRequest,
    api::ApartRow,
    api::ClusterActRequest,
    api::ClusterStatus,
    api::MemberJoinRequest,
    api::MemberJoinSecret,
    api::MemberRow,
    api::PeerRefused,
    api::SnapshotDone,
    api::Failover,
    api::Explained,
    api::Explanation,
    api::ExplanationLine,
    api::InstanceRow,
    api::JoinTokenRequest,
    api::LeaseAnswer,
    api::Live,
    api::LogsAsk,
    api::LoginAnswer,
    api::LoginRequest,
    api::OwnTokenRequest,
    api::PasswordChange,
    api::PersonChange,
    api::PersonIdentity,
    api::PersonRequest,
    api::PersonRow,
    api::NodeRow,
    api::Outcome,
    api::Override,
    api::PlanAnswer,
    api::Problem,
    api::ProcessStatus,
    api::Proof,
    api::Ready,
    api::RebuildAnswer,
    api::Receipt,
    api::ReleaseRow,
    api::ReportAnswer,
    api::ReportRequest,
    api::RequestState,
    api::RequestVerdict,
    api::RestartRequest,
    api::ResultBody,
    api::RollbackRequest,
    api::RouteRow,
    api::ScaleRequest,
    api::Subject,
    api::TokenRequest,
    api::TokenRole,
    api::TokenRow,
    api::Version,
    api::ViewRow,
    api::Whoami,
)))]
struct Shapes;

/// Shapes of the data plane, whose definition is the code of the `types` crate.
const DATA_PLANE: [(&str, &str); 3] = [
    ("Lease", "What a node says to renew its lease."),
    ("NodePlan", "Everything one agent is to keep running."),
    ("EdgePlan", "Everything an edge routes."),
];

/// `GET /v1/openapi.json`
pub(super) async fn show() -> impl IntoResponse {
    Json(openapi())
}

/// The contract.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Shapes::openapi();
    document.info.title = "Holdfast".to_owned();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.description = Some(
        "Writes take an Idempotency-Key (a fresh ULID or UUIDv7 for each intent) and answer with a receipt. \
         What goes wrong is a problem after RFC 9457 whose code is explained under docs/errors."
            .to_owned(),
    );
    document.info.license = None;
    document.info.contact = None;
    document.paths = paths();
    let components = document.components.get_or_insert_with(Components::new);
    for (name, description) in DATA_PLANE {
        let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(description)).build();
        components.schemas.insert(name.to_owned(), RefOr::T(Schema::Object(object)));
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.security_schemes.insert("token".to_owned(), SecurityScheme::Http(bearer));
    document
}

fn paths() -> Paths {
    let mut paths = Paths::new();
    for row in TABLE {
        let method = match row.method {
            "POST" => HttpMethod::Post,
            "DELETE" => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        let item = PathItem::new(method, operation(row));
        match paths.paths.get_mut(row.path) {
            Some(there) => there.merge_operations(item),
            None => drop(paths.paths.insert(row.path.to_owned(), item)),
        }
    }
    paths
}

fn operation(row: &Row) -> Operation {
    let who = match row.rule {
        Rule::Open => "Open to all.".to_owned(),
        Rule::May(permission) => format!("For the roles {}.", permission.holders().replace(" or ", " and ")),
        Rule::Node => "For nodes.".to_owned(),
    };
    let mut operation = OperationBuilder::new()
        .summary(Some(row.summary))
        .description(Some(who))
        .operation_id(Some(operation_id(row)))
        .response("default", problem());
    operation = match row.says {
        Says::Nothing => operation.response("204", Response::new("Done.")),
        says => operation.response("200", answer(says)),
    };
    let places = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    for place in places {
        operation = operation.parameter(parameter(place, ParameterIn::Path, Required::True));
    }
    for name in row.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query, Required::False));
    }
    if row.once {
        let required = if row.query.contains(&"plan") { Required::False } else { Required::True };
        operation = operation.parameter(parameter(routes::IDEMPOTENCY_KEY, ParameterIn::Header, required));
        operation = operation.parameter(parameter("if-match", ParameterIn::Header, Required::False));
    }
    if let Some(body) = row.body {
        let body = match body {
            "bytes" => RequestBodyBuilder::new()
                .content("application/octet-stream", Content::new::<RefOr<Schema>>(None)),
            name => RequestBodyBuilder::new().content("application/json", shape(name)),
        };
        operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
    }
    if row.rule != Rule::Open {
        operation = operation.security(SecurityRequirement::new("token", Vec::<String>::new()));
    }
    operation.build()
}

/// `get_v1_orgs_org_apps`: the method and the path.
fn operation_id(row: &Row) -> String {
    let words: Vec<&str> =
        row.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{}_{}", row.method.to_ascii_lowercase(), words.join("_"))
}

fn parameter(name: &str, place: ParameterIn, required: Required) -> utoipa::openapi::path::Parameter {
    let kind = match name {
        "after" | "at_least" | "last" | "limit" | "since" | "tail" | "ask" | "epoch" | "event" => {
            Type::Integer
        }
        "plan" | "poll" | "follow" | "wait" => Type::Boolean,
        _ => Type::String,
    };
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(kind)).build();
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema)).build()
}

fn shape(name: &str) -> Content {
    ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name(name)))).build()
}

fn problem() -> Response {
    ResponseBuilder::new()
        .description("What went wrong.")
        .content(api::Problem::MEDIA_TYPE, shape("Problem"))
        .build()
}

fn answer(says: Says) -> Response {
    let answer = ResponseBuilder::new().description("Done.");
    match says {
        Says::Json(name) => answer.content("application/json", shape(name)).build(),
        Says::Either(done, told) => {
            let of = |name| RefOr::Ref(Ref::from_schema_name(name));
            let either = OneOfBuilder::new().item(of(done)).item(of(told)).build();
            let content = ContentBuilder::new().schema(Some(RefOr::T(Schema::OneOf(either)))).build();
            answer.content("application/json", content).build()
        }
        Says::Page(row) => {
            let rows = ArrayBuilder::new().items(RefOr::Ref(Ref::from_schema_name(row))).build();
            let next = ObjectBuilder::new()
                .schema_type(Type::String)
                .description(Some("The cursor of the next page."))
                .build();
            let page = ObjectBuilder::new()
                .schema_type(Type::Object)
                .property("rows", rows)
                .property("next", next)
                .required("rows")
                .build();
            let content = ContentBuilder::new().schema(Some(RefOr::T(Schema::Object(page)))).build();
            answer.content("application/json", content).build()
        }
        Says::Stream(page, message) => {
            let events = ObjectBuilder::new()
                .schema_type(Type::String)
                .description(Some(format!("Server-sent events; the data of each is {message}.")))
                .build();
            let events = ContentBuilder::new().schema(Some(RefOr::T(Schema::Object(events)))).build();
            answer.content("application/json", shape(page)).content("text/event-stream", events).build()
        }
        Says::Text(media) => answer.content(media, Content::new::<RefOr<Schema>>(None)).build(),
        Says::Nothing => answer.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_path_is_in_the_contract_and_no_other() {
        let contract = openapi();
        let described: BTreeSet<&str> = contract.paths.paths.keys().map(String::as_str).collect();
        let mounted: BTreeSet<&str> = routes::ALL.iter().copied().collect();
        assert_eq!(described, mounted);
    }

    #[test]
    fn every_shape_that_is_named_is_there() {
        let json = serde_json::to_value(openapi()).expect("a contract");
        let mut named = BTreeSet::new();
        collect(&json, &mut named);
        assert!(named.contains("#/components/schemas/Receipt"), "{named:?}");
        for name in named {
            assert!(json.pointer(&name[1..]).is_some(), "{name} is named and not defined");
        }
        assert!(json["openapi"].as_str().expect("a version").starts_with("3.1"));
    }

    fn collect(value: &serde_json::Value, named: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                named.extend(map.get("$ref").and_then(|name| name.as_str()).map(str::to_owned));
                map.values().for_each(|value| collect(value, named));
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, named)),
            _ => {}
        }
    }
}
