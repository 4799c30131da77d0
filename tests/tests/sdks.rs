//! The official, unmodified SDKs, in URL mode and in domain mode.

use std::process::ExitCode;

use courier_tests::dns::Dns;
use courier_tests::environment::Environment;
use courier_tests::sdk::{self, Mode};
use courier_tests::server::{Options, Server, free_port};
use courier_tests::{suite, tests};

/// What the tests share: one server that has both modes.
struct World {
    server: Server,
    dns: Dns,
    domain: String,
}

impl World {
    fn make(environment: Environment) -> Self {
        let domain = format!("courier.test:{}", free_port());
        let arguments = vec!["--domain".to_owned(), domain.clone()];
        let server = Server::start(&environment, Options { arguments, ..Options::default() });
        Self { server, dns: Dns::start(), domain }
    }

    fn domain(&self) -> Mode<'_> {
        Mode::Domain { dns: &self.dns, domain: &self.domain }
    }
}

fn the_npm_sdk_does_lifecycle_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "lifecycle.mjs");
}

fn the_npm_sdk_does_commands_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "commands.mjs");
}

fn the_npm_sdk_does_files_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "files.mjs");
}

fn the_npm_sdk_does_terminals_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "pty.mjs");
}

fn the_npm_sdk_does_lifecycle_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "lifecycle.mjs");
}

fn the_npm_sdk_does_commands_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "commands.mjs");
}

fn the_npm_sdk_does_files_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "files.mjs");
}

fn the_npm_sdk_does_terminals_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "pty.mjs");
}

fn the_npm_sdk_does_signed_urls_and_hosts(world: &World) {
    sdk::javascript(&world.server, world.domain(), "signed.mjs");
}

fn the_python_sdk_does_lifecycle_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "sync_lifecycle.py");
}

fn the_python_sdk_does_commands_files_and_terminals_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "sync_inside.py");
}

fn the_asynchronous_python_sdk_works_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "async_sdk.py");
}

fn the_python_sdk_does_lifecycle_by_domain(world: &World) {
    sdk::python(&world.server, world.domain(), "sync_lifecycle.py");
}

fn the_python_sdk_does_commands_files_and_terminals_by_domain(world: &World) {
    sdk::python(&world.server, world.domain(), "sync_inside.py");
}

fn the_asynchronous_python_sdk_works_by_domain(world: &World) {
    sdk::python(&world.server, world.domain(), "async_sdk.py");
}

fn the_python_sdk_does_signed_urls(world: &World) {
    sdk::python(&world.server, world.domain(), "signed.py");
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            the_npm_sdk_does_lifecycle_by_url,
            the_npm_sdk_does_commands_by_url,
            the_npm_sdk_does_files_by_url,
            the_npm_sdk_does_terminals_by_url,
            the_npm_sdk_does_lifecycle_by_domain,
            the_npm_sdk_does_commands_by_domain,
            the_npm_sdk_does_files_by_domain,
            the_npm_sdk_does_terminals_by_domain,
            the_npm_sdk_does_signed_urls_and_hosts,
            the_python_sdk_does_lifecycle_by_url,
            the_python_sdk_does_commands_files_and_terminals_by_url,
            the_asynchronous_python_sdk_works_by_url,
            the_python_sdk_does_lifecycle_by_domain,
            the_python_sdk_does_commands_files_and_terminals_by_domain,
            the_asynchronous_python_sdk_works_by_domain,
            the_python_sdk_does_signed_urls,
        ],
    )
}
