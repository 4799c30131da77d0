//! The files to run, read and understood before anything is made.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use courier_client::language::Language;

use super::job::Program;

/// Largest program: it goes through memory.
const MAX_SOURCE_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a file, or standard input for `-`, and finds out its language.
pub(crate) fn read(file: &str, language: Option<Language>) -> anyhow::Result<Program> {
    let source = if file == "-" {
        bounded(std::io::stdin().lock())
            .context("the program cannot be read from standard input")?
    } else {
        let path = Path::new(file);
        let opened = std::fs::File::open(path).with_context(|| format!("{file} cannot be read"))?;
        if opened.metadata()?.is_dir() {
            bail!(
                "{file} is a folder: name the file to run, and bring the folder with --in {file}"
            );
        }
        bounded(opened).with_context(|| format!("{file} cannot be read"))?
    };
    let file_name = match file {
        "-" => None,
        _named => Path::new(file).file_name().and_then(|name| name.to_str()).map(str::to_owned),
    };
    let language = match language {
        Some(language) => language,
        None => Language::detect(file_name.as_deref(), &source).with_context(|| {
            format!(
                "the language of {} is not known from its name: say --lang with one of {}",
                if file == "-" { "standard input" } else { file },
                Language::names().join(", ")
            )
        })?,
    };
    Ok(Program { shown: file.to_owned(), language, source: source.into(), file_name })
}

fn bounded(reader: impl std::io::Read) -> anyhow::Result<Vec<u8>> {
    let mut source = Vec::new();
    reader.take(MAX_SOURCE_BYTES + 1).read_to_end(&mut source)?;
    if u64::try_from(source.len()).unwrap_or(u64::MAX) > MAX_SOURCE_BYTES {
        bail!("a program may have {MAX_SOURCE_BYTES} bytes at most; bring data with --in");
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_that_cannot_be_told_is_asked_for_with_the_choices() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes.txt");
        std::fs::write(&file, "hello").unwrap();
        let file = file.to_str().unwrap();
        let error = read(file, None).unwrap_err().to_string();
        assert!(error.contains("--lang") && error.contains("python"), "{error}");
        assert_eq!(read(file, Some(Language::Sh)).unwrap().language, Language::Sh);
    }

    #[test]
    fn a_folder_is_no_program_and_the_error_says_what_to_do() {
        let error = read("/", None).unwrap_err().to_string();
        assert!(error.contains("--in /"), "{error}");
    }
}
