//! COPY and ADD.

use super::arguments::{self, Flag};
use super::convert::Converter;
use super::expand::Quotes;
use super::lines::{RawInstruction, Text, here_document_name, plain_words};
use super::plan::{Action, Copy, CopySource};
use super::source::Fault;

/// Who owns what is put in place, where nothing is said: as Docker documents it, whoever is the
/// current user.
const OWNER: &str = "root:root";
/// Permission bits, with set-ID and sticky.
const MAX_MODE: u32 = 0o7777;

impl Converter<'_> {
    /// COPY or ADD.
    pub(super) fn copy(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        let (flags, rest) = arguments::flags(&raw.rest, self.escape);
        let mut copy = Copy {
            sources: Vec::new(),
            destination: String::new(),
            owner: Some(OWNER.to_owned()),
            mode: None,
            is_add: raw.name == "ADD",
        };
        for flag in &flags {
            self.copy_flag(raw, flag, &mut copy)?;
        }
        let mut words = match arguments::array(&rest) {
            Some(words) => words.iter().map(|word| located(&rest, word)).collect(),
            None => plain_words(&rest),
        };
        let destination = words.pop().filter(|_last| !words.is_empty()).ok_or_else(|| {
            let what = format!("{} needs what to copy and whereto", raw.name);
            Fault::new(raw.at, what, format!("write {} SOURCE... DESTINATION", raw.name))
        })?;
        copy.destination = self.destination(&destination)?;
        let mut documents = raw.here_documents.iter();
        for word in &words {
            let source = match here_document_name(word).and_then(|_name| documents.next()) {
                Some(document) => {
                    let content = match document.is_expanded {
                        true => self.document(&document.content, document.at)?,
                        false => document.content.clone(),
                    };
                    CopySource::Document { name: document.name.clone(), content }
                }
                None => self.path(word, copy.is_add)?,
            };
            copy.sources.push(source);
        }
        if copy.sources.len() > 1 && !copy.destination.ends_with('/') {
            let what = "several sources need a folder to go into";
            let remedy = format!("write {}/", copy.destination);
            return Err(Fault::new(destination.origin(0), what, remedy));
        }
        self.step(raw, Action::Copy(copy));
        Ok(())
    }

    fn copy_flag(
        &mut self,
        raw: &RawInstruction,
        flag: &Flag,
        copy: &mut Copy,
    ) -> Result<(), Fault> {
        match flag.name.as_str() {
            "chown" => copy.owner = Some(self.word(flag.value()?)?),
            "chmod" => copy.mode = Some(self.mode(flag)?),
            // It says how layers are stored, and changes nothing of what is in them.
            "link" => {}
            "from" => {
                let what = format!("{} --from is not supported: there is one stage", raw.name);
                let remedy = "make what it copies in this stage by RUN, or put it into the context";
                return Err(Fault::new(flag.at, what, remedy));
            }
            "exclude" => {
                let what = format!("{} --exclude is not supported", raw.name);
                return Err(Fault::new(flag.at, what, "write the pattern into .dockerignore"));
            }
            name => {
                let what = format!("{} --{name} is not supported", raw.name);
                return Err(Fault::new(flag.at, what, "--chown and --chmod are"));
            }
        }
        Ok(())
    }

    fn mode(&self, flag: &Flag) -> Result<u32, Fault> {
        let value = flag.value()?;
        let text = self.word(value)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= MAX_MODE);
        mode.filter(|_mode| text.len() >= 3 && !text.starts_with('+')).ok_or_else(|| {
            let what = format!("--chmod={text} is no octal mode");
            Fault::new(value.origin(0), what, "write it as 755 or 0644")
        })
    }

    fn destination(&self, word: &Text) -> Result<String, Fault> {
        if here_document_name(word).is_some() {
            let what = "a here-document cannot be a destination";
            return Err(Fault::new(word.origin(0), what, "end the instruction with a path"));
        }
        let text = self.word(word)?;
        if text.is_empty() {
            return Err(Fault::new(word.origin(0), "the destination is empty", "name a path"));
        }
        // Docker takes `.` and `..` at the end for folders too.
        let is_folder =
            text == "." || text == ".." || text.ends_with("/.") || text.ends_with("/..");
        Ok(if is_folder { format!("{text}/") } else { text })
    }

    fn path(&self, word: &Text, is_add: bool) -> Result<CopySource, Fault> {
        let pattern = self.word(word)?;
        let at = word.origin(0);
        if is_add && is_remote(&pattern) {
            let what = "ADD does not fetch from the network";
            let remedy = format!("write RUN curl -fsSL -o DESTINATION {pattern}");
            return Err(Fault::new(at, what, remedy));
        }
        Ok(CopySource::Path { pattern, at })
    }

    /// What a here-document comes to.
    fn document(&self, content: &str, at: usize) -> Result<String, Fault> {
        let text = Text::at(content, at);
        self.expander(Quotes::Kept).text(&text)
    }
}

/// A word of a JSON array, as exactly placed as can be told.
fn located(rest: &Text, word: &str) -> Text {
    let index = rest.as_str().find(word).unwrap_or(0);
    Text::at(word, rest.origin(index))
}

/// `https://…`, `git@…:…`.
fn is_remote(source: &str) -> bool {
    let scheme = source.split_once("://").map(|(scheme, _rest)| scheme);
    let is_url = scheme.is_some_and(|scheme| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    });
    is_url || source.starts_with("git@")
}
