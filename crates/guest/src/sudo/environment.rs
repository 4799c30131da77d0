//! The environment of a command: the target's own, a few of the caller's variables, and who called.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::request::{Caller, Home, Mode, Preserve, Run};
use super::text::Text;
use crate::user::User;

/// Where commands are looked up, and `PATH` of every command; Debian's `secure_path`.
pub(super) const SECURE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The caller's variables that always stay.
const KEPT: [&[u8]; 11] = [
    b"COLORS",
    b"COLORTERM",
    b"DISPLAY",
    b"LANG",
    b"LANGUAGE",
    b"LINGUAS",
    b"LS_COLORS",
    b"TERM",
    b"TZ",
    b"XAUTHORITY",
    b"XAUTHORIZATION",
];

/// Beginnings of others that do: the locale, and what a sandbox says of itself.
const KEPT_PREFIXES: [&[u8]; 2] = [b"LC_", b"E2B_"];

/// Variables by which a loader or shell would run something else, or read words otherwise. They
/// never stay, unless the command line itself sets them.
const DROPPED: [&[u8]; 6] = [b"BASH_ENV", b"CDPATH", b"ENV", b"IFS", b"PS4", b"SHELLOPTS"];

/// Beginnings of others: the loader's, and functions that a shell exported.
const DROPPED_PREFIXES: [&[u8]; 2] = [b"LD_", b"BASH_FUNC_"];

/// A whole environment.
pub(super) type Environment = BTreeMap<OsString, OsString>;

/// What an environment depends on besides caller and command line.
pub(super) struct Setting<'a> {
    /// The name of who called.
    pub(super) caller: &'a str,
    /// Whose rights the command has.
    pub(super) target: &'a User,
    /// The command as it is run, for `SUDO_COMMAND`.
    pub(super) command: OsString,
}

/// The environment of the command.
pub(super) fn environment(from: &Caller, run: &Run, setting: Setting<'_>) -> Environment {
    let Setting { caller, target, command } = setting;
    let mut env: Environment = from
        .environment
        .iter()
        .filter_map(pair)
        .filter(|(name, _value)| stays(&run.preserve, name.as_bytes()))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, value) in own(target) {
        let reset = name == "PATH"
            || (name == "HOME" && run.home == Home::Target)
            || (run.mode == Mode::Login && name != "MAIL")
            || (run.preserve == Preserve::All && (name == "USER" || name == "LOGNAME"));
        if reset {
            env.insert(name.into(), value);
        } else {
            env.entry(name.into()).or_insert(value);
        }
    }
    env.insert("SUDO_USER".into(), caller.into());
    env.insert("SUDO_UID".into(), from.uid.to_string().into());
    env.insert("SUDO_GID".into(), from.gid.to_string().into());
    env.insert("SUDO_COMMAND".into(), command);
    let set = run.variables.iter().filter_map(pair);
    env.extend(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env
}

/// The value of a variable of the caller.
pub(super) fn variable<'a>(from: &'a Caller, name: &str) -> Option<&'a OsStr> {
    let mut pairs = from.environment.iter().filter_map(pair);
    pairs.find(|(found, _value)| *found == name).map(|(_name, value)| value)
}

/// What a user's variables are before anyone changes them.
fn own(target: &User) -> [(&'static str, OsString); 6] {
    [
        ("PATH", SECURE_PATH.into()),
        ("HOME", target.home.clone().into()),
        ("SHELL", target.shell.clone().into()),
        ("USER", target.name.clone().into()),
        ("LOGNAME", target.name.clone().into()),
        ("MAIL", format!("/var/mail/{}", target.name).into()),
    ]
}

fn stays(preserve: &Preserve, name: &[u8]) -> bool {
    let begins = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if DROPPED.contains(&name) || begins(&DROPPED_PREFIXES) {
        return false;
    }
    let asked_for = match preserve {
        Preserve::All => true,
        Preserve::Named(names) => names.iter().any(|asked| asked.bytes() == name),
    };
    asked_for || KEPT.contains(&name) || begins(&KEPT_PREFIXES)
}

/// Name and value; a word without `=`, or without a name before it, is no variable.
fn pair(text: &Text) -> Option<(&OsStr, &OsStr)> {
    let bytes = text.bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    let (name, value) = bytes.split_at_checked(at)?;
    Some((OsStr::from_bytes(name), OsStr::from_bytes(value.get(1..)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> User {
        User {
            name: "root".into(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/home/root".into(),
            shell: "/bin/zsh".into(),
        }
    }

    fn made(run: &Run) -> Environment {
        let environment = [
            "PATH=/evil",
            "HOME=/home/ada",
            "SHELL=/bin/fish",
            "USER=ada",
            "LANG=C.UTF-8",
            "LC_ALL=C",
            "TERM=xterm",
            "E2B_SANDBOX=true",
            "API_KEY=k",
            "LD_PRELOAD=x.so",
            "=",
            "none",
        ];
        let environment = environment.into_iter().map(Text::from).collect();
        let from = Caller { environment, uid: 7, gid: 9 };
        let (target, command) = (root(), "/bin/true x".into());
        super::environment(&from, run, Setting { caller: "ada", target: &target, command })
    }

    #[track_caller]
    fn has(env: &Environment, name: &str, value: &str) {
        assert_eq!(env.get(OsStr::new(name)).map(OsString::as_os_str), Some(OsStr::new(value)));
    }

    #[test]
    fn the_environment_is_the_targets_and_says_who_called() {
        let env = made(&Run::default());
        for (name, value) in [
            ("PATH", SECURE_PATH),
            ("HOME", "/home/root"),
            ("SHELL", "/bin/zsh"),
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("MAIL", "/var/mail/root"),
            ("SUDO_USER", "ada"),
            ("SUDO_UID", "7"),
            ("SUDO_GID", "9"),
            ("SUDO_COMMAND", "/bin/true x"),
        ] {
            has(&env, name, value);
        }
    }

    #[test]
    fn locale_terminal_and_sandbox_stay_and_nothing_else() {
        let env = made(&Run::default());
        has(&env, "LANG", "C.UTF-8");
        has(&env, "LC_ALL", "C");
        has(&env, "TERM", "xterm");
        has(&env, "E2B_SANDBOX", "true");
        assert_eq!(env.len(), 14, "{env:?}");
    }

    #[test]
    fn preserving_all_keeps_home_and_shell_but_not_path_user_or_loader() {
        let env = made(&Run { preserve: Preserve::All, ..Run::default() });
        has(&env, "HOME", "/home/ada");
        has(&env, "SHELL", "/bin/fish");
        has(&env, "API_KEY", "k");
        has(&env, "PATH", SECURE_PATH);
        has(&env, "USER", "root");
        assert!(!env.contains_key(OsStr::new("LD_PRELOAD")));
        let env = made(&Run { preserve: Preserve::All, home: Home::Target, ..Run::default() });
        has(&env, "HOME", "/home/root");
    }

    #[test]
    fn named_variables_are_kept() {
        let names = Preserve::Named(vec!["API_KEY".into(), "HOME".into()]);
        let env = made(&Run { preserve: names, ..Run::default() });
        has(&env, "API_KEY", "k");
        has(&env, "HOME", "/home/ada");
        has(&env, "SHELL", "/bin/zsh");
    }

    #[test]
    fn the_command_line_has_the_last_word() {
        let variables = vec!["PATH=/mine".into(), "X=1=2".into(), "LD_PRELOAD=x".into()];
        let env = made(&Run { variables, ..Run::default() });
        has(&env, "PATH", "/mine");
        has(&env, "X", "1=2");
        has(&env, "LD_PRELOAD", "x");
    }

    #[test]
    fn a_login_shell_gets_the_targets_variables_whatever_is_preserved() {
        let names = Preserve::Named(vec!["HOME".into(), "SHELL".into()]);
        let env = made(&Run { preserve: names, mode: Mode::Login, ..Run::default() });
        has(&env, "HOME", "/home/root");
        has(&env, "SHELL", "/bin/zsh");
    }
}
