//! The human page of the API's description: everything is rendered here once, the script only filters.
//!
//! Invariant: the page loads nothing from elsewhere and runs nothing inline, so its policy needs no exception.

use std::fmt::Write as _;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::Reject;
use serde_json::Value;

use crate::problem::Code;

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";
const METHODS: [&str; 5] = ["get", "post", "patch", "put", "delete"];

/// Answers with the page.
pub(crate) fn html(page: String) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    (headers, page).into_response()
}

/// Answers with the page's style.
pub(crate) fn style() -> Response {
    let kind = HeaderValue::from_static("text/css; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], include_str!("docs/style.css")).into_response()
}

/// Answers with the page's script.
pub(crate) fn script() -> Response {
    let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], include_str!("docs/script.js")).into_response()
}

/// Renders the page from the description.
pub(crate) fn page(openapi: &Value) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>KrystalineX API</title><link rel=\"stylesheet\" href=\"/docs/style.css\">\
         <script src=\"/docs/script.js\" defer></script></head><body><header><h1>KrystalineX API</h1>",
    );
    let description = text(&openapi["info"]["description"]);
    let _ = write!(
        html,
        "<p>{}</p><p>The same for machines: <a href=\"/api/v1/openapi.json\">openapi.json</a>. \
         Every refusal's <a href=\"#codes\">code</a> is explained below.</p>\
         <label>Filter <input id=\"filter\" type=\"search\" placeholder=\"orders, wallet, post …\"></label></header><main>",
        inline(description)
    );
    for tag in openapi["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        let _ = write!(
            html,
            "<section><h2 id=\"tag-{}\">{}</h2><p>{}</p>",
            escape(&name.to_lowercase()),
            escape(name),
            inline(text(&tag["description"]))
        );
        operations(&mut html, openapi, name);
        html.push_str("</section>");
    }
    schemas(&mut html, openapi);
    codes(&mut html);
    html.push_str("</main></body></html>");
    html
}

fn operations(html: &mut String, openapi: &Value, tag: &str) {
    for (path, item) in openapi["paths"].as_object().into_iter().flatten() {
        for method in METHODS {
            let operation = &item[method];
            let tagged = operation["tags"].as_array().into_iter().flatten();
            if !tagged.into_iter().any(|each| each == tag) {
                continue;
            }
            let locked = operation["security"].as_array().is_some_and(|all| !all.is_empty());
            let _ = write!(
                html,
                "<details class=\"operation\"><summary><b class=\"{method}\">{}</b> <code>{}</code> {}{}</summary>",
                method.to_uppercase(),
                escape(path),
                inline(text(&operation["summary"])),
                if locked { " <i>token</i>" } else { "" }
            );
            let _ = write!(html, "<p>{}</p>", inline(text(&operation["description"])));
            parameters(html, operation);
            body(html, operation);
            responses(html, operation);
            html.push_str("</details>");
        }
    }
}

fn parameters(html: &mut String, operation: &Value) {
    let Some(parameters) = operation["parameters"].as_array().filter(|all| !all.is_empty()) else {
        return;
    };
    html.push_str("<h4>Parameters</h4><table>");
    for parameter in parameters {
        let _ = write!(
            html,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
            escape(text(&parameter["name"])),
            escape(text(&parameter["in"])),
            inline(text(&parameter["description"]))
        );
    }
    html.push_str("</table>");
}

fn body(html: &mut String, operation: &Value) {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !schema.is_null() {
        let _ = write!(html, "<h4>Body</h4><p>{}</p>", kind(schema));
    }
}

fn responses(html: &mut String, operation: &Value) {
    html.push_str("<h4>Answers</h4><table>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        // What any route may say is explained once, by its code.
        if !response["$ref"].is_null() {
            continue;
        }
        let contents = response["content"].as_object();
        let schema = contents.and_then(|all| all.values().next()).map(|each| kind(&each["schema"]));
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(status),
            inline(text(&response["description"])),
            schema.unwrap_or_default()
        );
    }
    html.push_str("</table>");
}

fn schemas(html: &mut String, openapi: &Value) {
    html.push_str("<section><h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in openapi["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(
            html,
            "<details class=\"schema\" id=\"schema-{0}\"><summary><code>{0}</code> {1}</summary>",
            escape(name),
            inline(text(&schema["description"]))
        );
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
        html.push_str("<table>");
        for (field, of) in schema["properties"].as_object().into_iter().flatten() {
            let needed = required.iter().any(|each| **each == *field);
            let _ = write!(
                html,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(field),
                kind(of),
                if needed { "always" } else { "" },
                inline(text(&of["description"]))
            );
        }
        let words = schema["enum"].as_array().into_iter().flatten();
        for word in words.chain(schema["oneOf"].as_array().into_iter().flatten()) {
            let _ = write!(html, "<tr><td>{}</td></tr>", kind(word));
        }
        html.push_str("</table></details>");
    }
    html.push_str("</section>");
}

fn codes(html: &mut String) {
    html.push_str(
        "<section><h2 id=\"codes\">Codes</h2><p>A refusal is an <code>application/problem+json</code> with one of these \
         codes, the trace id of the request, and for 429 and 503 the seconds to wait.</p><table>",
    );
    let refused = Reject::ALL.iter().map(|reject| Code::Refused(*reject));
    for code in Code::EDGE.iter().copied().chain(refused) {
        let _ = write!(
            html,
            "<tr id=\"{0}\"><td><code>{0}</code></td><td>{1}</td><td>{2}</td></tr>",
            code.name(),
            code.status().as_u16(),
            escape(code.title())
        );
    }
    html.push_str("</table></section>");
}

/// Says what a schema is, with a link where it has a name.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escape(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(all) = schema[key].as_array() {
            return all.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| escape(text(word))).collect::<Vec<_>>().join(", ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) => escape(name),
        Value::Array(names) => {
            names.iter().map(|name| escape(text(name))).collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Escapes a description and shows what stands in backticks as code.
fn inline(markdown: &str) -> String {
    let mut html = String::new();
    for (at, part) in markdown.split('`').enumerate() {
        if at % 2 == 1 {
            let _ = write!(html, "<code>{}</code>", escape(part));
        } else {
            html.push_str(&escape(part));
        }
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_anchor_and_nothing_runs_inline() {
        let page = page(&serde_json::json!({ "info": { "description": "<b onclick=x> `a<b`" } }));
        for code in Code::EDGE {
            assert!(page.contains(&format!("id=\"{}\"", code.name())), "{}", code.name());
        }
        assert!(!page.contains("style=") && !page.contains("<b onclick"), "{page}");
        assert!(page.contains("<code>a&lt;b</code>"));
        assert!(!POLICY.contains("unsafe"));
    }
}
