//! The routes, and the OpenAPI document that is made from them.

use super::authorized::Gate;
use super::params::{Nothing, Params};
use super::response::{self, Failure};
use super::{admin_handlers as admin, handlers, watch};
use crate::client::Problem;
use crate::client::api::texts::{
    GrantIdText, Grantable, GranteeText, Label, NameText, Octets, PrefixText, ShortName, Time, UnitText,
    Words,
};
use crate::error::{Error, Kind};
use crate::vault::WatchedToken;
use axum::Router;
use axum::response::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::sync::LazyLock;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Strongroom agent",
        description = "HTTP/1.1 on a Unix socket. Who asks is told by the kernel; there is nothing to log in with.",
    ),
    components(schemas(
        Problem,
        GrantIdText,
        Grantable,
        GranteeText,
        Label,
        NameText,
        Octets,
        PrefixText,
        ShortName,
        Time,
        UnitText,
        WatchedToken,
        Words,
    ))
)]
struct Document;

fn documented() -> OpenApiRouter<Gate> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(handlers::list))
        .routes(routes!(handlers::show, admin::destroy))
        .routes(routes!(handlers::get, handlers::put))
        .routes(routes!(handlers::set_state))
        .routes(routes!(admin::rename))
        .routes(routes!(admin::sealed))
        .routes(routes!(admin::age_file))
        .routes(routes!(admin::log))
        .routes(routes!(admin::history))
        .routes(routes!(admin::accesses))
        .routes(routes!(admin::grants, admin::grant, admin::ungrant))
        .routes(routes!(admin::ungrant_one))
        .routes(routes!(watch::watch))
        .routes(routes!(handlers::whoami))
        .routes(routes!(admin::unlock))
        .routes(routes!(admin::lock))
        .routes(routes!(handlers::health))
        .routes(routes!(handlers::metrics))
        .routes(routes!(document))
}

/// The agent's routes.
pub fn router(gate: Gate) -> Router {
    let (router, _) = documented().split_for_parts();
    router.fallback(nowhere).method_not_allowed_fallback(wrong_method).with_state(gate)
}

/// This document
///
/// For anybody who reaches the socket.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "Done", body = serde_json::Value)))]
async fn document(Params(Nothing {}): Params<Nothing>) -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi().to_string().into());
    response::bytes("application/json", DOCUMENT.clone())
}

/// The paths of those routes that are for anybody.
const UNGUARDED: [&str; 4] = ["/v1/whoami", "/v1/health", "/metrics", "/openapi.json"];

fn guard() -> Value {
    json!({
        "name": "Strongroom", "in": "header", "required": true, "schema": {"type": "string", "enum": ["1"]},
        "description": "Says that the request is meant for the agent",
    })
}

/// The OpenAPI 3.1 document.
fn openapi() -> Value {
    let mut document = serde_json::to_value(documented().into_openapi()).unwrap_or_default();
    // An id is for one token and one unit of the system.
    let text = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    document["components"]["schemas"]["GrantRequest"]["anyOf"] = json!([
        {"properties": {"as": {"type": "null"}}},
        {"properties": {"on": text("NameText"), "to": text("UnitText")}},
    ]);
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    // OpenAPI has no wildcards.
    *paths = std::mem::take(paths).into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    let operations = paths.iter_mut().filter_map(|(path, item)| Some((path, item.as_object_mut()?)));
    for (path, operation) in operations.flat_map(|(path, item)| item.values_mut().map(move |own| (path, own)))
    {
        if !UNGUARDED.contains(&path.as_str()) {
            let mut parameters = vec![guard()];
            parameters.extend(operation["parameters"].as_array().into_iter().flatten().cloned());
            operation["parameters"] = parameters.into();
        }
        operation["responses"]["default"] = json!({
            "description": "What was tried, what came back, and what to do now",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        });
    }
    document
}

async fn nowhere() -> Failure {
    Error::new(Kind::NotFound, "understand the request", "there is nothing at that path")
        .with_hint("GET /openapi.json tells what there is")
        .into()
}

async fn wrong_method() -> Response {
    let error = Error::new(Kind::Usage, "understand the request", "no such method here");
    response::problem_with(StatusCode::METHOD_NOT_ALLOWED, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_what_is_required_and_how_long_and_refuses_more() {
        let document = openapi();
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Rename"]["additionalProperties"], false);
        assert_eq!(schemas["Rename"]["required"], json!(["from", "to"]));
        let reason = schemas["StateChange"]["properties"]["reason"].to_string();
        assert!(
            reason.contains("#/components/schemas/Words") && schemas["Words"]["pattern"].is_string(),
            "{reason}"
        );
        let put = &document["paths"]["/v1/values/{name}"]["put"];
        assert_eq!(
            (&put["parameters"][0]["in"], &put["parameters"][1]["in"]),
            (&json!("header"), &json!("path"))
        );
        assert_eq!(schemas["NameText"]["maxLength"], 255);
        assert!(put["responses"]["default"]["content"]["application/problem+json"].is_object());
    }
}
