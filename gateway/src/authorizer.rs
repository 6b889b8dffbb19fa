//! The REQUEST authorizer: its configuration, and the decision its answer stands for.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use wildmatch::WildMatch;

use crate::events::RequestParameters;

/// A Lambda REQUEST authorizer of the `$connect` route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizerConfig {
    /// Name or ARN of the function.
    pub function: String,
    /// Parameters that must be present and not empty; the function is not invoked without them.
    pub identity_sources: Vec<IdentitySource>,
}

/// One identity source, parsed from `route.request.header.NAME` or `route.request.querystring.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// A request header; its name is compared without regard to case.
    Header(String),
    /// A parameter of the query string.
    QueryString(String),
}

/// The text is not an identity source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identity source of the form route.request.header.<name> or route.request.querystring.<name>: {0}")]
pub struct InvalidIdentitySource(String);

impl FromStr for IdentitySource {
    type Err = InvalidIdentitySource;

    fn from_str(text: &str) -> Result<Self, InvalidIdentitySource> {
        let source = match text.strip_prefix("route.request.").and_then(|rest| rest.split_once('.')) {
            Some(("header", name)) if !name.is_empty() => Self::Header(name.to_owned()),
            Some(("querystring", name)) if !name.is_empty() => Self::QueryString(name.to_owned()),
            Some(_) | None => return Err(InvalidIdentitySource(text.to_owned())),
        };
        Ok(source)
    }
}

impl IdentitySource {
    pub(crate) fn is_present(&self, request: &RequestParameters) -> bool {
        let value = match self {
            Self::Header(name) => request.header(name),
            Self::QueryString(name) => request.query_parameter(name),
        };
        value.is_some_and(|value| !value.is_empty())
    }
}

/// Why an authorizer's answer does not admit the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The policy denies the method, or does not allow it.
    Denied,
    /// The answer is not what an authorizer may answer.
    Malformed,
}

/// The `authorizer` object of `requestContext`: the context, stringified, and `principalId`.
pub(crate) type AuthorizerContext = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    principal_id: String,
    policy_document: PolicyDocument,
    #[serde(default)]
    context: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyDocument {
    statement: OneOrMany<Statement>,
}

/// Unknown members are refused: a condition that were ignored would allow too much.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    #[serde(default, rename = "Sid")]
    _sid: Option<String>,
    effect: Effect,
    action: OneOrMany<String>,
    resource: OneOrMany<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Statement {
    fn covers(&self, method_arn: &str) -> bool {
        let action = |pattern: &String| WildMatch::new_case_insensitive(pattern).matches("execute-api:Invoke");
        let resource = |pattern: &String| WildMatch::new(pattern).matches(method_arn);
        self.action.as_slice().iter().any(action) && self.resource.as_slice().iter().any(resource)
    }
}

/// Reads an authorizer's answer for a method: an explicit deny wins, and what is not allowed is denied.
///
/// Policies with `Condition`, `NotAction` or `NotResource` are not evaluated; they count as malformed.
///
/// # Errors
/// [`Denial`], when the client is not to be admitted.
pub(crate) fn decide(answer: &[u8], bytes_max: usize, method_arn: &str) -> Result<AuthorizerContext, Denial> {
    if answer.len() > bytes_max {
        return Err(Denial::Malformed);
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| Denial::Malformed)?;
    let covering =
        || answer.policy_document.statement.as_slice().iter().filter(|statement| statement.covers(method_arn));
    if covering().any(|statement| statement.effect == Effect::Deny) || covering().next().is_none() {
        return Err(Denial::Denied);
    }
    let mut context = AuthorizerContext::new();
    for (key, value) in answer.context.unwrap_or_default() {
        let text = match value {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return Err(Denial::Malformed),
        };
        context.insert(key, text);
    }
    context.insert("principalId".to_owned(), answer.principal_id);
    Ok(context)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:eu-west-1:123456789012:abcdef123/prod/$connect";

    fn decided(statements: Value) -> Result<AuthorizerContext, Denial> {
        let answer = json!({"principalId": "me", "policyDocument": {"Version": "2012-10-17", "Statement": statements}});
        decide(answer.to_string().as_bytes(), 8 * 1024, ARN)
    }

    fn statement(effect: &str, action: &str, resource: &str) -> Value {
        json!({"Effect": effect, "Action": action, "Resource": resource})
    }

    #[test]
    fn an_allow_that_covers_the_method_admits() {
        for resource in [ARN, "*", "arn:aws:execute-api:*:*:abcdef123/prod/*", "arn:aws:execute-api:eu-west-?:*"] {
            assert!(decided(json!([statement("Allow", "execute-api:Invoke", resource)])).is_ok(), "{resource}");
        }
        assert!(decided(statement("Allow", "execute-api:*", "*")).is_ok());
    }

    #[test]
    fn anything_else_is_denied() {
        let elsewhere = "arn:aws:execute-api:eu-west-1:123456789012:other/prod/$connect";
        assert_eq!(decided(json!([])), Err(Denial::Denied));
        assert_eq!(decided(statement("Allow", "execute-api:Invoke", elsewhere)), Err(Denial::Denied));
        assert_eq!(decided(statement("Allow", "s3:GetObject", "*")), Err(Denial::Denied));
        assert_eq!(
            decided(json!([statement("Allow", "*", "*"), statement("Deny", "execute-api:Invoke", ARN)])),
            Err(Denial::Denied)
        );
    }

    #[test]
    fn a_condition_is_not_ignored() {
        let mut conditional = statement("Allow", "*", "*");
        conditional["Condition"] = json!({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}});
        assert_eq!(decided(conditional), Err(Denial::Malformed));
    }
}
