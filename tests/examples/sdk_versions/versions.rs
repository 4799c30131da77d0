//! Which versions are run: the oldest that speak envd's present protocol, the newest that there was
//! when this list was last looked at, and some between, at changes of the API.

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Npm,
    PyPi,
}

/// A package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) from: From,
    pub(crate) name: &'static str,
    /// Its script, without the ending.
    pub(crate) script: &'static str,
    /// The oldest first.
    pub(crate) versions: &'static [&'static str],
    /// Versions that fail with the newest of a package that they rest on, and what they are installed
    /// with instead: a version of their own time.
    pub(crate) companions: &'static [(&'static str, &'static str)],
    /// What fails and is not ours to mend.
    pub(crate) known: &'static [Known],
}

/// A check that fails for a reason that is in the version itself.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) versions: &'static [&'static str],
    pub(crate) check: &'static str,
    /// A sentence for the page.
    pub(crate) why: &'static str,
}

impl Package {
    /// What a version is installed with, where it is not left to the installer.
    pub(crate) fn companion(&self, version: &str) -> Option<&'static str> {
        let mut companions = self.companions.iter();
        companions.find(|(own, _companion)| *own == version).map(|(_own, companion)| *companion)
    }

    /// Why a check of a version fails, where that is known.
    pub(crate) fn reason(&self, version: &str, check: &str) -> Option<&'static str> {
        let known = self.known.iter();
        let mut known = known.filter(|k| k.check == check && k.versions.contains(&version));
        known.next().map(|known| known.why)
    }
}

/// All of them.
pub(crate) const PACKAGES: &[Package] = &[
    Package {
        from: From::Npm,
        name: "e2b",
        script: "core",
        versions: &[
            "1.0.1", "1.2.1", "1.5.0", "1.9.1", "1.13.2", "2.0.1", "2.6.4", "2.12.1", "2.20.1",
            "2.30.5", "2.39.0", "2.51.0",
        ],
        companions: &[],
        known: &[],
    },
    Package {
        from: From::Npm,
        name: "@e2b/code-interpreter",
        script: "interpreter",
        versions: &["1.0.2", "1.1.1", "1.5.1", "2.0.1", "2.3.3", "2.6.1", "2.8.0"],
        companions: &[],
        known: &[],
    },
    Package {
        from: From::Npm,
        name: "@e2b/cli",
        script: "cli",
        versions: &["1.0.4", "1.5.2", "1.9.2", "2.2.9", "2.10.3", "2.19.0"],
        companions: &[],
        known: &[],
    },
    Package {
        from: From::PyPi,
        name: "e2b",
        script: "core",
        versions: &[
            "1.0.0", "1.2.1", "1.5.6", "1.11.1", "2.0.2", "2.6.4", "2.15.3", "2.29.6", "2.46.4",
            "2.63.0",
        ],
        companions: &[],
        known: &[Known {
            versions: &["1.0.0", "1.2.1"],
            check: "files",
            why: "Before 1.5.6 this SDK reads no JSON with a field that it does not know, and \
                  entries of folders have had more fields since, which newer SDKs need.",
        }],
    },
    Package {
        from: From::PyPi,
        name: "e2b-code-interpreter",
        script: "interpreter",
        versions: &["1.0.0", "1.2.1", "1.5.2", "2.0.0", "2.4.1", "2.8.1", "2.11.5"],
        companions: &[("2.0.0", "e2b==2.0.2"), ("2.4.1", "e2b==2.7.0"), ("2.8.1", "e2b==2.30.0")],
        known: &[],
    },
];
