//! The page server: the chat page, where its WebSocket is, and tokens of the sample shoppers for it; and the faults of the
//! stack, for the command line.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::controls::Controls;
use crate::shoppers::{SHOPPERS, Shoppers};

/// What the page server serves.
pub(crate) struct Site {
    /// The page's file, read at each request: a reload shows an edit.
    pub(crate) page: PathBuf,
    /// The port it listens on.
    pub(crate) port: u16,
    /// The chat's URL.
    pub(crate) websocket: String,
    pub(crate) shoppers: Shoppers,
    pub(crate) controls: Controls,
}

/// `GET /`, `GET /config.json`, `POST /token/{name}`, `GET` and `DELETE /faults` and `PUT /faults/{target}`, for this
/// machine's own pages and tools only.
pub(crate) fn router(site: Site) -> Router {
    let site = Arc::new(site);
    Router::new()
        .route("/", get(page))
        .route("/config.json", get(config))
        .route("/token/{name}", post(token))
        .route("/faults", get(faults).delete(clear_faults))
        .route("/faults/{target}", put(set_fault))
        .layer(middleware::from_fn_with_state(site.clone(), own_pages_only))
        .with_state(site)
}

async fn page(State(site): State<Arc<Site>>) -> Response {
    match tokio::fs::read(&site.page).await {
        Ok(html) => ([(CONTENT_TYPE, "text/html; charset=utf-8"), (CACHE_CONTROL, "no-store")], html).into_response(),
        Err(error) => {
            let problem = format!("cannot read {}: {error}\n", site.page.display());
            (StatusCode::INTERNAL_SERVER_ERROR, problem).into_response()
        }
    }
}

async fn config(State(site): State<Arc<Site>>) -> Json<Value> {
    Json(json!({"websocket": site.websocket, "shoppers": SHOPPERS}))
}

async fn token(State(site): State<Arc<Site>>, Path(name): Path<String>) -> Response {
    match site.shoppers.token(&name).await {
        Ok(token) => ([(CACHE_CONTROL, "no-store")], Json(json!({"token": token}))).into_response(),
        Err(error) => {
            let known = SHOPPERS.contains(&name.as_str());
            let status = if known { StatusCode::BAD_GATEWAY } else { StatusCode::NOT_FOUND };
            (status, Json(json!({"error": format!("{error:#}")}))).into_response()
        }
    }
}

/// The faults in force, a line for each target.
async fn faults(State(site): State<Arc<Site>>) -> String {
    site.controls.listing()
}

async fn clear_faults(State(site): State<Arc<Site>>) -> String {
    site.controls.clear();
    site.controls.listing()
}

/// Takes the fault as it is written on the command line, and answers with the faults in force.
async fn set_fault(
    State(site): State<Arc<Site>>,
    Path(target): Path<String>,
    fault: String,
) -> Result<String, (StatusCode, String)> {
    let unknown = |error: anyhow::Error| (StatusCode::NOT_FOUND, format!("{error:#}\n"));
    let malformed = |error: anyhow::Error| (StatusCode::BAD_REQUEST, format!("{error:#}\n"));
    site.controls.set(target.parse().map_err(unknown)?, fault.parse().map_err(malformed)?);
    Ok(site.controls.listing())
}

/// Refuses requests that another site's page made a browser send: by their origin, or, when that site's name has been
/// pointed at this machine, by the host they ask for.
async fn own_pages_only(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if is_own(request.headers(), site.port) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this server serves its own page only\n").into_response()
    }
}

fn is_own(headers: &HeaderMap, port: u16) -> bool {
    let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let host = headers.get(HOST).is_some_and(|host| hosts.iter().any(|own| host == own));
    let origin = headers.get(ORIGIN).is_none_or(|origin| hosts.iter().any(|own| *origin == format!("http://{own}")));
    host && origin
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_page_and_command_line_tools_are_admitted() {
        for own in [
            headers(&[(HOST, "127.0.0.1:8080")]),
            headers(&[(HOST, "localhost:8080")]),
            headers(&[(HOST, "127.0.0.1:8080"), (ORIGIN, "http://127.0.0.1:8080")]),
            headers(&[(HOST, "localhost:8080"), (ORIGIN, "http://localhost:8080")]),
        ] {
            assert!(is_own(&own, 8080), "{own:?}");
        }
    }

    #[test]
    fn other_sites_are_refused() {
        for foreign in [
            headers(&[]),
            headers(&[(HOST, "evil.example:8080")]),
            headers(&[(HOST, "127.0.0.1:8081")]),
            headers(&[(HOST, "127.0.0.1:8080"), (ORIGIN, "https://evil.example")]),
            headers(&[(HOST, "127.0.0.1:8080"), (ORIGIN, "http://127.0.0.1:3000")]),
            headers(&[(HOST, "127.0.0.1:8080"), (ORIGIN, "null")]),
        ] {
            assert!(!is_own(&foreign, 8080), "{foreign:?}");
        }
    }
}
