//! The events API Gateway hands to functions, and the answers functions give.
//!
//! Field names and presence follow events recorded on AWS and the developer guide's pages "WebSocket API mapping
//! template reference" and "Control access to WebSocket APIs with AWS Lambda REQUEST authorizers".

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::Query;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use http::{HeaderMap, Uri, header};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use uuid::Uuid;

use crate::authorizer::AuthorizerContext;

/// `requestTime`: the common log format.
const REQUEST_TIME: StaticFormatDescription =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// A fresh identifier in the form of API Gateway's connection, request and message ids: 11 bytes as 16 characters of
/// URL-safe base64, such as `L0SM9cOFvHcCIhw=`.
pub(crate) fn new_id() -> String {
    let [_, _, _, _, _, random @ ..] = *Uuid::new_v4().as_bytes();
    BASE64_URL_SAFE.encode(random)
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// A Unix time in milliseconds as RFC 3339.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    utc(at_ms).format(&Rfc3339).unwrap_or_default()
}

fn utc(at_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Headers and query of the handshake, as the authorizer and `$connect` see them.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestParameters {
    headers: BTreeMap<String, String>,
    multi_value_headers: BTreeMap<String, Vec<String>>,
    #[serde(flatten)]
    query: Option<QueryParameters>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct QueryParameters {
    query_string_parameters: BTreeMap<String, String>,
    multi_value_query_string_parameters: BTreeMap<String, Vec<String>>,
}

impl RequestParameters {
    /// Takes them from a handshake and adds the headers of AWS's front.
    pub(crate) fn of_handshake(headers: &HeaderMap, uri: &Uri, source_ip: IpAddr, port: u16) -> Self {
        let mut parameters = Self::default();
        for (name, value) in
            headers.iter().filter(|(name, _)| **name != header::CONNECTION && **name != header::UPGRADE)
        {
            parameters.add_header(&canonical_case(name.as_str()), &String::from_utf8_lossy(value.as_bytes()));
        }
        parameters.add_header("X-Amzn-Trace-Id", &trace_id());
        parameters.add_header("X-Forwarded-For", &source_ip.to_string());
        parameters.add_header("X-Forwarded-Port", &port.to_string());
        parameters.add_header("X-Forwarded-Proto", "http");

        // What cannot be read as a query has no parameters: there is nothing to route or authorize by it.
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
        if !pairs.is_empty() {
            let query = parameters.query.get_or_insert_default();
            for (name, value) in pairs {
                query.multi_value_query_string_parameters.entry(name.clone()).or_default().push(value.clone());
                query.query_string_parameters.insert(name, value);
            }
        }
        parameters
    }

    /// The headers of a `$disconnect` event: the host, and three that AWS sends empty.
    fn of_disconnect(domain_name: &str) -> Self {
        let mut parameters = Self::default();
        for (name, value) in [("Host", domain_name), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")] {
            parameters.add_header(name, value);
        }
        parameters
    }

    fn add_header(&mut self, name: &str, value: &str) {
        self.multi_value_headers.entry(name.to_owned()).or_default().push(value.to_owned());
        self.headers.insert(name.to_owned(), value.to_owned());
    }

    /// The (last) value of a header, its name compared without regard to case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The (last) value of a query parameter.
    pub(crate) fn query_parameter(&self, name: &str) -> Option<&str> {
        self.query.as_ref()?.query_string_parameters.get(name).map(String::as_str)
    }
}

/// A header's usual spelling, such as `Sec-WebSocket-Key`: the client's own is lost in the HTTP library, and AWS passes
/// that on.
fn canonical_case(name: &str) -> String {
    let word = |word: &str| match (word, word.split_at_checked(1)) {
        ("websocket", _) => "WebSocket".to_owned(),
        (_, Some((first, rest))) => first.to_ascii_uppercase() + rest,
        (_, None) => String::new(),
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// A root trace id of AWS X-Ray.
fn trace_id() -> String {
    let random = format!("{:032x}", Uuid::new_v4().as_u128());
    format!("Root=1-{:08x}-{:.24}", now_ms() / 1000, random)
}

/// What every event of one connection has in common.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectionContext {
    pub(crate) connection_id: String,
    /// Unix time in milliseconds, the same in every event.
    pub(crate) connected_at: i64,
    pub(crate) domain_name: String,
    pub(crate) stage: String,
    pub(crate) api_id: String,
    pub(crate) identity: Identity,
    /// Absent until an authorizer has admitted the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorizer: Option<AuthorizerContext>,
}

/// Who connected. Serialized alike in `requestContext` and in the answer of `GET @connections`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub(crate) source_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_agent: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    #[serde(flatten)]
    connection: &'a ConnectionContext,
    #[serde(flatten)]
    happening: Happening<'a>,
    route_key: &'a str,
    message_direction: &'static str,
    request_id: &'a str,
    extended_request_id: &'a str,
    request_time: String,
    request_time_epoch: i64,
}

#[derive(Serialize)]
#[serde(tag = "eventType", rename_all = "UPPERCASE", rename_all_fields = "camelCase")]
enum Happening<'a> {
    Connect,
    Message { message_id: String },
    Disconnect { disconnect_status_code: u16, disconnect_reason: &'a str },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(flatten)]
    parameters: Option<&'a RequestParameters>,
    #[serde(flatten)]
    authorization: Option<Authorization<'a>>,
    request_context: RequestContext<'a>,
    #[serde(flatten)]
    payload: Option<Payload<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Authorization<'a> {
    r#type: &'static str,
    method_arn: &'a str,
    stage_variables: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    is_base64_encoded: bool,
}

/// One request to a function: an event in the making, with its request id.
pub(crate) struct Request<'a> {
    pub(crate) id: String,
    pub(crate) route_key: &'a str,
    pub(crate) connection: &'a ConnectionContext,
}

impl<'a> Request<'a> {
    pub(crate) fn new(route_key: &'a str, connection: &'a ConnectionContext) -> Self {
        Self { id: new_id(), route_key, connection }
    }

    /// The input of the REQUEST authorizer.
    pub(crate) fn authorizer_event(&self, parameters: &RequestParameters, method_arn: &str) -> Vec<u8> {
        let authorization = Authorization { r#type: "REQUEST", method_arn, stage_variables: BTreeMap::new() };
        self.event(Happening::Connect, Some(parameters), Some(authorization), None)
    }

    /// The event of the `$connect` route.
    pub(crate) fn connect_event(&self, parameters: &RequestParameters) -> Vec<u8> {
        self.event(Happening::Connect, Some(parameters), None, Some(Payload { body: None, is_base64_encoded: false }))
    }

    /// The event of a message, for whichever route it selects.
    pub(crate) fn message_event(&self, body: &str) -> Vec<u8> {
        let payload = Payload { body: Some(body), is_base64_encoded: false };
        self.event(Happening::Message { message_id: new_id() }, None, None, Some(payload))
    }

    /// The event of the `$disconnect` route.
    pub(crate) fn disconnect_event(&self, status_code: u16, reason: &str) -> Vec<u8> {
        let happening = Happening::Disconnect { disconnect_status_code: status_code, disconnect_reason: reason };
        let parameters = RequestParameters::of_disconnect(&self.connection.domain_name);
        self.event(happening, Some(&parameters), None, Some(Payload { body: None, is_base64_encoded: false }))
    }

    fn event(
        &self,
        happening: Happening<'_>,
        parameters: Option<&RequestParameters>,
        authorization: Option<Authorization<'_>>,
        payload: Option<Payload<'_>>,
    ) -> Vec<u8> {
        let request_time_epoch = now_ms();
        let request_context = RequestContext {
            connection: self.connection,
            happening,
            route_key: self.route_key,
            message_direction: "IN",
            request_id: &self.id,
            extended_request_id: &self.id,
            request_time: utc(request_time_epoch).format(REQUEST_TIME).unwrap_or_default(),
            request_time_epoch,
        };
        let event = Event { parameters, authorization, request_context, payload };
        serde_json::to_vec(&event).unwrap_or_default()
    }

    /// The text API Gateway sends to the client when it, not the function, has something to say.
    pub(crate) fn gateway_message(&self, message: &str) -> String {
        serde_json::json!({
            "message": message,
            "connectionId": self.connection.connection_id,
            "requestId": self.id,
        })
        .to_string()
    }
}

/// What a function of a Lambda proxy integration answers. Members beyond these make an answer malformed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProxyResponse {
    pub(crate) status_code: u16,
    #[serde(default)]
    headers: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default, rename = "multiValueHeaders")]
    _multi_value_headers: Option<serde_json::Value>,
    #[serde(default, rename = "body")]
    _body: Option<serde_json::Value>,
    #[serde(default, rename = "isBase64Encoded")]
    _is_base64_encoded: Option<bool>,
}

impl ProxyResponse {
    /// A header of the answer, its name compared without regard to case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.headers.as_ref()?;
        headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_aws() {
        let ids: Vec<String> = (0..100).map(|_| new_id()).collect();
        for id in &ids {
            assert_eq!(id.len(), 16);
            assert!(id.ends_with('=') && !id.contains(['+', '/']), "{id}");
        }
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn headers_get_their_usual_spelling() {
        let spelled = ["host", "user-agent", "sec-websocket-protocol", "x"].map(canonical_case);
        assert_eq!(spelled, ["Host", "User-Agent", "Sec-WebSocket-Protocol", "X"]);
    }

    #[test]
    fn times_have_the_forms_of_aws() {
        let at_ms = 1_708_327_306_706;
        assert_eq!(utc(at_ms).format(REQUEST_TIME).unwrap(), "19/Feb/2024:07:21:46 +0000");
        assert_eq!(rfc3339(at_ms), "2024-02-19T07:21:46.706Z");
    }
}
