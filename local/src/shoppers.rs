//! The sample shoppers, as users of the stack's Cognito user pool.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::aws::Aws;

/// The sample shoppers that the sample store has orders for.
pub const SHOPPERS: [&str; 2] = ["aiko", "ben"];

/// Opens nothing but the user pool of a local stack.
const PASSWORD: &str = "Local-0nly-shopper";

/// Signs sample shoppers in.
#[derive(Clone, Debug)]
pub(crate) struct Shoppers {
    aws: Aws,
    user_pool: String,
    client: String,
}

impl Shoppers {
    /// The sample shoppers of the stack with these outputs.
    ///
    /// # Errors
    /// The stack has no user pool.
    pub(crate) fn new(aws: Aws, outputs: &BTreeMap<String, String>) -> Result<Self> {
        let output = |name: &str| outputs.get(name).cloned().with_context(|| format!("the stack has no output {name}"));
        Ok(Self { aws, user_pool: output("UserPoolId")?, client: output("UserPoolClientId")? })
    }

    /// Creates them.
    ///
    /// # Errors
    /// Cognito refuses.
    pub(crate) async fn create(&self) -> Result<()> {
        for name in SHOPPERS {
            let user = json!({"UserPoolId": self.user_pool, "Username": name, "MessageAction": "SUPPRESS"});
            self.aws.cognito("AdminCreateUser", &user).await?;
            let password =
                json!({"UserPoolId": self.user_pool, "Username": name, "Password": PASSWORD, "Permanent": true});
            self.aws.cognito("AdminSetUserPassword", &password).await?;
        }
        Ok(())
    }

    /// Signs one in and returns the ID token.
    ///
    /// # Errors
    /// There is no such shopper, or Cognito refuses.
    pub(crate) async fn token(&self, name: &str) -> Result<String> {
        if !SHOPPERS.contains(&name) {
            bail!("there is no sample shopper {name}: choose {}", SHOPPERS.join(" or "));
        }
        let request = json!({
            "ClientId": self.client,
            "AuthFlow": "USER_PASSWORD_AUTH",
            "AuthParameters": {"USERNAME": name, "PASSWORD": PASSWORD},
        });
        let answer = self.aws.cognito("InitiateAuth", &request).await?;
        let token = answer.pointer("/AuthenticationResult/IdToken").and_then(Value::as_str);
        Ok(token.context("Cognito gave no token")?.to_owned())
    }
}
