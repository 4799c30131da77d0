//! `courier secret`: values that the server adds to requests on their way out, and that no sandbox
//! ever holds.

pub(crate) mod value;

use std::path::PathBuf;
use std::process::ExitCode;

use courier_protocol::v1::{NewSecret, Secret, SecretList, SecretValuePut};
use courier_types::egress::SecretName;

use crate::api::{Api, ApiError};
use crate::config::Config;
use crate::{exit, memory, output, table};

/// Pages that are read before the list is cut: 100 secrets each.
const MAX_PAGES: usize = 1_000;

/// What `courier secret --help` ends with.
const EXAMPLES: &str = "\
Examples:
  courier secret set openai < key.txt
  courier secret set openai --value-file key.txt
  courier secret set openai             asks for it, and does not show it

A policy says where a secret goes:
  {\"rules\": [{\"allow\": \"api.example.com\"}],
   \"credentials\": [{\"host\": \"api.example.com\", \"secret\": \"openai\", \"as\": {\"bearer\": {}}}]}";

/// Flags of `courier secret`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Store a secret, or give one a new value, which counts from its next use on
    Set {
        /// Its name
        #[arg(value_name = "NAME")]
        name: SecretName,
        /// Read the value from a file [default: standard input]. One line end at its end is no part
        /// of it
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
    },
    /// List secrets, without their values
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete secrets. Requests that need them fail from then on
    Rm {
        /// Which
        #[arg(value_name = "NAME", required = true)]
        names: Vec<SecretName>,
    },
}

/// Runs `courier secret`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    crate::log::start(config, crate::config::LOG_COMMAND)?;
    let api = Api::find(config)?;
    match args.command {
        Command::Set { name, value_file } => {
            memory::close()?;
            set(&api, name, value::read(value_file.as_deref())?).await
        }
        Command::Ls { json } => list(&api, json).await,
        Command::Rm { names } => remove(&api, &names).await,
    }
}

async fn set(
    api: &Api,
    name: SecretName,
    value: courier_protocol::secret::GivenSecret,
) -> anyhow::Result<ExitCode> {
    let put = SecretValuePut { value: value.clone(), metadata: None };
    let secret: Secret = match api.put(&format!("/v1/secrets/{name}"), &put).await {
        Err(error) if error.is_not_found() => {
            let new = NewSecret { name, value, metadata: std::collections::BTreeMap::new() };
            api.post("/v1/secrets", &new).await?
        }
        answer => answer?,
    };
    output::line(&format!("{} (version {})", secret.name, secret.version))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(api: &Api, json: bool) -> anyhow::Result<ExitCode> {
    let secrets = fetch(api).await?;
    if json {
        output::line(&serde_json::to_string_pretty(&secrets)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["NAME", "VERSION", "UPDATED", "ID"].map(str::to_owned)];
    rows.extend(
        secrets
            .into_iter()
            .map(|secret| [secret.name, secret.version.to_string(), secret.updated_at, secret.id]),
    );
    output::print(&table::text(&rows))?;
    Ok(ExitCode::SUCCESS)
}

async fn fetch(api: &Api) -> Result<Vec<Secret>, ApiError> {
    let mut secrets = Vec::new();
    let mut path = "/v1/secrets".to_owned();
    for _page in 0..MAX_PAGES {
        let page: SecretList = api.get(&path).await?;
        secrets.extend(page.secrets);
        let Some(next) = page.next_token else { break };
        path = format!("/v1/secrets?next_token={next}");
    }
    Ok(secrets)
}

/// Deletes secrets; tells of each that could not be, and goes on with the others.
async fn remove(api: &Api, names: &[SecretName]) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let error = match api.delete(&format!("/v1/secrets/{name}")).await {
            Ok(()) => {
                output::line(name.as_str())?;
                continue;
            }
            Err(error) if error.is_not_found() => anyhow::anyhow!(
                "there is no secret {name}; `courier secret ls` shows those that there are"
            ),
            Err(error) => error.into(),
        };
        eprintln!("{}", exit::describe(&error));
        code = ExitCode::from(exit::OURS);
    }
    Ok(code)
}
