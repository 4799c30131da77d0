//! The code interpreter: template `code-interpreter-v1` in real sandboxes, by the official SDKs and
//! by hand.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

mod interpreter {
    pub(crate) mod contexts;
    pub(crate) mod executions;
    pub(crate) mod hostile;
    pub(crate) mod rig;
}

use std::process::ExitCode;

use courier_tests::sdk::{self, Mode};
use courier_tests::{suite, tests};

use crate::interpreter::rig::World;
use crate::interpreter::{contexts, executions, hostile};

fn the_npm_sdk_runs_code_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "interpreter.mjs");
}

fn the_npm_sdk_runs_code_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "interpreter.mjs");
}

fn the_python_sdk_runs_code_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "interpreter.py");
}

fn the_python_sdk_runs_code_by_domain(world: &World) {
    sdk::python(&world.server, world.domain(), "interpreter.py");
}

fn main() -> ExitCode {
    let tests = tests![
        the_npm_sdk_runs_code_by_url,
        the_npm_sdk_runs_code_by_domain,
        the_python_sdk_runs_code_by_url,
        the_python_sdk_runs_code_by_domain,
        executions::python_gives_output_results_and_errors,
        executions::results_come_as_data_charts_images_and_json,
        executions::javascript_and_typescript_wait_import_and_declare_again,
        executions::r_and_bash_run_and_fail_as_their_users_know_them,
        executions::variables_of_the_sandbox_reach_every_kernel,
        executions::variables_of_an_execution_are_there_for_it_alone,
        executions::a_package_that_a_cell_installs_is_there_for_the_next,
        contexts::a_context_has_its_own_state_and_folder,
        contexts::executions_of_one_context_wait_for_each_other,
        contexts::a_restart_ends_what_runs_with_an_error,
        contexts::what_cannot_be_asked_is_refused_with_its_reason,
        hostile::code_stops_when_its_client_goes_away_and_its_state_stays,
        hostile::code_that_ignores_interrupts_is_ended_with_its_kernel,
        hostile::a_kernel_that_dies_is_an_error_and_a_new_kernel,
        hostile::a_hundred_megabytes_arrive,
        hostile::whatever_is_killed_inside_is_back_soon,
        hostile::variables_go_even_when_the_client_goes,
        hostile::a_message_that_no_memory_holds_ends_no_service,
    ];
    suite::run(World::make, tests)
}
