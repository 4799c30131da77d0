//! The page.

use crate::versions::{From, Package};
use crate::{Outcome, Run};

/// What the page begins with.
const HEAD: &str = "\
<!-- Written by `cargo xtask sdks` from what it ran. Do not edit: run it again. -->

# SDK versions

These versions of the official packages, as their registries have them, were run unmodified against this
build: by `cargo xtask sdks`, in domain mode, in real sandboxes. `yes` is a check that passed, `-` is
what the version does not have. What the checks do stands in `tests/sdk/versions`.

";

/// The whole page.
pub(crate) fn render(results: &[(&Package, Vec<Run>)]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str(&format!("CodeCourier {}.\n", env!("CARGO_PKG_VERSION")));
    for (package, runs) in results {
        let from = match package.from {
            From::Npm => "npm",
            From::PyPi => "PyPI",
        };
        page.push_str(&format!("\n## `{}` from {from}\n\n", package.name));
        page.push_str(&grid(package, runs));
        let failed = failures(package, runs);
        if !failed.is_empty() {
            page.push_str(&format!("\nWhat failed:\n\n{failed}"));
        }
    }
    page
}

fn grid(package: &Package, runs: &[Run]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _outcome) in runs.iter().flat_map(|run| &run.checks) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut grid = format!("| version | {} |\n", names.join(" | "));
    grid.push_str(&format!("|---|{}\n", "---|".repeat(names.len())));
    for run in runs {
        let cell = |name: &&str| match run.checks.iter().find(|(own, _outcome)| own == name) {
            Some((_name, Outcome::Passed)) => "yes",
            Some((_name, Outcome::Failed(_))) => "**no**",
            Some((_name, Outcome::Absent)) => "-",
            None => "not run",
        };
        let cells: Vec<&str> = names.iter().map(cell).collect();
        let with = package.companion(run.version);
        let with = with.map(|with| format!(" with `{with}`")).unwrap_or_default();
        grid.push_str(&format!("| {}{with} | {} |\n", run.version, cells.join(" | ")));
    }
    grid
}

fn failures(package: &Package, runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        if let Some(trouble) = &run.trouble {
            text.push_str(&format!("- {}: {}\n", run.version, plain(trouble)));
        }
        for (name, outcome) in &run.checks {
            if let Outcome::Failed(why) = outcome {
                let reason = package.reason(run.version, name).unwrap_or_default();
                let line = format!("- {}, {name}: {} {reason}", run.version, plain(why));
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
    }
    text
}

/// Text that means nothing in Markdown.
fn plain(text: &str) -> String {
    format!("`{}`", text.replace('`', "'"))
}
