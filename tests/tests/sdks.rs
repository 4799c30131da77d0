//! The official, unmodified SDKs, in URL mode and in domain mode, and what their sandboxes reach.

use std::process::ExitCode;

use courier_tests::dns::Dns;
use courier_tests::environment::Environment;
use courier_tests::internet::{DENIED, Internet};
use courier_tests::rig::Place;
use courier_tests::sdk::{self, Language, Mode};
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

fn the_oldest_npm_sdk_still_works(world: &World) {
    sdk::oldest(&world.server, world.domain(), Language::JavaScript);
}

fn the_oldest_python_sdk_still_works(world: &World) {
    sdk::oldest(&world.server, world.domain(), Language::Python);
}

fn the_npm_sdk_reads_metrics(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "metrics.mjs");
}

fn the_python_sdk_reads_metrics(world: &World) {
    sdk::python(&world.server, Mode::Url, "metrics.py");
}

fn the_npm_sdk_does_secrets_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "secrets.mjs");
}

fn the_npm_sdk_does_networks_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "network.mjs");
}

fn the_npm_sdk_does_secrets_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "secrets.mjs");
}

fn the_npm_sdk_does_networks_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "network.mjs");
}

fn what_the_npm_sdk_allows_gets_out_with_its_credential_and_nothing_else(world: &World) {
    let internet = Internet::start(&world.server.environment);
    let place = internet.rig.place();
    sdk::javascript(&internet.server, Mode::Url, "internet.mjs");
    assert_got_out(&internet, &place, "js");
}

fn the_python_sdk_does_secrets_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "secret_values.py");
}

fn the_python_sdk_does_networks_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "network.py");
}

fn the_python_sdk_does_secrets_by_domain(world: &World) {
    sdk::python(&world.server, world.domain(), "secret_values.py");
}

fn the_python_sdk_does_networks_by_domain(world: &World) {
    sdk::python(&world.server, world.domain(), "network.py");
}

fn what_the_python_sdk_allows_gets_out_with_its_credential_and_nothing_else(world: &World) {
    let internet = Internet::start(&world.server.environment);
    let place = internet.rig.place();
    sdk::python(&internet.server, Mode::Url, "internet.py");
    assert_got_out(&internet, &place, "py");
}

/// Panics unless just the requests of `internet.mjs` and `internet.py` that are allowed got out,
/// each with the credential that was current.
#[track_caller]
fn assert_got_out(internet: &Internet, place: &Place, sdk: &str) {
    let seen = internet.rig.requests(place);
    let seen: Vec<(&str, &str, Option<&str>)> = seen
        .iter()
        .map(|request| {
            let header =
                request.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
            (request.host.as_str(), request.path.as_str(), header)
        })
        .collect();
    let (first, second) =
        (format!("{sdk}-internet-first-value"), format!("{sdk}-internet-second-value"));
    let guest = Some("of-the-guest");
    let expected = [
        ("allowed.test", "/first", Some(first.as_str())),
        ("allowed.test", "/echo/raw", Some(first.as_str())),
        ("allowed.test", "/second", Some(second.as_str())),
        ("later.test", "/fourth", guest),
        ("allowed.test", "/fifth", guest),
    ];
    assert_eq!(seen, expected);
    let denied: Vec<_> =
        internet.rig.packets(place).into_iter().filter(|p| p.to.to_string() == DENIED).collect();
    assert!(denied.is_empty(), "{denied:?}");
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
            the_oldest_npm_sdk_still_works,
            the_oldest_python_sdk_still_works,
            the_npm_sdk_reads_metrics,
            the_python_sdk_reads_metrics,
            the_npm_sdk_does_secrets_by_url,
            the_npm_sdk_does_networks_by_url,
            the_npm_sdk_does_secrets_by_domain,
            the_npm_sdk_does_networks_by_domain,
            what_the_npm_sdk_allows_gets_out_with_its_credential_and_nothing_else,
            the_python_sdk_does_secrets_by_url,
            the_python_sdk_does_networks_by_url,
            the_python_sdk_does_secrets_by_domain,
            the_python_sdk_does_networks_by_domain,
            what_the_python_sdk_allows_gets_out_with_its_credential_and_nothing_else,
        ],
    )
}
