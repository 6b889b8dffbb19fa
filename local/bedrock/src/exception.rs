//! Bedrock's exceptions, as an HTTP answer and inside a stream.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Which exception. Names and status codes as the Bedrock Runtime API reference lists them under "Errors".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExceptionKind {
    /// 403.
    AccessDenied,
    /// 500.
    InternalServer,
    /// 424: the model failed.
    ModelError,
    /// 424: the model failed while it was streaming.
    ModelStreamError,
    /// 408: the model took too long.
    ModelTimeout,
    /// 404: no such model or guardrail.
    ResourceNotFound,
    /// 503.
    ServiceUnavailable,
    /// 429.
    Throttling,
    /// 404: no such operation.
    UnknownOperation,
    /// 400.
    Validation,
}

impl ExceptionKind {
    fn status(self) -> StatusCode {
        match self {
            Self::AccessDenied => StatusCode::FORBIDDEN,
            Self::InternalServer => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ModelError | Self::ModelStreamError => StatusCode::FAILED_DEPENDENCY,
            Self::ModelTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ResourceNotFound | Self::UnknownOperation => StatusCode::NOT_FOUND,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Throttling => StatusCode::TOO_MANY_REQUESTS,
            Self::Validation => StatusCode::BAD_REQUEST,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::InternalServer => "InternalServerException",
            Self::ModelError => "ModelErrorException",
            Self::ModelStreamError => "ModelStreamErrorException",
            Self::ModelTimeout => "ModelTimeoutException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::ServiceUnavailable => "ServiceUnavailableException",
            Self::Throttling => "ThrottlingException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::Validation => "ValidationException",
        }
    }

    /// Its member name in the output stream of `ConverseStream`; what has none there is a stream error of the model.
    pub(crate) fn stream_member(self) -> &'static str {
        match self {
            Self::InternalServer => "internalServerException",
            Self::ServiceUnavailable => "serviceUnavailableException",
            Self::Throttling => "throttlingException",
            Self::Validation => "validationException",
            Self::AccessDenied
            | Self::ModelError
            | Self::ModelStreamError
            | Self::ModelTimeout
            | Self::ResourceNotFound
            | Self::UnknownOperation => "modelStreamErrorException",
        }
    }
}

/// An exception and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Which one.
    pub kind: ExceptionKind,
    /// For the developer.
    pub message: String,
}

impl Exception {
    /// An exception that says `message`.
    pub fn new(kind: ExceptionKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(ExceptionKind::Validation, message)
    }

    /// As `Converse` reports what `ConverseStream` reports inside the stream.
    pub(crate) fn unstreamed(self) -> Self {
        match self.kind {
            ExceptionKind::ModelStreamError => Self { kind: ExceptionKind::ModelError, ..self },
            ExceptionKind::AccessDenied
            | ExceptionKind::InternalServer
            | ExceptionKind::ModelError
            | ExceptionKind::ModelTimeout
            | ExceptionKind::ResourceNotFound
            | ExceptionKind::ServiceUnavailable
            | ExceptionKind::Throttling
            | ExceptionKind::UnknownOperation
            | ExceptionKind::Validation => self,
        }
    }
}

impl IntoResponse for Exception {
    fn into_response(self) -> Response {
        let headers = [("x-amzn-errortype", self.kind.name())];
        (self.kind.status(), headers, Json(json!({ "message": self.message }))).into_response()
    }
}
