//! Recipes as data: what a template is made of, embedded into the binary.

use courier_types::egress::Policy;
use sha2::{Digest as _, Sha256};

use super::error::TemplateError;

/// A new number makes every cached root file system and image stale, for changes of how (not of
/// what) is built.
const BUILD_FORMAT: &str = "1";

/// What one template is made of.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The template's name.
    pub(crate) name: &'static str,
    /// The Debian release.
    pub(crate) suite: &'static str,
    /// Its packages, one a line; `#` begins a comment.
    packages: &'static str,
    /// Files that are put in place when the packages are.
    pub(crate) files: &'static [RecipeFile],
    /// A shell script that runs as root inside, without a network, after the files are in place.
    pub(crate) provision: &'static str,
    /// What its sandboxes may reach at most, as JSON: the recipe's `egress.json`. A template without
    /// one bounds nothing.
    egress: Option<&'static str>,
}

/// A file of a recipe: mode 0644, of root.
#[derive(Debug)]
pub(crate) struct RecipeFile {
    /// Where it goes, without the leading slash.
    pub(crate) path: &'static str,
    /// What is in it.
    pub(crate) text: &'static str,
}

macro_rules! file {
    ($path:literal, $source:literal) => {
        RecipeFile {
            path: $path,
            text: include_str!(concat!("../../../../templates/base/files/", $source)),
        }
    };
}

/// Every template that this binary can build.
const RECIPES: &[Recipe] = &[Recipe {
    name: "base",
    suite: "bookworm",
    packages: include_str!("../../../../templates/base/packages.txt"),
    files: &[
        file!("etc/profile", "profile"),
        file!("etc/bash.bashrc", "bash.bashrc"),
        file!("etc/skel/.bashrc", "bashrc"),
        file!("etc/skel/.profile", "user-profile"),
        file!("etc/hostname", "hostname"),
        file!("etc/hosts", "hosts"),
        file!("etc/resolv.conf", "resolv.conf"),
        file!("etc/apt/sources.list", "sources.list"),
    ],
    provision: include_str!("../../../../templates/base/provision.sh"),
    egress: None,
}];

impl Recipe {
    /// The recipe of that name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        RECIPES.iter().find(|recipe| recipe.name == name)
    }

    /// Every recipe.
    pub(crate) fn all() -> &'static [Self] {
        RECIPES
    }

    /// Its packages.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &'static str> {
        let lines = self.packages.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// What its sandboxes may reach at most, where the recipe bounds it.
    ///
    /// # Errors
    /// Its text is no policy.
    pub(crate) fn egress(&self) -> Result<Option<Policy>, TemplateError> {
        let parsed = self.egress.map(serde_json::from_str).transpose();
        parsed.map_err(|source| TemplateError::Egress { name: self.name, source })
    }

    /// Identifies the recipe's content, in hexadecimal. Not the mirror: that is the machine's.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(text);
        };
        part(BUILD_FORMAT);
        part(self.name);
        part(self.suite);
        self.packages().for_each(&mut part);
        for file in self.files {
            part(file.path);
            part(file.text);
        }
        part(self.provision);
        // Recipes without a policy keep the hash that they had before there were any.
        if let Some(egress) = self.egress {
            part(egress);
        }
        hex(&hash.finalize())
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_names_packages_and_files_inside_the_root() {
        for recipe in Recipe::all() {
            assert!(recipe.packages().count() > 0);
            for package in recipe.packages() {
                let ok =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
                assert!(package.chars().all(ok), "{package}");
            }
            for file in recipe.files {
                assert!(!file.path.starts_with('/') && !file.path.contains(".."), "{}", file.path);
            }
        }
    }

    #[test]
    fn every_recipe_has_a_policy_that_can_be_put_in_force_or_none() {
        for recipe in Recipe::all() {
            if let Some(policy) = recipe.egress().unwrap() {
                policy.check().unwrap();
            }
        }
    }

    #[test]
    fn another_policy_is_another_recipe_and_one_that_is_none_is_refused() {
        let with = |egress| Recipe {
            name: "x",
            suite: "bookworm",
            packages: "",
            files: &[],
            provision: "",
            egress,
        };
        let allowing = with(Some(r#"{"rules":[{"allow":"a.test"}]}"#));
        assert_eq!(allowing.egress().unwrap().unwrap().rules.len(), 1);
        assert_ne!(allowing.hash(), with(None).hash());
        assert_ne!(allowing.hash(), with(Some("{}")).hash());
        assert_eq!(with(None).egress().unwrap(), None);
        let error = with(Some(r#"{"rule":[]}"#)).egress().unwrap_err();
        assert!(error.to_string().contains("egress.json"), "{error}");
    }

    #[test]
    fn sudo_is_not_installed_because_the_guest_daemon_is_sudo() {
        let base = Recipe::find("base").unwrap();
        assert!(base.packages().all(|package| package != "sudo"));
        assert!(base.provision.contains("/usr/bin/sudo"));
    }
}
