//! The product's templates that Dockerfiles describe, embedded into the binary.

pub(super) mod build;
mod settings;
mod watcher;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

pub(super) use settings::Settings;

use super::dockerfile::{Base, DockerfileError, Plan, Source, parse};
use super::error::TemplateError;
use super::manifest::Binary;
use super::recipe::hex;

/// A new number makes every build stale, for changes of how (not of what) is built.
const BUILD_FORMAT: &str = "product 1";
/// The recipe.
const DOCKERFILE: &str = "Dockerfile";
/// What else there is to say.
const SETTINGS: &str = "template.toml";

/// Every template that the binary has.
const PRODUCTS: &[Product] = include!(concat!(env!("OUT_DIR"), "/products.rs"));

/// One of the product's templates.
#[derive(Debug)]
pub(crate) struct Product {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its files, by their paths in its folder.
    files: &'static [(&'static str, &'static [u8])],
}

impl Product {
    /// The template of that name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        PRODUCTS.iter().find(|product| product.name == name)
    }

    /// Every one.
    pub(crate) const fn all() -> &'static [Self] {
        PRODUCTS
    }

    fn file(&self, path: &str) -> &'static [u8] {
        let found = self.files.iter().find(|(known, _content)| *known == path);
        found.map_or(&[], |(_path, content)| content)
    }

    /// What its `template.toml` says.
    ///
    /// # Errors
    /// It says something else.
    pub(crate) fn settings(&self) -> Result<Settings, TemplateError> {
        Settings::read(self.name, self.file(SETTINGS))
    }

    /// Its Dockerfile.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn plan(&self) -> Result<(Source, Plan), DockerfileError> {
        let name = format!("templates/{}/{DOCKERFILE}", self.name);
        let source = Source::new(&name, self.file(DOCKERFILE))?;
        let plan = parse(&source, &[])?;
        Ok((source, plan))
    }

    /// The template that it starts from.
    ///
    /// # Errors
    /// Its Dockerfile is none, or starts from an image: what a registry has would not be known by
    /// the recipe.
    pub(super) fn base(&self) -> Result<String, TemplateError> {
        let (source, plan) = self.plan()?;
        match plan.base {
            Base::Template(name) => Ok(name),
            Base::Image(_) => {
                let text = "one of the product's templates starts from another: FROM template/NAME";
                Err(source.mark(plan.from.at, text.to_owned()).into())
            }
        }
    }

    /// Identifies what a build is made of, but for the guest daemon.
    pub(super) fn hash(&self, base: &str, binaries: &[Binary]) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(bytes);
        };
        for text in [BUILD_FORMAT, self.name, base] {
            part(text.as_bytes());
        }
        for (path, content) in self.files {
            part(path.as_bytes());
            part(content);
        }
        for binary in binaries {
            part(binary.hash.as_bytes());
        }
        hex(&hash.finalize())
    }

    /// Writes the files that COPY may name into a folder. The binary keeps no modes: what begins
    /// like a script is one.
    pub(super) fn write_context(&self, folder: &Path) -> io::Result<()> {
        for (path, content) in self.files {
            if [DOCKERFILE, SETTINGS].contains(path) {
                continue;
            }
            let file = folder.join(path);
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&file, content)?;
            let mode = if content.starts_with(b"#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::Context;
    use super::super::dockerfile::Action;
    use super::*;

    #[test]
    fn every_template_of_the_product_can_be_read() {
        let names: Vec<&str> = Product::all().iter().map(|product| product.name).collect();
        for name in ["code-interpreter-v1", "node-22-ts", "python-3.12", "bun-ts"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        for product in Product::all() {
            let settings = product.settings().unwrap();
            settings.limits(product.name).unwrap();
            assert!(!settings.description.contains('\n'), "{settings:?}");
            let base = product.base().unwrap();
            assert!(base == "base" || Product::find(&base).is_some(), "{base}");
        }
    }

    #[test]
    fn every_file_that_a_template_copies_is_there() {
        for product in Product::all() {
            let folder = tempfile::tempdir().unwrap();
            product.write_context(folder.path()).unwrap();
            for binary in &product.settings().unwrap().binaries {
                fs::write(folder.path().join(binary), "binary").unwrap();
            }
            let context = Context::open(folder.path(), None).unwrap();
            let (source, plan) = product.plan().unwrap();
            for step in &plan.steps {
                if let Action::Copy(copy) = &step.action {
                    let packed = context.pack(copy);
                    packed.unwrap_or_else(|error| panic!("{}: {error}", source.text()));
                }
            }
            assert_eq!(plan.notes, []);
        }
    }

    #[test]
    fn another_base_is_another_recipe() {
        let product = &Product::all()[0];
        assert_eq!(product.hash("base-1", &[]), product.hash("base-1", &[]));
        assert_ne!(product.hash("base-1", &[]), product.hash("base-2", &[]));
        assert!(Product::find("base").is_none() && Product::find("nonsense").is_none());
    }
}
