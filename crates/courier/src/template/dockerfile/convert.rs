//! Instructions in their order become a plan.

use std::collections::BTreeMap;

use super::arguments::{self, Command};
use super::commands::start;
use super::expand::{Expander, Quotes, Value, Variables};
use super::lines::{self, RawInstruction, Text, words};
use super::plan::{Action, Base, Note, Place, Plan, PlannedStep};
use super::source::{Fault, Source};
use super::variables::platform;

/// What names a template in FROM, before its name.
const TEMPLATE: &str = "template/";
/// What images, and so we, are built for.
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURE: &str = "arm64";
/// What images, and so we, are built for.
#[cfg(not(target_arch = "aarch64"))]
pub(super) const ARCHITECTURE: &str = "amd64";
/// Build arguments that need no ARG, as Docker has it: how to get out.
const FREE_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// The user and the folder of sandboxes, where a Dockerfile names none.
const DEFAULT_USER: &str = "user";
const DEFAULT_WORKDIR: &str = "/home/user";
/// Instructions that count.
const KNOWN: [&str; 12] = [
    "FROM",
    "ARG",
    "ENV",
    "RUN",
    "COPY",
    "ADD",
    "WORKDIR",
    "USER",
    "SHELL",
    "CMD",
    "ENTRYPOINT",
    "ONBUILD",
];
/// Longest name that is shown of an instruction that is none.
const SHOWN_NAME: usize = 32;
/// Instructions that say nothing about a template, and what to do instead.
const WITHOUT_EFFECT: [(&str, &str); 6] = [
    ("EXPOSE", "every port of a sandbox can be reached"),
    ("LABEL", "templates have tags"),
    ("MAINTAINER", "templates have tags"),
    ("STOPSIGNAL", "a sandbox ends whole"),
    ("HEALTHCHECK", "--ready says when a sandbox is ready"),
    ("VOLUME", "volumes are named when a sandbox is made"),
];

/// Makes a plan of a Dockerfile. `given` is what `--build-arg` said.
///
/// # Errors
/// The first thing in it that cannot be done.
pub(super) fn convert(source: &Source, given: &[(String, String)]) -> Result<Plan, Fault> {
    let lines = lines::cut(source.text())?;
    let mut converter = Converter::new(source, lines.escape, given);
    if let Some((syntax, at)) = &lines.syntax {
        converter.note(*at, format!("syntax {syntax:?} is not fetched: the built-in one is used"));
    }
    for raw in &lines.instructions {
        converter.instruction(raw)?;
    }
    converter.finish()
}

pub(super) struct Converter<'a> {
    pub(super) source: &'a Source,
    pub(super) escape: char,
    pub(super) given: BTreeMap<String, String>,
    /// Which of them an ARG asked for.
    pub(super) used: Vec<String>,
    /// ARGs before FROM.
    pub(super) global: Variables,
    /// ARGs and ENVs so far.
    pub(super) variables: Variables,
    /// ARGs that RUN sees, in their order: no ENV of that name has come.
    pub(super) args: Vec<(String, String)>,
    pub(super) base: Option<(Base, Place)>,
    pub(super) steps: Vec<PlannedStep>,
    pub(super) shell: Option<Vec<String>>,
    pub(super) command: Option<Command>,
    pub(super) entrypoint: Option<Command>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Converter<'a> {
    fn new(source: &'a Source, escape: char, given: &[(String, String)]) -> Self {
        let given: BTreeMap<String, String> = given.iter().cloned().collect();
        let free = given.iter().filter(|(name, _value)| FREE_ARGS.contains(&name.as_str()));
        let args: Vec<(String, String)> = free.map(|(n, v)| (n.clone(), v.clone())).collect();
        let known = |(name, value): &(String, String)| (name.clone(), Value::Known(value.clone()));
        let variables: Variables = args.iter().map(known).collect();
        Self {
            source,
            escape,
            used: args.iter().map(|(name, _value)| name.clone()).collect(),
            given,
            global: variables.clone(),
            variables,
            args,
            base: None,
            steps: Vec::new(),
            shell: None,
            command: None,
            entrypoint: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, at: usize, text: impl Into<String>) {
        self.notes.push(Note { line: self.source.line(at), text: text.into() });
    }

    fn place(&self, at: usize) -> Place {
        let text = self.source.text().get(at..).unwrap_or_default();
        let text = text.lines().next().unwrap_or_default().trim_end().to_owned();
        Place { at, line: self.source.line(at), text }
    }

    pub(super) fn step(&mut self, raw: &RawInstruction, action: Action) {
        self.steps.push(PlannedStep { place: self.place(raw.at), action });
    }

    pub(super) fn expander(&self, quotes: Quotes) -> Expander<'_> {
        // Here-documents escape with a backslash, whatever continues lines.
        let escape = if quotes == Quotes::Kept { '\\' } else { self.escape };
        Expander { escape, variables: &self.variables, quotes }
    }

    /// A word that must be known before the build.
    pub(super) fn word(&self, word: &Text) -> Result<String, Fault> {
        self.expander(Quotes::Removed).text(word)
    }

    fn instruction(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        if self.base.is_none() && !matches!(raw.name.as_str(), "FROM" | "ARG") {
            let known = is_known(&raw.name);
            let what = format!("{} stands before FROM", raw.name);
            return Err(match known {
                true => Fault::new(raw.at, what, "a Dockerfile begins with FROM IMAGE"),
                false => self.unknown(raw),
            });
        }
        match raw.name.as_str() {
            "FROM" => self.from(raw),
            "ARG" => self.arg(raw),
            "ENV" => self.env(raw),
            "RUN" => self.run(raw),
            "COPY" | "ADD" => self.copy(raw),
            "WORKDIR" => self.workdir(raw),
            "USER" => self.user(raw),
            "SHELL" => self.set_shell(raw),
            "CMD" | "ENTRYPOINT" => self.start_command(raw),
            "ONBUILD" => {
                let what = "ONBUILD is not supported: nothing is run when a template is built upon";
                Err(Fault::new(raw.at, what, "write the instruction where it is to run"))
            }
            name => match WITHOUT_EFFECT.iter().find(|(known, _why)| *known == name) {
                Some((name, why)) => {
                    self.note(raw.at, format!("{name} has no effect: {why}"));
                    Ok(())
                }
                None => Err(self.unknown(raw)),
            },
        }
    }

    fn unknown(&self, raw: &RawInstruction) -> Fault {
        let line = self.place(raw.at).text;
        let name: String =
            line.chars().take_while(|c| !c.is_whitespace()).take(SHOWN_NAME).collect();
        let known = KNOWN.iter().chain(WITHOUT_EFFECT.iter().map(|(known, _why)| known));
        let remedy = match known.copied().find(|known| is_near(known, &raw.name)) {
            Some(known) => format!("did you mean {known}?"),
            None => "did a \\ go missing at the end of the line before?".to_owned(),
        };
        Fault::new(raw.at, format!("{name:?} is no instruction"), remedy)
    }

    fn from(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        if let Some((_base, first)) = &self.base {
            let what =
                format!("a second FROM begins another stage (the first is in line {})", first.line);
            let remedy =
                "one stage is supported: install what the earlier one makes by RUN in this one";
            return Err(Fault::new(raw.at, what, remedy));
        }
        let (flags, rest) = arguments::flags(&raw.rest, self.escape);
        let variables = std::mem::take(&mut self.variables);
        self.global.extend(platform().map(|(name, value)| (name.to_owned(), Value::Known(value))));
        self.variables = self.global.clone();
        for flag in &flags {
            self.check_from_flag(flag)?;
        }
        let all = words(&rest, self.escape);
        let image = match all.as_slice() {
            [image] => image,
            [image, keyword, _name] if keyword.as_str().eq_ignore_ascii_case("as") => image,
            _ => {
                let what = "FROM names one image";
                return Err(Fault::new(raw.at, what, "write FROM IMAGE, or FROM IMAGE AS NAME"));
            }
        };
        let name = self.word(image)?;
        let base = base(&name, image.origin(0))?;
        // ARGs before FROM count after it only where they are said again.
        self.variables = variables;
        self.variables.retain(|name, _value| FREE_ARGS.contains(&name.as_str()));
        self.base = Some((base, self.place(raw.at)));
        Ok(())
    }

    fn check_from_flag(&self, flag: &arguments::Flag) -> Result<(), Fault> {
        if flag.name != "platform" {
            let what = format!("FROM --{} is not supported", flag.name);
            return Err(Fault::new(flag.at, what, "--platform is"));
        }
        let value = flag.value()?;
        let platform = self.word(value)?;
        let wanted = platform.strip_prefix("linux/").unwrap_or(&platform);
        // `linux/arm64/v8` is the same as `linux/arm64`.
        if wanted.split('/').next() == Some(ARCHITECTURE) {
            return Ok(());
        }
        let what = format!("images for {platform} do not run here");
        Err(Fault::new(value.origin(0), what, format!("linux/{ARCHITECTURE} do")))
    }

    fn workdir(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        let path = self.word(&raw.rest)?;
        if path.is_empty() {
            return Err(Fault::new(raw.at, "WORKDIR names no folder", "write WORKDIR PATH"));
        }
        self.step(raw, Action::Workdir(path));
        Ok(())
    }

    fn user(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        let text = self.word(&raw.rest)?;
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text.as_str(), None),
        };
        if user.is_empty() || user.contains(char::is_whitespace) {
            return Err(Fault::new(raw.at, "USER names no user", "write USER NAME"));
        }
        if group.is_some_and(|group| group != user) {
            let what = "a user's group is the one that the user has in the image";
            let remedy = format!("write USER {user}, and change its group by RUN usermod -g");
            return Err(Fault::new(raw.rest.origin(0), what, remedy));
        }
        self.step(raw, Action::User(user.to_owned()));
        Ok(())
    }

    fn finish(mut self) -> Result<Plan, Fault> {
        let Some((base, from)) = self.base.take() else {
            let what = "there is no FROM";
            return Err(Fault::new(0, what, "begin with FROM IMAGE"));
        };
        for name in self.given.keys().filter(|name| !self.used.contains(name)) {
            let text = format!("--build-arg {name} is not used: no ARG {name} asks for it");
            self.notes.push(Note { line: from.line, text });
        }
        let implied = |action| PlannedStep { place: from.clone(), action };
        let said = |wanted: fn(&Action) -> bool| self.steps.iter().any(|step| wanted(&step.action));
        let has_user = said(|action| matches!(action, Action::User(_)));
        let has_workdir = said(|action| matches!(action, Action::Workdir(_)));
        let mut steps = vec![
            implied(Action::User("root".to_owned())),
            implied(Action::Workdir("/".to_owned())),
        ];
        steps.append(&mut self.steps);
        if !has_user {
            steps.push(implied(Action::User(DEFAULT_USER.to_owned())));
        }
        if !has_workdir {
            steps.push(implied(Action::Workdir(DEFAULT_WORKDIR.to_owned())));
        }
        let start = start(self.entrypoint.take(), self.command.take());
        Ok(Plan { base, from, steps, start, notes: self.notes })
    }
}

fn base(name: &str, at: usize) -> Result<Base, Fault> {
    if name == "scratch" {
        let what = "a sandbox cannot start from scratch";
        return Err(Fault::new(at, what, "name an image with /bin/bash, e.g. FROM debian:stable"));
    }
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(Fault::new(at, "FROM names no image", "write FROM IMAGE"));
    }
    Ok(match name.strip_prefix(TEMPLATE) {
        Some(template) => Base::Template(template.to_owned()),
        None => Base::Image(name.to_owned()),
    })
}

/// True of names that differ in one letter: one too many, one missing, or one wrong.
fn is_near(one: &str, other: &str) -> bool {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    let rest = |text: &str, skipped: usize| text.chars().skip(skipped).collect::<String>();
    let (left, right) = (rest(one, same), rest(other, same));
    rest(&left, 1) == rest(&right, 1) || rest(&left, 1) == right || left == rest(&right, 1)
}

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || WITHOUT_EFFECT.iter().any(|(known, _why)| *known == name)
}
