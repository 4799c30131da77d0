//! The first stage: Debian, the recipe's files and its script make a root file system.

use super::*;

/// Parts of packages that a sandbox has no use for.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
];
/// The machine's settings for fetching packages that the build needs as well: proxies, and how
/// far signatures and certificates are trusted.
const APT_SETTINGS: [&str; 5] = [
    "::proxy",
    "::proxy-auto-detect",
    "::cainfo",
    "acquire::check-valid-until",
    "acquire::check-date",
];
/// What the tools say when there is no way to the mirror.
const NO_NETWORK: [&str; 5] = [
    "Could not resolve",
    "Temporary failure resolving",
    "Could not connect",
    "Failed to fetch",
    "Connection failed",
];

impl Stages<'_> {
    /// The root file system of the recipe, from the cache where it is there.
    pub(super) async fn root_file_system(&mut self) -> Result<PathBuf, TemplateError> {
        let cache = self.request.templates.join(ROOT_FILE_SYSTEMS);
        let cached = cache.join(cache_name(self.request.recipe));
        create_folder(&cache, 0o700)?;
        if self.request.caches == Caches::Used && cached.is_dir() {
            return Ok(cached);
        }
        check_space(self.request.templates, ROOTFS_MIB + IMAGE_MIB)?;
        let root = self.work.join("rootfs");
        self.progress.begin(BuildStep::Packages);
        self.install(&root).await?;
        self.progress.begin(BuildStep::Provision);
        self.provision(&root).await?;
        sync(&root)?;
        forget_old(&cache)?;
        if cached.is_dir() {
            fs::remove_dir_all(&cached).map_err(TemplateError::host("remove", &cached))?;
        }
        fs::rename(&root, &cached).map_err(TemplateError::host("move", &root))?;
        sync(&cache)?;
        Ok(cached)
    }

    async fn install(&mut self, root: &Path) -> Result<(), TemplateError> {
        let recipe = self.request.recipe;
        let sources = self.work.join("sources.list");
        let lines: Vec<String> = self.mirrors()?.iter().map(Mirror::line).collect();
        fs::write(&sources, lines.join("\n") + "\n")
            .map_err(TemplateError::host("write", &sources))?;
        let mut words: Vec<String> =
            ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--verbose"]
                .map(str::to_owned)
                .to_vec();
        let packages: Vec<&str> = recipe.packages().collect();
        words.push(format!("--include={}", packages.join(",")));
        words.extend(LEFT_OUT.iter().map(|option| format!("--dpkgopt={option}")));
        words.extend(apt_settings().await.into_iter().map(|line| format!("--aptopt={line}")));
        words.push(recipe.suite.to_owned());
        words.extend([root, &sources].map(|path| path.display().to_string()));
        let log = self.log.clone();
        let step = "installing packages";
        let tool = Tool { step, words, input: "", network: Network::Host, log: &log };
        let outcome = tool.run(|line| self.progress.package_line(line)).await;
        outcome.map_err(|error| without_network(error, recipe.name))
    }

    fn mirrors(&self) -> Result<Vec<Mirror>, TemplateError> {
        let recipe = self.request.recipe;
        let mirrors = match self.request.mirror {
            Some(uri) => vec![Mirror::named(uri, recipe.suite)],
            None => mirror::of_release(recipe.suite),
        };
        if mirrors.is_empty() {
            return Err(TemplateError::NoMirror { name: recipe.name.to_owned() });
        }
        Ok(mirrors)
    }

    async fn provision(&mut self, root: &Path) -> Result<(), TemplateError> {
        for file in self.request.recipe.files {
            let path = root.join(file.path);
            // A package may have put a link there, which would lead out of the root.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(TemplateError::host("replace", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
            fs::write(&path, file.text)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
                .map_err(TemplateError::host("write", &path))?;
        }
        let root = root.display().to_string();
        let words = ["chroot", root.as_str(), "/bin/sh", "-e"].map(str::to_owned).to_vec();
        let input = self.request.recipe.provision;
        let log = self.log.clone();
        let tool = Tool { step: "setting up", words, input, network: Network::None, log: &log };
        tool.run(|_line| {}).await
    }
}

/// The name of a recipe's root file system in the cache.
fn cache_name(recipe: &Recipe) -> String {
    let hash = recipe.hash();
    format!("{}-{}", recipe.name, hash.get(..NAME_HASH).unwrap_or(&hash))
}

/// Removes the root file systems of recipes that this binary does not have (any more).
fn forget_old(cache: &Path) -> Result<(), TemplateError> {
    let current: Vec<String> = Recipe::all().iter().map(cache_name).collect();
    let folder = fs::read_dir(cache).map_err(TemplateError::host("read", cache))?;
    for entry in folder.flatten() {
        if !current.iter().any(|name| entry.file_name() == name.as_str()) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(TemplateError::host("remove", &path))?;
        }
    }
    Ok(())
}

/// Tells the one failure apart that is nobody's bug.
fn without_network(error: TemplateError, name: &str) -> TemplateError {
    match error {
        TemplateError::Step { tail, log, .. }
            if NO_NETWORK.iter().any(|say| tail.contains(say)) =>
        {
            let detail = tail
                .lines()
                .find(|line| NO_NETWORK.iter().any(|say| line.contains(say)))
                .unwrap_or_default()
                .trim_start_matches([' ', '|'])
                .to_owned();
            TemplateError::NoNetwork { name: name.to_owned(), detail, log }
        }
        other => other,
    }
}

/// The machine's own settings of apt that matter here, as lines of its configuration. Where apt
/// does not tell, its defaults hold.
async fn apt_settings() -> Vec<String> {
    let mut command = tokio::process::Command::new("apt-config");
    match command.args(["dump", "Acquire"]).output().await {
        Ok(output) => chosen_settings(&String::from_utf8_lossy(&output.stdout)),
        Err(_no_apt) => Vec::new(),
    }
}

fn chosen_settings(dump: &str) -> Vec<String> {
    let is_chosen = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default().to_lowercase();
        APT_SETTINGS.iter().any(|setting| name.ends_with(setting) || name == *setting)
    };
    let is_set = |line: &&str| !line.ends_with(" \"\";");
    dump.lines().filter(is_chosen).filter(is_set).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_and_trust_of_the_machine_are_taken_over_and_nothing_else() {
        let dump = "Acquire \"\";\nAcquire::Languages \"\";\nAcquire::http::Proxy \"http://p:1\";\n\
            Acquire::Check-Date \"false\";\nAcquire::https::Proxy \"\";\n";
        let expected = ["Acquire::http::Proxy \"http://p:1\";", "Acquire::Check-Date \"false\";"];
        assert_eq!(chosen_settings(dump), expected);
    }

    #[test]
    fn root_file_systems_of_older_recipes_are_forgotten() {
        let cache = tempfile::tempdir().unwrap();
        let current = cache_name(Recipe::find("base").unwrap());
        for name in ["base-0000000000000000", current.as_str()] {
            fs::create_dir(cache.path().join(name)).unwrap();
        }
        forget_old(cache.path()).unwrap();
        let left: Vec<_> = fs::read_dir(cache.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), current.as_str());
    }

    #[test]
    fn a_mirror_that_cannot_be_reached_is_told_as_that() {
        let error = TemplateError::Step {
            step: "installing packages",
            status: "exit status: 25".to_owned(),
            tail: "  | Err:1 x\n  | Could not resolve 'mirror.example'\n".to_owned(),
            log: PathBuf::from("/log"),
        };
        let told = without_network(error, "base").to_string();
        assert!(told.ends_with("Could not resolve 'mirror.example'"), "{told}");
    }
}
