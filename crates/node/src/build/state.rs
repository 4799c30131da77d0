//! What holds between two steps: the user, the directory and the environment of the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use courier_protocol::node::StepKind;
use courier_types::BuildConfig;

use super::expand::{ExpandError, expand};

/// Longest path of a directory, in bytes: Linux's own.
const PATH_MAX_BYTES: usize = 4_096;

/// Longest name of a user: `useradd` takes no longer one.
const USER_MAX_BYTES: usize = 32;

/// Most bytes of all variables: a fraction of what the guest daemon takes for arguments and
/// environment. The plan of a build keeps them once for each step that changes them.
const ENV_MAX_BYTES: usize = 128 * 1_024;

/// The variable that login shells set anew, whatever it was.
pub(super) const PATH: &str = "PATH";

/// `PATH` where a build sets none: what `login` gives root. For values that say `$PATH:…`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a step makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StateError {
    /// A variable's name is none.
    #[error("{name:?} is no name of a variable")]
    Name {
        /// The name, cut.
        name: String,
    },
    /// A variable's value is none.
    #[error("the value of {name} cannot be used")]
    Value {
        /// The variable.
        name: String,
        /// Why.
        #[source]
        source: ExpandError,
    },
    /// A value has a NUL byte.
    #[error("the value of {name} contains a NUL byte")]
    Nul {
        /// The variable.
        name: String,
    },
    /// All variables together are too long.
    #[error("the variables are longer than {ENV_MAX_BYTES} bytes together")]
    Environment,
    /// A directory's path is none.
    #[error("{path:?} is no directory: expected a path of at most {PATH_MAX_BYTES} bytes")]
    Workdir {
        /// The path, cut.
        path: String,
    },
    /// A user's name is none.
    #[error(
        "{name:?} is no name of a user: expected letters, digits, '.', '_' and '-', not beginning \
         with a digit or '-', at most {USER_MAX_BYTES} of them"
    )]
    User {
        /// The name, cut.
        name: String,
    },
}

/// The user, the directory and the environment of the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) user: String,
    /// Absolute, clean.
    pub(super) workdir: String,
    /// Shared by all steps between two that change it.
    pub(super) env: Arc<BTreeMap<String, String>>,
}

impl State {
    /// What a build begins with that starts from another one.
    pub(super) fn of(config: &BuildConfig) -> Self {
        let BuildConfig { user, workdir, env, start: _, ready: _ } = config.clone();
        Self { user, workdir, env: Arc::new(env) }
    }

    /// What a build begins with that starts from a registry's image.
    pub(super) fn of_image(
        env: BTreeMap<String, String>,
        workdir: Option<&str>,
    ) -> Result<Self, StateError> {
        let mut state = Self::of(&BuildConfig { env, ..BuildConfig::default() });
        if environment_bytes(&state.env) > ENV_MAX_BYTES {
            return Err(StateError::Environment);
        }
        // A directory that the image does not name is not the root for E2B's clients.
        if let Some(path) = workdir.filter(|path| path.starts_with('/') && *path != "/") {
            state.workdir = state.resolve(path)?;
        }
        Ok(state)
    }

    /// What the build says about its sandboxes, when this is its end.
    pub(super) fn config(&self, start: Option<String>, ready: Option<String>) -> BuildConfig {
        let Self { user, workdir, env } = self.clone();
        BuildConfig { user, workdir, env: Arc::unwrap_or_clone(env), start, ready }
    }

    /// The state after a step.
    pub(super) fn after(&self, step: &StepKind) -> Result<Self, StateError> {
        let mut after = self.clone();
        match step {
            StepKind::Run { .. } | StepKind::Copy { .. } => {}
            StepKind::Workdir(path) => after.workdir = self.resolve(path)?,
            StepKind::User(name) => after.user = user(name)?,
            StepKind::Env(pairs) => after.set(pairs)?,
        }
        Ok(after)
    }

    fn set(&mut self, pairs: &[(String, String)]) -> Result<(), StateError> {
        let home = match self.user.as_str() {
            "root" => "/root".to_owned(),
            user => format!("/home/{user}"),
        };
        let mut bytes = environment_bytes(&self.env);
        for (name, value) in pairs {
            let shown = || name.chars().take(64).collect::<String>();
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(StateError::Name { name: shown() });
            }
            let value = expand(value, &|name| self.variable(name, &home))
                .map_err(|source| StateError::Value { name: shown(), source })?;
            if value.contains('\0') {
                return Err(StateError::Nul { name: shown() });
            }
            bytes += variable_bytes(name, &value);
            if let Some(before) = Arc::make_mut(&mut self.env).insert(name.clone(), value) {
                bytes -= variable_bytes(name, &before);
            }
            if bytes > ENV_MAX_BYTES {
                return Err(StateError::Environment);
            }
        }
        Ok(())
    }

    /// What a value may refer to: what is set, over what every command has.
    fn variable<'a>(&'a self, name: &str, home: &'a str) -> Option<&'a str> {
        self.env.get(name).map(String::as_str).or(match name {
            PATH => Some(DEFAULT_PATH),
            "HOME" => Some(home),
            "USER" => Some(&self.user),
            _ => None,
        })
    }

    /// An absolute, clean path from one that may be relative to the current directory.
    fn resolve(&self, path: &str) -> Result<String, StateError> {
        let refused = || StateError::Workdir { path: path.chars().take(64).collect() };
        if path.is_empty() || path.contains('\0') {
            return Err(refused());
        }
        let mut parts: Vec<&str> = Vec::new();
        let base = if path.starts_with('/') { "" } else { self.workdir.as_str() };
        for part in base.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        let whole = format!("/{}", parts.join("/"));
        if whole.len() > PATH_MAX_BYTES { Err(refused()) } else { Ok(whole) }
    }
}

/// Bytes of a variable as a process gets it.
const fn variable_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + 2
}

fn environment_bytes(env: &BTreeMap<String, String>) -> usize {
    env.iter().map(|(name, value)| variable_bytes(name, value)).sum()
}

/// A user's name. Dockerfiles may name a group as well, which a login has anyway.
pub(super) fn user(name: &str) -> Result<String, StateError> {
    let login = name.split_once(':').map_or(name, |(login, _group)| login);
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if login.len() <= USER_MAX_BYTES && login.starts_with(is_first) && login.chars().all(is_name) {
        Ok(login.to_owned())
    } else {
        Err(StateError::User { name: name.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[StepKind]) -> Result<State, StateError> {
        let start = State::of(&BuildConfig::default());
        steps.iter().try_fold(start, |state, step| state.after(step))
    }

    fn env(pairs: &[(&str, &str)]) -> StepKind {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        StepKind::Env(pairs.iter().map(owned).collect())
    }

    #[test]
    fn a_directory_is_relative_to_the_one_before_and_never_above_the_root() {
        let workdir = |paths: &[&str]| {
            let steps: Vec<_> =
                paths.iter().map(|path| StepKind::Workdir((*path).to_owned())).collect();
            after(&steps).map(|state| state.workdir)
        };
        assert_eq!(workdir(&["app"]).unwrap(), "/home/user/app");
        assert_eq!(workdir(&["/srv//x/", "./y/../z"]).unwrap(), "/srv/x/z");
        assert_eq!(workdir(&["../../../.."]).unwrap(), "/");
        assert!(workdir(&[""]).is_err() && workdir(&["a\0"]).is_err());
        assert!(workdir(&[&"a".repeat(5_000)]).is_err());
    }

    #[test]
    fn variables_build_on_each_other_in_order() {
        let steps =
            [env(&[("A", "1"), ("B", "$A$A")]), env(&[("PATH", "/opt/bin:$PATH"), ("A", "${B}2")])];
        let state = after(&steps).unwrap();
        assert_eq!(state.env["B"], "11");
        assert_eq!(state.env["A"], "112");
        assert!(state.env["PATH"].starts_with("/opt/bin:/usr/local/sbin:"));
    }

    #[test]
    fn home_is_that_of_the_current_user() {
        let steps = [StepKind::User("root".to_owned()), env(&[("X", "$HOME/.cargo")])];
        assert_eq!(after(&steps).unwrap().env["X"], "/root/.cargo");
        assert_eq!(after(&[env(&[("X", "$HOME")])]).unwrap().env["X"], "/home/user");
    }

    #[test]
    fn what_no_environment_can_hold_is_refused() {
        for pairs in [[("", "x")], [("A=B", "x")], [("A", "x\0")], [("A", "${")]] {
            assert!(after(&[env(&pairs)]).is_err(), "{pairs:?}");
        }
        let large = "x".repeat(100_000);
        let names: Vec<String> = (0..6).map(|number| format!("V{number}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), large.as_str())).collect();
        assert_eq!(after(&[env(&pairs)]), Err(StateError::Environment));
    }

    #[test]
    fn variables_are_bounded_before_the_next_one_is_made() {
        let value = "x".repeat(60_000);
        let mut pairs = vec![("A".to_owned(), value)];
        pairs.extend((0..20).map(|number| (format!("B{number}"), "$A".to_owned())));
        // Whoever gets there has made all the others.
        pairs.push((String::new(), String::new()));
        assert_eq!(after(&[StepKind::Env(pairs)]), Err(StateError::Environment));
    }

    #[test]
    fn many_variables_of_one_step_take_no_time() {
        let begun = std::time::Instant::now();
        let names = (0..20_000).map(|number| (format!("V{}", number % 5_000), "$V1x".to_owned()));
        let state = after(&[StepKind::Env(names.collect())]).unwrap();
        assert_eq!(state.env.len(), 5_000);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_an_image_says_is_held_to_the_same_bounds() {
        let image =
            |value: String, workdir| State::of_image([("A".to_owned(), value)].into(), workdir);
        assert_eq!(image("$B".to_owned(), Some("/srv/../x/")).unwrap().workdir, "/x");
        assert_eq!(image("$B".to_owned(), None).unwrap().env["A"], "$B");
        assert_eq!(image(String::new(), Some("relative")).unwrap().workdir, "/home/user");
        assert_eq!(image("x".repeat(ENV_MAX_BYTES), None), Err(StateError::Environment));
        let long = format!("/{}", "a".repeat(5_000));
        for workdir in ["/a\0b", long.as_str()] {
            assert!(matches!(image(String::new(), Some(workdir)), Err(StateError::Workdir { .. })));
        }
    }

    #[test]
    fn a_users_name_is_one_that_a_system_takes() {
        for (name, login) in [("app", "app"), ("_x-1.y", "_x-1.y"), ("app:www", "app")] {
            assert_eq!(user(name).as_deref(), Ok(login));
        }
        for name in ["", "-x", "1000", "a b", "a/b", "root;id", "ä", &"x".repeat(33)] {
            assert!(user(name).is_err(), "{name}");
        }
    }
}
