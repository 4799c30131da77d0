//! What may stand where in the source.

use crate::Finding;
use crate::tree::{File, Tree};

/// A longer file wants to be a folder.
const MOST_LINES: usize = 1000;

/// Words that may stand only in some places.
struct Rule {
    /// The words; any of them is a finding.
    words: &'static [&'static str],
    /// How they are compared.
    case: Case,
    /// Where the rule looks.
    scope: Scope,
    /// Path prefixes where they may stand.
    allowed: &'static [&'static str],
    /// Why, and where to go instead.
    reason: &'static str,
}

#[derive(Clone, Copy)]
enum Case {
    Matters,
    Ignored,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Shipped Rust: `crates/*/src`, without comments and without the tests at a file's end.
    Shipped,
    /// All Rust, without comments.
    Rust,
    /// What installs something: scripts, recipes of templates, and lists of packages. The pages of
    /// sponsors that npm writes into its lock file are no place to get anything from.
    Provisioning,
}

const RULES: &[Rule] = &[
    Rule {
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "expect(unsafe_code"],
        case: Case::Matters,
        scope: Scope::Rust,
        allowed: &["crates/driver/", "crates/launcher/", "crates/guest/", "xtask/src/source.rs"],
        reason: "unsafe is only in driver, launcher and guest",
    },
    Rule {
        words: &["sqlx::", "SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE ", "PRAGMA "],
        case: Case::Matters,
        scope: Scope::Shipped,
        allowed: &["crates/store/"],
        reason: "SQL is only in store",
    },
    Rule {
        words: &["runsc", "gvisor", "qemu", "firecracker", "systrap"],
        case: Case::Ignored,
        scope: Scope::Shipped,
        allowed: &[
            "crates/driver/",
            "crates/launcher/",
            "crates/types/src/isolation.rs",
            "crates/courier/src/doctor",
            "crates/courier/src/bench",
        ],
        reason: "only driver, launcher, doctor and bench name an isolation technology",
    },
    Rule {
        words: &["env::var(", "env::var_os(", "env::vars(", "env::vars_os("],
        case: Case::Matters,
        scope: Scope::Rust,
        // Inside a sandbox, the environment is what the daemon and its sudo are about.
        allowed: &[
            "crates/courier/src/config",
            // Cargo tells build scripts by variables.
            "crates/courier/build.rs",
            "crates/guest/src/main.rs",
            "crates/guest/src/sudo/",
            "crates/interpreter/src/main.rs",
            "tests/src/environment.rs",
            "xtask/src/source.rs",
        ],
        reason: "environment variables are read once, in the binary's configuration",
    },
    Rule {
        words: &["#[allow(", "#![allow("],
        case: Case::Matters,
        scope: Scope::Rust,
        allowed: &["xtask/src/source.rs"],
        reason: "use #[expect(.., reason = \"..\")]",
    },
    Rule {
        words: &[
            "std::fs::",
            "SystemTime::now",
            "Instant::now",
            "tracing::",
            "tokio::",
            "println!",
        ],
        case: Case::Matters,
        scope: Scope::Shipped,
        allowed: &[
            "crates/channel/",
            "crates/client/",
            "crates/courier/",
            "crates/driver/",
            // Everything of egress but its policy.
            "crates/egress/src/broker",
            "crates/egress/src/connection",
            "crates/egress/src/dial",
            "crates/egress/src/dns",
            "crates/egress/src/flow",
            "crates/egress/src/http",
            "crates/egress/src/network",
            "crates/egress/src/policy/tests",
            "crates/egress/src/source",
            "crates/egress/src/stack",
            "crates/egress/src/tls",
            "crates/egress/src/tunnel",
            "crates/guest/",
            "crates/image/",
            "crates/interpreter/",
            "crates/launcher/",
            "crates/node/",
            "crates/server/",
            "crates/store/",
        ],
        reason: "types, lifecycle, protocol and the egress policy do no I/O, read no clock and do not log",
    },
    Rule {
        words: &["http://", "https://", "\"resolved\""],
        case: Case::Ignored,
        scope: Scope::Provisioning,
        allowed: &[],
        reason: "where packages come from is the machine's configuration, not ours",
    },
];

/// What npm names its lock files.
const NPM_LOCK: &str = "package-lock.json";

pub(crate) fn check(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let is_rust = file.path.ends_with(".rs");
        let count = file.text.lines().count();
        if count > MOST_LINES && !is_lock_file(&file.path) {
            findings.push(format!("{}: {count} lines; split it below {MOST_LINES}", file.path));
        }
        if is_rust && file.path.ends_with("/mod.rs") {
            findings.push(format!("{}: name it after its folder, beside the folder", file.path));
        }
        findings.extend(RULES.iter().flat_map(|rule| rule.judge(file)));
    }
    Ok(findings)
}

/// Lock files are as their tools write them.
fn is_lock_file(path: &str) -> bool {
    path.ends_with(".lock") || path.ends_with(NPM_LOCK)
}

impl Rule {
    fn judge(&self, file: &File) -> Vec<Finding> {
        if !self.applies(&file.path) {
            return Vec::new();
        }
        let mut findings = Vec::new();
        for (index, line) in file.text.lines().enumerate() {
            let unit_tests = line.trim() == "#[cfg(test)]" || line.starts_with("#![cfg(test)]");
            if self.scope == Scope::Shipped && unit_tests {
                break;
            }
            let code = match self.scope {
                // Beside where packages come from, npm writes down their authors' pages.
                Scope::Provisioning if file.path.ends_with(NPM_LOCK) => {
                    line.find("\"resolved\"").and_then(|at| line.get(at..)).unwrap_or_default()
                }
                Scope::Provisioning => line,
                Scope::Shipped | Scope::Rust => without_comment(line),
            };
            if let Some(word) = self.words.iter().find(|word| self.stands_in(word, code)) {
                let (path, number) = (&file.path, index + 1);
                findings.push(format!("{path}:{number}: {word:?}: {}", self.reason));
            }
        }
        findings
    }

    fn applies(&self, path: &str) -> bool {
        let in_scope = match self.scope {
            Scope::Shipped => {
                path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs")
            }
            Scope::Rust => path.ends_with(".rs"),
            Scope::Provisioning => {
                let lists = ["tests/sdk/package", "tests/sdk/requirements"];
                ["scripts/", "templates/", ".ci/"]
                    .iter()
                    .chain(&lists)
                    .any(|at| path.starts_with(at))
            }
        };
        // A module `tests.rs` is a file's unit tests, moved out because they are long.
        let is_tests = self.scope == Scope::Shipped && path.ends_with("/tests.rs");
        in_scope && !is_tests && !self.allowed.iter().any(|prefix| path.starts_with(prefix))
    }

    fn stands_in(&self, word: &str, code: &str) -> bool {
        // The variant and the module path are types of ours, not knowledge of a technology.
        let code = code.replace("Isolation::Gvisor", "").replace("courier_driver::gvisor", "");
        match self.case {
            Case::Matters => code.contains(word),
            Case::Ignored => code.to_lowercase().contains(word),
        }
    }
}

/// The line up to a `//` that begins a comment: at the line's start or after a blank.
fn without_comment(line: &str) -> &str {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return "";
    }
    line.split_once(" // ").map_or(line, |(code, _comment)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<Finding> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        RULES.iter().flat_map(|rule| rule.judge(&file)).collect()
    }

    #[test]
    fn a_technology_may_be_named_in_the_driver_in_comments_and_in_tests_only() {
        let line = "let name = \"runsc\";\n";
        assert_eq!(findings("crates/node/src/lib.rs", line).len(), 1);
        assert!(findings("crates/driver/src/lib.rs", line).is_empty());
        assert!(findings("crates/node/src/lib.rs", "/// As runsc does.\n").is_empty());
        let tests = format!("#[cfg(test)]\nmod tests {{\n{line}}}\n");
        assert!(findings("crates/node/src/lib.rs", &tests).is_empty());
    }

    #[test]
    fn sql_outside_the_store_and_the_environment_outside_the_configuration_are_found() {
        assert_eq!(findings("crates/server/src/a.rs", "q(\"SELECT 1\")").len(), 1);
        assert_eq!(findings("crates/server/src/a.rs", "std::env::var(\"X\")").len(), 1);
        assert!(findings("crates/courier/src/config.rs", "std::env::var(\"X\")").is_empty());
    }

    #[test]
    fn the_clock_is_refused_in_pure_crates_only() {
        assert_eq!(findings("crates/lifecycle/src/a.rs", "Instant::now()").len(), 1);
        assert!(findings("crates/node/src/a.rs", "Instant::now()").is_empty());
    }

    #[test]
    fn what_installs_something_names_no_address() {
        assert_eq!(findings("scripts/setup", "curl https://example.test/x").len(), 1);
        assert_eq!(findings("tests/sdk/package-lock.json", "\"resolved\": \"x\"").len(), 1);
        assert!(findings("tests/sdk/package-lock.json", "\"url\": \"https://x\"").is_empty());
        assert!(findings("README.md", "https://example.test/x").is_empty());
    }
}
