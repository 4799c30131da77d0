//! Policies as files: read strictly, written with one rule a line, and compared line by line.

use std::io::{self, Read};
use std::path::Path;

use anyhow::Context as _;
use courier_types::egress::Policy;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use similar::TextDiff;

/// Longest policy in bytes: some four times what the most rules of one take.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Name that stands for standard input.
pub(crate) const STDIN: &str = "-";
/// What a diff calls a file that is not there.
const NO_FILE: &str = "/dev/null";
/// What a diff calls a policy that is in no file.
pub(crate) const UNNAMED: &str = "egress.json";

/// A policy and the text that it was read from.
#[derive(Debug, Clone)]
pub(crate) struct PolicyFile {
    /// What the file is called.
    name: String,
    /// Its text; `None` where there is no file yet.
    text: Option<String>,
    /// What it says.
    pub(crate) policy: Policy,
}

impl PolicyFile {
    /// The empty policy, of a file that is not there yet.
    pub(crate) fn none_yet(name: &str) -> Self {
        Self { name: name.to_owned(), text: None, policy: Policy::default() }
    }

    /// A policy that is known from elsewhere, under a name.
    pub(crate) fn named(name: &str, policy: Policy) -> Self {
        let text = text(&policy, Style::Ours);
        Self { name: name.to_owned(), text: Some(text), policy }
    }

    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// It cannot be read, or says no policy.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let (name, text) = if path == Path::new(STDIN) {
            (UNNAMED.to_owned(), bounded(io::stdin().lock()).context("standard input"))
        } else {
            let name = path.display().to_string();
            let read = std::fs::File::open(path).and_then(bounded);
            (name.clone(), read.context(name))
        };
        let text = text.context("the egress policy cannot be read")?;
        let understand = || -> anyhow::Result<Policy> {
            let policy: Policy = serde_json::from_str(&text)?;
            policy.check()?;
            Ok(policy)
        };
        let policy = understand().with_context(|| format!("{name} is no egress policy"))?;
        Ok(Self { name, text: Some(text), policy })
    }

    /// What turns the file into one that says `policy`, as `patch` takes it; `None` where it says so
    /// already.
    pub(crate) fn diff(&self, policy: &Policy) -> Option<String> {
        if *policy == self.policy {
            return None;
        }
        let old = self.text.as_deref().unwrap_or_default();
        let says = |style: &Style| text(&self.policy, *style).trim_end() == old.trim_end();
        let style = [Style::Ours, Style::Pretty].into_iter().find(says).unwrap_or(Style::Ours);
        let new = text(policy, style);
        let diff = TextDiff::from_lines(old, new.as_str());
        let old_name = if self.text.is_some() { self.name.as_str() } else { NO_FILE };
        Some(diff.unified_diff().header(old_name, &self.name).to_string())
    }
}

fn bounded(reader: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let length = reader.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_BYTES) {
        return Err(io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// How a policy is written.
#[derive(Debug, Clone, Copy)]
enum Style {
    /// One rule or credential a line.
    Ours,
    /// One value a line, as most programs write JSON.
    Pretty,
}

/// A policy as a file has it: one rule a line.
pub(crate) fn pretty(policy: &Policy) -> String {
    text(policy, Style::Ours)
}

fn text(policy: &Policy, style: Style) -> String {
    let mut text = match style {
        Style::Ours => ours(policy),
        Style::Pretty => json(policy, PrettyFormatter::new()),
    };
    text.push('\n');
    text
}

fn ours(policy: &Policy) -> String {
    let Policy { rules, presets, credentials, tunnels, learn } = policy;
    let mut fields = Vec::new();
    if !rules.is_empty() {
        fields.push(format!("  \"rules\": {}", lines(rules)));
    }
    if !presets.is_empty() {
        fields.push(format!("  \"presets\": {}", one_line(presets)));
    }
    if !credentials.is_empty() {
        fields.push(format!("  \"credentials\": {}", lines(credentials)));
    }
    if !tunnels.is_empty() {
        fields.push(format!("  \"tunnels\": {}", one_line(tunnels)));
    }
    if *learn {
        fields.push("  \"learn\": true".to_owned());
    }
    if fields.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n}}", fields.join(",\n")) }
}

fn lines<T: Serialize>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("    {}", one_line(item))).collect();
    format!("[\n{}\n  ]", items.join(",\n"))
}

/// A value on one line, with spaces as people set them.
pub(crate) fn one_line(value: &impl Serialize) -> String {
    json(value, Spaced(CompactFormatter))
}

fn json(value: &impl Serialize, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
    written.expect("a policy and its parts have text keys, and a Vec takes everything");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// On one line, with a space after colons and commas.
struct Spaced(CompactFormatter);

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.write_null(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"rules":[{"allow":"a.test","methods":["GET","HEAD"]},{"deny":"internet"}],"presets":["pypi","npm"],"credentials":[{"host":"a.test","secret":"a","as":{"bearer":{}}}],"tunnels":["db"],"learn":true}"#;

    fn policy(text: &str) -> Policy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_policy_is_written_with_one_rule_a_line_and_reads_back() {
        let whole = policy(POLICY);
        insta::assert_snapshot!(pretty(&whole));
        assert_eq!(policy(&pretty(&whole)), whole);
        assert_eq!(pretty(&Policy::default()), "{}\n");
    }

    #[test]
    fn the_diff_of_a_proposal_adds_lines_and_touches_no_others() {
        let old = policy(POLICY);
        let mut new = old.clone();
        new.rules.insert(1, serde_json::from_str(r#"{"allow":"b.test"}"#).unwrap());
        let ours = PolicyFile::named("egress.json", old.clone());
        assert_eq!(ours.diff(&old), None);
        insta::assert_snapshot!(ours.diff(&new).unwrap());
        // A file in the other common style keeps it.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), serde_json::to_string_pretty(&old).unwrap() + "\n").unwrap();
        let diff = PolicyFile::read(file.path()).unwrap().diff(&new).unwrap();
        let changed =
            |sign: char| diff.lines().skip(2).filter(|line| line.starts_with(sign)).count();
        assert_eq!((changed('-'), changed('+')), (0, 3), "{diff}");
    }

    #[test]
    fn the_diff_to_no_policy_makes_a_file() {
        let diff = PolicyFile::none_yet(UNNAMED)
            .diff(&policy(r#"{"rules":[{"allow":"a.test"}]}"#))
            .unwrap();
        assert!(diff.starts_with("--- /dev/null\n+++ egress.json\n"), "{diff}");
    }

    #[test]
    fn what_is_no_policy_is_told_with_the_file_and_the_field() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"rule":[]}"#).unwrap();
        let error = format!("{:#}", PolicyFile::read(file.path()).unwrap_err());
        assert!(error.contains("`rule`") && error.contains(file.path().to_str().unwrap()));
        let error = format!("{:#}", PolicyFile::read(Path::new("/nonexistent/p")).unwrap_err());
        assert!(error.contains("/nonexistent/p"), "{error}");
        let error = format!("{:#}", PolicyFile::read(Path::new("/dev/zero")).unwrap_err());
        assert!(error.contains("longer than"), "{error}");
    }
}
