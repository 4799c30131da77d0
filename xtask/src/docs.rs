//! Documentation: links resolve, and the README's limits are those of the code.

use std::path::{Component, Path, PathBuf};

use courier_types::{LimitRange, Limits};

use crate::Finding;
use crate::tree::{File, Tree};

/// Every limit that the README's table must state.
const LIMITS: [LimitRange; 5] =
    [Limits::MEMORY_MIB, Limits::CPU_MILLIS, Limits::PIDS, Limits::DISK_MIB, Limits::OPEN_FILES];

/// The pages that name the test of what they claim.
const CLAIMS: [&str; 4] =
    ["docs/containment.md", "docs/egress.md", "docs/egress-presets.md", "docs/egress-probes.md"];

/// Where tables of probes are: a probe is a test with a text as its name.
const PROBES: &str = "tests/tests/";

pub(crate) fn check(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        findings.extend(links(&file.text).into_iter().filter_map(|l| broken(tree, file, &l)));
    }
    findings.extend(limits(tree.text("README.md")?));
    for page in CLAIMS {
        findings.extend(tests(tree, page, tree.text(page)?));
    }
    Ok(findings)
}

/// Every test that a page of claims names must exist.
fn tests(tree: &Tree, page: &str, text: &str) -> Vec<Finding> {
    let names = text.split('`').skip(1).step_by(2).filter(|word| is_test_name(word));
    let exists = |name: &&str| {
        let (function, probe) = (format!("fn {name}("), format!("\"{name}\""));
        let mut sources = tree.files.iter().filter(|file| file.path.ends_with(".rs"));
        let is_there = |file: &File| {
            file.text.contains(&function)
                || (file.path.starts_with(PROBES) && file.text.contains(&probe))
        };
        sources.any(is_there)
    };
    let missing = names.filter(|name| !exists(name));
    missing.map(|name| format!("{page}: test {name} does not exist")).collect()
}

/// A test's name is a sentence: at least four words.
fn is_test_name(word: &str) -> bool {
    word.matches('_').count() >= 3
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
}

/// Targets of `[text](target)` outside code blocks.
fn links(markdown: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let after_each = line.split("](").skip(1);
        targets.extend(after_each.filter_map(|rest| rest.split(')').next()).map(str::to_owned));
    }
    targets
}

fn broken(tree: &Tree, from: &File, target: &str) -> Option<Finding> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { from.path.clone() } else { resolve(&from.path, path) };
    if !tree.root.join(&path).exists() {
        return Some(format!("{}: link to {target:?}, but {path} does not exist", from.path));
    }
    let text = tree.files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let found = anchor.is_empty() || text.is_some_and(|t| anchors(t).any(|a| a == anchor));
    (!found).then(|| format!("{}: link to {target:?}, but no heading gives #{anchor}", from.path))
}

/// `target` as seen from the folder of `from`, without `.` and `..`.
fn resolve(from: &str, target: &str) -> String {
    let mut path: PathBuf = Path::new(from).parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path.to_string_lossy().into_owned()
}

/// Anchors of a page's headings, made as the usual renderers make them.
fn anchors(markdown: &str) -> impl Iterator<Item = String> {
    markdown.lines().filter(|line| line.starts_with('#')).map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    })
}

/// The README must have, for each limit, one table row with its name and its three figures.
fn limits(readme: &str) -> Vec<Finding> {
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with('|')).collect();
    let mut findings = Vec::new();
    for range in LIMITS {
        let name = format!("`{}`", range.name);
        let wanted = [range.min, range.max, range.default];
        let row = rows.iter().find(|row| row.contains(&name));
        let stated = row.is_some_and(|row| {
            let numbers = numbers(row);
            wanted.iter().all(|number| numbers.contains(number))
        });
        if !stated {
            findings.push(format!(
                "README.md: no table row names {name} with {} to {}, default {}",
                range.min, range.max, range.default
            ));
        }
    }
    findings
}

/// Every whole number in a text; `,` and `_` between digits separate thousands.
fn numbers(text: &str) -> Vec<u64> {
    let joined: String = text.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    joined.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_in_text_and_not_in_a_code_block() {
        let page = "See [a](docs/a.md#b-c).\n```\n[x](y)\n```\n";
        assert_eq!(links(page), ["docs/a.md#b-c"]);
        assert_eq!(resolve("docs/x/y.md", "../a.md"), "docs/a.md");
        assert_eq!(anchors("## B, c: `d`").next().as_deref(), Some("b-c-d"));
    }

    #[test]
    fn a_claim_with_a_test_that_does_not_exist_is_found() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let files = vec![
            file("a.rs", r#"fn a_b_c_d() { "a_b_c_f" }"#),
            file("tests/tests/a.rs", r#"probe("a_b_c_e")"#),
        ];
        let tree = Tree { root: PathBuf::new(), files };
        assert!(tests(&tree, "page", "| `a_b_c_d` | `memory_mib`, `a_b_c_e` |").is_empty());
        assert_eq!(tests(&tree, "page", "| `a_b_c_f` |").len(), 1);
    }

    #[test]
    fn a_limit_with_another_default_in_the_readme_is_found() {
        let row =
            |l: LimitRange| format!("| `{}` | {} | {} to {} |\n", l.name, l.default, l.min, l.max);
        let good: String = LIMITS.into_iter().map(row).collect();
        assert_eq!(limits(&good), Vec::<String>::new());
        let bad = good.replace("| 2048 |", "| 4096 |");
        assert_eq!(limits(&bad).len(), 1);
    }
}
