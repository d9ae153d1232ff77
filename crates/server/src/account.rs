//! What a user may see and change of the own account: profile, e-mail address, everything that is kept, its end.

mod close;
mod email;
mod export;
mod profile;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(profile::show, profile::change))
        .routes(routes!(email::change))
        .routes(routes!(email::confirm))
        .routes(routes!(export::export))
        .routes(routes!(close::close))
}
