//! The binary: command line, configuration, composition.

mod api;
mod attend;
mod bench;
mod compose;
mod config;
mod connector;
mod doctor;
mod duration;
mod egress;
mod exit;
mod folder;
mod limits;
mod local_images;
mod log;
mod memory;
mod output;
mod pairs;
mod passwd;
mod presets;
mod random;
mod registry;
mod run;
mod sandbox;
mod secret;
mod serve;
mod table;
mod template;
mod transfer;
mod tunnel;
mod volume;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::config::{Config, GlobalArgs};

/// What `courier --help` ends with.
const EXAMPLES: &str = "\
Examples:
  courier run script.py                     run a file in a fresh sandbox, then destroy it
  echo 'print(6*7)' | courier run --lang python -
  courier serve                             serve the API, and the E2B wire, on 127.0.0.1:3000
  courier sandbox exec ID -- ls -l /        run a command in a running sandbox
  courier doctor                            what this machine has and what it lacks";

/// What `courier --help` begins with.
const ABOUT: &str = "Run untrusted code, each piece in a sandbox of its own";

#[derive(Debug, Parser)]
#[command(name = "courier", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: GlobalArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run files in fresh sandboxes and destroy them
    Run(Box<run::Args>),
    /// Serve the API and the E2B wire
    Serve(Box<config::serve::Args>),
    /// Use the sandboxes of a running server
    Sandbox(sandbox::Args),
    /// See and change what sandboxes may reach
    Egress(egress::Args),
    /// Store values that are added to requests of sandboxes, which never hold them
    Secret(secret::Args),
    /// Make and delete storage that outlives sandboxes
    Volume(volume::Args),
    /// See the private tunnels that policies may name
    Tunnel(tunnel::Args),
    /// Lead sandboxes to a private service near this machine
    Connector(connector::Args),
    /// Build and list templates
    Template(template::Args),
    /// Say what this machine has and what it lacks
    Doctor(doctor::Args),
    /// Measure speed on this machine
    Bench(bench::Args),
    /// Print a shell's completions
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::code(start(cli))
}

/// Reads the configuration and runs the command on a runtime of its own.
fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = Config::load(cli.global)?;
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "courier", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(dispatch(cli.command, &config));
    // A blocked read of a terminal must not keep us from leaving.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => Box::pin(run::run(*args, config)).await,
        Command::Serve(args) => Box::pin(serve::run(*args, config)).await,
        Command::Sandbox(args) => Box::pin(sandbox::run(args, config)).await,
        Command::Egress(args) => Box::pin(egress::run(args, config)).await,
        Command::Secret(args) => Box::pin(secret::run(args, config)).await,
        Command::Volume(args) => Box::pin(volume::run(args, config)).await,
        Command::Tunnel(args) => Box::pin(tunnel::run(args, config)).await,
        Command::Connector(args) => Box::pin(connector::run(args, config)).await,
        Command::Template(args) => Box::pin(template::run(args, config)).await,
        Command::Doctor(args) => Box::pin(doctor::run(args, config)).await,
        Command::Bench(args) => Box::pin(bench::run(args, config)).await,
        Command::Completions { .. } => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The help of a subcommand, 100 columns wide whatever the terminal.
    fn help(path: &[&str]) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut found = &mut command;
        for name in path {
            found = found.find_subcommand_mut(name).unwrap();
        }
        found.clone().term_width(100).render_long_help().to_string()
    }

    #[test]
    fn the_help_reads_well() {
        let all: [&[&str]; 28] = [
            &[],
            &["run"],
            &["serve"],
            &["sandbox"],
            &["sandbox", "ls"],
            &["sandbox", "new"],
            &["sandbox", "exec"],
            &["sandbox", "shell"],
            &["sandbox", "open"],
            &["sandbox", "cp"],
            &["sandbox", "logs"],
            &["sandbox", "kill"],
            &["egress"],
            &["egress", "set"],
            &["egress", "explain"],
            &["egress", "log"],
            &["egress", "learn"],
            &["secret"],
            &["secret", "set"],
            &["tunnel"],
            &["connector"],
            &["template"],
            &["template", "build"],
            &["template", "ls"],
            &["template", "inspect"],
            &["template", "tag"],
            &["template", "rm"],
            &["template", "logs"],
        ];
        for path in all {
            insta::assert_snapshot!(format!("help_{}", path.join("_")), help(path));
        }
    }

    #[test]
    fn mistakes_on_the_command_line_are_told_with_the_way_out() {
        let lines: [&[&str]; 21] = [
            &["courier", "run"],
            &["courier", "run", "--lang", "cobol", "x"],
            &["courier", "run", "--timeout", "soon", "x.py"],
            &["courier", "run", "--cpus", "many", "x.py"],
            &["courier", "run", "--env", "NOVALUE", "x.py"],
            &["courier", "run", "--keep", "--local", "x.py"],
            &["courier", "sandbox", "kill"],
            &["courier", "sandbox", "exec", "nonsense", "--", "ls"],
            &["courier", "run", "--allow", "*", "x.py"],
            &["courier", "run", "--allow", "a.test:22/ssh", "x.py"],
            &["courier", "run", "--secret", "KEY=a", "--local", "x.py"],
            &["courier", "secret", "set", "KEY=value"],
            &["courier", "serve", "--egress-permit", "10.0.0.0"],
            &["courier", "serve", "--preset", "pypi=mirror.test"],
            &["courier", "serve", "--tunnel", "db=db.test"],
            &["courier", "connector", "db", "--to", "unix:a.sock"],
            &["courier", "connector", "d.b", "--to", "127.0.0.1:5432"],
            &["courier", "template", "build", "-f", "Dockerfile"],
            &["courier", "template", "build", ".", "--name", "a", "--force"],
            &["courier", "template", "build", ".", "--name", "a", "--registry-user", "u"],
            &["courier", "template", "tag", "a"],
        ];
        let told: Vec<String> = lines
            .into_iter()
            .map(|line| {
                let error = Cli::try_parse_from(line).unwrap_err();
                format!("$ {}\n{error}", line.join(" "))
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
