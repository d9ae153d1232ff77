//! Who may do what, for every route of the description: a new route without a case here does not exist.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::Case;
use crate::http;
use crate::world::World;

pub const CASES: &[Case] = &[
    ("every_private_route_needs_a_token", every_private_route_needs_a_token),
    ("public_routes_are_these", public_routes_are_these),
    ("what_is_anothers_is_not_there", what_is_anothers_is_not_there),
];

/// Every route that needs no token, by method and path.
const PUBLIC: &[&str] = &[
    "GET /api/health/trading",
    "GET /api/v1/markets",
    "GET /api/v1/markets/{symbol}",
    "GET /api/v1/markets/{symbol}/book",
    "GET /api/v1/markets/{symbol}/candles",
    "GET /api/v1/markets/{symbol}/ticker",
    "GET /api/v1/markets/{symbol}/trades",
    "GET /api/v1/public/latency",
    "GET /api/v1/public/prices",
    "GET /api/v1/public/status",
    "GET /api/v1/public/trace/{traceId}",
    "GET /api/v1/public/trades",
    "GET /health",
    "GET /metrics",
    "GET /ready",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/login/second-step",
    "POST /api/v1/auth/logout",
    "POST /api/v1/auth/password/forgot",
    "POST /api/v1/auth/password/reset",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/resend-code",
    "POST /api/v1/auth/verify",
];

/// Returns every route: method, path with values in it, and whether it needs a token.
fn routes() -> Vec<(String, String, bool)> {
    let openapi = serde_json::to_value(server::openapi()).expect("it is plain data");
    let mut routes = Vec::new();
    for (path, item) in openapi["paths"].as_object().expect("there are paths") {
        for (method, operation) in item.as_object().expect("a path has methods") {
            let locked = operation["security"].as_array().is_some_and(|all| !all.is_empty());
            routes.push((method.to_uppercase(), path.clone(), locked));
        }
    }
    routes
}

fn filled(path: &str, id: &str) -> String {
    path.replace("{id}", id).replace("{market}", "BTC-USD")
}

fn every_private_route_needs_a_token(world: &World) {
    let before = world.digest();
    let user = world.user();
    let after_user = world.digest();
    let unsigned = user.token.rsplit_once('.').expect("a token has three parts").0;
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.";
    let private: Vec<_> = routes().into_iter().filter(|(_, _, locked)| *locked).collect();
    assert!(private.len() > 10, "the description says which routes are private");
    for (method, path, _) in private {
        let path = filled(&path, &Uuid::from_u128(7).to_string());
        let refresh = format!("Bearer {}", user.refresh);
        let basic = format!("Basic {}", user.token);
        let broken = format!("Bearer {unsigned}.");
        let none = format!("Bearer {none}");
        for authorization in [
            None,
            Some("Bearer"),
            Some("Bearer x"),
            Some(&*refresh),
            Some(&basic),
            Some(&broken),
            Some(&none),
        ] {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(authorization.map(|value| ("authorization", value)));
            let reply = http::send(world.address, &method, &path, &headers, Some(b"{}"));
            assert_eq!(reply.problem(401), "unauthenticated", "{method} {path} {authorization:?}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(world.digest(), after_user);
    drop(before);
}

fn public_routes_are_these(_: &World) {
    let mut public: Vec<_> = routes()
        .into_iter()
        .filter(|(_, _, locked)| !locked)
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    public.sort();
    assert_eq!(public, PUBLIC);
}

fn what_is_anothers_is_not_there(world: &World) {
    let (owner, thief) = (world.funded("10000.00", "0"), world.funded("10000.00", "1"));
    let order = owner.limit("buy", "49000.00", "0.01");
    let body = json!({ "asset": "USD", "amount": "5.00", "destination": "somewhere" });
    let withdrawal = owner.post("/api/v1/wallet/withdraw", &body).expect(201);
    let before = world.digest();
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    let of = |path: &str| if path.contains("withdraw") { id(&withdrawal) } else { id(&order) };
    // What the exchange's own people may see is nobody's else at all.
    let with_id = routes()
        .into_iter()
        .filter(|(_, path, _)| path.contains("{id}") && !path.starts_with("/api/v1/admin/"));
    let mut count = 0;
    for (method, path, _) in with_id {
        let path = filled(&path, &of(&path));
        let body = json!({ "quantity": "0.005" });
        let body = (method == "PATCH").then_some(&body);
        let reply = thief.send(&method, &path, &[], body);
        assert_eq!(reply.problem(404), "not_found", "{method} {path}");
        let missing =
            filled(&path, &of(&path)).replace(&of(&path), &Uuid::from_u128(9).to_string());
        assert_eq!(thief.send(&method, &missing, &[], body).problem(404), "not_found");
        count += 1;
    }
    assert!(count >= 5, "{count}");
    for list in
        ["/api/v1/orders", "/api/v1/orders?status=open", "/api/v1/wallet/withdraw", "/api/v1/fills"]
    {
        assert_eq!(thief.get(list).expect(200)["items"], json!([]), "{list}");
    }
    let fills = format!("/api/v1/fills?orderId={}", id(&order));
    assert_eq!(thief.get(&fills).expect(200)["items"], json!([]));
    assert_eq!(world.digest(), before);
}
