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
    },
    Package {
        from: From::Npm,
        name: "@e2b/code-interpreter",
        script: "interpreter",
        versions: &["1.0.2", "1.1.1", "1.5.1", "2.0.1", "2.3.3", "2.6.1", "2.8.0"],
    },
    Package {
        from: From::Npm,
        name: "@e2b/cli",
        script: "cli",
        versions: &["1.0.4", "1.5.2", "1.9.2", "2.2.9", "2.10.3", "2.19.0"],
    },
    Package {
        from: From::PyPi,
        name: "e2b",
        script: "core",
        versions: &[
            "1.0.0", "1.2.1", "1.5.6", "1.11.1", "2.0.2", "2.6.4", "2.15.3", "2.29.6", "2.46.4",
            "2.63.0",
        ],
    },
    Package {
        from: From::PyPi,
        name: "e2b-code-interpreter",
        script: "interpreter",
        versions: &["1.0.0", "1.2.1", "1.5.2", "2.0.0", "2.4.1", "2.8.1", "2.11.5"],
    },
];
