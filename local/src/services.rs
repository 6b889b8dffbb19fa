//! The store's services as the functions see them: each has a base URL of its own, behind which a fault can be put before
//! the request is passed on to the sample store.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONNECTION, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::fault::Target;
use crate::gate::{Gate, Verdict};

/// Whoever is turned away may come back after so many seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// What a refusal says.
const ON_PURPOSE: &str = "a fault on purpose\n";

/// How long an attempt may take here, ms: a developer's machine builds things meanwhile, and starts the store's function first.
const TIMEOUT_MS: u64 = 1_200;

const TIMEOUTS: [&str; 6] = [
    "CatalogTimeoutMs",
    "RecommendationsTimeoutMs",
    "OrdersTimeoutMs",
    "PromotionsTimeoutMs",
    "ReviewsTimeoutMs",
    "KnowledgeTimeoutMs",
];

/// The services, with the template's parameter for the base URL of each.
const SERVICES: [(Target, &str); 6] = [
    (Target::Catalog, "CatalogUrl"),
    (Target::Recommendations, "RecommendationsUrl"),
    (Target::Orders, "OrdersUrl"),
    (Target::Promotions, "PromotionsUrl"),
    (Target::Reviews, "ReviewsUrl"),
    (Target::Knowledge, "KnowledgeUrl"),
];

/// Where requests are passed on to: nowhere before the store is deployed.
type StoreUrl = Arc<watch::Sender<Option<String>>>;

/// The running front of the services. Dropping it ends it.
pub(crate) struct Services {
    address: SocketAddr,
    store_url: StoreUrl,
    gates: BTreeMap<Target, Arc<Gate>>,
    _serving: AbortOnDropHandle<()>,
}

/// What the requests to one service share.
#[derive(Clone)]
struct Front {
    gate: Arc<Gate>,
    store_url: StoreUrl,
    http: Client,
}

impl Services {
    /// Serves on `listener` from now on.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub(crate) fn start(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr()?;
        // Each request has a connection of its own: MiniStack closes idle ones, perhaps just when they are used again.
        let http = Client::builder().no_proxy().redirect(Policy::none()).pool_max_idle_per_host(0).build()?;
        let store_url = StoreUrl::default();
        let mut gates = BTreeMap::new();
        let mut router = Router::new();
        for (service, _) in SERVICES {
            let gate = Arc::new(Gate::default());
            let front = Front { gate: Arc::clone(&gate), store_url: Arc::clone(&store_url), http: http.clone() };
            router = router.nest(&path(service), Router::new().fallback(answer).with_state(front));
            gates.insert(service, gate);
        }
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            // Ends with the stack only: axum retries what fails.
            let _ = axum::serve(listener, router).await;
        }));
        Ok(Self { address, store_url, gates, _serving: serving })
    }

    /// The base URL of each service, as the template's parameters take it.
    pub(crate) fn parameters(&self) -> BTreeMap<&'static str, String> {
        let url = |service| format!("http://{}{}", self.address, path(service));
        let urls = SERVICES.into_iter().map(|(service, parameter)| (parameter, url(service)));
        let timeouts = TIMEOUTS.into_iter().map(|parameter| (parameter, TIMEOUT_MS.to_string()));
        urls.chain(timeouts).collect()
    }

    /// Passes requests on to the sample store at this base URL from now on.
    pub(crate) fn forward_to(&self, store_url: &str) {
        self.store_url.send_replace(Some(store_url.to_owned()));
    }

    /// The gate of each service.
    pub(crate) fn gates(&self) -> impl Iterator<Item = (Target, Arc<Gate>)> {
        self.gates.iter().map(|(service, gate)| (*service, Arc::clone(gate)))
    }
}

fn path(service: Target) -> String {
    format!("/{service}-service")
}

async fn answer(State(front): State<Front>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let _in_flight = front.gate.in_flight();
    match front.gate.meet().await {
        Verdict::Pass => forward(&front, method, &uri, headers, body)
            .await
            .unwrap_or_else(|problem| (StatusCode::BAD_GATEWAY, format!("{problem:#}\n")).into_response()),
        Verdict::Fail => (StatusCode::SERVICE_UNAVAILABLE, ON_PURPOSE).into_response(),
        Verdict::Throttle => {
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, RETRY_AFTER_SECONDS)], ON_PURPOSE).into_response()
        }
    }
}

/// Passes the request on as it is, and the answer back.
async fn forward(front: &Front, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Result<Response> {
    let store_url = front.store_url.borrow().clone().context("the sample store is not deployed yet")?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = front.http.request(method, format!("{store_url}{path}")).headers(end_to_end(headers)).body(body);
    let answer = request.send().await?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    Ok((status, headers, answer.bytes().await?).into_response())
}

/// The headers that are not about a single connection.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [CONNECTION, HOST, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use axum::extract::Request;
    use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::gate::Traffic;
    use crate::{aws, ports};

    /// Answers with what it was asked.
    async fn echo(request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = |name| parts.headers.get(name).map_or("none", |value| value.to_str().unwrap()).to_owned();
        let said = format!(
            "{} {} authorization={} x-trace={} content-length={} transfer-encoding={} body={}",
            parts.method,
            parts.uri,
            text("authorization"),
            text("x-trace"),
            text("content-length"),
            text("transfer-encoding"),
            String::from_utf8(body.to_vec()).unwrap()
        );
        (StatusCode::IM_A_TEAPOT, [(CONTENT_TYPE, "text/echo"), ("x-store".parse().unwrap(), "sample")], said)
            .into_response()
    }

    struct Front {
        services: Services,
        http: Client,
        _store: AbortOnDropHandle<()>,
    }

    impl Front {
        /// The front of a store that echoes.
        async fn start() -> Self {
            let listener = ports::listen_on_free().await.unwrap();
            let url = format!("http://{}/base", listener.local_addr().unwrap());
            let store = Router::new().fallback(echo);
            let store = AbortOnDropHandle::new(tokio::spawn(async move {
                axum::serve(listener, store).await.unwrap();
            }));
            let services = Services::start(ports::listen_on_free().await.unwrap()).unwrap();
            services.forward_to(&url);
            Self { services, http: aws::http_client().unwrap(), _store: store }
        }

        fn gate(&self, service: Target) -> Arc<Gate> {
            self.services.gates().find(|(other, _)| *other == service).unwrap().1
        }

        fn set(&self, service: Target, fault: &str) {
            self.gate(service).set(fault.parse().unwrap());
        }

        fn url(&self, parameter: &str) -> String {
            self.services.parameters()[parameter].clone()
        }

        async fn status(&self, parameter: &str) -> StatusCode {
            self.http.get(self.url(parameter)).send().await.unwrap().status()
        }
    }

    #[tokio::test]
    async fn a_request_is_passed_on_as_it_is_and_so_is_the_answer() {
        let front = Front::start().await;
        let asked = format!("{}/catalog/search?q=%E9%8B%BC%20x&limit=20", front.url("CatalogUrl"));
        let answer = front.http.get(asked).bearer_auth("key").header("x-trace", "1").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/echo");
        assert_eq!(answer.headers()["x-store"], "sample");
        let expected = "GET /base/catalog/search?q=%E9%8B%BC%20x&limit=20 authorization=Bearer key x-trace=1 \
                        content-length=none transfer-encoding=none body=";
        assert_eq!(answer.text().await.unwrap(), expected);

        let posted =
            front.http.post(format!("{}/orders", front.url("OrdersUrl"))).body("two").header(AUTHORIZATION, "a");
        let expected =
            "POST /base/orders authorization=a x-trace=none content-length=3 transfer-encoding=none body=two";
        assert_eq!(posted.send().await.unwrap().text().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn every_service_has_an_address_a_fault_and_a_counter_of_its_own() {
        let front = Front::start().await;
        for (service, parameter) in SERVICES {
            front.set(service, "error=1");
            assert_eq!(front.status(parameter).await, StatusCode::SERVICE_UNAVAILABLE);
            for (other, parameter) in SERVICES.into_iter().filter(|(other, _)| *other != service) {
                assert_eq!(front.status(parameter).await, StatusCode::IM_A_TEAPOT, "{service} fails, not {other}");
            }
            front.set(service, "off");
        }
        for (_, gate) in front.services.gates() {
            assert_eq!(gate.traffic(), Traffic { requests: 6, in_flight: 0 });
        }
        let nowhere = format!("{}/", front.url("CatalogUrl").replace("catalog", "cart"));
        assert_eq!(front.http.get(nowhere).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_throttled_service_says_when_to_come_back() {
        let front = Front::start().await;
        front.set(Target::Orders, "throttle");
        let answer = front.http.get(front.url("OrdersUrl")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn latency_comes_before_the_answer() {
        let front = Front::start().await;
        front.set(Target::Reviews, "latency=150ms");
        let begun = Instant::now();
        assert_eq!(front.status("ReviewsUrl").await, StatusCode::IM_A_TEAPOT);
        assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_stalled_service_answers_when_the_fault_ends_or_forgets_who_leaves() {
        let front = Front::start().await;
        let gate = front.gate(Target::Knowledge);
        front.set(Target::Knowledge, "stall");
        let leaves = timeout(Duration::from_millis(100), front.status("KnowledgeUrl")).await;
        leaves.unwrap_err();
        timeout(Duration::from_secs(10), async {
            while gate.traffic().in_flight > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("who has left is not in flight");

        let stays = front.status("KnowledgeUrl");
        let ends = async {
            while gate.traffic().in_flight == 0 {
                sleep(Duration::from_millis(5)).await;
            }
            front.set(Target::Knowledge, "off");
        };
        let (status, ()) = tokio::join!(stays, ends);
        assert_eq!(status, StatusCode::IM_A_TEAPOT);
        assert_eq!(gate.traffic(), Traffic { requests: 2, in_flight: 0 });
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_told() {
        let services = Services::start(ports::listen_on_free().await.unwrap()).unwrap();
        let http = aws::http_client().unwrap();
        let ask = async || {
            let answer = http.get(&services.parameters()["CatalogUrl"]).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
            answer.text().await.unwrap()
        };
        assert_eq!(ask().await, "the sample store is not deployed yet\n");
        services.forward_to(&format!("http://127.0.0.1:{}", ports::free().await.unwrap()));
        let said = ask().await;
        assert!(said.starts_with("error sending request"), "{said}");
    }
}
