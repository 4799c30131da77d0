//! ARG and ENV.

use super::convert::{ARCHITECTURE, Converter};
use super::expand::{Piece, Quotes, Value};
use super::lines::{RawInstruction, Text, words};
use super::plan::Action;
use super::source::Fault;

impl Converter<'_> {
    pub(super) fn arg(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        let all = words(&raw.rest, self.escape);
        if all.is_empty() {
            let what = "ARG names no variable";
            return Err(Fault::new(raw.at, what, "write ARG NAME or ARG NAME=DEFAULT"));
        }
        for word in &all {
            let (name, default) = self.pair(word)?;
            let default = default.map(|default| self.word(&default)).transpose()?;
            let given = self.given.get(&name).cloned();
            if given.is_some() {
                self.used.push(name.clone());
            }
            let inherited = || match self.global.get(&name) {
                Some(Value::Known(value)) => Some(value.clone()),
                Some(Value::AtBuild) | None => platform_value(&name),
            };
            let value = given.or(default).or_else(inherited);
            if let Some(value) = value {
                self.set_arg(name, value);
            }
        }
        Ok(())
    }

    fn set_arg(&mut self, name: String, value: String) {
        if self.base.is_none() {
            self.global.insert(name.clone(), Value::Known(value.clone()));
            self.variables.insert(name, Value::Known(value));
            return;
        }
        // An ENV of that name stays what it is.
        let is_env =
            self.variables.contains_key(&name) && !self.args.iter().any(|(n, _)| *n == name);
        if !is_env {
            self.args.retain(|(known, _value)| *known != name);
            self.args.push((name.clone(), value.clone()));
            self.variables.insert(name, Value::Known(value));
        }
    }

    /// Splits `NAME=VALUE`; the name is checked.
    fn pair(&self, word: &Text) -> Result<(String, Option<Text>), Fault> {
        let end = word.as_str().find('=');
        let length = word.as_str().len();
        let name = self.word(&word.slice(0, end.unwrap_or(length)))?;
        check_name(&name, word.origin(0))?;
        Ok((name, end.map(|end| word.slice(end + 1, length))))
    }

    pub(super) fn env(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        let mut pairs = Vec::new();
        for (name, value) in self.env_pairs(raw)? {
            let pieces = self.expander(Quotes::Removed).pieces(&value)?;
            let text = wire_value(&pieces, value.origin(0))?;
            pairs.push((name, text, pieces));
        }
        // All of one instruction are expanded with what was known before it.
        let mut env = Vec::new();
        for (name, text, pieces) in pairs {
            let is_known = pieces.iter().all(|piece| matches!(piece, Piece::Literal(_)));
            let value = if is_known { Value::Known(text.clone()) } else { Value::AtBuild };
            self.args.retain(|(known, _value)| *known != name);
            self.variables.insert(name.clone(), value);
            env.push((name, text));
        }
        self.step(raw, Action::Env(env));
        Ok(())
    }

    /// `NAME=VALUE...`, or the old form `NAME VALUE`.
    fn env_pairs(&self, raw: &RawInstruction) -> Result<Vec<(String, Text)>, Fault> {
        let all = words(&raw.rest, self.escape);
        let missing = |at| Fault::new(at, "ENV needs a name and a value", "write ENV NAME=VALUE");
        let Some(first) = all.first() else { return Err(missing(raw.at)) };
        if !first.as_str().contains('=') {
            let name = self.word(first)?;
            check_name(&name, first.origin(0))?;
            let value = raw.rest.part(first.as_str().len(), raw.rest.as_str().len());
            return match value.as_str() {
                "" => Err(missing(raw.at)),
                _ => Ok(vec![(name, value)]),
            };
        }
        let pair = |word: &Text| match self.pair(word)? {
            (name, Some(value)) => Ok((name, value)),
            (name, None) => {
                let what = format!("{name} has no value");
                let remedy = format!("write {name}=VALUE, and quotes around a value with spaces");
                Err(Fault::new(word.origin(0), what, remedy))
            }
        };
        all.iter().map(pair).collect()
    }
}

/// The text of a value on the wire, where `$NAME` is replaced by the build.
fn wire_value(pieces: &[Piece], at: usize) -> Result<String, Fault> {
    let mut text = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Reference(name) => text.push_str(&format!("${{{name}}}")),
            Piece::Literal(literal) => {
                let next_is_reference = pieces.get(index + 1).is_some();
                let ends_open = next_is_reference && literal.ends_with('$');
                if ends_open || has_reference(literal) {
                    let what =
                        "a dollar sign before a name cannot be kept in ENV: the build replaces it";
                    let remedy = "set the variable in the commands that need it";
                    return Err(Fault::new(at, what, remedy));
                }
                text.push_str(literal);
            }
        }
    }
    Ok(text)
}

/// True where the build would see a variable in text that has none.
fn has_reference(literal: &str) -> bool {
    let mut after = literal.split('$').skip(1);
    after.any(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '{'))
}

fn check_name(name: &str, at: usize) -> Result<(), Fault> {
    let is_fine = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_fine {
        return Ok(());
    }
    let what = format!("{name:?} is no variable's name");
    Err(Fault::new(at, what, "letters, digits and _ are, and no digit first"))
}

pub(super) fn platform() -> impl Iterator<Item = (&'static str, String)> {
    ["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "BUILDPLATFORM", "BUILDOS", "BUILDARCH"]
        .into_iter()
        .filter_map(|name| Some((name, platform_value(name)?)))
}

/// What Docker's own ARGs about the platform say.
fn platform_value(name: &str) -> Option<String> {
    let kind = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"))?;
    match kind {
        "PLATFORM" => Some(format!("linux/{ARCHITECTURE}")),
        "OS" => Some("linux".to_owned()),
        "ARCH" => Some(ARCHITECTURE.to_owned()),
        _ => None,
    }
}
