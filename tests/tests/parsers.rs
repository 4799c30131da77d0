//! The properties of every parser of hostile bytes (`fuzz/properties.rs`), with random bytes and
//! with bytes that are known to be nasty. The fuzz targets search further.

#[path = "../../fuzz/properties.rs"]
mod properties;

use proptest::collection::vec;
use proptest::prelude::*;

/// Random inputs per property.
const CASES: u32 = 2_048;
/// Longest random input, in pieces of [`piece`].
const PIECES: usize = 24;

/// Inputs that have been trouble in parsers of these kinds.
const KNOWN: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\xff\xff\xff\xff",
    b"\x05\x02\x00\x00\x00\x02{}\x00\x00\x00\x00\x00",
    b"\x00\x02\x00\x00\x00\x0b{\"error\":5}",
    b"{\"process\":{\"cmd\":\"\\u0000\",\"args\":[],\"envs\":{\"a\":\"\\ud83d\"}}}",
    b"{\"process\":{\"cmd\":\"x\"},\"pty\":{\"size\":{\"cols\":1e999,\"rows\":-1}}}",
    b"a=%25252525&=%&%ff=%C0%80",
    b"../../../../etc/passwd",
    b"~root/../..",
    b"/////./././..//..//a",
    b"\x03--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../../a\"\r\n\r\n\r\n--b--",
    b"\x01\r\n--b\r\n\r\n\r\n--b\r\n--b--",
    b"\x02--b--b--\r\n--b",
    b"\xffPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x03POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"\x05\x01\x04\x03\x02\x01\x05\x03\x04\x03\x02\x01\x06\x02\x00\x00\x00\x00\x00",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x00\xff\x00\x00\x01\x00\x00\x29\xff\xff\x00\x00\x80\x00\x00\x00",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01",
    b"\xff\x16\x03\x01\x00\x42\x01\x00\x00\x3e\x03\x03........ random bytes ..........\x00\x00\x02\x13\x01\x01\x00\x00\x13\x00\x00\x00\x0b\x00\x09\x00\x00\x06a.test\xfe\x0d\x00\x00",
    b"\x12\x34\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff",
    b"{\"rules\":[{\"allow\":\"*.a.test\",\"ports\":[\"1-65535\"],\"protocols\":[\"tcp\"]},{\"deny\":\"8.0.0.0/8\"}]}",
    b"a.test\n*.a.test\n8.8.8.8/31\ninternet\n0.0.0.0/0",
    b"0x7f.1",
    b"/%2e%2e/%252fa",
    b"/%252%65%252%65/a",
    b"\x01\x04sk-01sk-01sk-01",
    b"FROM a\nENV A=${A:-${B:-'$C\nCOPY <<E <<-'F' /x\n$A\\\nE\n\tF\n",
    b"# escape=`\nFROM a`\n # b\n\n AS c\nRUN [\"\\u0000\"]",
    b"\x01\x02\x00.\x02\x01.\x02\x02/",
    b"\x01\x02\x7c\x80\x02\x84\xff",
];

/// Words that parsers stop at: random bytes alone would hardly ever form one.
const WORDS: &[&[u8]] = &[
    b"POST / HTTP/1.1\r\nHost: a\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"1\r\na\r\n0\r\n\r\n",
    b"--b",
    b"\r\n",
    b"--",
    b"Content-Disposition: form-data; name=\"file\"; filename=\"a\"",
    b"{\"process\":{\"cmd\":\"a\"}}",
    b"{}",
    b"\x00\x00\x00\x00\x02",
    b"\x02\x00\x00\x00\x02",
    b"%25",
    b"&",
    b"=",
    b"/",
    b"..",
    b"~",
    b"__",
    b"v1_",
    b"\"",
    b"\\",
    b";",
    b"\n",
    b"\xf0\x9f",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01",
    b"\x01a",
    b"\x00\x00\x01\x00\x01",
    b"\x00\x00\x29\xff\xff\x00\x00\x80\x00\x00\x00",
    b"\xc0\x0c",
    b"a.test\n",
    b"*.a.test\n",
    b"8.8.8.0/24\n",
    b"internet\n",
    b"sk-01",
    b"%25",
    b"%32",
    b"e",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![proptest::sample::select(WORDS).prop_map(<[u8]>::to_vec), vec(any::<u8>(), 0..16),]
}

fn check(property: fn(&[u8])) {
    for known in KNOWN {
        property(known);
    }
    let inputs = vec(piece(), 0..PIECES).prop_map(|pieces| pieces.concat());
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&inputs, |input| {
        property(&input);
        Ok(())
    });
    assert_eq!(result.map_err(|failure| failure.to_string()), Ok(()));
}

#[test]
fn envelopes_in_pieces_are_the_same_envelopes() {
    check(properties::connect_envelopes);
}

#[test]
fn messages_survive_their_own_encoding() {
    check(properties::connect_messages);
}

#[test]
fn only_the_right_signature_is_valid() {
    check(properties::signatures);
}

#[test]
fn list_parameters_are_bounded_and_read_back() {
    check(properties::list_parameters);
}

#[test]
fn accepted_paths_are_absolute_and_plain() {
    check(properties::paths);
}

#[test]
fn multipart_bodies_in_pieces_have_the_same_parts() {
    check(properties::multipart);
}

#[test]
fn a_channel_gives_no_more_than_the_guest_wrote_and_ends_with_it() {
    check(properties::channel_records);
}

#[test]
fn dns_questions_are_answered_in_one_small_message_or_not_read() {
    check(properties::dns_questions);
}

#[test]
fn http_requests_have_the_same_ends_to_two_parsers() {
    check(properties::http_requests);
}

#[test]
fn tls_hellos_are_the_same_in_any_records_and_read_in_full_or_not_at_all() {
    check(properties::tls_hellos);
}

#[test]
fn policies_survive_their_own_text_and_cover_themselves() {
    check(properties::policies);
}

#[test]
fn host_names_and_paths_have_one_form() {
    check(properties::host_names);
}

#[test]
fn a_value_is_redacted_however_the_answer_is_cut() {
    check(properties::redactions);
}

#[test]
fn what_is_taken_of_an_archive_stays_in_its_folder_and_comes_back() {
    check(properties::archives);
}

#[test]
fn dockerfiles_give_a_plan_or_an_error_at_a_place_that_they_have() {
    check(properties::dockerfiles);
}
