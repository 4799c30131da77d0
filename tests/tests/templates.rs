//! Templates built by the official, unmodified SDKs, in URL mode and in domain mode.

use std::process::ExitCode;

use courier_tests::dns::Dns;
use courier_tests::environment::Environment;
use courier_tests::sdk::{self, Mode};
use courier_tests::server::{Options, Server, free_port};
use courier_tests::{suite, tests};

/// What the tests share: one server that has both modes.
struct World {
    server: Server,
    domain: String,
}

impl World {
    fn make(environment: Environment) -> Self {
        let domain = format!("courier.test:{}", free_port());
        let arguments = vec!["--domain".to_owned(), domain.clone()];
        let server = Server::start(&environment, Options { arguments, ..Options::default() });
        Self { server, domain }
    }
}

fn the_npm_sdk_builds_templates_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "templates.mjs");
}

fn the_python_sdk_builds_templates_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "template_builds.py");
}

fn the_python_sdk_builds_templates_by_domain(world: &World) {
    let dns = Dns::start();
    let mode = Mode::Domain { dns: &dns, domain: &world.domain };
    sdk::python(&world.server, mode, "template_builds.py");
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            the_npm_sdk_builds_templates_by_url,
            the_python_sdk_builds_templates_by_url,
            the_python_sdk_builds_templates_by_domain,
        ],
    )
}
