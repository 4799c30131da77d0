//! `courier volume`: storage that outlives sandboxes.

use std::process::ExitCode;

use courier_protocol::e2b::{NewVolume, Volume, VolumeAndToken, VolumeMount};
use courier_types::MountPath;

use crate::api::Api;
use crate::config::Config;
use crate::{exit, output, table};

/// What `courier volume --help` ends with.
const EXAMPLES: &str = "\
Examples:
  courier volume create data
  courier volume create models --size-mib 51200
  courier sandbox new --volume data:/data
  courier volume rm data";

/// Flags of `courier volume`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an empty volume. It takes room only as it is written
    Create {
        /// Its name: a-z, A-Z, 0-9, '_' and '-'
        #[arg(value_name = "NAME")]
        name: String,
        /// Its size in MiB, for good [default: 10240]
        #[arg(long, value_name = "MIB")]
        size_mib: Option<u32>,
        /// Print all there is to know of it, as JSON, with the token for its content
        #[arg(long)]
        json: bool,
    },
    /// List volumes
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete volumes, with all that is in them. Not while a sandbox has them
    Rm {
        /// Which
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

/// Runs `courier volume`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    crate::log::start(config, crate::config::LOG_COMMAND)?;
    let api = Api::find(config)?;
    match args.command {
        Command::Create { name, size_mib, json } => {
            let new = NewVolume { name, size_mb: size_mib };
            let made: VolumeAndToken = api.post("/volumes", &new).await?;
            if json {
                output::line(&serde_json::to_string_pretty(&made)?)?;
            } else {
                output::line(&made.volume.name)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Ls { json } => list(&api, json).await,
        Command::Rm { names } => remove(&api, &names).await,
    }
}

async fn list(api: &Api, json: bool) -> anyhow::Result<ExitCode> {
    let volumes: Vec<Volume> = api.get("/volumes").await?;
    if json {
        output::line(&serde_json::to_string_pretty(&volumes)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["NAME", "SIZE", "ID"].map(str::to_owned)];
    rows.extend(
        volumes
            .into_iter()
            .map(|volume| [volume.name, format!("{} MiB", volume.size_mb), volume.volume_id]),
    );
    output::print(&table::text(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes volumes; tells of each that could not be, and goes on with the others.
async fn remove(api: &Api, names: &[String]) -> anyhow::Result<ExitCode> {
    let volumes: Vec<Volume> = api.get("/volumes").await?;
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let found = volumes.iter().find(|volume| volume.name == *name);
        let removed = match found {
            Some(volume) => {
                let path = format!("/volumes/{}", volume.volume_id);
                api.delete(&path).await.map_err(anyhow::Error::from)
            }
            None => Err(anyhow::anyhow!(
                "there is no volume {name}; `courier volume ls` shows those that there are"
            )),
        };
        match removed {
            Ok(()) => output::line(name)?,
            Err(error) => {
                eprintln!("{}", exit::describe(&error));
                code = ExitCode::from(exit::OURS);
            }
        }
    }
    Ok(code)
}

/// Parses `NAME:PATH`.
pub(crate) fn mount(text: &str) -> Result<VolumeMount, String> {
    let (name, path) = text
        .split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "expected NAME:PATH, as in data:/data".to_owned())?;
    let path: MountPath = path.parse().map_err(|error| format!("{error}"))?;
    Ok(VolumeMount { name: name.to_owned(), path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_name_and_a_path_and_what_is_neither_is_told() {
        let told = mount("data:/mnt/a:b").unwrap();
        assert_eq!((told.name.as_str(), told.path.as_str()), ("data", "/mnt/a:b"));
        for (text, part) in [("data", "NAME:PATH"), (":/data", "NAME:PATH"), ("a:data", "absolute")]
        {
            assert!(mount(text).unwrap_err().contains(part), "{text}");
        }
    }
}
