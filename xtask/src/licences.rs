//! Licences: each dependency offers one that an Apache-2.0 program may ship.

use crate::Finding;
use crate::layers::metadata;
use crate::tree::Tree;

/// What we accept: permissive licences, and file-level copyleft that asks nothing of the rest.
const ACCEPTED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(crate) fn check(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let packages = metadata(tree, &["--locked", "--filter-platform=x86_64-unknown-linux-gnu"])?;
    let mut findings = Vec::new();
    for package in packages.packages.iter().filter(|package| package.source.is_some()) {
        let (name, version) = (&package.name, &package.version);
        match &package.license {
            None => findings.push(format!("{name} {version} states no licence")),
            Some(licence) if accepts(licence) => {}
            Some(licence) => findings.push(format!(
                "{name} {version} is under {licence:?}: take another crate, or add the licence to \
                 xtask/src/licences.rs with the reason"
            )),
        }
    }
    Ok(findings)
}

/// True when some choice that the expression offers is wholly on the list. `/` is the old `OR`.
fn accepts(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    split(&expression, " OR ").iter().any(|choice| {
        split(choice, " AND ").iter().all(|part| {
            let part = part.trim();
            match part.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
                Some(inner) => accepts(inner),
                None => ACCEPTED.contains(&part),
            }
        })
    })
}

/// Splits at `separator` where no parenthesis is open.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && at >= start && text.get(at..).is_some_and(|t| t.starts_with(separator)) {
            parts.extend(text.get(start..at));
            start = at + separator.len();
        }
    }
    parts.extend(text.get(start..));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_accepted_choice_is_enough_and_every_part_of_it_must_be_accepted() {
        for good in ["MIT", "MIT OR GPL-3.0", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND Unicode-3.0"]
        {
            assert!(accepts(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT AND GPL-2.0) OR AGPL-3.0", ""] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
