//! The command line, parsed by hand: few options, and no dependency is worth them here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::server::Policy;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: courier-launcher --dir DIR [--allow-uid UID]... [--idle-exit-s SECONDS] [--runsc PATH]

Makes and destroys sandboxes for courier. Needs root; serves DIR/launcher.sock.

  --dir DIR              where it keeps its socket, intents and formatted disks
  --allow-uid UID        who may use it beside root; may be repeated
  --idle-exit-s SECONDS  end after so long without clients and sandboxes (default: never)
  --runsc PATH           the runsc to use (default: the first in /usr/local and /usr)";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve a directory.
    Serve(Options),
    /// Be pid 1 of a sandbox; only the launcher says this.
    Box,
    /// Print the usage.
    Help,
}

/// How to serve.
#[derive(Debug)]
pub(crate) struct Options {
    /// The directory.
    pub(crate) dir: PathBuf,
    /// The runsc to use.
    pub(crate) runsc: Option<PathBuf>,
    /// Whom to serve and how long.
    pub(crate) policy: Policy,
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut arguments = arguments.peekable();
    if arguments.peek().is_some_and(|first| first == "box") {
        return Ok(Command::Box);
    }
    let (mut dir, mut runsc) = (None, None);
    let mut policy = Policy { allow: Vec::new(), idle_exit: None };
    while let Some(option) = arguments.next() {
        let option = option.to_string_lossy().into_owned();
        if option == "--help" || option == "-h" {
            return Ok(Command::Help);
        }
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--runsc" => runsc = Some(PathBuf::from(value)),
            "--allow-uid" => policy.allow.push(number(&option, &value)?),
            "--idle-exit-s" => {
                policy.idle_exit = Some(Duration::from_secs(number(&option, &value)?.into()));
            }
            _ => return Err(format!("unknown option {option}")),
        }
    }
    let dir = dir.ok_or("--dir is missing")?;
    Ok(Command::Serve(Options { dir, runsc, policy }))
}

fn number(option: &str, value: &OsString) -> Result<u32, String> {
    let text = value.to_string_lossy();
    text.parse().map_err(|error| format!("{option} {text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_taken_and_unknown_or_broken_ones_named() {
        let Ok(Command::Serve(options)) = parsed("--dir /d --allow-uid 7 --allow-uid 8") else {
            panic!("not taken");
        };
        assert_eq!(options.policy.allow, [7, 8]);
        assert_eq!(parsed("--dri /d").unwrap_err(), "unknown option --dri");
        assert_eq!(parsed("").unwrap_err(), "--dir is missing");
        assert!(parsed("--allow-uid x").unwrap_err().contains("--allow-uid x"));
    }
}
