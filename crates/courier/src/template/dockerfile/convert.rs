//! Instructions in their order become a plan.

use std::collections::BTreeMap;

use super::arguments::{self, Command};
use super::expand::{Expander, Piece, Quotes, Value, Variables};
use super::lines::{self, RawInstruction, Text, words};
use super::plan::{Action, Base, Note, Place, Plan, PlannedStep};
use super::source::{Fault, Source};

/// What names a template in FROM, before its name.
const TEMPLATE: &str = "template/";
/// What images, and so we, are built for.
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "arm64";
/// What images, and so we, are built for.
#[cfg(not(target_arch = "aarch64"))]
const ARCHITECTURE: &str = "amd64";
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
    source: &'a Source,
    pub(super) escape: char,
    given: BTreeMap<String, String>,
    /// Which of them an ARG asked for.
    used: Vec<String>,
    /// ARGs before FROM.
    global: Variables,
    /// ARGs and ENVs so far.
    variables: Variables,
    /// ARGs that RUN sees, in their order: no ENV of that name has come.
    args: Vec<(String, String)>,
    base: Option<(Base, Place)>,
    steps: Vec<PlannedStep>,
    shell: Option<Vec<String>>,
    command: Option<Command>,
    entrypoint: Option<Command>,
    notes: Vec<Note>,
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

    fn note(&mut self, at: usize, text: impl Into<String>) {
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

    fn arg(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
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

    fn env(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
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

    fn run(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        let (flags, rest) = arguments::flags(&raw.rest, self.escape);
        for flag in &flags {
            check_run_flag(flag)?;
        }
        let command = match Command::of(&rest) {
            Command::Exec(words) => {
                self.check_words(raw, &words)?;
                arguments::line_of(words.iter().map(String::as_str))
            }
            Command::Shell(line) if line.is_empty() => return Err(nothing(raw)),
            line @ Command::Shell(_) => {
                self.doubt(raw, &line);
                let Command::Shell(text) = line else { return Err(nothing(raw)) };
                self.in_shell(&documents(&text, &rest, raw))
            }
        };
        let command = match exports(&self.args) {
            Some(exports) => format!("{exports}\n{command}"),
            None => command,
        };
        self.step(raw, Action::Run(command));
        Ok(())
    }

    fn check_words(&self, raw: &RawInstruction, words: &[String]) -> Result<(), Fault> {
        if words.is_empty() { Err(nothing(raw)) } else { Ok(()) }
    }

    /// Says so where an array was probably meant.
    fn doubt(&mut self, raw: &RawInstruction, command: &Command) {
        if command.looks_like_an_array() {
            let text = "this is no JSON array and is run by the shell: strings have double quotes, \
                        and no comma follows the last";
            self.note(raw.at, text);
        }
    }

    /// A line as the SHELL of the Dockerfile runs it.
    pub(super) fn in_shell(&self, line: &str) -> String {
        match &self.shell {
            Some(shell) => arguments::line_of(shell.iter().map(String::as_str).chain([line])),
            None => line.to_owned(),
        }
    }

    fn set_shell(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        match arguments::array(&raw.rest).filter(|words| !words.is_empty()) {
            Some(words) => self.shell = Some(words),
            None => {
                let what = "SHELL takes a JSON array";
                let remedy = "write SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]";
                return Err(Fault::new(raw.at, what, remedy));
            }
        }
        Ok(())
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

    fn start_command(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
        let command = Command::of(&raw.rest);
        self.doubt(raw, &command);
        let command = match command {
            Command::Shell(line) if line.is_empty() => return Err(nothing(raw)),
            Command::Shell(line) => Command::Shell(self.in_shell(&line)),
            exec @ Command::Exec(_) => exec,
        };
        match raw.name.as_str() {
            "CMD" => self.command = Some(command),
            // What was said for another entry point does not count for this one.
            _ => (self.entrypoint, self.command) = (Some(command), None),
        }
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

/// ENTRYPOINT and CMD together, as Docker has it: CMD is arguments of an ENTRYPOINT that is an
/// array, and nothing beside one that is a line.
fn start(entrypoint: Option<Command>, command: Option<Command>) -> Option<String> {
    let line = match (entrypoint, command) {
        (None, None) => return None,
        (Some(Command::Shell(line)), _) | (None, Some(Command::Shell(line))) => line,
        (None, Some(Command::Exec(words))) => arguments::line_of(words.iter().map(String::as_str)),
        (Some(Command::Exec(mut words)), command) => {
            match command {
                Some(Command::Exec(more)) => words.extend(more),
                Some(Command::Shell(line)) => {
                    words.extend(["/bin/sh", "-c"].map(str::to_owned));
                    words.push(line);
                }
                None => {}
            }
            arguments::line_of(words.iter().map(String::as_str))
        }
    };
    Some(line).filter(|line| !line.trim().is_empty())
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

fn check_run_flag(flag: &arguments::Flag) -> Result<(), Fault> {
    let refused = |what: &str, remedy: &str| Err(Fault::new(flag.at, what, remedy));
    match (flag.name.as_str(), flag.value.as_ref().map(Text::as_str)) {
        ("network", Some("default")) | ("security", Some("sandbox")) => Ok(()),
        ("mount", _) => refused(
            "RUN --mount is not supported",
            "COPY what it reads; steps are cached without it, and secrets belong to the sandbox",
        ),
        ("network", _) => refused(
            "RUN --network is not supported",
            "remove it: the egress policy of builds says what a step reaches",
        ),
        ("security", _) => refused("RUN --security is not supported", "remove it"),
        (name, _) => refused(&format!("RUN --{name} is not known"), "remove it"),
    }
}

/// The command line of RUN with its here-documents.
fn documents(line: &str, rest: &Text, raw: &RawInstruction) -> String {
    let alone = lines::here_document_name(rest).is_some();
    match raw.here_documents.as_slice() {
        [] => line.to_owned(),
        // The document is the script.
        [only] if alone => match only.content.starts_with("#!") {
            false => only.content.clone(),
            true => script(&only.content),
        },
        // The shell reads them, as it does in a script.
        several => {
            let mut text = line.to_owned();
            for document in several {
                text.push_str(&format!("\n{}{}", document.raw, document.name));
            }
            text
        }
    }
}

/// Runs a script by the interpreter that its first line names.
fn script(content: &str) -> String {
    let content = arguments::line_of([content]);
    format!(
        "script=$(mktemp) && printf %s {content} >\"$script\" && chmod 755 \"$script\" && \"$script\"; \
         status=$?; rm -f \"$script\"; exit $status"
    )
}

/// ARGs are variables of RUN, and of nothing that comes after the build.
fn exports(args: &[(String, String)]) -> Option<String> {
    let quoted =
        args.iter().map(|(name, value)| format!("{name}={}", arguments::line_of([value.as_str()])));
    let quoted: Vec<String> = quoted.collect();
    (!quoted.is_empty()).then(|| format!("export {}", quoted.join(" ")))
}

fn platform() -> impl Iterator<Item = (&'static str, String)> {
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

fn nothing(raw: &RawInstruction) -> Fault {
    let what = format!("{} has no command", raw.name);
    Fault::new(raw.at, what, format!("write {} COMMAND", raw.name))
}
