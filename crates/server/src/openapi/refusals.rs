//! Refusals that any route may answer with, because the edge or the reading of a request does: said once, and of every route
//! that they are true of.
//!
//! Invariant: every refusal is described as what it is sent as, an RFC 9457 problem.

use axum::http::StatusCode;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use crate::access::{self, Access};
use crate::problem::ProblemBody;

const PROBLEM: &str = "application/problem+json";

/// A refusal, the name it has in the description, and what it says.
struct Refusal {
    status: StatusCode,
    name: &'static str,
    text: &'static str,
    header: Option<(&'static str, Type, &'static str)>,
}

const fn refusal(status: StatusCode, name: &'static str, text: &'static str) -> Refusal {
    Refusal { status, name, text, header: None }
}

const MALFORMED: Refusal =
    refusal(StatusCode::BAD_REQUEST, "Malformed", "A body, query or header cannot be read");
const UNAUTHENTICATED: Refusal = Refusal {
    header: Some(("WWW-Authenticate", Type::String, "How to prove who you are")),
    ..refusal(
        StatusCode::UNAUTHORIZED,
        "Unauthenticated",
        "No credentials, or some that are not taken: `unauthenticated`, `token_expired`, `key_invalid`, \
         `timestamp_invalid`, `replayed`",
    )
};
const FORBIDDEN: Refusal = refusal(
    StatusCode::FORBIDDEN,
    "Forbidden",
    "`scope_missing`, `session_needed`, `role_missing`, `two_factor_needed`, `key_address`",
);
const OTHER_JOURNAL: Refusal = refusal(
    StatusCode::CONFLICT,
    "OtherJournal",
    "`other_journal`: `X-Min-Sequence` is one of another journal",
);
const BODY_LATE: Refusal =
    refusal(StatusCode::REQUEST_TIMEOUT, "BodyLate", "The body did not arrive in time");
const BODY_TOO_LARGE: Refusal =
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", "The body is larger than 64 KiB");
const TYPE_UNSUPPORTED: Refusal = refusal(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "TypeUnsupported",
    "The body is no JSON in UTF-8, or compressed",
);
const VALUE_INVALID: Refusal = refusal(
    StatusCode::UNPROCESSABLE_ENTITY,
    "ValueInvalid",
    "A value breaks a rule, which `errors` names",
);
const TOO_MANY: Refusal = Refusal {
    header: Some(("Retry-After", Type::Integer, "Seconds to wait")),
    ..refusal(StatusCode::TOO_MANY_REQUESTS, "TooMany", "Too many requests or attempts")
};
const UNAVAILABLE: Refusal = Refusal {
    header: Some(("Retry-After", Type::Integer, "Seconds to wait")),
    ..refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
        "The exchange cannot do this now; the code says whether something may have happened",
    )
};

const ALL: [&Refusal; 10] = [
    &MALFORMED,
    &UNAUTHENTICATED,
    &FORBIDDEN,
    &OTHER_JOURNAL,
    &BODY_LATE,
    &BODY_TOO_LARGE,
    &TYPE_UNSUPPORTED,
    &VALUE_INVALID,
    &TOO_MANY,
    &UNAVAILABLE,
];

/// Adds to every route what the edge may answer in its place, and gives every refusal its type.
pub(super) fn add(openapi: &mut OpenApi) {
    let components = openapi.components.get_or_insert_default();
    for refusal in ALL {
        components.responses.insert(refusal.name.to_owned(), refusal.response().into());
    }
    for (path, item) in &mut openapi.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("POST", &mut item.post),
            ("PUT", &mut item.put),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation.as_mut() else { continue };
            give_types(operation);
            for refusal in possible(method, path, operation) {
                let status = refusal.status.as_str().to_owned();
                let reference = Ref::from_response_name(refusal.name);
                operation.responses.responses.entry(status).or_insert(RefOr::Ref(reference));
            }
        }
    }
}

/// Returns what may be answered before a route's handler runs.
fn possible(method: &str, path: &str, operation: &Operation) -> Vec<&'static Refusal> {
    let has = |kind: &ParameterIn| {
        let mut all = operation.parameters.iter().flatten();
        all.any(|each| matches!(each, RefOr::T(parameter) if parameter.parameter_in == *kind))
    };
    let (body, query) = (operation.request_body.is_some(), has(&ParameterIn::Query));
    // Whatever the route: a signature that is wrong is told, and requests are counted.
    let mut possible = vec![&UNAUTHENTICATED, &TOO_MANY, &UNAVAILABLE];
    if !matches!(access::of(method, path), None | Some(Access::Public)) {
        possible.push(&FORBIDDEN);
    }
    if method == "GET" {
        // `X-Min-Sequence` is read.
        possible.extend([&MALFORMED, &OTHER_JOURNAL]);
    }
    if query {
        possible.extend([&MALFORMED, &VALUE_INVALID]);
    }
    if has(&ParameterIn::Header) {
        possible.push(&VALUE_INVALID);
    }
    if body {
        possible.extend([
            &MALFORMED,
            &BODY_LATE,
            &BODY_TOO_LARGE,
            &TYPE_UNSUPPORTED,
            &VALUE_INVALID,
        ]);
    }
    possible
}

/// The handlers say of a refusal that it is a [`ProblemBody`]; how that is sent is known here.
fn give_types(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let contents = std::mem::take(&mut response.content);
        for (kind, content) in contents {
            let kind = if is_problem(&content) { PROBLEM.to_owned() } else { kind };
            response.content.insert(kind, content);
        }
    }
}

fn is_problem(content: &RefOr<Content>) -> bool {
    let RefOr::T(content) = content else { return false };
    matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location == problem().ref_location)
}

fn problem() -> Ref {
    Ref::from_schema_name(ProblemBody::name())
}

impl Refusal {
    fn response(&self) -> Response {
        let content = ContentBuilder::new().schema(Some(problem())).build();
        let mut response = ResponseBuilder::new().description(self.text).content(PROBLEM, content);
        if let Some((name, kind, text)) = &self.header {
            let header = HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(kind.clone())))
                .description(Some(*text))
                .build();
            response = response.header(*name, header);
        }
        response.build()
    }
}
