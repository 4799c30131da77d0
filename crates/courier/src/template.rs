//! Templates: what sandboxes start from. `courier template`, and what the other commands ask for.

mod build;
mod error;
mod lock;
mod manifest;
mod mirror;
mod progress;
mod recipe;
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
use self::recipe::Recipe;
use crate::config::Config;
use crate::egress;

/// Flags of `courier template`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build a template where it is not built yet or is out of date (needs root)
    Build {
        /// Which
        #[arg(default_value = crate::config::TEMPLATE)]
        name: String,
        /// Build everything anew
        #[arg(long)]
        force: bool,
        /// Debian mirror to take packages from [default: the machine's own]
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// List templates
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `courier template`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Build { name, force, mirror } => {
            let caches = if force { Caches::Ignored } else { Caches::Used };
            let template =
                build(config, Asked { name: &name, caches, mirror: mirror.as_deref() }).await?;
            println!(
                "template {} is build {} ({} MiB)",
                template.name,
                template.build,
                template.size_bytes >> 20
            );
        }
        Command::Ls { json } => print_list(&list(config)?, json.into())?,
    }
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
    let asked = Asked { name, caches: Caches::Used, mirror: None };
    Ok(build::current(&request(config, &asked)?)?.is_some())
}

/// What is asked for, before it is known to exist.
struct Asked<'a> {
    name: &'a str,
    caches: Caches,
    mirror: Option<&'a str>,
}

fn request<'a>(config: &'a Config, asked: &Asked<'a>) -> Result<Request<'a>, TemplateError> {
    let recipe = Recipe::find(asked.name)
        .ok_or_else(|| TemplateError::Unknown { name: asked.name.to_owned() })?;
    Ok(Request {
        recipe,
        templates: &config.templates,
        guest: &config.guest_binary,
        mirror: asked.mirror,
        caches: asked.caches,
        command: build_command(config, asked.name),
    })
}

/// The command that builds a template where we look for it, as we would have to type it.
pub(crate) fn build_command(config: &Config, name: &str) -> String {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    let program = std::env::current_exe().unwrap_or_else(|_unknown| "courier".into());
    let (program, templates) = (program.display(), config.templates.display());
    format!("{sudo}{program} template build {name} --templates {templates}")
}

async fn build(config: &Config, asked: Asked<'_>) -> Result<Template, TemplateError> {
    let request = request(config, &asked)?;
    if asked.caches == Caches::Used
        && let Some(template) = build::current(&request)?
    {
        return Ok(template);
    }
    Box::pin(build::build(&request)).await
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

fn print_list(templates: &[Template], form: Form) -> anyhow::Result<()> {
    match form {
        Form::Json => println!("{}", serde_json::to_string_pretty(templates)?),
        Form::Table => print!("{}", table(templates)),
    }
    Ok(())
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
    let is_built = |recipe: &&Recipe| templates.iter().any(|t| t.name == recipe.name);
    for recipe in Recipe::all().iter().filter(|recipe| !is_built(recipe)) {
        text.push_str(&format!(
            "{:<12} not built yet: `courier template build {}`\n",
            recipe.name, recipe.name
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
        assert!(text.contains("base-1") && !text.contains("not built"), "{text}");
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_templates() {
        assert!(list_in(Path::new("/nonexistent/templates")).unwrap().is_empty());
    }
}
