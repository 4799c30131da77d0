//! Layering: a crate uses only crates of lower layers, as ARCHITECTURE.md's table says.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::Finding;
use crate::tree::Tree;

/// The only crates that run with root's privileges may rest on.
const LAUNCHER_MAY_USE: &[&str] = &["libc", "rustix", "serde", "serde_json"];

/// Crates that never do I/O, and what they must therefore not depend on.
const PURE: &[&str] = &["courier-types", "courier-lifecycle", "courier-protocol"];
const IMPURE: &[&str] = &["tokio", "hyper", "hyper-util", "rustix", "tracing", "sqlx", "axum"];

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal dependency.
    kind: Option<String>,
    path: Option<String>,
}

/// Runs `cargo metadata` on the workspace.
pub(crate) fn metadata(tree: &Tree, arguments: &[&str]) -> anyhow::Result<Metadata> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1"])
        .args(arguments)
        .current_dir(&tree.root)
        .output()
        .context("cargo metadata did not start")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub(crate) fn check(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let layers = table(tree.text("ARCHITECTURE.md")?);
    let metadata = metadata(tree, &["--no-deps"])?;
    Ok(judge(&layers, &metadata))
}

/// The code map's rows: package name to layer; `None` for `-`, which may use everything.
fn table(architecture: &str) -> BTreeMap<String, Option<u32>> {
    let mut layers = BTreeMap::new();
    for line in architecture.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, layer, names, _, _] = cells.as_slice() else { continue };
        let layer = match (*layer, layer.parse()) {
            ("-", _) => None,
            (_, Ok(number)) => Some(number),
            (_, Err(_no_number)) => continue,
        };
        for name in names.split(',').map(|name| name.trim().trim_matches('`')) {
            let package = match name {
                "courier" | "xtask" => name.to_owned(),
                name => format!("courier-{name}"),
            };
            layers.insert(package, layer);
        }
    }
    layers
}

fn judge(layers: &BTreeMap<String, Option<u32>>, metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let Some(layer) = layers.get(&package.name) else {
            findings.push(format!("{}: not in ARCHITECTURE.md's code map", package.name));
            continue;
        };
        // Tests may build on neighbours; what is shipped may not.
        let shipped = package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"));
        for dependency in shipped {
            let name = dependency.name.as_str();
            if dependency.path.is_some()
                && let Some(layer) = layer
                && !matches!(layers.get(name), Some(Some(lower)) if lower < layer)
            {
                findings.push(format!(
                    "{} (layer {layer}) uses {name}, which is not on a lower layer",
                    package.name
                ));
            }
            if package.name == "courier-launcher" && !LAUNCHER_MAY_USE.contains(&name) {
                findings.push(format!(
                    "courier-launcher uses {name}: what runs as root uses only {}",
                    LAUNCHER_MAY_USE.join(", ")
                ));
            }
            if PURE.contains(&package.name.as_str()) && IMPURE.contains(&name) {
                findings.push(format!("{} uses {name}: this crate does no I/O", package.name));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "| layer | crate | duty |\n|---|---|---|\n| 0 | `types` | x |\n\
        | 1 | `store` | x |\n| 1 | `driver` | x |\n| - | `xtask`, `tests` | x |\n";

    fn package(name: &str, uses: &[&str]) -> Package {
        let dependencies = uses
            .iter()
            .map(|name| Dependency {
                name: (*name).to_owned(),
                kind: None,
                path: name.starts_with("courier-").then(String::new),
            })
            .collect();
        Package {
            name: name.to_owned(),
            version: String::new(),
            license: None,
            source: None,
            dependencies,
        }
    }

    #[test]
    fn a_crate_of_the_same_layer_is_refused_and_one_of_a_lower_layer_is_not() {
        let layers = table(MAP);
        let good = Metadata { packages: vec![package("courier-store", &["courier-types"])] };
        assert_eq!(judge(&layers, &good), Vec::<String>::new());
        let bad = Metadata { packages: vec![package("courier-store", &["courier-driver"])] };
        assert_eq!(judge(&layers, &bad).len(), 1);
    }

    #[test]
    fn a_pure_crate_must_not_use_a_runtime_and_an_unknown_crate_is_named() {
        let layers = table(MAP);
        let packages = vec![package("courier-types", &["tokio"]), package("courier-new", &[])];
        let findings = judge(&layers, &Metadata { packages });
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}
