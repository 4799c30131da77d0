//! Templates: what sandboxes start from. `courier template`, and what the other commands ask for.
//!
//! Commands speak to the server that runs for the data folder, or that `--url` names. Where there is
//! none, `ls` and `inspect` show the product's own templates in the template folder; only those are
//! built without a server.

mod build;
mod context;
mod details;
mod docker;
mod dockerfile;
#[cfg(test)]
mod dockerfile_tests;
mod error;
mod follow;
mod lock;
mod manifest;
mod mirror;
mod product;
mod progress;
mod recipe;
mod remote;
mod tool;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

pub(crate) use error::TemplateError;
pub(crate) use manifest::Template;
pub(crate) use mirror::{
    Mirror, RELEASE as DEBIAN_RELEASE, has_suite, in_folder as mirrors_in, of_suite,
};

use self::build::{Caches, Request};
use self::docker::DockerArgs;
use self::product::Product;
use self::recipe::Recipe;
use crate::api::Api;
use crate::config::{Config, LOG_COMMAND};
use crate::{egress, output};

/// What `courier template --help` ends with.
const EXAMPLES: &str = "\
Examples:
  courier template build --name web:v1 .                from ./Dockerfile, with . as its context
  courier template build -f docker/Dockerfile . --name web --build-arg VERSION=3
  courier sandbox new --template web:v1
  courier template tag web:v1 stable                    web:stable is that build from now on
  courier template tag --rm web v1
  sudo courier template build python-3.12               one of the product's own

Without --name a template of the product is built, here and as root; with it a Dockerfile, by the
running server. Where no server runs, ls and inspect show what is in the template folder.";

/// Flags of `courier template`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build a template: one of the product's own, or one from a Dockerfile
    Build(Box<BuildArgs>),
    /// List templates
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Those of the template folder, though a server runs
        #[arg(long)]
        local: bool,
    },
    /// Show what a template is made of, its builds and its tags
    Inspect {
        /// Which
        #[arg(value_name = "NAME[:TAG]")]
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// The one of the template folder, though a server runs
        #[arg(long)]
        local: bool,
    },
    /// Let tags mean a build, or take tags away
    Tag {
        /// The build; with --rm the template
        #[arg(value_name = "NAME[:TAG]")]
        name: String,
        /// The tags
        #[arg(value_name = "TAG", required = true)]
        tags: Vec<String>,
        /// Take the tags away
        #[arg(long)]
        rm: bool,
    },
    /// Remove a template with all its builds
    Rm {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show the log of a build
    Logs {
        /// Id of the build
        #[arg(value_name = "BUILD")]
        build: String,
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// Template of the product [default: base]; with --name the folder that COPY takes files from
    /// [default: the Dockerfile's]
    #[arg(value_name = "NAME|CONTEXT")]
    target: Option<String>,
    /// Build everything anew
    #[arg(long, conflicts_with = "name")]
    force: bool,
    /// Debian mirror to take packages from [default: the machine's own]
    #[arg(long, value_name = "URL", conflicts_with = "name")]
    mirror: Option<String>,
    #[command(flatten)]
    docker: DockerArgs,
}

/// Runs `courier template`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    crate::log::start(config, LOG_COMMAND)?;
    match args.command {
        Command::Build(args) => run_build(*args, config).await,
        Command::Ls { json, local } => match server(config, local)? {
            Some(api) => remote::list(&api, json.into()).await,
            None => print_list(&list(config)?, json.into()),
        },
        Command::Inspect { name, json, local } => match server(config, local)? {
            Some(api) => remote::inspect(&api, &name, json.into()).await,
            None => inspect(config, &name, json.into()),
        },
        Command::Tag { name, tags, rm: false } => {
            remote::tag(&Api::find(config)?, name, tags).await
        }
        Command::Tag { name, tags, rm: true } => {
            remote::untag(&Api::find(config)?, name, tags).await
        }
        Command::Rm { name } => remote::remove(&Api::find(config)?, &name).await,
        Command::Logs { build, json } => {
            remote::logs(&Api::find(config)?, &build, json.into()).await
        }
    }
}

/// The server to ask, where there is one.
fn server(config: &Config, is_local: bool) -> anyhow::Result<Option<Api>> {
    if is_local || !Api::is_there(config)? {
        return Ok(None);
    }
    Api::find(config).map(Some)
}

async fn run_build(args: BuildArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let BuildArgs { target, force, mirror, docker } = args;
    if docker.name.is_some() {
        let context = target.as_deref().map(Path::new);
        return Box::pin(docker::run(docker, context, config)).await;
    }
    let name = target.as_deref().unwrap_or(crate::config::TEMPLATE);
    let caches = if force { Caches::Ignored } else { Caches::Used };
    let template = build(config, Asked { name, caches, mirror: mirror.as_deref() }).await?;
    let Template { name, build, size_bytes, .. } = &template;
    output::line(&format!("template {name} is build {build} ({} MiB)", size_bytes >> 20))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that template `base` is there; builds it, with a progress bar, when it is not.
pub(crate) async fn ensure_base(config: &Config) -> anyhow::Result<()> {
    ensure(config, crate::config::TEMPLATE).await?;
    Ok(())
}

/// Makes sure that a template is there and up to date; builds it, with a progress bar, when it is
/// not.
///
/// # Errors
/// There is no such template, or it cannot be built here and now.
pub(crate) async fn ensure(config: &Config, name: &str) -> Result<Template, TemplateError> {
    build(config, Asked { name, caches: Caches::Used, mirror: None }).await
}

/// Every template that is built, in the order of their names.
///
/// # Errors
/// The template folder cannot be read, or a manifest is damaged.
pub(crate) fn list(config: &Config) -> Result<Vec<Template>, TemplateError> {
    list_in(&config.templates)
}

/// True when the template is built of this binary's recipe and this machine's guest daemon.
///
/// # Errors
/// There is no such template, or what is there cannot be read.
pub(crate) fn is_current(config: &Config, name: &str) -> Result<bool, TemplateError> {
    Ok(current(config, &Asked { name, caches: Caches::Used, mirror: None })?.is_some())
}

/// What is asked for, before it is known to exist.
#[derive(Clone, Copy)]
struct Asked<'a> {
    name: &'a str,
    caches: Caches,
    mirror: Option<&'a str>,
}

/// How a template of the product is built.
enum How<'a> {
    /// From Debian's packages.
    Packages(Request<'a>),
    /// By its Dockerfile, on another template of the product.
    Dockerfile(product::build::Request<'a>),
}

fn how<'a>(config: &'a Config, asked: &Asked<'a>) -> Result<How<'a>, TemplateError> {
    let Asked { name, caches, mirror } = *asked;
    let command = build_command(config, name);
    if let Some(product) = Product::find(name) {
        return Ok(How::Dockerfile(product::build::Request { product, config, caches, command }));
    }
    let recipe =
        Recipe::find(name).ok_or_else(|| TemplateError::Unknown { name: name.to_owned() })?;
    Ok(How::Packages(Request {
        recipe,
        templates: &config.templates,
        guest: &config.guest_binary,
        mirror,
        caches,
        command,
    }))
}

/// The command that builds a template where we look for it, as we would have to type it.
pub(crate) fn build_command(config: &Config, name: &str) -> String {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    let program = std::env::current_exe().unwrap_or_else(|_unknown| "courier".into());
    let (program, templates) = (program.display(), config.templates.display());
    format!("{sudo}{program} template build {name} --templates {templates}")
}

/// The template as it is, where it need not be built.
fn current(config: &Config, asked: &Asked<'_>) -> Result<Option<Template>, TemplateError> {
    match how(config, asked)? {
        How::Packages(request) => build::current(&request),
        How::Dockerfile(request) => {
            let name = request.product.base()?;
            match current(config, &Asked { name: &name, ..*asked })? {
                Some(base) => product::build::current(&request, &base),
                None => Ok(None),
            }
        }
    }
}

async fn build(config: &Config, asked: Asked<'_>) -> Result<Template, TemplateError> {
    if asked.caches == Caches::Used
        && let Some(template) = current(config, &asked)?
    {
        return Ok(template);
    }
    match how(config, &asked)? {
        How::Packages(request) => Box::pin(build::build(&request)).await,
        How::Dockerfile(request) => {
            let name = request.product.base()?;
            // Only what was named is built anew.
            let base = Asked { name: &name, caches: Caches::Used, mirror: asked.mirror };
            let base = Box::pin(build(config, base)).await?;
            Box::pin(product::build::build(&request, &base)).await
        }
    }
}

fn list_in(templates: &Path) -> Result<Vec<Template>, TemplateError> {
    let folder = match fs::read_dir(templates) {
        Ok(folder) => folder,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TemplateError::host("read", templates)(error)),
    };
    let mut names: Vec<String> = folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    names.iter().filter_map(|name| Template::read(templates, name).transpose()).collect()
}

/// How a list is printed.
#[derive(Debug, Clone, Copy)]
enum Form {
    Table,
    Json,
}

impl From<bool> for Form {
    fn from(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Table }
    }
}

fn print_list(templates: &[Template], form: Form) -> anyhow::Result<ExitCode> {
    match form {
        Form::Json => output::line(&serde_json::to_string_pretty(templates)?)?,
        Form::Table => output::print(&table(templates))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a template of the template folder.
fn inspect(config: &Config, name: &str, form: Form) -> anyhow::Result<ExitCode> {
    let template = Template::read(&config.templates, name)?
        .ok_or_else(|| TemplateError::Unknown { name: name.to_owned() })?;
    match form {
        Form::Json => output::line(&serde_json::to_string_pretty(&template)?)?,
        Form::Table => output::print(&details::of_folder(&template))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(templates: &[Template]) -> String {
    let mut rows = vec![["NAME", "ID", "BUILD", "SIZE", "CREATED", "EGRESS"].map(str::to_owned)];
    rows.extend(templates.iter().map(|template| {
        [
            template.name.clone(),
            template.template_id.to_string(),
            template.build.clone(),
            format!("{} MiB", template.size_bytes >> 20),
            template.created.to_rfc3339(),
            template.egress.as_ref().map_or_else(|| "not bounded".to_owned(), egress::brief),
        ]
    }));
    let mut text = crate::table::text(&rows);
    let names = Recipe::all().iter().map(|recipe| recipe.name);
    let names = names.chain(Product::all().iter().map(|product| product.name));
    for name in names.filter(|name| templates.iter().all(|template| template.name != *name)) {
        let what = match Product::find(name).and_then(|product| product.settings().ok()) {
            Some(settings) => format!("; {}", settings.description),
            None => String::new(),
        };
        text.push_str(&format!(
            "{name:<19} not built yet: `courier template build {name}`{what}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_what_is_built_and_what_could_be() {
        let folder = tempfile::tempdir().unwrap();
        assert!(table(&list_in(folder.path()).unwrap()).contains("not built yet"));
        manifest::tests::built(folder.path(), "base", "base-1");
        let text = table(&list_in(folder.path()).unwrap());
        assert!(text.contains("base-1") && !text.contains("base `"), "{text}");
        assert!(!text.contains("build base`") && text.contains("build python-3.12`"), "{text}");
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_templates() {
        assert!(list_in(Path::new("/nonexistent/templates")).unwrap().is_empty());
    }
}
