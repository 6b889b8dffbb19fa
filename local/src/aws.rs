//! The few AWS calls a deployment needs, as plain HTTP: MiniStack asks for no signature, and the SDK crates of
//! CloudFormation and Cognito would cost more build time than the rest of this tool.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// MiniStack runs one function per call, and the slowest function may take 30 s.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A client for loopback servers: no proxy, and every call has a deadline.
///
/// # Errors
/// The TLS backend cannot be set up.
pub(crate) fn http_client() -> Result<Client> {
    Ok(Client::builder().no_proxy().timeout(CALL_MAX).build()?)
}

/// An AWS endpoint that asks for no signature.
#[derive(Clone, Debug)]
pub(crate) struct Aws {
    http: Client,
    url: String,
}

impl Aws {
    /// # Errors
    /// As for [`http_client`].
    pub(crate) fn new(url: String) -> Result<Self> {
        Ok(Self { http: http_client()?, url })
    }

    /// The endpoint.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Calls CloudFormation and returns its XML answer.
    ///
    /// # Errors
    /// The call fails, or is refused: then the error is the service's message.
    pub(crate) async fn cloud_formation(&self, action: &str, parameters: &[(String, String)]) -> Result<String> {
        let call = [("Action", action), ("Version", "2010-05-15")];
        let response = self.http.post(&self.url).query(&call).query(parameters).send().await?;
        let ok = response.status().is_success();
        let xml = response.text().await?;
        if !ok {
            let message = text_of(&xml, "Message")?.unwrap_or_else(|| xml.clone());
            bail!("CloudFormation {action}: {message}");
        }
        Ok(xml)
    }

    /// Calls Cognito user pools.
    ///
    /// # Errors
    /// The call fails, or is refused: then the error is the service's answer.
    pub(crate) async fn cognito(&self, action: &str, body: &Value) -> Result<Value> {
        let request = self
            .http
            .post(&self.url)
            .json(body)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AWSCognitoIdentityProviderService.{action}"));
        let response = accepted(request.send().await?).await.with_context(|| format!("Cognito {action}"))?;
        Ok(response.json().await?)
    }

    /// Makes a bucket; one that is already there stays.
    ///
    /// # Errors
    /// The call fails or is refused.
    pub(crate) async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let request = self.http.put(format!("{}/{bucket}", self.url));
        accepted(request.send().await?).await.context("S3 CreateBucket")?;
        Ok(())
    }

    /// Stores an object and returns its URL.
    ///
    /// # Errors
    /// The call fails or is refused.
    pub(crate) async fn put_object(&self, bucket: &str, key: &str, body: Vec<u8>) -> Result<String> {
        let url = format!("{}/{bucket}/{key}", self.url);
        accepted(self.http.put(&url).body(body).send().await?).await.context("S3 PutObject")?;
        Ok(url)
    }

    /// Reads what a REST-style API has at `path`.
    ///
    /// # Errors
    /// The call fails or is refused, or the answer is of another shape.
    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.http.get(format!("{}/{path}", self.url)).send().await?;
        accepted(response).await?.json().await.with_context(|| format!("cannot read {path}"))
    }

    /// Deletes what a REST-style API has at `path`.
    ///
    /// # Errors
    /// The call fails or is refused.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let response = self.http.delete(format!("{}/{path}", self.url)).send().await?;
        accepted(response).await.with_context(|| format!("cannot delete {path}"))?;
        Ok(())
    }

    /// Gets a URL of a deployed API.
    ///
    /// # Errors
    /// The call fails, or its answer is not a success: then the error is that answer.
    pub(crate) async fn get(&self, url: &str) -> Result<()> {
        accepted(self.http.get(url).send().await?).await?;
        Ok(())
    }
}

async fn accepted(response: Response) -> Result<Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    bail!("{status}: {}", response.text().await?.trim())
}

/// The text of the first element of that name, whatever its namespace.
///
/// # Errors
/// It is not XML.
pub(crate) fn text_of(xml: &str, name: &str) -> Result<Option<String>> {
    let document = roxmltree::Document::parse(xml).context("CloudFormation's answer is not XML")?;
    let element = document.descendants().find(|node| node.tag_name().name() == name);
    Ok(element.and_then(|node| node.text()).map(str::to_owned))
}
