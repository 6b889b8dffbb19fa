//! `message`: every frame a client sends.
//!
//! The one route of the WebSocket API besides `$connect` and `$disconnect`. Answers are posted to the connection; what
//! the function returns reaches nobody.

mod cancel;
mod feedback;
mod history;
mod send;
mod session;

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use domain::admission::Denial;
use domain::ids::{ConnectionId, SessionKey};
use domain::lease::Moment;
use domain::ports::{Clock as _, ConnectionSender as _, ConnectionStore as _, Delivery, Ports, Unavailable};
use domain::protocol::{
    ClientFrame, Empty, ErrorCode, ErrorData, Locale, Refusal, ServerEvent, ServerFrame, error_text, parse,
};
use domain::session::Caller;

/// Everything a frame needs.
pub struct Message<P> {
    /// The world.
    pub ports: P,
    /// Derives ids and signs resume tokens.
    pub session_key: SessionKey,
}

/// Where a frame came from, when, and for whom it speaks.
pub(crate) struct Origin {
    pub(crate) connection: ConnectionId,
    pub(crate) caller: Caller,
    pub(crate) arrived: Moment,
}

/// Why a frame is answered with an error.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The protocol says so.
    Denied(Denial),
    /// Something the answer needs did not answer.
    Unavailable(Unavailable),
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::Denied(code.into())
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Unavailable> for Refused {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl<P: Ports> Message<P> {
    /// Answers one frame. Always 200: whatever goes wrong is told to the client as an `error` frame.
    pub async fn handle(&self, event: ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
        let arrived = Moment::now(self.ports.clock());
        let context = event.request_context;
        let field = |name: &str| context.authorizer.fields.get(name)?.as_str().map(str::to_owned);
        let caller = Caller::from_context(field);
        match (context.connection_id, caller) {
            (Some(connection), Some(caller)) => {
                let origin = Origin { connection: ConnectionId(connection), caller, arrived };
                self.answer(&origin, &event.body.unwrap_or_default()).await;
            }
            _not_ours => tracing::error!("the event carries no connection, or no caller: is the authorizer attached?"),
        }
        let mut response = ApiGatewayProxyResponse::default();
        response.status_code = 200;
        response
    }

    async fn answer(&self, origin: &Origin, body: &str) {
        let frame = match parse(body) {
            Ok(frame) => frame,
            Err(refusal) => return self.refuse(origin, refusal).await,
        };
        if origin.caller.expires_at <= self.ports.clock().now_ms() {
            return self.refuse(origin, frame.refusal(ErrorCode::SessionExpired)).await;
        }
        let answered = match &frame {
            ClientFrame::SessionStart(start) => session::start(self, origin, start).await,
            ClientFrame::MessageSend(message) => send::send(self, origin, message).await,
            ClientFrame::MessageCancel(cancel) => cancel::cancel(self, origin, cancel).await,
            ClientFrame::StreamResume(resume) => send::resume(self, origin, resume).await,
            ClientFrame::HistoryList(list) => history::list(self, origin, list).await,
            ClientFrame::FeedbackSubmit(feedback) => feedback::submit(self, origin, feedback).await,
            ClientFrame::Ping {} => {
                let pong = ServerFrame::new(self.ports.clock().now_ms(), ServerEvent::Pong(Empty {}));
                self.send(origin, &pong).await.map(drop).map_err(Refused::from)
            }
        };
        match answered {
            Ok(()) => {}
            Err(Refused::Denied(Denial { code, retry_after_ms })) => {
                self.refuse(origin, Refusal { retry_after_ms, ..frame.refusal(code) }).await;
            }
            Err(Refused::Unavailable(error)) => {
                tracing::error!(
                    action = frame.action(),
                    operation = error.operation,
                    error = &error as &dyn std::error::Error,
                    "frame was not answered"
                );
                self.refuse(origin, frame.refusal(ErrorCode::Unavailable)).await;
            }
        }
    }

    /// Sends a frame to where the client's came from.
    pub(crate) async fn send(&self, origin: &Origin, frame: &ServerFrame) -> Result<Delivery, Unavailable> {
        match frame.encode() {
            Some(text) => self.ports.sender().send(&origin.connection, text).await,
            None => {
                tracing::error!("a frame was too large to send");
                Ok(Delivery::Delivered)
            }
        }
    }

    /// Tells a client why its frame is not answered: in the language the frame asks for, else that of the connection, else
    /// that of the frame's text, else the store's own.
    async fn refuse(&self, origin: &Origin, refusal: Refusal) {
        let locale = match refusal.locale {
            Some(locale) => locale,
            None => {
                let kept = self.ports.connections().locale(&origin.connection).await.ok().flatten();
                kept.or(refusal.text_locale).unwrap_or(Locale::Ja)
            }
        };
        tracing::info!(code = ?refusal.code, "frame was refused");
        let frame = ServerFrame::new(self.ports.clock().now_ms(), error(refusal, locale));
        if let Err(error) = self.send(origin, &frame).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "refusal was not delivered");
        }
    }
}

/// How long a client waits before it sends again what was refused for a reason that passes, ms.
const RETRY_AFTER_MS: u64 = 1_000;

fn error(refusal: Refusal, locale: Locale) -> ServerEvent {
    let code = refusal.code;
    ServerEvent::Error(ErrorData {
        code,
        message: error_text(code, locale).to_owned(),
        retryable: code.is_retryable(),
        retry_after_ms: refusal.retry_after_ms.or(code.is_retryable().then_some(RETRY_AFTER_MS)),
        client_message_id: refusal.client_message_id,
        action: refusal.action,
    })
}

#[cfg(test)]
mod tests;
