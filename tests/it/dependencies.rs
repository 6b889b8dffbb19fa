//! Dependencies point one way: functions → domain and aws-adapters; adapters and testkit → domain; gateway and local
//! never to a function.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

use crate::stack::repository;

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(repository().join("Cargo.toml")).exec().expect("cargo metadata")
}

/// The packages of the workspace that `package` names as dependencies of one of these kinds.
fn siblings(workspace: &Metadata, package: &Package, kinds: &[DependencyKind]) -> BTreeSet<String> {
    let members: BTreeSet<&str> = workspace.workspace_packages().iter().map(|member| member.name.as_str()).collect();
    let named = package.dependencies.iter().filter(|dependency| kinds.contains(&dependency.kind));
    named.map(|dependency| dependency.name.clone()).filter(|name| members.contains(name.as_str())).collect()
}

fn is_function(workspace: &Metadata, package: &Package) -> bool {
    package.manifest_path.starts_with(workspace.workspace_root.join("functions"))
}

fn functions(workspace: &Metadata) -> Vec<&Package> {
    let functions: Vec<_> =
        workspace.workspace_packages().into_iter().filter(|package| is_function(workspace, package)).collect();
    assert!(!functions.is_empty());
    functions
}

fn member<'a>(workspace: &'a Metadata, name: &str) -> &'a Package {
    let members = workspace.workspace_packages();
    members.into_iter().find(|package| package.name == name).unwrap_or_else(|| panic!("{name} is a member"))
}

const SHIPPED: [DependencyKind; 2] = [DependencyKind::Normal, DependencyKind::Build];
const ALL: [DependencyKind; 3] = [DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development];

#[track_caller]
fn assert_within(package: &Package, siblings: &BTreeSet<String>, allowed: &[&str]) {
    let others: Vec<_> = siblings.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "{} depends on {others:?}", package.name);
}

#[test]
fn functions_depend_on_the_domain_and_the_adapters_only() {
    let workspace = metadata();
    for function in functions(&workspace) {
        let shipped = siblings(&workspace, function, &SHIPPED);
        assert!(shipped.contains("domain"), "{} has no rules of its own", function.name);
        assert_within(function, &shipped, &["domain", "aws-adapters"]);
        assert_within(function, &siblings(&workspace, function, &ALL), &["domain", "aws-adapters", "testkit"]);
    }
}

#[test]
fn shared_crates_depend_on_the_domain_and_the_adapters_on_the_store_client() {
    let workspace = metadata();
    for (name, allowed) in [
        ("aws-adapters", ["domain", "store-client"].as_slice()),
        ("store-client", &["domain"]),
        ("testkit", &["domain"]),
    ] {
        let package = member(&workspace, name);
        assert_within(package, &siblings(&workspace, package, &SHIPPED), allowed);
    }
    let domain = member(&workspace, "domain");
    assert_within(domain, &siblings(&workspace, domain, &SHIPPED), &[]);
}

#[test]
fn gateway_and_local_know_no_function() {
    let workspace = metadata();
    let functions: BTreeSet<String> = functions(&workspace).iter().map(|package| package.name.to_string()).collect();
    for name in ["gateway", "local", "bedrock-stand-in"] {
        let named = siblings(&workspace, member(&workspace, name), &ALL);
        assert!(named.is_disjoint(&functions), "{name} depends on {named:?}");
    }
}

#[test]
fn the_testkit_is_never_shipped() {
    let workspace = metadata();
    for package in workspace.workspace_packages() {
        let shipped = siblings(&workspace, package, &SHIPPED);
        assert!(!shipped.contains("testkit"), "{} ships the testkit", package.name);
    }
}

#[test]
fn the_domain_does_no_input_or_output() {
    let workspace = metadata();
    let shipped = shipped_with(&workspace, &member(&workspace, "domain").id);
    assert!(shipped.contains("serde"), "{shipped:?}");
    let outside = ["tokio", "reqwest", "hyper", "lambda_runtime", "lambda_http", "axum"];
    let found: Vec<_> =
        shipped.iter().filter(|name| name.starts_with("aws") || outside.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "the domain ships with {found:?}");
}

/// The names of all packages that are compiled into what depends on `root`, itself included.
fn shipped_with(workspace: &Metadata, root: &PackageId) -> BTreeSet<String> {
    let resolve = workspace.resolve.as_ref().expect("cargo metadata resolves");
    let nodes: HashMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut reached = BTreeSet::from([root]);
    let mut to_visit = vec![root];
    while let Some(id) = to_visit.pop() {
        for dependency in &nodes[id].deps {
            let shipped = dependency.dep_kinds.iter().any(|info| info.kind == DependencyKind::Normal);
            if shipped && reached.insert(&dependency.pkg) {
                to_visit.push(&dependency.pkg);
            }
        }
    }
    workspace.packages.iter().filter(|package| reached.contains(&package.id)).map(|p| p.name.to_string()).collect()
}

#[test]
fn every_member_keeps_the_lints_and_versions_of_the_workspace() {
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).expect("a manifest");
        assert!(manifest.contains("\n[lints]\nworkspace = true\n"), "{} has lints of its own", package.name);
        for dependency in dependency_lines(&manifest) {
            // A crate may ask itself for a feature in its tests.
            let of_itself = dependency.contains("path = \".\"");
            assert!(of_itself || dependency.contains("workspace = true"), "{}: {dependency}", package.name);
        }
    }
}

/// The lines of a manifest's dependency tables.
fn dependency_lines(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.contains("dependencies");
        } else if inside && line.contains('=') {
            lines.push(line);
        }
    }
    lines
}
