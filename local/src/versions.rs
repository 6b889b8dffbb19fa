//! Old versions of the functions, which the embedded AWS keeps in memory: hundreds of megabytes per edit.

use anyhow::Result;
use serde::Deserialize;

use crate::aws::Aws;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Functions {
    functions: Vec<Function>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Function {
    function_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    versions: Vec<Version>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Aliases {
    aliases: Vec<Alias>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Alias {
    function_version: String,
}

/// Deletes the versions that no alias points to. Called before a deployment, it leaves the version that is about to be
/// replaced, so that what it is answering is not cut off.
///
/// # Errors
/// Lambda refuses.
pub(crate) async fn delete_unused(aws: &Aws) -> Result<()> {
    let Functions { functions } = aws.read("2015-03-31/functions").await?;
    for Function { function_name } in functions {
        let path = format!("2015-03-31/functions/{function_name}");
        let Aliases { aliases } = aws.read(&format!("{path}/aliases")).await?;
        let Versions { versions } = aws.read(&format!("{path}/versions")).await?;
        for Version { version } in versions {
            if version != "$LATEST" && !aliases.iter().any(|alias| alias.function_version == version) {
                aws.delete(&format!("{path}?Qualifier={version}")).await?;
            }
        }
    }
    Ok(())
}
