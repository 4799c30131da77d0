//! Flags that say what a new sandbox may reach.

use std::path::{Path, PathBuf};

use courier_protocol::v1::{EnvSecret, EnvValue, TOKEN_TTL_SECS_MAX};
use courier_types::egress::{Policy, PresetName, Rule, SecretName};
use serde::Serialize;

use super::policy_text::{PolicyFile, STDIN, UNNAMED};

/// What a sandbox may reach.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "What it may reach")]
pub(crate) struct EgressArgs {
    /// Let it reach HOST: a name, *.NAME, an IPv4 address or network, or `internet`. Names: http on
    /// port 80 and https on 443, or both on PORT; PROTOCOL is http, https or tcp (may be repeated)
    #[arg(long, value_name = "HOST[:PORT[/PROTOCOL]]", value_parser = allow)]
    pub(crate) allow: Vec<Rule>,
    /// Egress policy, a JSON file, or - for standard input. What --allow and --preset say is added
    #[arg(long, value_name = "FILE")]
    pub(crate) egress: Option<PathBuf>,
    /// Let it use a package manager, e.g. pypi or npm, from where this machine gets its packages
    /// (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Vec<PresetName>,
    /// Record what is refused, and propose the smallest policy that would have allowed it. Nothing
    /// more is let through
    #[arg(long)]
    pub(crate) learn: bool,
}

/// What the flags say, files read.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The policy to ask for; `None` where no flag is about it.
    pub(crate) policy: Option<Policy>,
    /// What a proposal is compared with.
    pub(crate) file: PolicyFile,
}

impl EgressArgs {
    /// True where the policy comes from standard input.
    pub(crate) fn takes_stdin(&self) -> bool {
        self.egress.as_deref() == Some(Path::new(STDIN))
    }

    /// Reads the policy.
    ///
    /// # Errors
    /// The file cannot be read, or says no policy.
    pub(crate) fn read(&self) -> anyhow::Result<Wish> {
        let Self { allow, egress, preset, learn } = self;
        let file = egress.as_deref().map(PolicyFile::read).transpose()?;
        let unsaid = file.is_none() && allow.is_empty() && preset.is_empty() && !learn;
        let file = file.unwrap_or_else(|| PolicyFile::none_yet(UNNAMED));
        let mut policy = file.policy.clone();
        // Before the file's rules, of which the last may refuse everything.
        policy.rules.splice(..0, allow.iter().cloned());
        for name in preset {
            if !policy.presets.contains(name) {
                policy.presets.push(name.clone());
            }
        }
        policy.learn |= learn;
        policy.check()?;
        Ok(Wish { policy: (!unsaid).then_some(policy), file })
    }
}

/// A rule in short, in the form of a policy's.
#[derive(Serialize)]
struct Short<'a> {
    allow: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<[Port<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocols: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Port<'a> {
    One(u16),
    Range(&'a str),
}

/// Reads a rule in short. What a rule may be is decided where policies are read.
fn allow(text: &str) -> Result<Rule, String> {
    let (host, place) = text.split_once(':').unzip();
    let (port, protocol) = match place.map(|place| place.split_once('/').ok_or(place)) {
        Some(Ok((port, protocol))) => (Some(port), Some(protocol)),
        Some(Err(port)) => (Some(port), None),
        None => (None, None),
    };
    let port = port.map(|text| text.parse().map_or(Port::Range(text), Port::One));
    let short = Short {
        allow: host.unwrap_or(text),
        ports: port.map(|port| [port]),
        protocols: protocol.map(|protocol| [protocol]),
    };
    let rule = serde_json::to_value(short).and_then(serde_json::from_value);
    rule.map_err(|error| error.to_string())
}

/// Reads `ENV=NAME`.
pub(crate) fn secret(text: &str) -> Result<(String, SecretName), String> {
    let (variable, name) = crate::pairs::parse(text).map_err(|_shape| "write it as ENV=NAME")?;
    name.parse().map(|name| (variable, name)).map_err(|error| format!("{error}"))
}

/// Variables that hold tokens for secrets; the tokens count for so long, and at most a day.
pub(crate) fn secret_env(
    secrets: &[(String, SecretName)],
    lifetime: std::time::Duration,
) -> impl Iterator<Item = (String, EnvValue)> {
    let ttl_seconds = Some(lifetime.as_secs().clamp(1, TOKEN_TTL_SECS_MAX));
    secrets.iter().map(move |(variable, secret)| {
        let value = EnvSecret { secret: secret.clone(), ttl_seconds };
        (variable.clone(), EnvValue::Secret(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::policy_text::one_line;

    #[test]
    fn a_rule_in_short_is_a_rule() {
        for (text, rule) in [
            ("api.example.com", r#"{"allow": "api.example.com"}"#),
            ("*.Example.com", r#"{"allow": "*.example.com"}"#),
            ("internet", r#"{"allow": "internet"}"#),
            ("192.0.2.0/24", r#"{"allow": "192.0.2.0/24"}"#),
            ("a.test:8443", r#"{"allow": "a.test", "ports": [8443]}"#),
            ("a.test:8000-8010", r#"{"allow": "a.test", "ports": ["8000-8010"]}"#),
            ("a.test:22/tcp", r#"{"allow": "a.test", "ports": [22], "protocols": ["tcp"]}"#),
            ("192.0.2.1:53/tcp", r#"{"allow": "192.0.2.1", "ports": [53], "protocols": ["tcp"]}"#),
        ] {
            assert_eq!(one_line(&allow(text).unwrap()), rule, "{text}");
        }
        for text in
            ["", "*", "*.com", "a.test:", "a.test:0", "a.test:x", "a.test:1/udp", "[::1]:1", "a b"]
        {
            assert!(allow(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_the_flags_say_comes_before_what_the_file_refuses() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"rules":[{"deny":"internet"}],"presets":["npm"]}"#)
            .unwrap();
        let args = EgressArgs {
            allow: vec![allow("a.test").unwrap()],
            egress: Some(file.path().to_owned()),
            preset: vec!["npm".parse().unwrap(), "pypi".parse().unwrap()],
            learn: true,
        };
        let policy = args.read().unwrap().policy.unwrap();
        let expected = r#"{"rules": [{"allow": "a.test"}, {"deny": "internet"}], "presets": ["npm", "pypi"], "learn": true}"#;
        assert_eq!(one_line(&policy), expected);
        assert!(EgressArgs::default().read().unwrap().policy.is_none());
    }

    #[test]
    fn a_token_for_a_secret_ends_with_its_sandbox_and_within_a_day() {
        let secrets = [secret("KEY=OpenAI").unwrap()];
        for (seconds, ttl) in [(60, 60), (0, 1), (10_000_000, 86_400)] {
            let lifetime = std::time::Duration::from_secs(seconds);
            let env: Vec<_> = secret_env(&secrets, lifetime).collect();
            let [(name, EnvValue::Secret(value))] = env.as_slice() else { panic!("{env:?}") };
            assert_eq!((name.as_str(), value.secret.as_str()), ("KEY", "openai"));
            assert_eq!(value.ttl_seconds, Some(ttl));
        }
        assert!(secret("KEY").is_err() && secret("KEY=a/b").is_err());
    }
}
