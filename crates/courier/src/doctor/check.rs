//! What a check says, and how people read it.

use std::fmt::Write as _;

use serde::Serialize;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// As it should be.
    Good,
    /// Nothing is needed; good to know.
    Note,
    /// Sandboxes run without it, but something is missing.
    Advice,
    /// No sandbox runs without it.
    Missing,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Advice => "advice",
            Self::Missing => "MISSING",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: &'static str,
    /// How it stands.
    pub(crate) verdict: Verdict,
    /// What was found, for people.
    pub(crate) found: String,
    /// What mends it: shell commands, in their order; empty where there is nothing to mend, or only
    /// a person can.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mend: Vec<String>,
}

impl Check {
    /// As it should be.
    pub(crate) fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, found: found.into(), mend: Vec::new() }
    }

    /// Good to know.
    pub(crate) fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Note, found: found.into(), mend: Vec::new() }
    }

    /// Missing, though sandboxes run.
    pub(crate) fn advice(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Advice, found: found.into(), mend: Vec::new() }
    }

    /// Missing, and nothing runs without it.
    pub(crate) fn missing(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Missing, found: found.into(), mend: Vec::new() }
    }

    /// With the commands that mend it.
    pub(crate) fn mended_by(
        mut self,
        commands: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.mend = commands.into_iter().map(Into::into).collect();
        self
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The isolation that sandboxes get here; `None` where none can run.
    pub(crate) isolation: Option<courier_types::Isolation>,
    /// The checks, in the order in which people should read them.
    pub(crate) checks: Vec<Check>,
}

impl Report {
    /// What follows from the checks: there is one isolation in this version, and it needs all of
    /// what is called missing where it is missing.
    pub(crate) fn of(checks: Vec<Check>) -> Self {
        let runs = checks.iter().all(|check| check.verdict != Verdict::Missing);
        Self { isolation: runs.then_some(courier_types::Isolation::Gvisor), checks }
    }

    /// As a table, each missing thing followed by what mends it.
    pub(crate) fn text(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for check in &self.checks {
            let Check { name, verdict, found, mend } = check;
            let written = writeln!(text, "{:<8} {name:<width$}  {found}", verdict.word());
            written.expect("writing to a string cannot fail");
            for command in mend {
                text.push_str(&format!("{:<8} {:<width$}  $ {command}\n", "", ""));
            }
        }
        text.push('\n');
        text.push_str(&self.conclusion());
        text
    }

    fn conclusion(&self) -> String {
        match self.isolation {
            Some(isolation) => format!("Sandboxes run here, isolated by {isolation}.\n"),
            None => {
                let is_missing = |check: &&Check| check.verdict == Verdict::Missing;
                let missing: Vec<&str> =
                    self.checks.iter().filter(is_missing).map(|check| check.name).collect();
                let can_mend = self.to_mend().any(|check| is_missing(&check));
                let hint = if can_mend { ": `courier doctor --fix` mends what it can" } else { "" };
                format!("No sandbox runs here. Missing: {}{hint}.\n", missing.join(", "))
            }
        }
    }

    /// What can be mended by a command.
    pub(crate) fn to_mend(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.mend.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_is_followed_by_the_command_that_mends_it() {
        let report = Report::of(vec![
            Check::good("kernel", "6.1.0"),
            Check::missing("runsc", "is not installed").mended_by(["apt-get install --yes runsc"]),
        ]);
        assert_eq!(
            report.text(),
            "ok       kernel  6.1.0\n\
             MISSING  runsc   is not installed\n\
             \u{20}                $ apt-get install --yes runsc\n\
             \n\
             No sandbox runs here. Missing: runsc: `courier doctor --fix` mends what it can.\n"
        );
    }

    #[test]
    fn what_no_command_mends_is_not_said_to_be_mendable() {
        let user = Check::advice("user courier", "none").mended_by(["useradd courier"]);
        let report = Report::of(vec![Check::missing("root", "we are not root"), user]);
        assert!(report.text().ends_with("No sandbox runs here. Missing: root.\n"));
    }

    #[test]
    fn advice_and_notes_keep_nobody_from_running_sandboxes() {
        let report =
            Report::of(vec![Check::note("kvm", "there"), Check::advice("user courier", "none")]);
        assert_eq!(report.isolation, Some(courier_types::Isolation::Gvisor));
        assert!(report.text().ends_with("Sandboxes run here, isolated by gvisor.\n"));
    }
}
