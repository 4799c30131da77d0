//! What is said on a connection to an allowed host: hellos and requests.

use crate::probe::Sign::{Answer, Canary, Hello};
use crate::probe::{Probe, probe};

const TALK: &[crate::probe::Sign] = &[Canary, Answer];

/// TLS hellos.
pub(crate) const HELLOS: &[Probe] = &[
    probe(
        "NE20a",
        "a_hello_for_a_denied_name_is_refused_at_an_allowed_address",
        "hello(CANARY+'.denied.test', 'allowed.test')",
    )
    .by(TALK)
    .fence("sni"),
    probe(
        "NE20b",
        "a_hello_in_pieces_of_a_byte_is_refused",
        "hello(CANARY+'.denied.test', 'allowed.test', pieces=1, pause=0.001)",
    )
    .by(TALK),
    probe(
        "NE20c",
        "a_hello_in_many_records_is_refused",
        "hello(CANARY+'.denied.test', 'allowed.test', size=40)",
    )
    .control("hello(CANARY+'.denied.test', 'allowed.test')")
    .by(TALK),
    probe(
        "NE20d",
        "a_hello_with_much_padding_is_refused",
        "hello(CANARY+'.denied.test', 'allowed.test', padding=15000)",
    )
    .by(TALK),
    probe(
        "NE20e",
        "a_hello_that_drips_is_refused",
        "hello(CANARY+'.denied.test', 'allowed.test', pieces=20, pause=0.15)",
    )
    .by(TALK),
    probe(
        "NE20f",
        "a_hello_with_two_names_is_refused",
        "hello(['allowed.test', CANARY+'.denied.test'], 'allowed.test')",
    ),
    probe("NE20g", "a_hello_without_a_name_is_refused", "hello(None, 'allowed.test')")
        .by(&[Answer]),
    probe(
        "NE20h",
        "a_hello_with_a_nul_in_the_name_is_refused",
        "hello('allowed.test\\0.'+CANARY+'.denied.test', 'allowed.test')",
    ),
    probe(
        "NE20i",
        "a_hello_with_an_encrypted_name_is_refused",
        "hello('allowed.test', extensions=ENCRYPTED_HELLO)",
    )
    .by(&[Answer])
    .fence("ech"),
    probe(
        "NE20j",
        "a_hello_for_another_name_of_the_same_address_is_refused",
        "hello('neighbour.test', 'allowed.test')",
    )
    .by(&[Answer, Hello("neighbour.test")]),
    probe(
        "NE20k",
        "a_hello_for_a_denied_name_is_refused_on_another_port",
        "hello(CANARY+'.denied.test', 'allowed.test', port=80)",
    ),
    probe(
        "NE20l",
        "a_hello_with_a_broken_extension_is_refused",
        "hello(CANARY+'.denied.test', 'allowed.test', extensions=b'\\0\\0\\0\\xff')",
    ),
    probe(
        "NE20m",
        "bytes_that_are_neither_tls_nor_http_are_refused",
        "raw('allowed.test', CANARY+'\\r\\n', 443)",
    )
    .fence("protocol"),
    probe(
        "NE20n",
        "a_record_of_another_kind_is_no_hello",
        "raw('allowed.test', b'\\x17\\x03\\x03\\0\\x20'+CANARY.encode()+bytes(32), 443)",
    ),
    probe(
        "NE20o",
        "a_hello_of_an_old_kind_is_refused",
        "raw('allowed.test', b'\\x80\\x40\\x01\\x03\\0'+CANARY.encode()+bytes(59), 443)",
    ),
    probe(
        "NE20p",
        "a_hello_whose_length_lies_is_refused",
        "raw('allowed.test', \
         b'\\x16\\x03\\x01\\0\\x40\\x01\\xff\\xff\\xff'+CANARY.encode()+bytes(60), 443)",
    ),
    probe(
        "NX04a",
        "a_policy_for_tcp_to_one_name_is_none_for_another",
        "raw('denied.test', CANARY, 9000)",
    )
    .by(TALK),
    probe(
        "NE43a",
        "a_request_in_pieces_of_a_byte_is_judged_whole",
        "say('GET /', host='{CANARY}.denied.test', pieces=1)",
    )
    .control("say('GET /', host='{CANARY}.denied.test')"),
];

/// Requests that an opened connection carries.
pub(crate) const REQUESTS: &[Probe] = &[
    probe(
        "NE24a",
        "a_second_host_on_an_open_connection_is_refused",
        "coalesced('bound.test', [('bound.test', '/open/a', []), (CANARY+'.denied.test', \
         '/open/', [])])",
    ),
    probe(
        "NE24b",
        "an_allowed_second_host_on_an_open_connection_is_refused",
        "coalesced('bound.test', [('bound.test', '/open/a', []), ('allowed.test', '/'+CANARY, \
         [])])",
    ),
    probe(
        "NE24c",
        "another_path_on_an_open_connection_is_refused",
        "coalesced('bound.test', [('bound.test', '/open/a', []), ('bound.test', \
         '/closed/'+CANARY, [])])",
    )
    .fence("policy"),
    probe(
        "NE24d",
        "a_second_host_in_a_kept_connection_is_refused",
        "within('bound.test', 'GET /open/a HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n' \
         f'GET /open/b HTTP/1.1\\r\\nHost: {CANARY}.denied.test\\r\\n\\r\\n')",
    ),
    probe(
        "NE24e",
        "a_host_beside_the_authority_is_refused",
        "coalesced('bound.test', [('bound.test', '/open/a', [('host', CANARY+'.denied.test')])])",
    ),
    probe(
        "NE24f",
        "a_path_that_climbs_on_an_open_connection_is_refused",
        "coalesced('bound.test', [('bound.test', '/open/a', []), \
         ('bound.test', '/open/../closed/'+CANARY, [])])",
    ),
    probe(
        "NX05a",
        "another_method_is_refused",
        "get('https://bound.test/open/'+CANARY, method='POST', data='x')",
    )
    .by(&[Canary]),
    probe("NX05b", "another_path_is_refused", "get('https://bound.test/closed/'+CANARY)")
        .by(&[Canary]),
    probe("NX05c", "a_path_that_climbs_is_refused", "say_within('GET /open/../closed/{CANARY}')"),
    probe(
        "NX05d",
        "a_path_that_climbs_in_escapes_is_refused",
        "say_within('GET /open/%2e%2e/closed/{CANARY}')",
    ),
    probe(
        "NX05e",
        "a_path_with_an_escaped_slash_is_refused",
        "say_within('GET /open/..%2fclosed/{CANARY}')",
    ),
    probe(
        "NX05f",
        "a_path_with_a_backslash_is_refused",
        "say_within('GET /open/..\\\\closed/{CANARY}')",
    ),
    probe("NX05g", "a_path_with_two_slashes_is_refused", "say_within('GET //open/{CANARY}')"),
    probe(
        "NX05h",
        "a_path_that_only_begins_like_an_allowed_one_is_refused",
        "get('https://bound.test/opened/'+CANARY)",
    ),
    probe(
        "NX05i",
        "an_overriding_method_header_changes_nothing",
        "get('https://bound.test/open/'+CANARY, {'X-HTTP-Method-Override': 'DELETE'}, \
         method='POST', data='x')",
    ),
    probe(
        "NX05j",
        "the_allowed_path_in_clear_is_not_the_allowed_path_of_tls",
        "say('DELETE /open/{CANARY}', to='bound.test', host='bound.test')",
    ),
];
