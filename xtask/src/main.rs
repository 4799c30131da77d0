//! Checks and chores of the repository: `cargo xtask check` runs every check.
//!
//! A check reads the tree and returns every finding at once, each with its place and what to do.

mod docs;
mod fuzz;
mod layers;
mod licences;
mod sdks;
mod soak;
mod source;
mod tree;

use std::process::ExitCode;

use anyhow::{Context, bail};
use tree::Tree;

/// One thing that breaks a rule: `place: what is wrong; what to do`.
type Finding = String;

/// A check's name, what it is for, and its code.
type Check = (&'static str, &'static str, fn(&Tree) -> anyhow::Result<Vec<Finding>>);

const CHECKS: &[Check] = &[
    ("layers", "crates use only crates of lower layers (ARCHITECTURE.md)", layers::check),
    ("source", "what may stand where in the source; how long a file may be", source::check),
    ("docs", "links resolve; the README's limits are the code's", docs::check),
    ("licences", "every dependency's licence is on the list", licences::check),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut words = arguments.iter().map(String::as_str);
    match words.next() {
        Some("check") => check(CHECKS),
        Some("fuzz") => fuzz::run(&tree::root()?, &words.collect::<Vec<_>>()),
        Some("sdks") => sdks::run(&words.collect::<Vec<_>>()),
        Some("soak") => soak::run(&words.collect::<Vec<_>>()),
        Some(name) => {
            let chosen: Vec<Check> = CHECKS.iter().copied().filter(|c| c.0 == name).collect();
            if chosen.is_empty() {
                bail!("no chore is called {name:?}\n{}", usage());
            }
            check(&chosen)
        }
        None => bail!("which chore?\n{}", usage()),
    }
}

fn check(checks: &[Check]) -> anyhow::Result<()> {
    let tree = Tree::read().context("the repository cannot be read")?;
    let mut count = 0;
    for (name, _purpose, check) in checks {
        let findings = check(&tree).with_context(|| format!("check {name} could not run"))?;
        for finding in &findings {
            eprintln!("{name}: {finding}");
        }
        println!("{name}: {}", if findings.is_empty() { "ok" } else { "FAILED" });
        count += findings.len();
    }
    if count > 0 {
        bail!("{count} finding(s)");
    }
    Ok(())
}

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask CHORE\n  check       every check below\n");
    for (name, purpose, _check) in CHECKS {
        text.push_str(&format!("  {name:<10}  {purpose}\n"));
    }
    text.push_str("  sdks        run many versions of the SDKs and write docs/sdk-versions.md\n");
    text.push_str("  fuzz [--seconds N]  run each fuzz target for N seconds (30)\n");
    text.push_str("  soak [--count N]  make and kill N sandboxes (1000), then look for leaks");
    text
}
