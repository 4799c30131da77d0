//! Bad input gets a clear error, and nothing is lost by it.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

#[path = "bad_input/frames.rs"]
mod frames;
#[path = "bad_input/keys.rs"]
mod keys;
#[path = "bad_input/machine.rs"]
mod machine;
#[path = "bad_input/requests.rs"]
mod requests;

use std::process::ExitCode;

use courier_tests::environment::Environment;
use courier_tests::server::{Options, Server};
use courier_tests::{suite, tests};

/// What the tests share.
pub(crate) struct World {
    server: Server,
}

fn main() -> ExitCode {
    suite::run(
        |environment: Environment| World {
            server: Server::start(&environment, Options::default()),
        },
        tests![
            requests::an_unknown_template_language_or_sandbox_is_named_in_the_answer,
            requests::a_limit_or_timeout_out_of_range_is_told_with_the_range,
            requests::a_body_that_is_no_json_no_text_or_has_unknown_fields_is_refused,
            requests::a_body_that_is_too_large_or_cut_off_is_refused,
            requests::a_malformed_request_line_or_header_is_refused,
            requests::a_file_path_that_cannot_be_is_refused,
            requests::an_upload_that_is_malformed_is_refused,
            requests::after_all_that_the_server_still_works,
            keys::a_missing_wrong_or_malformed_key_is_refused_everywhere,
            keys::a_token_opens_only_its_own_sandbox,
            keys::a_signature_opens_exactly_what_it_was_made_for,
            keys::paths_that_are_the_host_s_own_business_are_refused_from_outside,
            frames::a_frame_that_lies_about_its_length_is_an_error,
            frames::a_frame_with_unknown_flags_or_no_json_is_an_error,
            frames::an_endless_frame_is_refused_before_it_is_read,
            frames::a_stream_that_never_comes_costs_nobody_anything,
            frames::an_unknown_method_type_or_codec_is_an_error,
            machine::a_data_folder_in_use_is_refused_with_its_name,
            machine::a_missing_or_old_isolation_technology_is_told_with_the_remedy,
            machine::a_full_disk_is_told_and_nothing_is_lost,
            machine::an_address_in_use_or_not_loopback_is_refused,
        ],
    )
}
