//! Deploying `template.yaml` through CloudFormation, as `sam package` and `sam deploy` do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use roxmltree::{Document, Node};
use tokio::time::{Instant, sleep};

use crate::aws::{Aws, text_of};

const STACK: &str = "manga-chat";

/// Holds the functions' code and the template, which is too long to be sent in the call (51,200 bytes at most).
pub(crate) const ARTIFACTS: &str = "manga-chat-artifacts";

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

/// Creates the stack, or updates it when it exists, and returns its outputs.
///
/// # Errors
/// CloudFormation refuses the template or fails; the error names the resource and its reason.
pub(crate) async fn deploy(
    aws: &Aws,
    template: &str,
    parameters: &BTreeMap<&str, String>,
) -> Result<BTreeMap<String, String>> {
    let template_url = aws.put_object(ARTIFACTS, "template.yaml", template.to_owned().into_bytes()).await?;
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut call = vec![named("StackName", STACK), named("TemplateURL", &template_url)];
    for (number, capability) in ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"].iter().enumerate()
    {
        call.push(named(&format!("Capabilities.member.{}", number + 1), capability));
    }
    for (number, (key, value)) in parameters.iter().enumerate() {
        let member = format!("Parameters.member.{}", number + 1);
        call.push(named(&format!("{member}.ParameterKey"), key));
        call.push(named(&format!("{member}.ParameterValue"), value));
    }
    let stack = [named("StackName", STACK)];
    let exists = aws.cloud_formation("DescribeStacks", &stack).await.is_ok();
    aws.cloud_formation(if exists { "UpdateStack" } else { "CreateStack" }, &call).await?;

    let deadline = Instant::now() + DEPLOY_MAX;
    loop {
        let xml = aws.cloud_formation("DescribeStacks", &stack).await?;
        match text_of(&xml, "StackStatus")?.as_deref() {
            Some("CREATE_COMPLETE" | "UPDATE_COMPLETE") => return outputs(&xml),
            Some(status) if status.ends_with("_FAILED") || status.ends_with("_COMPLETE") => {
                bail!("deployment ended as {status}: {}", failure(aws, &stack).await?)
            }
            _ if Instant::now() > deadline => bail!("deployment takes longer than {} s", DEPLOY_MAX.as_secs()),
            _ => sleep(DEPLOY_POLL).await,
        }
    }
}

fn outputs(xml: &str) -> Result<BTreeMap<String, String>> {
    let document = Document::parse(xml)?;
    let pair = |member| Some((child(member, "OutputKey")?.to_owned(), child(member, "OutputValue")?.to_owned()));
    Ok(document.descendants().filter_map(pair).collect())
}

/// What the first resource to fail said; events come newest first.
async fn failure(aws: &Aws, stack: &[(String, String)]) -> Result<String> {
    let xml = aws.cloud_formation("DescribeStackEvents", stack).await?;
    let document = Document::parse(&xml)?;
    let failed =
        |event: &Node<'_, '_>| child(*event, "ResourceStatus").is_some_and(|status| status.ends_with("_FAILED"));
    let event = document.descendants().rfind(failed).context("no resource says why")?;
    let text = |name| child(event, name).unwrap_or_default();
    Ok(format!("{}: {}", text("LogicalResourceId"), text("ResourceStatusReason")))
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
}
