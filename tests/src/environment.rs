//! Where the things under test are. The only place of the tests that reads environment variables.

use std::path::{Path, PathBuf};

/// What a test run rests on.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Folder of the binaries: `courier`, `courier-launcher`, `courier-guest`.
    pub binaries: PathBuf,
    /// Folder of the built templates, shared by all tests so that `base` is built once.
    pub templates: PathBuf,
    /// Folder with the official SDKs: `node_modules` and `python`.
    pub sdk: PathBuf,
    /// Folder for data folders and other files of this run's tests.
    pub scratch: PathBuf,
    /// How many sandboxes the soak makes.
    pub soak_count: u32,
    /// The catalogue of probes, where there is one to compare with.
    pub probes: Option<PathBuf>,
    /// The tests' own sources.
    pub sources: PathBuf,
}

/// Soak of the normal run.
const SOAK_COUNT: u32 = 40;

impl Environment {
    /// Finds everything, or panics with the command that mends what is missing.
    #[must_use]
    pub fn load() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the end-to-end tests make real sandboxes and need root: run them as root"
        );
        let executable = std::env::current_exe().expect("a running test has a path");
        // target/TRIPLE/PROFILE/deps/TEST
        let binaries = executable.ancestors().nth(2).expect("tests run from target").to_owned();
        let target = binaries.ancestors().nth(2).expect("the profile is below target").to_owned();
        let shared = target.join("courier-test");
        let folder = |variable: &str, default: PathBuf| match variable_value(variable) {
            Some(path) => PathBuf::from(path),
            None => default,
        };
        let environment = Self {
            templates: folder("COURIER_TEMPLATES", shared.join("templates")),
            sdk: folder("COURIER_SDK", target.join("sdk")),
            scratch: shared.join("scratch").join(std::process::id().to_string()),
            soak_count: variable_value("COURIER_SOAK_COUNT")
                .map_or(SOAK_COUNT, |text| text.parse().expect("COURIER_SOAK_COUNT is a number")),
            probes: variable_value("COURIER_PROBES").map(PathBuf::from),
            sources: Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(),
            binaries,
        };
        environment.check();
        std::fs::create_dir_all(&environment.scratch).expect("the scratch folder can be made");
        std::fs::create_dir_all(&environment.templates).expect("the template folder can be made");
        environment
    }

    fn check(&self) {
        for name in ["courier", "courier-launcher", "courier-guest"] {
            let path = self.binaries.join(name);
            assert!(
                path.is_file(),
                "{} is missing; build it: cargo build --workspace",
                path.display()
            );
        }
    }

    /// One of our binaries.
    #[must_use]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// A new, empty folder for one test's files; gone when dropped.
    #[must_use]
    pub fn folder(&self) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir_in(&self.scratch).expect("a scratch folder can be made");
        // The server runs as another user than the tests.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .expect("our own folder takes a mode");
        folder
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the tests' configuration")]
fn variable_value(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
