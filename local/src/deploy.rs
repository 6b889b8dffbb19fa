//! Deploying `template.yaml` through CloudFormation, as `sam package` and `sam deploy` do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use roxmltree::{Document, Node};
use tokio::time::{Instant, sleep};

use crate::aws::{Aws, text_of};
use crate::functions::Functions;
use crate::versions;

const STACK: &str = "manga-chat";

/// Holds the functions' code and the template, which is too long to be sent in the call (51,200 bytes at most).
const ARTIFACTS: &str = "manga-chat-artifacts";

const DEPLOY_MAX: Duration = Duration::from_secs(120);
const DEPLOY_POLL: Duration = Duration::from_millis(50);

/// `template.yaml`, as text: CloudFormation's own tags survive every edit.
#[derive(Debug)]
pub(crate) struct Template(String);

impl Template {
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Ok(Self(fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?))
    }

    /// The binaries that the functions are built from, by their `BuildProperties`.
    pub(crate) fn binaries(&self) -> BTreeSet<&str> {
        self.0.lines().filter_map(|line| value(line, "Binary")).collect()
    }

    /// The text with each function's `CodeUri` replaced by the one `uris` has for its binary; nothing else changes.
    ///
    /// # Errors
    /// A function names no binary before its `CodeUri`, or one without URI.
    pub(crate) fn with_code(&self, uris: &BTreeMap<String, String>) -> Result<String> {
        let mut text = String::with_capacity(self.0.len());
        let mut binary = None;
        for line in self.0.split_inclusive('\n') {
            binary = value(line, "Binary").or(binary);
            match value(line, "CodeUri") {
                None => text.push_str(line),
                Some(placeholder) => {
                    let name = binary.take().context("template.yaml: a CodeUri has no Binary above it")?;
                    let uri = uris.get(name).with_context(|| format!("template.yaml: no binary {name} was built"))?;
                    let (before, after) = line.split_once("CodeUri:").unwrap_or_default();
                    text.push_str(before);
                    text.push_str("CodeUri:");
                    text.push_str(&after.replacen(placeholder, uri, 1));
                }
            }
        }
        if let Some(name) = binary {
            bail!("template.yaml: the function of binary {name} has no CodeUri below it");
        }
        Ok(text)
    }
}

/// The scalar after `key:` on this line, in block or flow style.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (before, after) = line.split_once(&format!("{key}:"))?;
    let is_key = !before.contains('#') && (before.is_empty() || before.ends_with([' ', '{', ',']));
    let scalar = after.trim_start().split([' ', ',', '}', '\r', '\n']).next()?;
    (is_key && !scalar.is_empty()).then_some(scalar)
}

/// What the embedded AWS runs.
pub(crate) struct Deployment {
    aws: Aws,
    parameters: BTreeMap<&'static str, String>,
    /// The template with the packages in place: as long as it stays the same, there is nothing to deploy.
    template: String,
    outputs: BTreeMap<String, String>,
}

impl Deployment {
    /// Creates the stack.
    ///
    /// # Errors
    /// CloudFormation refuses the template or fails; the error names the resource and its reason.
    pub(crate) async fn create(
        aws: Aws,
        parameters: BTreeMap<&'static str, String>,
        template: &Template,
        functions: &Functions,
    ) -> Result<Self> {
        aws.create_bucket(ARTIFACTS).await?;
        let mut deployment = Self { aws, parameters, template: String::new(), outputs: BTreeMap::new() };
        deployment.deploy("CreateStack", template, functions).await?;
        Ok(deployment)
    }

    /// Updates the stack; says whether there was anything to update.
    ///
    /// # Errors
    /// CloudFormation refuses the template or fails, and keeps what it had; the error names the resource and its reason.
    pub(crate) async fn update(&mut self, template: &Template, functions: &Functions) -> Result<bool> {
        versions::delete_unused(&self.aws).await?;
        self.deploy("UpdateStack", template, functions).await
    }

    /// The stack's outputs by name.
    pub(crate) fn outputs(&self) -> &BTreeMap<String, String> {
        &self.outputs
    }

    /// One output.
    ///
    /// # Errors
    /// The template has none of this name.
    pub(crate) fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).with_context(|| format!("the stack has no output {name}"))
    }

    async fn deploy(&mut self, action: &str, template: &Template, functions: &Functions) -> Result<bool> {
        let mut uris = BTreeMap::new();
        let mut changed = Vec::new();
        for package in functions.packages()? {
            uris.insert(package.binary, format!("s3://{ARTIFACTS}/{}", package.key));
            if !self.template.contains(&package.key) {
                changed.push((package.key, package.zip));
            }
        }
        let template = template.with_code(&uris)?;
        if template == self.template {
            return Ok(false);
        }
        let mut keys = Vec::new();
        for (key, zip) in changed {
            self.aws.put_object(ARTIFACTS, &key, zip).await?;
            keys.push(key);
        }
        let outputs = self.run(action, &template).await;
        // Lambda has copies of its own, and S3 keeps everything in memory.
        for key in keys {
            self.aws.delete(&format!("{ARTIFACTS}/{key}")).await?;
        }
        self.outputs = outputs?;
        self.template = template;
        Ok(true)
    }

    async fn run(&self, action: &str, template: &str) -> Result<BTreeMap<String, String>> {
        let template_url = self.aws.put_object(ARTIFACTS, "template.yaml", template.to_owned().into_bytes()).await?;
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut call = vec![named("StackName", STACK), named("TemplateURL", &template_url)];
        for (capability, number) in ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"].iter().zip(1..) {
            call.push(named(&format!("Capabilities.member.{number}"), capability));
        }
        for ((key, value), number) in self.parameters.iter().zip(1..) {
            call.push(named(&format!("Parameters.member.{number}.ParameterKey"), key));
            call.push(named(&format!("Parameters.member.{number}.ParameterValue"), value));
        }
        self.aws.cloud_formation(action, &call).await?;

        let stack = [named("StackName", STACK)];
        let deadline = Instant::now() + DEPLOY_MAX;
        loop {
            let xml = self.aws.cloud_formation("DescribeStacks", &stack).await?;
            match text_of(&xml, "StackStatus")?.as_deref() {
                Some("CREATE_COMPLETE" | "UPDATE_COMPLETE") => return outputs(&xml),
                Some(status) if status.ends_with("_FAILED") || status.ends_with("_COMPLETE") => {
                    let events = self.aws.cloud_formation("DescribeStackEvents", &stack).await?;
                    bail!("deployment ended as {status}: {}", failure(&events)?)
                }
                _ if Instant::now() > deadline => bail!("deployment takes longer than {} s", DEPLOY_MAX.as_secs()),
                _ => sleep(DEPLOY_POLL).await,
            }
        }
    }
}

fn outputs(xml: &str) -> Result<BTreeMap<String, String>> {
    let document = Document::parse(xml)?;
    let pair = |member| Some((child(member, "OutputKey")?.to_owned(), child(member, "OutputValue")?.to_owned()));
    Ok(document.descendants().filter_map(pair).collect())
}

/// What the first resource to fail in the latest operation said. Events come newest first.
fn failure(xml: &str) -> Result<String> {
    let document = Document::parse(xml)?;
    let text = |event, name| child(event, name).unwrap_or_default();
    let starts = |event| {
        text(event, "LogicalResourceId") == STACK
            && matches!(text(event, "ResourceStatus"), "CREATE_IN_PROGRESS" | "UPDATE_IN_PROGRESS")
    };
    let latest = document.descendants().take_while(|event| !starts(*event));
    let failed = latest.filter(|event| text(*event, "ResourceStatus").ends_with("_FAILED")).last();
    let event = failed.context("no resource says why")?;
    Ok(format!("{}: {}", text(event, "LogicalResourceId"), text(event, "ResourceStatusReason")))
}

/// The text of an element's first child of that name, whatever its namespace.
fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|child| child.tag_name().name() == name)?.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), format!("s3://code/{name}.zip"))).collect()
    }

    fn with_code(text: &str) -> Result<String> {
        Template(text.to_owned()).with_code(&uris(&["connect", "message"]))
    }

    #[test]
    fn each_function_gets_the_code_of_its_binary() {
        let text = "\
Globals: {Function: {Handler: bootstrap}}
Resources:
  # Binary and CodeUri go together.
  ConnectFunction:
    Metadata: {BuildMethod: rust-cargolambda, BuildProperties: {Binary: connect}}
    Properties: {CodeUri: ., Timeout: !If [Slow, 5, !Ref Fast]}
  MessageFunction:
    Metadata:
      BuildProperties:
        Binary: message # of functions/message
    Properties:
      CodeUri: .
      Environment: {Variables: {A: !Sub '${B}.'}}
";
        let expected = text.replacen("CodeUri: .,", "CodeUri: s3://code/connect.zip,", 1).replacen(
            "CodeUri: .\n",
            "CodeUri: s3://code/message.zip\n",
            1,
        );
        assert_eq!(with_code(text).unwrap(), expected);
        assert_eq!(Template(text.to_owned()).binaries(), BTreeSet::from(["connect", "message"]));
    }

    #[test]
    fn a_function_whose_code_is_unknown_is_refused() {
        for (text, problem) in [
            ("CodeUri: .\n", "a CodeUri has no Binary above it"),
            ("Binary: connect\nCodeUri: .\nCodeUri: .\n", "a CodeUri has no Binary above it"),
            ("Binary: connect\n", "binary connect has no CodeUri below it"),
            ("Binary: refund\nCodeUri: .\n", "no binary refund was built"),
        ] {
            let error = with_code(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_template_names_a_binary_for_every_function() {
        let template = Template::read(&crate::stack::root().join("template.yaml")).unwrap();
        let functions = template.0.matches("Type: AWS::Serverless::Function").count();
        assert!(functions > 0);
        let names: Vec<&str> = template.binaries().into_iter().collect();
        let text = template.with_code(&uris(&names)).unwrap();
        assert_eq!(text.matches("CodeUri: s3://code/").count(), functions);
        assert_eq!(text.matches("CodeUri:").count(), functions);
    }

    #[test]
    fn outputs_are_read_whatever_their_order() {
        let xml = "<r xmlns='urn:x'><Outputs><member><OutputKey>A</OutputKey><OutputValue>1</OutputValue></member>\
            <member><OutputValue>2</OutputValue><OutputKey>B</OutputKey></member></Outputs></r>";
        let expected = [("A", "1"), ("B", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(outputs(xml).unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn the_first_failure_of_the_latest_deployment_is_told() {
        let event = |name: &str, status: &str, reason: &str| {
            format!(
                "<member><LogicalResourceId>{name}</LogicalResourceId><ResourceStatus>{status}</ResourceStatus>\
                 <ResourceStatusReason>{reason}</ResourceStatusReason></member>"
            )
        };
        let events = [
            event("manga-chat", "UPDATE_ROLLBACK_COMPLETE", ""),
            event("Store", "UPDATE_FAILED", "cancelled"),
            event("Table", "UPDATE_FAILED", "no such key"),
            event("manga-chat", "UPDATE_IN_PROGRESS", ""),
            event("Chat", "CREATE_FAILED", "an older story"),
        ];
        let xml = format!("<r xmlns='urn:x'>{}</r>", events.concat());
        assert_eq!(failure(&xml).unwrap(), "Table: no such key");
    }
}
