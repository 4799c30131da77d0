//! Steps as clients send them become steps that a node takes, or an error that names the step. Pure.

use std::collections::BTreeMap;

use courier_protocol::e2b::TemplateStep;
use courier_protocol::node::{Step, StepKind};

/// Most steps of a build.
const STEPS_MAX: usize = 1_000;

/// Longest command line in bytes: Linux's own limit for one argument is twice that.
pub(super) const COMMAND_MAX: usize = 64 * 1024;

/// Longest path in bytes: Linux's own limit.
const PATH_MAX: usize = 4_096;

/// Longest name of a user or of a user and a group, in bytes: twice what `useradd` takes.
const USER_MAX: usize = 65;

/// Digits of the hash of an archive.
const HASH_LEN: usize = 64;

/// The permission bits.
const MODE_MAX: u32 = 0o7777;

/// A step that cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepsError {
    #[error("a build has at most {STEPS_MAX} steps, not {0}")]
    TooMany(usize),
    #[error("step {number} ({kind}): {what}")]
    Step { number: usize, kind: String, what: StepError },
}

/// What is wrong with one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepError {
    #[error("no such type: use RUN, COPY, WORKDIR, USER or ENV")]
    Kind,
    #[error("{0}")]
    Arguments(&'static str),
    #[error("filesHash must be 64 digits of 0-9 and a-f")]
    Hash,
    #[error("the files {hash} were not uploaded")]
    NotUploaded { hash: String },
    #[error("{what} is longer than {max} bytes or has a NUL byte")]
    Text { what: &'static str, max: usize },
    #[error("{path:?} leaves the context: use a path relative to it, without '..'")]
    Source { path: String },
    #[error("{name:?} is no name of an environment variable")]
    EnvName { name: String },
    #[error("{mode:?} is no mode: use octal digits, at most 7777")]
    Mode { mode: String },
    #[error("{owner:?} is no owner: use USER or USER:GROUP")]
    Owner { owner: String },
}

/// The hashes of all archives that steps want, each once.
pub(super) fn hashes(steps: &[TemplateStep]) -> Vec<&str> {
    let mut hashes: Vec<&str> =
        steps.iter().filter_map(|step| step.files_hash.as_deref()).filter(|h| is_hash(h)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// True for the form of an archive's hash.
pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == HASH_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads steps. `uploads` has the digest of each archive that is there, by its hash.
pub(super) fn parse(
    given: &[TemplateStep],
    uploads: &BTreeMap<String, String>,
) -> Result<Vec<Step>, StepsError> {
    if given.len() > STEPS_MAX {
        return Err(StepsError::TooMany(given.len()));
    }
    let steps = (1..).zip(given).map(|(number, step)| {
        let kind = kind(step, uploads).map_err(|what| StepsError::Step {
            number,
            kind: step.kind.chars().take(16).collect(),
            what,
        })?;
        Ok(Step { kind, force: step.force.unwrap_or(false) })
    });
    steps.collect()
}

fn kind(step: &TemplateStep, uploads: &BTreeMap<String, String>) -> Result<StepKind, StepError> {
    let args: Vec<&str> = step.args.iter().flatten().map(String::as_str).collect();
    match (step.kind.to_ascii_uppercase().as_str(), args.as_slice()) {
        ("RUN", [command]) => run(command, ""),
        ("RUN", [command, user]) => run(command, user),
        ("RUN", _) => Err(StepError::Arguments("it takes a command, and maybe a user")),
        ("COPY", [source, destination, rest @ ..]) if rest.len() <= 2 => {
            let hash = step.files_hash.as_deref().filter(|hash| is_hash(hash));
            let hash = hash.ok_or(StepError::Hash)?;
            let files = uploads.get(hash).cloned();
            let files = files.ok_or_else(|| StepError::NotUploaded { hash: hash.to_owned() })?;
            copy(source, destination, rest, files)
        }
        ("COPY", _) => {
            Err(StepError::Arguments("it takes a source, a destination, and maybe owner and mode"))
        }
        ("WORKDIR", [path]) => Ok(StepKind::Workdir(text("the path", path, PATH_MAX)?)),
        ("WORKDIR", _) => Err(StepError::Arguments("it takes one path")),
        ("USER", [user]) => Ok(StepKind::User(text("the user", user, USER_MAX)?)),
        ("USER", _) => Err(StepError::Arguments("it takes one user")),
        ("ENV", pairs) => env(pairs),
        (_, _) => Err(StepError::Kind),
    }
}

/// A text that is there, without NUL, of at most so many bytes.
fn text(what: &'static str, text: &str, max: usize) -> Result<String, StepError> {
    if text.trim().is_empty() {
        return Err(StepError::Arguments("an argument is empty"));
    }
    if text.len() > max || text.contains('\0') {
        return Err(StepError::Text { what, max });
    }
    Ok(text.to_owned())
}

fn run(command: &str, user: &str) -> Result<StepKind, StepError> {
    let user = if user.is_empty() { None } else { Some(text("the user", user, USER_MAX)?) };
    Ok(StepKind::Run { command: text("the command", command, COMMAND_MAX)?, user })
}

fn copy(
    source: &str,
    destination: &str,
    rest: &[&str],
    files: String,
) -> Result<StepKind, StepError> {
    let optional = |at: usize| rest.get(at).copied().filter(|text| !text.is_empty());
    Ok(StepKind::Copy {
        source: copied(&text("the source", source, PATH_MAX)?)?,
        destination: text("the destination", destination, PATH_MAX)?,
        owner: optional(0).map(owner).transpose()?,
        mode: optional(1).map(mode).transpose()?,
        files,
    })
}

/// What of an archive is copied: a path without `.` and `/` at its ends. Clients resolve patterns
/// when they pack, so of one that has any, it is the folder before the first.
fn copied(source: &str) -> Result<String, StepError> {
    let odd = || StepError::Source { path: source.chars().take(256).collect() };
    if source.starts_with('/') {
        return Err(odd());
    }
    let mut path = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(odd()),
            part if part.contains(['*', '?', '[', '{']) => break,
            part => path.push(part),
        }
    }
    Ok(if path.is_empty() { ".".to_owned() } else { path.join("/") })
}

fn owner(owner: &str) -> Result<String, StepError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let name = |name: &str| !name.is_empty() && name.bytes().all(valid);
    let is_owner = match owner.split_once(':') {
        Some((user, group)) => name(user) && name(group),
        None => name(owner),
    };
    if is_owner && owner.len() <= USER_MAX {
        Ok(owner.to_owned())
    } else {
        Err(StepError::Owner { owner: owner.chars().take(64).collect() })
    }
}

fn mode(mode: &str) -> Result<u32, StepError> {
    let digits = mode.strip_prefix("0o").unwrap_or(mode);
    let is_octal = digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| is_octal && *mode <= MODE_MAX)
        .ok_or_else(|| StepError::Mode { mode: mode.chars().take(16).collect() })
}

fn env(pairs: &[&str]) -> Result<StepKind, StepError> {
    let (chunks, rest) = pairs.as_chunks::<2>();
    if chunks.is_empty() || !rest.is_empty() {
        return Err(StepError::Arguments("it takes pairs of a name and a value"));
    }
    let pairs = chunks.iter().map(|[name, value]| {
        if name.is_empty() || name.len() > PATH_MAX || name.contains(['=', '\0']) {
            return Err(StepError::EnvName { name: name.chars().take(64).collect() });
        }
        if value.len() > COMMAND_MAX || value.contains('\0') {
            return Err(StepError::Text { what: "a value", max: COMMAND_MAX });
        }
        Ok(((*name).to_owned(), (*value).to_owned()))
    });
    Ok(StepKind::Env(pairs.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: &str, args: &[&str], hash: Option<&str>) -> TemplateStep {
        TemplateStep {
            kind: kind.to_owned(),
            args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
            files_hash: hash.map(str::to_owned),
            force: None,
        }
    }

    fn one(kind: &str, args: &[&str]) -> Result<StepKind, String> {
        let hash = "a".repeat(HASH_LEN);
        let uploads = BTreeMap::from([(hash.clone(), "digest".to_owned())]);
        let steps = parse(&[step(kind, args, Some(&hash))], &uploads);
        steps.map(|mut steps| steps.remove(0).kind).map_err(|error| error.to_string())
    }

    #[test]
    fn what_an_sdk_sends_becomes_a_step() {
        let command = "echo hi".to_owned();
        assert_eq!(
            one("RUN", &["echo hi"]),
            Ok(StepKind::Run { command: command.clone(), user: None })
        );
        let user = Some("root".to_owned());
        assert_eq!(one("run", &["echo hi", "root"]), Ok(StepKind::Run { command, user }));
        let copy = StepKind::Copy {
            source: "app".to_owned(),
            destination: "/app/".to_owned(),
            owner: None,
            mode: Some(0o755),
            files: "digest".to_owned(),
        };
        assert_eq!(one("COPY", &["./app/", "/app/", "", "0755"]), Ok(copy));
        assert_eq!(one("WORKDIR", &["a"]), Ok(StepKind::Workdir("a".to_owned())));
        assert_eq!(one("USER", &["u"]), Ok(StepKind::User("u".to_owned())));
        let pairs = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), String::new())];
        assert_eq!(one("ENV", &["A", "1", "B", ""]), Ok(StepKind::Env(pairs)));
    }

    #[test]
    fn a_pattern_means_the_folder_before_it() {
        for (source, expected) in
            [("*.txt", "."), ("a/*/b", "a"), (".", "."), ("a//b/./c", "a/b/c"), ("a/b?", "a")]
        {
            assert_eq!(copied(source).as_deref(), Ok(expected), "{source}");
        }
        for source in ["/etc/passwd", "../a", "a/../../b"] {
            assert!(copied(source).is_err(), "{source}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_number_of_its_step() {
        for (kind, args, part) in [
            ("VOLUME", &["/a"][..], "step 1 (VOLUME): no such type"),
            ("RUN", &[], "takes a command"),
            ("RUN", &["  "], "empty"),
            ("RUN", &["a\0b"], "NUL"),
            ("COPY", &["a"], "takes a source"),
            ("COPY", &["../a", "b"], "leaves the context"),
            ("COPY", &["a", "b", "", "9"], "no mode"),
            ("COPY", &["a", "b", "", "+755"], "no mode"),
            ("COPY", &["a", "b", "a b"], "no owner"),
            ("WORKDIR", &[""], "empty"),
            ("USER", &["a", "b"], "one user"),
            ("ENV", &["A"], "pairs"),
            ("ENV", &["A=B", "1"], "no name"),
        ] {
            let error = one(kind, args).unwrap_err();
            assert!(error.contains(part), "{kind} {args:?}: {error}");
        }
        let error = parse(&[step("COPY", &["a", "b"], Some("xyz"))], &BTreeMap::new());
        assert!(error.unwrap_err().to_string().contains("64 digits"));
        let error = parse(&[step("COPY", &["a", "b"], Some(&"b".repeat(64)))], &BTreeMap::new());
        assert!(error.unwrap_err().to_string().contains("not uploaded"));
        assert_eq!(
            parse(&vec![TemplateStep::default(); 1_001], &BTreeMap::new()),
            Err(StepsError::TooMany(1_001))
        );
    }
}
