//! From a request to what exactly is to be run: checked, bounded, nothing started yet.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::process::{ProcessConfig, StartRequest};

use crate::context::{Context, Settings};
use crate::path;
use crate::user::User;

/// Most bytes of arguments and environment together. The kernel takes 2 MiB at its usual stack limit
/// and says E2BIG beyond.
const ARGUMENTS_MAX_BYTES: usize = 1024 * 1024;

/// Most bytes of a tag.
const TAG_MAX_BYTES: usize = 1_024;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: ProcessConfig,
    pub(super) tag: Option<String>,
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) cwd: PathBuf,
    pub(super) user: User,
}

impl Plan {
    /// Checks a request.
    pub(super) fn of(
        context: &Context,
        user: User,
        request: &mut StartRequest,
    ) -> Result<Self, ConnectError> {
        let config = request.process.take().unwrap_or_default();
        let tag = request.tag.take();
        check(&config, tag.as_deref())?;
        let settings = context.settings();
        let cwd = directory(&settings, &user, config.cwd.as_deref().unwrap_or_default())?;
        let env = environment(context.path(), &settings, &user, &config.envs);
        Ok(Self { config, tag, env, cwd, user })
    }
}

fn check(config: &ProcessConfig, tag: Option<&str>) -> Result<(), ConnectError> {
    let invalid = |what: &str| Err(ConnectError::invalid_argument(what));
    if config.cmd.is_empty() {
        return invalid("the command is empty");
    }
    if config.cmd.contains('\0') || config.args.iter().any(|arg| arg.contains('\0')) {
        return invalid("the command or an argument contains a NUL byte");
    }
    for (name, value) in &config.envs {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return invalid("an environment variable's name is empty or contains '=' or NUL");
        }
    }
    let arguments: usize = config.args.iter().map(|arg| arg.len() + 1).sum();
    let variables: usize =
        config.envs.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if config.cmd.len() + arguments + variables > ARGUMENTS_MAX_BYTES {
        return Err(ConnectError::new(
            Code::InvalidArgument,
            format!("arguments and environment are longer than {ARGUMENTS_MAX_BYTES} bytes"),
        ));
    }
    if tag.is_some_and(|tag| tag.len() > TAG_MAX_BYTES) {
        return invalid("the tag is longer than 1,024 bytes");
    }
    Ok(())
}

/// The working directory: empty is the default one, or home; relative is below home.
fn directory(settings: &Settings, user: &User, asked: &str) -> Result<PathBuf, ConnectError> {
    let text = if asked.is_empty() { settings.default_workdir.as_str() } else { asked };
    let path = path::resolve(text, &user.home)
        .map_err(|error| ConnectError::invalid_argument(error.to_string()))?;
    if path.is_dir() {
        return Ok(path);
    }
    // A default that this image does not have must not make every command fail.
    if asked.is_empty() {
        return Ok(if user.home.is_dir() { user.home.clone() } else { PathBuf::from("/") });
    }
    let shown = path.display();
    Err(ConnectError::invalid_argument(if path.exists() {
        format!("cwd '{shown}' is not a directory")
    } else {
        format!("cwd '{shown}' does not exist")
    }))
}

/// The environment, later ones over earlier ones: the user's, the CA's, the sandbox's, ours, the
/// command's.
fn environment(
    path: &str,
    settings: &Settings,
    user: &User,
    own: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
    env.insert("PATH".into(), path.into());
    env.insert("HOME".into(), user.home.clone().into());
    env.insert("USER".into(), user.name.clone().into());
    env.insert("LOGNAME".into(), user.name.clone().into());
    env.extend(settings.trust_vars.iter().map(|(name, value)| (name.into(), value.into())));
    env.extend(settings.env_vars.iter().map(|(name, value)| (name.into(), value.into())));
    env.insert("E2B_SANDBOX".into(), "true".into());
    env.insert("E2B_SANDBOX_ID".into(), settings.sandbox_id.clone().into());
    env.insert("E2B_TEMPLATE_ID".into(), settings.template_id.clone().into());
    env.extend(own.iter().map(|(name, value)| (name.into(), value.into())));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "user".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/tmp".into(),
            shell: "/bin/sh".into(),
        }
    }

    fn plan(config: ProcessConfig) -> Result<Plan, ConnectError> {
        let mut request = StartRequest { process: Some(config), ..StartRequest::default() };
        Plan::of(&Context::default(), user(), &mut request)
    }

    #[test]
    fn a_missing_directory_is_told_in_the_words_of_the_wire() {
        let cwd = Some("no/such".to_owned());
        let error = plan(ProcessConfig { cmd: "true".into(), cwd, ..Default::default() });
        assert_eq!(
            error.unwrap_err(),
            ConnectError::invalid_argument("cwd '/tmp/no/such' does not exist")
        );
    }

    #[test]
    fn what_the_kernel_could_not_take_is_the_callers_fault() {
        let envs = BTreeMap::from([("A=B".to_owned(), String::new())]);
        for config in [
            ProcessConfig { cmd: String::new(), ..Default::default() },
            ProcessConfig { cmd: "a\0".into(), ..Default::default() },
            ProcessConfig { cmd: "a".into(), args: vec!["\0".into()], ..Default::default() },
            ProcessConfig { cmd: "a".into(), envs, ..Default::default() },
            ProcessConfig {
                cmd: "a".into(),
                args: vec!["x".repeat(2 << 20)],
                ..Default::default()
            },
        ] {
            assert_eq!(plan(config).unwrap_err().code, Code::InvalidArgument);
        }
    }

    #[test]
    fn a_commands_own_variables_are_over_all_others() {
        let envs = BTreeMap::from([("HOME".to_owned(), "/x".to_owned())]);
        let plan = plan(ProcessConfig { cmd: "true".into(), envs, ..Default::default() }).unwrap();
        assert_eq!(plan.env.get(&OsString::from("HOME")), Some(&OsString::from("/x")));
        assert_eq!(plan.env.get(&OsString::from("E2B_SANDBOX")), Some(&OsString::from("true")));
        assert_eq!(plan.env.get(&OsString::from("LOGNAME")), Some(&OsString::from("user")));
    }
}
