//! `connect`: a connection becomes known.

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use domain::bucket::{self, PerMinute};
use domain::ids::{ConnectionId, SessionKey};
use domain::limits::{ADDRESS_CONNECTIONS_PER_MINUTE, CONNECTION_LIFE_MS, CONNECTIONS_PER_PRINCIPAL_MAX};
use domain::ports::{BucketKey, Clock, Connection, ConnectionStore, Nonces, Registration, TokenBuckets, Unavailable};
use domain::protocol::SUBPROTOCOL;
use domain::session::Caller;
use http::{HeaderValue, StatusCode};

/// What it takes to let somebody in.
#[derive(Debug, Clone)]
pub struct Connect<S, B, K, N> {
    /// Who is connected.
    pub connections: S,
    /// How many came from an address lately.
    pub buckets: B,
    /// Time.
    pub clock: K,
    /// Names.
    pub nonces: N,
    /// Makes digests of addresses.
    pub session_key: SessionKey,
}

/// Why a connection does not open.
enum Refused {
    TooMany(&'static str),
    Unavailable(Unavailable),
}

impl From<Unavailable> for Refused {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl<S: ConnectionStore, B: TokenBuckets, K: Clock, N: Nonces> Connect<S, B, K, N> {
    /// Registers a connection: 200 and the subprotocol, 429 when its principal holds as many as it may or too many came
    /// from its address, 401 when the authorizer said nothing of it, 500 when it cannot be stored. Only with 200 does the
    /// connection open.
    pub async fn handle(&self, event: ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
        let context = event.request_context;
        let field = |name: &str| context.authorizer.fields.get(name)?.as_str().map(str::to_owned);
        let (Some(caller), Some(id)) = (Caller::from_context(field), context.connection_id) else {
            return response(StatusCode::UNAUTHORIZED);
        };
        match self.admit(caller, ConnectionId(id), context.identity.source_ip.as_deref()).await {
            Ok(()) => response(StatusCode::OK),
            Err(Refused::TooMany(of)) => {
                tracing::info!(of, "refused: too many connections");
                response(StatusCode::TOO_MANY_REQUESTS)
            }
            Err(Refused::Unavailable(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "connection was not registered");
                response(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    async fn admit(&self, caller: Caller, id: ConnectionId, address: Option<&str>) -> Result<(), Refused> {
        let now = self.clock.now_ms();
        if let Some(address) = address {
            let key = BucketKey::Connections(self.session_key.address_digest(address));
            let full_at = self.buckets.full_at(&key).await?;
            let limit = PerMinute(ADDRESS_CONNECTIONS_PER_MINUTE);
            let taken = bucket::take(&self.buckets, &self.nonces, &key, limit, full_at, now).await?;
            taken.map_err(|_| Refused::TooMany("address"))?;
        }
        let connection = Connection {
            id,
            principal: caller.principal,
            session_id: caller.session_id,
            connected_at: now,
            expires_at: now + CONNECTION_LIFE_MS,
        };
        match self.connections.register(&connection, CONNECTIONS_PER_PRINCIPAL_MAX).await? {
            Registration::Registered => Ok(()),
            Registration::TooMany => Err(Refused::TooMany("principal")),
        }
    }
}

fn response(status: StatusCode) -> ApiGatewayProxyResponse {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = status.as_u16().into();
    if status.is_success() {
        response.headers.insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

#[cfg(test)]
mod tests;
