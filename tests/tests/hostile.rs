//! Hostile programs are contained: what they look for is not there, what they exhaust is their own,
//! and a neighbour does not feel it. Each has a control: the same program outside finds or does it.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

#[path = "hostile/doors.rs"]
mod doors;
#[path = "hostile/exhaustion.rs"]
mod exhaustion;
#[path = "hostile/looking.rs"]
mod looking;
#[path = "hostile/sabotage.rs"]
mod sabotage;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::sandbox::Sandbox;
use courier_tests::server::{Options, Server};
use courier_tests::{program, suite, tests};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A neighbour's trivial command never takes longer, whatever the sandbox beside it does. A quiet
/// machine needs some 20 ms; two cores shared with a bomb need their scheduling rounds.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the tests share.
pub(crate) struct World {
    server: Server,
    /// A random text that only the host has.
    canary: String,
    /// A file of the host with the canary.
    canary_file: PathBuf,
    folder: TempDir,
}

impl World {
    fn make(environment: Environment) -> Self {
        let folder = environment.folder();
        let random = std::fs::read("/proc/sys/kernel/random/uuid").expect("Linux has random uuids");
        let canary = format!("canary-{}", String::from_utf8_lossy(&random).trim());
        let canary_file = folder.path().join("host-secret.txt");
        std::fs::write(&canary_file, &canary).expect("scratch is ours");
        let variables = vec![("COURIER_TEST_CANARY".to_owned(), canary.clone())];
        let server = Server::start(&environment, Options { variables, ..Options::default() });
        Self { server, canary, canary_file, folder }
    }

    /// One snippet in a sandbox of its own: `POST /v1/executions`.
    #[track_caller]
    pub(crate) fn execute(&self, code: &str, limits: &Value) -> Value {
        let body = json!({
            "language": "python", "code": code, "limits": limits, "timeout_ms": 60_000,
        });
        self.server.call("POST", "/v1/executions", Some(&body)).assert_status(200).json()
    }

    /// A sandbox with limits of its own.
    #[track_caller]
    pub(crate) fn sandbox_with(&self, limits: &Value) -> Sandbox<'_> {
        let body = json!({"template": "base", "limits": limits, "timeout_ms": 120_000});
        let answer = self.server.call("POST", "/v1/sandboxes", Some(&body));
        Sandbox::from_v1(&self.server, answer.assert_status(201))
    }

    /// Runs a Python program on the host, as the control of a test.
    #[track_caller]
    pub(crate) fn on_host(&self, code: &str) -> program::Ended {
        let mut command = Command::new("python3");
        command.args(["-c", code]).current_dir(self.folder.path());
        program::run(&mut command, b"", Duration::from_secs(60))
    }

    /// Runs one of `tests/probes` on the host and reads the JSON that it prints.
    #[track_caller]
    pub(crate) fn probe_on_host(&self, name: &str, arguments: &[&str]) -> Value {
        let file = self.server.environment.sources.join("probes").join(name);
        let ended = program::run(
            Command::new("python3").arg(file).args(arguments).current_dir(self.folder.path()),
            b"",
            Duration::from_secs(60),
        );
        serde_json::from_slice(&ended.assert_code(0).stdout).expect("a probe prints JSON")
    }

    /// Runs one of `tests/probes` inside, as a user, and reads the JSON that it prints.
    #[track_caller]
    pub(crate) fn probe_inside(
        &self,
        sandbox: &Sandbox<'_>,
        user: &str,
        name: &str,
        arguments: &str,
    ) -> Value {
        let file = self.server.environment.sources.join("probes").join(name);
        let source = std::fs::read(file).expect("the probe is there");
        sandbox.write(&format!("/tmp/{name}"), &source);
        let script = format!("python3 /tmp/{name} {arguments}");
        let outcome = sandbox.sh_as(user, &script).expect("the sandbox answers");
        serde_json::from_slice(&outcome.assert_ok().stdout).expect("a probe prints JSON")
    }

    /// The canary written backwards, for the command line of the program that looks for it.
    pub(crate) fn reversed_canary(&self) -> String {
        self.canary.chars().rev().collect()
    }

    /// Does something in a sandbox while another one's heart beats, before, during and after.
    #[track_caller]
    pub(crate) fn beside_a_neighbour<T>(&self, act: impl FnOnce() -> T + Send) -> T
    where
        T: Send,
    {
        let neighbour = self.server.sandbox(300);
        assert!(neighbour.heartbeat() < HEARTBEAT);
        let result = std::thread::scope(|scope| {
            let acting = scope.spawn(act);
            while !acting.is_finished() {
                let took = neighbour.heartbeat();
                assert!(took < HEARTBEAT, "the neighbour's heartbeat took {took:?}");
            }
            acting.join()
        });
        assert!(neighbour.heartbeat() < HEARTBEAT);
        neighbour.kill();
        match result {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            looking::no_host_file_process_variable_or_path_is_visible_inside,
            looking::no_secret_of_the_sandbox_itself_is_visible_inside,
            looking::the_inside_shows_the_sandbox_s_own_limits_and_processes,
            looking::a_link_or_a_climbing_path_in_the_files_api_stays_inside,
            looking::a_pipe_a_device_or_an_endless_file_does_not_hang_the_files_api,
            looking::what_one_sandbox_wrote_the_next_does_not_find,
            looking::nothing_but_loopback_can_be_reached_and_no_name_resolves,
            doors::the_kernel_s_doors_are_shut_to_a_user_inside,
            doors::the_kernel_s_doors_to_the_host_are_shut_to_root_inside,
            doors::files_of_the_kernel_cannot_be_changed_from_inside,
            doors::nobody_inside_sees_or_signals_a_process_of_the_host,
            exhaustion::a_fork_bomb_ends_at_the_limit_of_processes,
            exhaustion::a_memory_bomb_ends_with_killed_memory,
            exhaustion::a_disk_filler_ends_at_the_limit_of_the_disk,
            exhaustion::an_output_flood_is_cut_with_a_flag_and_costs_the_server_little,
            exhaustion::a_program_that_opens_files_without_end_ends_at_the_limit,
            exhaustion::a_program_that_spins_on_every_core_gets_only_its_share,
            exhaustion::a_program_that_never_ends_is_ended_by_its_timeout,
            sabotage::deleting_everything_hurts_only_that_sandbox,
            sabotage::killing_everything_inside_hurts_only_that_sandbox,
            sabotage::a_sandbox_whose_guest_daemon_is_stopped_can_still_be_killed,
            sabotage::the_guest_daemon_s_channel_is_out_of_reach_of_a_user,
        ],
    )
}
