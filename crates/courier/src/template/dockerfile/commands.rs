//! RUN, SHELL, CMD and ENTRYPOINT.

use super::arguments::{self, Command};
use super::convert::Converter;
use super::lines::{self, RawInstruction, Text};
use super::plan::Action;
use super::source::Fault;

impl Converter<'_> {
    pub(super) fn run(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
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

    pub(super) fn set_shell(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
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

    pub(super) fn start_command(&mut self, raw: &RawInstruction) -> Result<(), Fault> {
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
}

/// ENTRYPOINT and CMD together, as Docker has it: CMD is arguments of an ENTRYPOINT that is an
/// array, and nothing beside one that is a line.
pub(super) fn start(entrypoint: Option<Command>, command: Option<Command>) -> Option<String> {
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

fn nothing(raw: &RawInstruction) -> Fault {
    let what = format!("{} has no command", raw.name);
    Fault::new(raw.at, what, format!("write {} COMMAND", raw.name))
}
