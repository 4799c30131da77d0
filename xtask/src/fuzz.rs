//! Fuzzing with the compiler that builds everything else: no further tool is needed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Seconds per target when nobody says.
const DEFAULT_SECONDS: &str = "30";
/// No input of these parsers takes longer, in seconds.
const SLOWEST_INPUT: u32 = 5;

/// What makes the compiler instrument the code, as `cargo fuzz` would, without a sanitizer: there
/// is no `unsafe` in these parsers.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions=on \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

pub(crate) fn run(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let seconds = match arguments {
        [] => DEFAULT_SECONDS,
        ["--seconds", seconds] => seconds,
        other => bail!("fuzz takes only --seconds N, not {other:?}"),
    };
    let seconds: u32 = seconds.parse().with_context(|| format!("{seconds:?} is no number"))?;
    let folder = root.join("fuzz");
    for target in targets(&folder)? {
        println!("== {target}");
        let corpus = folder.join("corpus").join(&target);
        let found = folder.join("artifacts").join(&target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&found)?;
        let status = Command::new(env!("CARGO"))
            .args(["run", "--release", "--locked", "--quiet", "--target-dir", "target", "--bin"])
            .args([target.as_str(), "--"])
            .arg(&corpus)
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={SLOWEST_INPUT}"))
            .args(["-print_final_stats=1", "-verbosity=0"])
            .env("RUSTFLAGS", FLAGS)
            // Lets a stable compiler take the flags above.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(&folder)
            .status()
            .context("cargo run did not start")?;
        if !status.success() {
            bail!("{target}: {status}; the input is in {}", found.display());
        }
    }
    Ok(())
}

/// The targets are the files of `fuzz_targets`.
fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
