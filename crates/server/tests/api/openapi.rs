//! The API's description.

use std::path::Path;

use crate::Case;
use crate::world::World;

pub const CASES: &[Case] = &[
    ("the_description_is_the_committed_one", the_description_is_the_committed_one),
    ("the_page_explains_every_route", the_page_explains_every_route),
];

/// A change of the API is seen in review: `KX_UPDATE_SNAPSHOTS=1` writes the new description.
fn the_description_is_the_committed_one(world: &World) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/openapi.json");
    let now = server::openapi().to_pretty_json().expect("it is plain data");
    if std::env::var_os("KX_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, format!("{now}\n")).expect("the snapshot can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed.trim_end() == now,
        "the API's description has changed: look at the difference, then run with KX_UPDATE_SNAPSHOTS=1"
    );
    let served = world.get("/api/v1/openapi.json");
    assert_eq!(served.status, 200);
    assert_eq!(served.text(), now);
    assert_eq!(served.json()["openapi"], "3.1.0");
}

fn the_page_explains_every_route(world: &World) {
    let page = world.get("/docs");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").expect("the page has a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    for path in server::openapi().paths.paths.keys() {
        assert!(text.contains(&format!("<code>{path}</code>")), "{path}");
    }
    let foreign = ["http://", "https://", "//cdn"].iter().find(|part| text.contains(**part));
    assert_eq!(foreign, None, "the page loads nothing from elsewhere");
    assert_eq!(world.get("/docs/style.css").status, 200);
    assert_eq!(world.get("/docs/script.js").status, 200);
    let root = world.get("/");
    assert_eq!((root.status, root.header("location")), (307, Some("/docs")));
}
