//! The store's HTTP interface: the table of requests in [`domain::store`], and `GET /health`.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use domain::ports::{Clock, Unavailable};
use domain::store::{
    Article, ArticlePage, OFFERS_MAX, OfferPage, Order, OrderPage, PAGE_ENTRIES_MAX, Product, ProductPage,
    PromotionPage, RecommendationPage, ReviewPage, SEARCH_TEXT_CHARS_MAX,
};
use lambda_http::tower::ServiceExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::store::Store;
use crate::table::StoreTable;

/// Entries on a page when the request names no limit.
pub const PAGE_ENTRIES_DEFAULT: usize = 10;

/// An id in a request, bytes.
pub const ID_BYTES_MAX: usize = 128;

/// An answer, bytes (Lambda quotas: 6 MB for a synchronous invocation).
const ANSWER_BYTES_MAX: usize = 6 * 1024 * 1024;

/// What the routes share.
pub struct Api<T, C> {
    /// What answers.
    pub store: Store<T, C>,
    /// What a request for orders has to carry.
    pub service_key: String,
}

/// The routes over a store.
pub fn router<T: StoreTable + 'static, C: Clock + 'static>(api: Arc<Api<T, C>>) -> Router {
    let orders = Router::new()
        .route("/orders", get(orders::<T, C>))
        .route("/orders/{order_id}", get(order::<T, C>))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&api), require_service_key::<T, C>));
    Router::new()
        .route("/health", get(health))
        .route("/catalog/search", get(search::<T, C>))
        .route("/catalog/products/{product_id}", get(product::<T, C>))
        .route("/catalog/offers", get(offers::<T, C>))
        .route("/recommendations", get(recommendations::<T, C>))
        .route("/trending", get(trending::<T, C>))
        .route("/promotions", get(promotions::<T, C>))
        .route("/products/{product_id}/reviews", get(reviews::<T, C>))
        .route("/knowledge/search", get(articles::<T, C>))
        .route("/knowledge/articles/{article_id}", get(article::<T, C>))
        .merge(orders)
        .route_layer(middleware::from_fn_with_state(Arc::clone(&api), open::<T, C>))
        .fallback(async || Failure::NotFound)
        .method_not_allowed_fallback(async || Failure::MethodNotAllowed)
        .with_state(api)
}

/// Has `routes` answer a request of the HTTP API. The answer is collected, because the runtime's concurrent form wants a
/// body that threads can share, which [`axum::body::Body`] is not.
///
/// # Errors
/// When the answer is larger than 6 MB, which no page is.
pub async fn answer(
    routes: Router,
    request: lambda_http::Request,
) -> Result<lambda_http::Response<lambda_http::Body>, lambda_http::Error> {
    let (parts, body) = routes.oneshot(request).await?.into_parts();
    let bytes = to_bytes(body, ANSWER_BYTES_MAX).await?;
    Ok(lambda_http::Response::from_parts(parts, bytes.to_vec().into()))
}

/// Why a request was not answered.
#[derive(Debug)]
pub enum Failure {
    /// It is not well formed; what is wrong with it.
    BadRequest(String),
    /// Without the service key.
    Unauthorized,
    /// No such thing, or not the shopper's.
    NotFound,
    /// Not a way to ask for it.
    MethodNotAllowed,
    /// The table does not answer.
    Unavailable(Unavailable),
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, message),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "The service key is missing or wrong.".to_owned()),
            Self::NotFound => (StatusCode::NOT_FOUND, "There is no such thing here.".to_owned()),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Only GET is served here.".to_owned()),
            Self::Unavailable(unavailable) => {
                tracing::error!(error = &unavailable as &dyn std::error::Error, "request not answered");
                (StatusCode::SERVICE_UNAVAILABLE, "The store does not answer at the moment.".to_owned())
            }
        };
        (status, Json(json!({ "message": message }))).into_response()
    }
}

type Answer<B> = Result<Json<B>, Failure>;

/// The query of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    q: Option<String>,
    limit: Option<String>,
    shopper_id: Option<String>,
    product_ids: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(parameters) = Query::from_request_parts(parts, state)
            .await
            .map_err(|_| Failure::BadRequest("The query cannot be read.".to_owned()))?;
        Ok(parameters)
    }
}

impl Parameters {
    fn question(&self) -> Result<&str, Failure> {
        let question = self.q.as_deref().map(str::trim).filter(|question| !question.is_empty());
        match question {
            Some(question) if question.chars().count() <= SEARCH_TEXT_CHARS_MAX => Ok(question),
            Some(_) => Err(Failure::BadRequest(format!("q has more than {SEARCH_TEXT_CHARS_MAX} characters."))),
            None => Err(Failure::BadRequest("q is missing.".to_owned())),
        }
    }

    fn limit(&self) -> Result<usize, Failure> {
        let Some(limit) = &self.limit else { return Ok(PAGE_ENTRIES_DEFAULT) };
        match limit.parse() {
            Ok(limit @ 1..=PAGE_ENTRIES_MAX) => Ok(limit),
            _ => Err(Failure::BadRequest(format!("limit is not a whole number from 1 to {PAGE_ENTRIES_MAX}."))),
        }
    }

    fn shopper_id(&self) -> Result<Option<&str>, Failure> {
        match self.shopper_id.as_deref() {
            Some(id) if id.is_empty() || id.len() > ID_BYTES_MAX => {
                Err(Failure::BadRequest(format!("shopper_id does not have 1 to {ID_BYTES_MAX} bytes.")))
            }
            id => Ok(id),
        }
    }

    fn product_ids(&self) -> Result<Vec<&str>, Failure> {
        let ids: Vec<&str> = self.product_ids.iter().flat_map(|ids| ids.split(',')).collect();
        match ids.len() {
            0 => Err(Failure::BadRequest("product_ids is missing.".to_owned())),
            1..=OFFERS_MAX if ids.iter().all(|id| (1..=ID_BYTES_MAX).contains(&id.len())) => Ok(ids),
            1..=OFFERS_MAX => {
                Err(Failure::BadRequest(format!("A product id does not have 1 to {ID_BYTES_MAX} bytes.")))
            }
            _more => Err(Failure::BadRequest(format!("product_ids names more than {OFFERS_MAX} products."))),
        }
    }

    fn shopper_id_required(&self) -> Result<&str, Failure> {
        self.shopper_id()?.ok_or_else(|| Failure::BadRequest("shopper_id is missing.".to_owned()))
    }
}

/// The id in a request's path.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        match path {
            Ok(Path(id)) if id.len() <= ID_BYTES_MAX => Ok(Self(id)),
            _ => Err(Failure::NotFound),
        }
    }
}

type Shared<T, C> = State<Arc<Api<T, C>>>;

async fn open<T: StoreTable, C: Clock>(
    State(api): Shared<T, C>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    api.store.open().await?;
    Ok(next.run(request).await)
}

async fn require_service_key<T: StoreTable, C: Clock>(
    State(api): Shared<T, C>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    api.check_service_key(request.headers())?;
    Ok(next.run(request).await)
}

impl<T, C> Api<T, C> {
    fn check_service_key(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let header = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let key = header.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        match bool::from(key.ct_eq(self.service_key.as_bytes())) {
            true => Ok(()),
            false => Err(Failure::Unauthorized),
        }
    }
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn search<T: StoreTable, C: Clock>(State(api): Shared<T, C>, parameters: Parameters) -> Answer<ProductPage> {
    Ok(Json(api.store.search(parameters.question()?, parameters.limit()?).await?))
}

async fn product<T: StoreTable, C: Clock>(State(api): Shared<T, C>, Id(id): Id) -> Answer<Product> {
    api.store.product(&id).await?.map(Json).ok_or(Failure::NotFound)
}

async fn offers<T: StoreTable, C: Clock>(State(api): Shared<T, C>, parameters: Parameters) -> Answer<OfferPage> {
    Ok(Json(api.store.offers(&parameters.product_ids()?).await?))
}

async fn recommendations<T: StoreTable, C: Clock>(
    State(api): Shared<T, C>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Answer<RecommendationPage> {
    let shopper = parameters.shopper_id()?;
    // What is recommended to a shopper tells what they ordered.
    if shopper.is_some() {
        api.check_service_key(&headers)?;
    }
    Ok(Json(api.store.recommendations(shopper, parameters.limit()?).await?))
}

async fn trending<T: StoreTable, C: Clock>(State(api): Shared<T, C>, parameters: Parameters) -> Answer<ProductPage> {
    Ok(Json(api.store.trending(parameters.limit()?).await?))
}

async fn orders<T: StoreTable, C: Clock>(State(api): Shared<T, C>, parameters: Parameters) -> Answer<OrderPage> {
    Ok(Json(api.store.orders(parameters.shopper_id_required()?).await?))
}

async fn order<T: StoreTable, C: Clock>(State(api): Shared<T, C>, Id(id): Id, parameters: Parameters) -> Answer<Order> {
    api.store.order(parameters.shopper_id_required()?, &id).await?.map(Json).ok_or(Failure::NotFound)
}

async fn promotions<T: StoreTable, C: Clock>(State(api): Shared<T, C>) -> Answer<PromotionPage> {
    Ok(Json(api.store.promotions().await?))
}

async fn reviews<T: StoreTable, C: Clock>(
    State(api): Shared<T, C>,
    Id(id): Id,
    parameters: Parameters,
) -> Answer<ReviewPage> {
    api.store.reviews(&id, parameters.limit()?).await?.map(Json).ok_or(Failure::NotFound)
}

async fn articles<T: StoreTable, C: Clock>(State(api): Shared<T, C>, parameters: Parameters) -> Answer<ArticlePage> {
    Ok(Json(api.store.articles(parameters.question()?, parameters.limit()?).await?))
}

async fn article<T: StoreTable, C: Clock>(State(api): Shared<T, C>, Id(id): Id) -> Answer<Article> {
    api.store.article(&id).await?.map(Json).ok_or(Failure::NotFound)
}
