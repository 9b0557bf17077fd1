//! What can be asked for: one table, from which requests are routed and the OpenAPI document is written.

use serde_json::{Map, Value, json};

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tokens the caller may see.
    List,
    /// All about one token, but the token.
    Show,
    /// A token's bytes.
    Get,
    /// A new version.
    Put,
    /// Suspend, resume, revoke.
    State,
    /// Another name.
    Rename,
    /// Delete the sealed bytes.
    Destroy,
    /// A version's sealed bytes.
    Sealed,
    /// The ledger.
    Log,
    /// What was stated of one token.
    History,
    /// Who read what.
    Accesses,
    /// Who may what.
    Grants,
    /// Let somebody do something.
    Grant,
    /// No longer.
    Ungrant,
    /// Who the agent takes the caller for.
    WhoAmI,
    /// Unlock a device.
    Unlock,
    /// Lock all devices.
    Lock,
    /// Whether all is well.
    Health,
    /// Numbers for Prometheus.
    Metrics,
    /// This document.
    OpenApi,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever reaches the socket.
    Anybody,
    /// Whoever was granted the operation on the token.
    AuthorizedToken(&'static str),
    /// The agent's owner.
    Owner,
}

/// A parameter in the query.
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its type in JSON Schema.
    pub kind: &'static str,
    /// What it is.
    pub what: &'static str,
}

/// One thing that can be asked for.
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Path; `{name}` is a token's name, slashes included.
    pub path: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Who may.
    pub who: Who,
    /// What it leads to.
    pub to: Action,
    /// What the query may hold.
    pub query: &'static [Parameter],
    /// What the body holds: a media type.
    pub body: Option<&'static str>,
    /// What comes back: a media type.
    pub answer: &'static str,
}

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

const fn parameter(name: &'static str, kind: &'static str, what: &'static str) -> Parameter {
    Parameter { name, kind, what }
}

const VERSION: Parameter =
    parameter("version", "integer", "One version; without it the newest that is not staged");

/// A route without query and body, answering JSON.
const fn route(method: &'static str, path: &'static str, who: Who, to: Action, what: &'static str) -> Route {
    Route { method, path, what, who, to, query: &[], body: None, answer: JSON }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    Route {
        query: &[
            parameter("prefix", "string", "Only this name and what lies below it"),
            parameter("after", "string", "Go on after this name: `next` of the page before"),
            parameter("limit", "integer", "So many at most, 1000 if not said"),
            parameter("destroyed", "boolean", "Those that were destroyed instead"),
        ],
        ..route(
            "GET",
            "/v1/tokens",
            Who::AuthorizedToken("list"),
            Action::List,
            "List the tokens that the caller may see",
        )
    },
    Route {
        query: &[VERSION],
        ..route(
            "GET",
            "/v1/tokens/{name}",
            Who::AuthorizedToken("list"),
            Action::Show,
            "All about a token, but the token",
        )
    },
    Route {
        query: &[VERSION, parameter("reason", "string", "Why; it stands in the ledger")],
        ..route("DELETE", "/v1/tokens/{name}", Who::Owner, Action::Destroy, "Delete a token's sealed bytes")
    },
    Route {
        query: &[VERSION],
        answer: BYTES,
        ..route("GET", "/v1/values/{name}", Who::AuthorizedToken("get"), Action::Get, "A token's bytes")
    },
    Route {
        query: &[
            parameter("expires", "string", "Not to be opened from then on: RFC 3339"),
            parameter("not_before", "string", "Not to be opened before: RFC 3339"),
            parameter("label", "string", "KEY=VALUE; replaces the labels, may be given several times"),
            parameter("description", "string", "Replaces the description"),
            parameter("keep", "integer", "How many versions stay openable"),
            parameter("staged", "boolean", "Put it staged"),
            parameter("only", "string", "Seal to this device only; may be given several times"),
        ],
        body: Some(BYTES),
        ..route(
            "PUT",
            "/v1/values/{name}",
            Who::AuthorizedToken("put"),
            Action::Put,
            "Store a new version of a token",
        )
    },
    Route {
        body: Some(JSON),
        ..route(
            "POST",
            "/v1/states/{name}",
            Who::AuthorizedToken("state"),
            Action::State,
            "Suspend, resume or revoke a token",
        )
    },
    Route {
        body: Some(JSON),
        ..route("POST", "/v1/rename", Who::Owner, Action::Rename, "Give a token another name")
    },
    Route {
        query: &[parameter("version", "integer", "One version; without it the newest")],
        answer: BYTES,
        ..route(
            "GET",
            "/v1/sealed/{name}",
            Who::Owner,
            Action::Sealed,
            "A version as it lies in the store: an age file",
        )
    },
    Route {
        query: &[
            parameter("before", "integer", "Newest first, before this position"),
            parameter("after", "integer", "Oldest first instead, after this position"),
            parameter("limit", "integer", "So many at most, 100 if not said"),
        ],
        ..route("GET", "/v1/log", Who::Owner, Action::Log, "The ledger")
    },
    Route {
        query: &[
            parameter("after", "integer", "Go on after this position"),
            parameter("limit", "integer", "So many at most, 100 if not said"),
        ],
        ..route(
            "GET",
            "/v1/history/{name}",
            Who::Owner,
            Action::History,
            "The statements that changed a token, oldest first",
        )
    },
    Route {
        query: &[
            parameter("before", "integer", "Go on before this row"),
            parameter("limit", "integer", "So many at most, 100 if not said"),
        ],
        ..route("GET", "/v1/accesses", Who::Owner, Action::Accesses, "Who read what, newest first")
    },
    Route {
        query: &[parameter("on", "string", "A token's name, or a prefix with / at its end; all if not said")],
        ..route("GET", "/v1/grants", Who::Owner, Action::Grants, "The grants that stand")
    },
    Route {
        body: Some(JSON),
        ..route(
            "POST",
            "/v1/grants",
            Who::Owner,
            Action::Grant,
            "Let somebody have a token, or all under a prefix: on, to, ops, until, as",
        )
    },
    Route {
        query: &[
            parameter("id", "string", "The grant's id"),
            parameter("on", "string", "Or what it is on"),
            parameter("to", "string", "Together with to whom"),
        ],
        ..route("DELETE", "/v1/grants", Who::Owner, Action::Ungrant, "Take grants back")
    },
    route("GET", "/v1/whoami", Who::Anybody, Action::WhoAmI, "Who the agent takes the caller for"),
    Route {
        body: Some(JSON),
        ..route("POST", "/v1/unlock", Who::Owner, Action::Unlock, "Unlock a device: it stays logged in")
    },
    route(
        "POST",
        "/v1/lock",
        Who::Owner,
        Action::Lock,
        "Log all devices out and forget PINs and cached tokens",
    ),
    route(
        "GET",
        "/v1/health",
        Who::Anybody,
        Action::Health,
        "Whether all is well; devices and why not for the owner",
    ),
    Route {
        answer: "text/plain; version=0.0.4",
        ..route(
            "GET",
            "/metrics",
            Who::Anybody,
            Action::Metrics,
            "LedgerCounts for Prometheus; no token's name",
        )
    },
    route("GET", "/openapi.json", Who::Anybody, Action::OpenApi, "This document"),
];

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// To this, with the name as it stands in the path.
    Route(Action, &'a str),
    /// There is something, but not by this method.
    Methods(Vec<&'static str>),
    /// Nowhere.
    Nothing,
}

/// Finds what a request asks for.
pub fn find<'a>(method: &str, path: &'a str) -> Found<'a> {
    let mut methods = Vec::new();
    for route in ROUTES {
        let name = match route.path.strip_suffix("{name}") {
            Some(before) => path.strip_prefix(before).filter(|name| !name.is_empty()),
            None => (path == route.path).then_some(""),
        };
        let Some(name) = name else { continue };
        if route.method == method {
            return Found::Route(route.to, name);
        }
        methods.push(route.method);
    }
    if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
}

/// The OpenAPI 3.1 document.
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Strongroom agent",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP/1.1 on a Unix socket. Who asks is told by the kernel; there is nothing to log in with.",
        },
        "paths": paths,
        "components": {"schemas": {"Problem": problem_schema()}},
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route.query.iter().map(in_query).collect();
    if route.path.ends_with("{name}") {
        parameters.insert(0, json!({
            "name": "name", "in": "path", "required": true, "allowReserved": true, "schema": {"type": "string"},
            "description": "The token's name; its slashes may stand as they are",
        }));
    }
    let who = match route.who {
        Who::Anybody => "whoever reaches the socket".to_owned(),
        Who::AuthorizedToken(op) => format!("the owner, and whoever was granted `{op}`"),
        Who::Owner => "the owner".to_owned(),
    };
    let mut operation = json!({
        "operationId": format!("{:?}", route.to),
        "summary": route.what,
        "description": format!("For {who}."),
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": {route.answer: {"schema": schema(route.answer)}}},
            "default": {
                "description": "What was tried, what came back, and what to do now",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({"required": true, "content": {body: {"schema": schema(body)}}});
    }
    operation
}

fn in_query(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.name, "in": "query", "schema": {"type": parameter.kind}, "description": parameter.what,
    })
}

fn schema(media: &str) -> Value {
    match media {
        JSON => json!({"type": "object"}),
        BYTES => json!({"type": "string", "format": "binary"}),
        _ => json!({"type": "string"}),
    }
}

fn problem_schema() -> Value {
    let text = |what: &str| json!({"type": ["string", "null"], "description": what});
    json!({
        "type": "object",
        "required": ["title", "status", "kind", "operation", "message"],
        "properties": {
            "title": {"type": "string"}, "status": {"type": "integer"},
            "kind": {"type": "string", "description": "As in the command's --json: not-found, refused, pin-unavailable, …"},
            "operation": text("What was tried"), "target": text("The device, store or file"),
            "message": text("What came back"), "hint": text("What to do now"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_the_table_says() {
        assert_eq!(find("GET", "/v1/values/prod/db"), Found::Route(Action::Get, "prod/db"));
        assert_eq!(find("GET", "/v1/tokens"), Found::Route(Action::List, ""));
        assert_eq!(find("POST", "/v1/values/a"), Found::Methods(vec!["GET", "PUT"]));
        for path in ["/", "", "/v1/values/", "/v1/tokens/", "/v1/value/a", "/v1/health/", "*", "/V1/health"] {
            assert_eq!(find("GET", path), Found::Nothing, "{path}");
        }
    }

    #[test]
    fn every_route_is_documented_once() {
        let document = openapi();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert_eq!(operation["operationId"], format!("{:?}", route.to));
            assert!(operation["responses"]["200"]["content"][route.answer].is_object());
        }
    }
}
