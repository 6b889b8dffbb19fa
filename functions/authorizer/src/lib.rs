//! `authorizer`: who may connect.
//!
//! The REQUEST authorizer of `$connect`. A shopper's JWT and a guest's resume token travel as subprotocols, never in the
//! URL. What it finds travels with every later event of the connection, so that no frame needs a look-up.

use aws_lambda_events::apigw::{
    ApiGatewayCustomAuthorizerPolicy, ApiGatewayCustomAuthorizerRequestTypeRequest, ApiGatewayCustomAuthorizerResponse,
};
use aws_lambda_events::iam::{IamPolicyEffect, IamPolicyStatement};
use domain::ids::{Principal, SessionId, SessionKey};
use domain::limits::CONNECTION_LIFE_MS;
use domain::ports::{Clock, IdentityProvider, Nonces, TokenError};
use domain::session::{Caller, Credentials};
use lambda_runtime::Diagnostic;
use serde_json::Value;

/// What the authorizer needs of the world.
pub struct Authorizer<I, C, N> {
    /// Verifies shoppers' tokens.
    pub identities: I,
    /// Verifies guests' resume tokens.
    pub session_key: SessionKey,
    /// Time.
    pub clock: C,
    /// Names for new sessions.
    pub nonces: N,
}

/// Why nobody was admitted. API Gateway answers 401 for exactly the text `Unauthorized`, and 500 for any other.
#[derive(Debug)]
pub enum Refused {
    /// The token shown is not valid.
    Unauthorized,
    /// The issuer's keys cannot be had.
    Unavailable,
}

impl From<Refused> for Diagnostic {
    fn from(refused: Refused) -> Self {
        let text = match refused {
            Refused::Unauthorized => "Unauthorized",
            Refused::Unavailable => "Unavailable",
        };
        Self { error_type: text.to_owned(), error_message: text.to_owned() }
    }
}

impl<I: IdentityProvider, C: Clock, N: Nonces> Authorizer<I, C, N> {
    /// Decides on a handshake: allows it with the caller as context, or denies it (403) when the client does not speak
    /// `manga-chat.v1` or shows two identities.
    ///
    /// # Errors
    /// [`Refused`] when a token is shown that is not valid, or cannot be verified now.
    pub async fn handle(
        &self,
        event: ApiGatewayCustomAuthorizerRequestTypeRequest,
    ) -> Result<ApiGatewayCustomAuthorizerResponse, Refused> {
        let offered = event.headers.get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
        let method = event.method_arn.unwrap_or_default();
        let Some(credentials) = offered.and_then(Credentials::offered) else {
            tracing::info!("refused: no subprotocol of ours, or two identities");
            return Ok(policy(IamPolicyEffect::Deny, method, None));
        };
        let caller = self.identify(credentials).await?;
        Ok(policy(IamPolicyEffect::Allow, method, Some(&caller)))
    }

    async fn identify(&self, credentials: Credentials<'_>) -> Result<Caller, Refused> {
        let now = self.clock.now_ms();
        let session_id = match credentials {
            Credentials::ReturningGuest(token) => self.session_key.open_resume_token(token, now).map_err(|error| {
                tracing::info!(error = &error as &dyn std::error::Error, "refused: resume token");
                Refused::Unauthorized
            })?,
            Credentials::NewGuest | Credentials::Shopper(_) => {
                SessionId::parse(&self.nonces.nonce()).ok_or(Refused::Unavailable)?
            }
        };
        let life_ends_at = now + CONNECTION_LIFE_MS;
        match credentials {
            Credentials::NewGuest | Credentials::ReturningGuest(_) => {
                Ok(Caller { principal: Principal::Guest(session_id.clone()), session_id, expires_at: life_ends_at })
            }
            Credentials::Shopper(token) => match self.identities.verify(token).await {
                Ok(identity) => Ok(Caller {
                    principal: Principal::Shopper(identity.subject),
                    session_id,
                    expires_at: identity.expires_at.min(life_ends_at),
                }),
                Err(TokenError::Invalid(cause)) => {
                    tracing::info!(error = &*cause as &dyn std::error::Error, "refused: token");
                    Err(Refused::Unauthorized)
                }
                Err(TokenError::Unavailable(error)) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "tokens cannot be verified");
                    Err(Refused::Unavailable)
                }
            },
        }
    }
}

fn policy(effect: IamPolicyEffect, method: String, caller: Option<&Caller>) -> ApiGatewayCustomAuthorizerResponse {
    let mut statement = IamPolicyStatement::default();
    statement.action = vec!["execute-api:Invoke".to_owned()];
    statement.effect = effect;
    statement.resource = vec![method];
    let mut document = ApiGatewayCustomAuthorizerPolicy::default();
    document.version = Some("2012-10-17".to_owned());
    document.statement = vec![statement];
    let mut response = ApiGatewayCustomAuthorizerResponse::default();
    response.policy_document = document;
    response.principal_id = Some(caller.map_or_else(|| "nobody".to_owned(), |caller| caller.principal.to_string()));
    response.context = caller
        .map(|caller| caller.to_context().into_iter().map(|(name, value)| (name, Value::String(value))).collect())
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    response
}

#[cfg(test)]
mod tests;
