//! The command line of `sudo`, as sudo(8) has it; what makes no sense in a sandbox is accepted where
//! it changes nothing (passwords are never asked for) and refused where it would.

use thiserror::Error;

use super::request::{Ask, Home, Mode, Preserve, Run};
use super::text::Text;

/// What the caller wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Invocation {
    /// `-h`.
    Help,
    /// `-V`.
    Version,
    /// `-k` or `-K` alone: there is no password to forget.
    Forget,
    /// Anything for the daemon.
    Ask(Ask),
}

/// Why a command line makes no sense.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum UsageError {
    /// No such option of one letter.
    #[error("invalid option -- '{letter}'")]
    UnknownLetter {
        /// The letter.
        letter: char,
    },
    /// No such option of one word.
    #[error("unrecognized option '--{name}'")]
    UnknownWord {
        /// The word.
        name: String,
    },
    /// It needs a value.
    #[error("option '--{name}' requires an argument")]
    MissingValue {
        /// The option.
        name: &'static str,
    },
    /// It takes no value.
    #[error("option '--{name}' doesn't allow an argument")]
    NeedlessValue {
        /// The option.
        name: &'static str,
    },
    /// Two options exclude each other.
    #[error("you may not specify both the {first} and {second} options")]
    Conflict {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A name that is no name.
    #[error("the value of option '--{name}' is empty or not UTF-8")]
    BadValue {
        /// The option.
        name: &'static str,
    },
    /// There is nothing to do.
    #[error("a command is missing")]
    NoCommand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Background,
    Chdir,
    Forget,
    Group,
    Help,
    Home,
    Ignored,
    List,
    Login,
    PreserveEnv,
    Shell,
    User,
    Validate,
    Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Required,
    /// Only of the long form, after `=`.
    Optional,
}

struct Known {
    letter: char,
    word: &'static str,
    value: Value,
    name: Name,
}

const fn known(letter: char, word: &'static str, value: Value, name: Name) -> Known {
    Known { letter, word, value, name }
}

/// All options. Ignored are those about passwords, of which a sandbox knows none.
const KNOWN: [Known; 20] = [
    known('A', "askpass", Value::None, Name::Ignored),
    known('b', "background", Value::None, Name::Background),
    known('B', "bell", Value::None, Name::Ignored),
    known('D', "chdir", Value::Required, Name::Chdir),
    known('E', "preserve-env", Value::Optional, Name::PreserveEnv),
    known('g', "group", Value::Required, Name::Group),
    known('h', "help", Value::None, Name::Help),
    known('H', "set-home", Value::None, Name::Home),
    known('i', "login", Value::None, Name::Login),
    known('k', "reset-timestamp", Value::None, Name::Forget),
    known('K', "remove-timestamp", Value::None, Name::Forget),
    known('l', "list", Value::None, Name::List),
    known('n', "non-interactive", Value::None, Name::Ignored),
    known('N', "no-update", Value::None, Name::Ignored),
    known('p', "prompt", Value::Required, Name::Ignored),
    known('s', "shell", Value::None, Name::Shell),
    known('S', "stdin", Value::None, Name::Ignored),
    known('u', "user", Value::Required, Name::User),
    known('v', "validate", Value::None, Name::Validate),
    known('V', "version", Value::None, Name::Version),
];

/// Reads the arguments after the program's name.
///
/// # Errors
/// An option is unknown, lacks its value or excludes another; there is no command.
pub(super) fn parse(arguments: Vec<Text>) -> Result<Invocation, UsageError> {
    let mut parser = Parser::default();
    let mut arguments = arguments.into_iter().peekable();
    let belongs_to_sudo = |argument: &Text| {
        let bytes = argument.bytes();
        let is_option = bytes.len() > 1 && bytes.starts_with(b"-");
        is_option || (!bytes.starts_with(b"/") && bytes.contains(&b'='))
    };
    while let Some(argument) = arguments.next_if(belongs_to_sudo) {
        match argument.bytes() {
            b"--" => break,
            [b'-', b'-', word @ ..] => parser.take_word(word, &mut arguments)?,
            [b'-', letters @ ..] => parser.take_letters(letters, &mut arguments)?,
            _variable => parser.run.variables.push(argument),
        }
    }
    parser.run.command = arguments.collect();
    parser.finish()
}

#[derive(Default)]
struct Parser {
    run: Run,
    seen: Vec<Name>,
}

impl Parser {
    fn take_word(
        &mut self,
        word: &[u8],
        rest: &mut impl Iterator<Item = Text>,
    ) -> Result<(), UsageError> {
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        let name = Text::from(parts.next().unwrap_or_default()).shown();
        let value = parts.next().map(Text::from);
        let option = find_word(&name).ok_or(UsageError::UnknownWord { name })?;
        let value = match (option.value, value) {
            (Value::None, Some(_needless)) => {
                return Err(UsageError::NeedlessValue { name: option.word });
            }
            (Value::Required, None) => {
                Some(rest.next().ok_or(UsageError::MissingValue { name: option.word })?)
            }
            (_any, value) => value,
        };
        self.take(option, value)
    }

    fn take_letters(
        &mut self,
        letters: &[u8],
        rest: &mut impl Iterator<Item = Text>,
    ) -> Result<(), UsageError> {
        let mut letters = letters;
        while let [letter, after @ ..] = letters {
            let letter = char::from(*letter);
            let option = KNOWN
                .iter()
                .find(|known| known.letter == letter)
                .ok_or(UsageError::UnknownLetter { letter })?;
            if option.value == Value::Required {
                let value = if after.is_empty() { rest.next() } else { Some(Text::from(after)) };
                let value = value.ok_or(UsageError::MissingValue { name: option.word })?;
                return self.take(option, Some(value));
            }
            self.take(option, None)?;
            letters = after;
        }
        Ok(())
    }

    fn take(&mut self, option: &Known, value: Option<Text>) -> Result<(), UsageError> {
        self.seen.push(option.name);
        match (option.name, value) {
            (Name::User, Some(value)) => self.run.user = Some(name_in(option, &value)?),
            (Name::Group, Some(value)) => self.run.group = Some(name_in(option, &value)?),
            (Name::Chdir, Some(value)) => self.run.folder = Some(value),
            (Name::Home, _) => self.run.home = Home::Target,
            (Name::PreserveEnv, Some(list)) => self.preserve(&list),
            (Name::PreserveEnv, None) => self.run.preserve = Preserve::All,
            // That it was seen is all.
            (_other, _value) => {}
        }
        Ok(())
    }

    fn preserve(&mut self, list: &Text) {
        let names = list.bytes().split(|byte| *byte == b',').filter(|name| !name.is_empty());
        match &mut self.run.preserve {
            Preserve::All => {}
            Preserve::Named(known) => known.extend(names.map(Text::from)),
        }
    }

    fn finish(mut self) -> Result<Invocation, UsageError> {
        let has = |name| self.seen.contains(&name);
        if has(Name::Help) {
            return Ok(Invocation::Help);
        }
        if has(Name::Version) {
            return Ok(Invocation::Version);
        }
        if has(Name::Login) && has(Name::Shell) {
            return Err(UsageError::Conflict { first: "-i", second: "-s" });
        }
        if has(Name::Login) && self.run.preserve == Preserve::All {
            return Err(UsageError::Conflict { first: "-i", second: "-E" });
        }
        if has(Name::List) {
            return Ok(Invocation::Ask(Ask::List(self.run.command)));
        }
        self.run.mode = match (has(Name::Login), has(Name::Shell)) {
            (true, _) => Mode::Login,
            (false, true) => Mode::Shell,
            (false, false) => Mode::Command,
        };
        self.run.background = has(Name::Background);
        if !self.run.command.is_empty() || self.run.mode != Mode::Command {
            return Ok(Invocation::Ask(Ask::Run(self.run)));
        }
        if has(Name::Validate) {
            return Ok(Invocation::Ask(Ask::Validate));
        }
        if has(Name::Forget) { Ok(Invocation::Forget) } else { Err(UsageError::NoCommand) }
    }
}

/// The option of that name, or the only one that begins so.
fn find_word(name: &str) -> Option<&'static Known> {
    if let Some(exact) = KNOWN.iter().find(|known| known.word == name) {
        return Some(exact);
    }
    let mut candidates = KNOWN.iter().filter(|known| known.word.starts_with(name));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Some(only),
        _none_or_many => None,
    }
}

fn name_in(option: &Known, value: &Text) -> Result<String, UsageError> {
    let text = value.0.to_str().filter(|text| !text.is_empty());
    text.map(ToOwned::to_owned).ok_or(UsageError::BadValue { name: option.word })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Text> {
        line.split_whitespace().map(Text::from).collect()
    }

    fn parsed(line: &str) -> Result<Invocation, UsageError> {
        parse(words(line))
    }

    #[track_caller]
    fn run(line: &str) -> Run {
        match parsed(line) {
            Ok(Invocation::Ask(Ask::Run(run))) => run,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let run = run("-u ada -n ls -u x A=b");
        assert_eq!(run.user.as_deref(), Some("ada"));
        assert_eq!(run.command, words("ls -u x A=b"));
        assert_eq!(run.mode, Mode::Command);
    }

    #[test]
    fn letters_may_stand_together_and_the_last_may_carry_its_value() {
        let all = ["-nEu ada true", "-nEuada true", "-n -E --user=ada true", "-nE --user ada true"];
        for line in all {
            let run = run(line);
            assert_eq!(run.user.as_deref(), Some("ada"), "{line}");
            assert_eq!(run.preserve, Preserve::All, "{line}");
            assert_eq!(run.command, words("true"), "{line}");
        }
        assert_eq!(run("-nH true").home, Home::Target);
        assert_eq!(run("-p Password: -g wheel true").group.as_deref(), Some("wheel"));
    }

    #[test]
    fn variables_come_before_the_command_and_not_after_two_dashes() {
        let found = run("A=b -u ada C= env D=e");
        assert_eq!(found.variables, words("A=b C="));
        assert_eq!(found.command, words("env D=e"));
        assert_eq!(run("-- A=b").command, words("A=b"));
        assert_eq!(run("-- -x").command, words("-x"));
        assert_eq!(run("/opt/a=b").command, words("/opt/a=b"));
    }

    #[test]
    fn a_list_of_variables_adds_up_and_everything_is_more() {
        let names = Preserve::Named(words("A B C"));
        assert_eq!(run("--preserve-env=A,B --preserve-env=C true").preserve, names);
        assert_eq!(run("-E --preserve-env=A true").preserve, Preserve::All);
    }

    #[test]
    fn shells_need_no_command() {
        assert_eq!(run("-i").mode, Mode::Login);
        assert_eq!(run("-s ls").mode, Mode::Shell);
        assert_eq!(run("-iu ada").user.as_deref(), Some("ada"));
        assert!(run("-b true").background && !run("true").background);
        assert_eq!(run("-D /tmp true").folder, Some(Text::from("/tmp")));
    }

    #[test]
    fn passwords_and_their_cache_are_nothing_to_do() {
        assert_eq!(parsed("-k"), Ok(Invocation::Forget));
        assert_eq!(parsed("-K"), Ok(Invocation::Forget));
        assert_eq!(parsed("-v"), Ok(Invocation::Ask(Ask::Validate)));
        assert_eq!(parsed("-nv"), Ok(Invocation::Ask(Ask::Validate)));
        assert_eq!(run("-k true").command, words("true"));
        assert_eq!(run("-S -A true").command, words("true"));
        assert_eq!(parsed("-l"), Ok(Invocation::Ask(Ask::List(Vec::new()))));
        assert_eq!(parsed("-h"), Ok(Invocation::Help));
        assert_eq!(parsed("--vers"), Ok(Invocation::Version));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_told_why() {
        let why = |line| parsed(line).unwrap_err().to_string();
        assert_eq!(why("-z true"), "invalid option -- 'z'");
        assert_eq!(why("--zap true"), "unrecognized option '--zap'");
        assert_eq!(why("--s true"), "unrecognized option '--s'", "several begin so");
        assert_eq!(why("-u"), "option '--user' requires an argument");
        assert_eq!(why("--user"), "option '--user' requires an argument");
        assert_eq!(why("--help=x"), "option '--help' doesn't allow an argument");
        assert_eq!(why("-is"), "you may not specify both the -i and -s options");
        assert_eq!(why("-iE"), "you may not specify both the -i and -E options");
        assert_eq!(why(""), "a command is missing");
        assert_eq!(why("-n"), "a command is missing");
        assert_eq!(why("--user= true"), "the value of option '--user' is empty or not UTF-8");
    }
}
