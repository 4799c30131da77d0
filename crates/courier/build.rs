//! Writes the list of the product's templates that Dockerfiles describe, so that the binary has their
//! files: every folder of `templates/` with a `template.toml`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The templates, from this crate.
const TEMPLATES: &str = "../../templates";
/// What makes a folder one of them.
const MANIFEST: &str = "template.toml";

fn main() -> Result<(), Box<dyn Error>> {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join(TEMPLATES).canonicalize()?;
    println!("cargo::rerun-if-changed={}", templates.display());
    let mut text = String::from("&[\n");
    for folder in sorted(&templates)? {
        if !folder.join(MANIFEST).is_file() {
            continue;
        }
        let name = relative(&templates, &folder)?;
        let mut files = Vec::new();
        collect(&folder, &mut files)?;
        writeln!(text, "    Product {{ name: {name:?}, files: &[")?;
        for file in files {
            println!("cargo::rerun-if-changed={}", file.display());
            let path = relative(&folder, &file)?;
            writeln!(
                text,
                "        ({path:?}, include_bytes!({:?})),",
                file.display().to_string()
            )?;
        }
        text.push_str("    ] },\n");
    }
    text.push_str("]\n");
    #[expect(clippy::disallowed_methods, reason = "cargo tells build scripts by variables")]
    let out = std::env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("products.rs"), text)?;
    Ok(())
}

/// What is in a folder, in the order of the names.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for path in sorted(folder)? {
        println!("cargo::rerun-if-changed={}", path.display());
        if path.is_symlink() {
            return Err(format!("{}: links cannot be embedded", path.display()).into());
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn relative(folder: &Path, path: &Path) -> Result<String, Box<dyn Error>> {
    let relative = path.strip_prefix(folder)?;
    Ok(relative.to_str().ok_or("a file name is no UTF-8")?.to_owned())
}
