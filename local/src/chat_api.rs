//! The deployed WebSocket API, read back from API Gateway so that the gateway serves what the template describes.

use anyhow::{Context, Result};
use gateway::{AuthorizerConfig, Config, local_invoke_client};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::aws::Aws;
use crate::ministack::REGION;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Api {
    route_selection_expression: String,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    route_key: String,
    /// `integrations/<id>`.
    target: String,
    authorizer_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Integration {
    integration_id: String,
    integration_uri: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorizer {
    authorizer_id: String,
    authorizer_uri: String,
    identity_source: Vec<String>,
}

/// The gateway's configuration for one stage of the API.
///
/// # Errors
/// API Gateway does not answer, or describes what the gateway does not support.
pub(crate) async fn gateway_config(aws: &Aws, api_id: &str, stage: &str) -> Result<Config> {
    let path = format!("v2/apis/{api_id}");
    let api: Api = aws.read(&path).await?;
    let Items { items: routes } = aws.read::<Items<Route>>(&format!("{path}/routes")).await?;
    let Items { items: integrations } = aws.read::<Items<Integration>>(&format!("{path}/integrations")).await?;
    let Items { items: authorizers } = aws.read::<Items<Authorizer>>(&format!("{path}/authorizers")).await?;

    let mut config = Config::new(local_invoke_client(aws.url(), REGION), stage);
    config.region = REGION.to_owned();
    config.api_id = api_id.to_owned();
    config.route_selection_expression = api.route_selection_expression.parse()?;
    for route in routes {
        let integration = integrations
            .iter()
            .find(|integration| route.target.ends_with(&integration.integration_id))
            .with_context(|| format!("route {} has no integration", route.route_key))?;
        if let Some(authorizer) =
            authorizers.iter().find(|known| Some(&known.authorizer_id) == route.authorizer_id.as_ref())
        {
            config.authorizer = Some(AuthorizerConfig {
                function: function_of(&authorizer.authorizer_uri)?,
                identity_sources: authorizer
                    .identity_source
                    .iter()
                    .map(|source| source.parse())
                    .collect::<Result<_, _>>()?,
            });
        }
        config.routes.insert(route.route_key, function_of(&integration.integration_uri)?);
    }
    Ok(config)
}

/// The function's ARN in `arn:…:path/2015-03-31/functions/<ARN>/invocations`.
fn function_of(uri: &str) -> Result<String> {
    let arn = uri.split_once("/functions/").and_then(|(_, rest)| rest.strip_suffix("/invocations"));
    Ok(arn.with_context(|| format!("{uri} invokes no function"))?.to_owned())
}
