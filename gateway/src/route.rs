//! Route keys and the route selection expression.

use std::str::FromStr;

use serde_json::Value;

/// The route of the handshake.
pub(crate) const CONNECT: &str = "$connect";
/// The route of every message that selects no other.
pub(crate) const DEFAULT: &str = "$default";
/// The route of a connection's end.
pub(crate) const DISCONNECT: &str = "$disconnect";

/// A route selection expression of the form `$request.body.path.to.element`, also written
/// `${request.body.path.to.element}`: the only form WebSocket APIs have (developer guide, "WebSocket selection
/// expressions").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSelectionExpression {
    path: Vec<String>,
}

/// The text is not a route selection expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a route selection expression of the form $request.body.<element>: {0}")]
pub struct InvalidExpression(String);

impl FromStr for RouteSelectionExpression {
    type Err = InvalidExpression;

    fn from_str(text: &str) -> Result<Self, InvalidExpression> {
        let invalid = || InvalidExpression(text.to_owned());
        let variable = text.strip_prefix('$').ok_or_else(invalid)?;
        let variable = variable.strip_prefix('{').map_or(Some(variable), |inner| inner.strip_suffix('}'));
        let path = variable.and_then(|name| name.strip_prefix("request.body.")).ok_or_else(invalid)?;
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        let name = |element: &String| !element.is_empty() && !element.contains(['$', '{', '}', '[', ']', '/', ' ']);
        if path.iter().all(name) { Ok(Self { path }) } else { Err(invalid()) }
    }
}

impl Default for RouteSelectionExpression {
    /// `$request.body.action`, the expression of AWS's own examples.
    fn default() -> Self {
        Self { path: vec!["action".to_owned()] }
    }
}

impl RouteSelectionExpression {
    /// The route key that a message selects: `None` when it is not JSON or has no scalar at the path. A key that
    /// starts with `$` is reserved for the gateway and cannot be selected by a client.
    #[must_use]
    pub fn evaluate(&self, message: &str) -> Option<String> {
        let message: Value = serde_json::from_str(message).ok()?;
        let element = self.path.iter().try_fold(&message, |value, name| value.get(name))?;
        let key = match element {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => element.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!key.starts_with('$')).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(expression: &str, message: &str) -> Option<String> {
        expression.parse::<RouteSelectionExpression>().unwrap().evaluate(message)
    }

    #[test]
    fn walks_the_path() {
        let message = r#"{"action":"join","a":{"b":"deep","n":7,"t":true}}"#;
        assert_eq!(select("$request.body.action", message).as_deref(), Some("join"));
        assert_eq!(select("${request.body.a.b}", message).as_deref(), Some("deep"));
        assert_eq!(select("$request.body.a.n", message).as_deref(), Some("7"));
        assert_eq!(select("$request.body.a.t", message).as_deref(), Some("true"));
    }

    #[test]
    fn selects_nothing_where_there_is_no_scalar() {
        for message in ["not json", "[]", "{}", r#"{"action":null}"#, r#"{"action":{"b":1}}"#, r#"{"action":["x"]}"#] {
            assert_eq!(select("$request.body.action", message), None, "{message}");
        }
    }

    #[test]
    fn clients_cannot_select_a_reserved_route() {
        assert_eq!(select("$request.body.action", r#"{"action":"$connect"}"#), None);
    }

    #[test]
    fn refuses_other_expressions() {
        for expression in [
            "",
            "action",
            "$request.header.x",
            "$request.body.",
            "$request.body.a..b",
            "${request.body.a",
            "$request.body.a}",
        ] {
            assert!(expression.parse::<RouteSelectionExpression>().is_err(), "{expression}");
        }
    }
}
