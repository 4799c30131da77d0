//! What is said on a connection to an allowed host: hellos, requests, and where one ends.

use crate::probe::Sign::{Answer, Canary, Hello, Metadata, Packet};
use crate::probe::{Probe, probe};

const TALK: &[crate::probe::Sign] = &[Canary, Answer];

/// TLS hellos.
pub(crate) const HELLOS: &[Probe] = &[
    probe("NE20a", "a_hello_for_a_denied_name_is_refused_at_an_allowed_address", "hello(CANARY+'.denied.test', 'allowed.test')")
        .by(TALK)
        .fence("sni"),
    probe("NE20b", "a_hello_in_pieces_of_a_byte_is_refused", "hello(CANARY+'.denied.test', 'allowed.test', pieces=1, pause=0.001)")
        .by(TALK),
    probe("NE20c", "a_hello_in_many_records_is_refused", "hello(CANARY+'.denied.test', 'allowed.test', size=40)")
        .control("hello(CANARY+'.denied.test', 'allowed.test')")
        .by(TALK),
    probe("NE20d", "a_hello_with_much_padding_is_refused", "hello(CANARY+'.denied.test', 'allowed.test', padding=15000)")
        .by(TALK),
    probe("NE20e", "a_hello_that_drips_is_refused", "hello(CANARY+'.denied.test', 'allowed.test', pieces=20, pause=0.15)")
        .by(TALK),
    probe("NE20f", "a_hello_with_two_names_is_refused", "hello(['allowed.test', CANARY+'.denied.test'], 'allowed.test')"),
    probe("NE20g", "a_hello_without_a_name_is_refused", "hello(None, 'allowed.test')").by(&[Answer]),
    probe("NE20h", "a_hello_with_a_nul_in_the_name_is_refused", "hello('allowed.test\\0.'+CANARY+'.denied.test', 'allowed.test')"),
    probe("NE20i", "a_hello_with_an_encrypted_name_is_refused", "hello('allowed.test', extensions=ENCRYPTED_HELLO)")
        .by(&[Answer])
        .fence("ech"),
    probe("NE20j", "a_hello_for_another_name_of_the_same_address_is_refused", "hello('neighbour.test', 'allowed.test')")
        .by(&[Answer, Hello("neighbour.test")]),
    probe("NE20k", "a_hello_for_a_denied_name_is_refused_on_another_port", "hello(CANARY+'.denied.test', 'allowed.test', port=80)"),
    probe("NE20l", "a_hello_with_a_broken_extension_is_refused", "hello(CANARY+'.denied.test', 'allowed.test', extensions=b'\\0\\0\\0\\xff')"),
    probe("NE20m", "bytes_that_are_neither_tls_nor_http_are_refused", "raw('allowed.test', CANARY+'\\r\\n', 443)")
        .fence("protocol"),
    probe("NE20n", "a_record_of_another_kind_is_no_hello", "raw('allowed.test', b'\\x17\\x03\\x03\\0\\x20'+CANARY.encode()+bytes(32), 443)"),
    probe("NE20o", "a_hello_of_an_old_kind_is_refused", "raw('allowed.test', b'\\x80\\x40\\x01\\x03\\0'+CANARY.encode()+bytes(59), 443)"),
    probe("NE20p", "a_hello_whose_length_lies_is_refused", "raw('allowed.test', b'\\x16\\x03\\x01\\0\\x40\\x01\\xff\\xff\\xff'+CANARY.encode()+bytes(60), 443)"),
    probe("NX04a", "a_policy_for_tcp_to_one_name_is_none_for_another", "raw('denied.test', CANARY, 9000)")
        .by(TALK),
    probe("NE43a", "a_request_in_pieces_of_a_byte_is_judged_whole", "raw('allowed.test', f'GET / HTTP/1.1\\r\\nHost: {CANARY}.denied.test\\r\\n\\r\\n', pieces=1)")
        .control("raw('allowed.test', f'GET / HTTP/1.1\\r\\nHost: {CANARY}.denied.test\\r\\n\\r\\n')"),
];

/// Requests that an opened connection carries.
pub(crate) const REQUESTS: &[Probe] = &[
    probe("NE24a", "a_second_host_on_an_open_connection_is_refused", "coalesced('bound.test', [('bound.test', '/open/a', []), (CANARY+'.denied.test', '/open/', [])])"),
    probe("NE24b", "an_allowed_second_host_on_an_open_connection_is_refused", "coalesced('bound.test', [('bound.test', '/open/a', []), ('allowed.test', '/'+CANARY, [])])"),
    probe("NE24c", "another_path_on_an_open_connection_is_refused", "coalesced('bound.test', [('bound.test', '/open/a', []), ('bound.test', '/closed/'+CANARY, [])])")
        .fence("policy"),
    probe("NE24d", "a_second_host_in_a_kept_connection_is_refused", "within('bound.test', f'GET /open/a HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\nGET /open/b HTTP/1.1\\r\\nHost: {CANARY}.denied.test\\r\\n\\r\\n')"),
    probe("NX05a", "another_method_is_refused", "get('https://bound.test/open/'+CANARY, method='POST', data='x')").by(&[Canary]),
    probe("NX05b", "another_path_is_refused", "get('https://bound.test/closed/'+CANARY)").by(&[Canary]),
    probe("NX05c", "a_path_that_climbs_is_refused", "within('bound.test', f'GET /open/../closed/{CANARY} HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')"),
    probe("NX05d", "a_path_that_climbs_in_escapes_is_refused", "within('bound.test', f'GET /open/%2e%2e/closed/{CANARY} HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')"),
    probe("NX05e", "a_path_with_an_escaped_slash_is_refused", "within('bound.test', f'GET /open/..%2fclosed/{CANARY} HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')"),
    probe("NX05f", "a_path_with_a_backslash_is_refused", "within('bound.test', f'GET /open/..\\\\closed/{CANARY} HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')"),
    probe("NX05g", "a_path_with_two_slashes_is_refused", "within('bound.test', f'GET //open/{CANARY} HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')"),
    probe("NX05h", "a_path_that_only_begins_like_an_allowed_one_is_refused", "get('https://bound.test/opened/'+CANARY)"),
    probe("NX05i", "an_overriding_method_header_changes_nothing", "get('https://bound.test/open/'+CANARY, {'X-HTTP-Method-Override': 'DELETE'}, method='POST', data='x')"),
    probe("NX05j", "the_allowed_path_in_clear_is_not_the_allowed_path_of_tls", "raw('bound.test', f'DELETE /open/{CANARY} HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')"),
];

/// Where one request ends and the next begins.
pub(crate) const SMUGGLING: &[Probe] = &[
    probe("NE25a", "a_length_and_chunks_are_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nContent-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n')")
        .fence("framing"),
    probe("NE25b", "chunks_and_a_length_are_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\nContent-Length: 40\\r\\n\\r\\n0\\r\\n\\r\\n')"),
    probe("NE25c", "two_encodings_are_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\nTransfer-Encoding: identity\\r\\n\\r\\n0\\r\\n\\r\\n')"),
    probe("NE25d", "an_unknown_encoding_is_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: xchunked\\r\\n\\r\\n0\\r\\n\\r\\n')"),
    probe("NE25e", "a_list_of_encodings_is_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: identity, chunked\\r\\n\\r\\n0\\r\\n\\r\\n')"),
    probe("NE25f", "two_lengths_are_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nContent-Length: 1\\r\\nContent-Length: 2\\r\\n\\r\\nab')"),
    probe("NE25g", "a_length_that_is_no_plain_number_is_refused", "each(*[raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nContent-Length: {n}\\r\\n\\r\\nab') for n in ('+2', '0x2', '2, 2', '-1', '2.0', '2 2')])"),
    probe("NE25h", "lines_that_end_in_a_bare_line_feed_are_refused", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\nHost: allowed.test\\n\\n')"),
    probe("NE25i", "a_bare_carriage_return_is_refused", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nX: a\\rb\\r\\n\\r\\n')"),
    probe("NE25j", "a_folded_header_is_refused", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nX: a\\r\\n b\\r\\n\\r\\n')"),
    probe("NE25k", "a_space_before_the_colon_is_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding : chunked\\r\\n\\r\\n0\\r\\n\\r\\n')"),
    probe("NE25l", "a_nul_in_a_header_is_refused", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nX: a\\0b\\r\\n\\r\\n')"),
    probe("NE25m", "chunks_in_an_old_version_are_refused", "raw('allowed.test', f'POST /{CANARY} HTTP/1.0\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n')"),
    probe("NE25n", "an_extended_chunk_does_not_get_out", "raw('allowed.test', f'POST / HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5;x={CANARY}\\r\\nhello\\r\\n0\\r\\n\\r\\n')"),
    probe("NE25o", "a_trailer_does_not_get_out", "raw('allowed.test', f'POST / HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\nX: {CANARY}\\r\\n\\r\\n')"),
    probe("NE25p", "a_chunk_of_an_odd_length_does_not_get_out", "each(*[raw('allowed.test', f'POST / HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n{n}\\r\\n{CANARY}\\r\\n0\\r\\n\\r\\n') for n in ('0x20', '+20', ' 20', '00000000000000000020')])"),
    probe("NE25q", "a_version_that_is_not_known_is_refused", "each(*[raw('allowed.test', f'GET /{CANARY} HTTP/{v}\\r\\nHost: allowed.test\\r\\n\\r\\n') for v in ('0.9', '1.2', '2.0', '1.1x')])"),
    probe("NE25r", "a_request_without_a_version_is_refused", "raw('allowed.test', f'GET /{CANARY}\\r\\n\\r\\n')"),
    probe("NE25s", "a_header_line_before_the_first_is_refused", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\n X: a\\r\\nHost: allowed.test\\r\\n\\r\\n')"),
    probe("NE25t", "a_head_without_an_end_does_not_get_out", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\n' + 'X: a\\r\\n' * 20000)"),
    probe("NE26a", "what_comes_before_an_upgrade_is_accepted_does_not_get_out", "raw('allowed.test', f'GET /status/200 HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\nGET /{CANARY} HTTP/1.1\\r\\nHost: {CANARY}.denied.test\\r\\n\\r\\n')"),
    probe("NE26b", "an_upgrade_to_http2_in_clear_is_refused", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n\\r\\n')"),
    probe("NE26c", "http2_in_clear_is_refused", "raw('allowed.test', two([('allowed.test', '/'+CANARY, [])], 'http'))"),
    probe("NE26d", "an_upgrade_to_something_else_is_refused", "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade\\r\\nUpgrade: tcp\\r\\n\\r\\n')"),
];

/// Other ways to the same end.
pub(crate) const DETOURS: &[Probe] = &[
    probe("NE27a", "a_tunnel_through_an_allowed_host_is_refused", "raw('allowed.test', f'CONNECT {CANARY}.denied.test:443 HTTP/1.1\\r\\nHost: {CANARY}.denied.test:443\\r\\n\\r\\n')"),
    probe("NE27b", "a_tunnel_to_the_allowed_host_itself_is_refused", "raw('allowed.test', f'CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test\\r\\nX: {CANARY}\\r\\n\\r\\n')"),
    probe("NE27c", "a_tunnel_to_an_address_is_refused", "raw('allowed.test', f'CONNECT 169.254.169.254:80 HTTP/1.1\\r\\nHost: allowed.test\\r\\nX: {CANARY}\\r\\n\\r\\n')"),
    probe("NE27d", "a_tunnel_inside_tls_is_refused", "within('bound.test', f'CONNECT {CANARY}.denied.test:443 HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')"),
    probe("NE27e", "what_follows_a_tunnel_s_request_at_once_does_not_get_out", "raw('allowed.test', f'CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n'.encode() + records(client_hello(CANARY+'.denied.test')))"),
    probe("NE28a", "a_proxy_of_the_environment_is_out_of_reach", "run(f'http_proxy=http://93.184.216.20:8080 curl -sS -m 3 http://allowed.test/{CANARY}')")
        .by(&[Canary, Packet("93.184.216.20")]),
    probe("NE28b", "a_socks_proxy_of_the_environment_is_out_of_reach", "run(f'ALL_PROXY=socks5h://93.184.216.20:1080 curl -sS -m 3 http://allowed.test/{CANARY}')")
        .by(&[Canary, Packet("93.184.216.20")]),
    probe("NE28c", "ignoring_every_proxy_leads_nowhere", "run(f'env -u http_proxy -u https_proxy -u ALL_PROXY NO_PROXY=* curl -sS -m 3 --noproxy \\\"*\\\" http://denied.test/{CANARY}')"),
    probe("NE28d", "another_source_port_and_interface_lead_nowhere", "each(*[run(f'curl -sS -m 3 --local-port {port} http://93.184.216.20/{CANARY}') for port in (53, 443)])")
        .as_root(),
    probe("NE29a", "a_socks_proxy_is_out_of_reach", "socks('93.184.216.20', 1080, CANARY+'.denied.test', 80)"),
    probe("NE29b", "a_socks_proxy_at_an_allowed_host_is_out_of_reach", "socks('allowed.test', 1080, CANARY+'.denied.test', 80)"),
    probe("NE29c", "the_gateway_is_no_socks_proxy", "socks('192.0.0.1', 1080, CANARY+'.denied.test', 80)"),
    probe("NE30a", "a_redirect_to_metadata_leads_nowhere", "get('http://allowed.test/redirect?to=http://169.254.169.254/')")
        .by(&[Metadata, Packet("169.254.169.254")]),
    probe("NE30b", "a_redirect_to_a_denied_host_leads_nowhere", "get('https://allowed.test/redirect?to=https://denied.test/')")
        .by(&[Packet("93.184.216.20")]),
    probe("NE30c", "a_redirect_to_a_private_network_leads_nowhere", "get('http://allowed.test/redirect?to=http://10.0.0.5/')")
        .by(&[Packet("10.0.0.5")]),
    probe("NE30d", "a_redirect_to_the_host_leads_nowhere", "get('http://allowed.test/redirect?to=http://127.0.0.1:7777/')")
        .by(&[crate::probe::Sign::HostService]),
    probe("NE30e", "a_lasting_redirect_is_judged_anew", "get('http://allowed.test/redirect?status=308&to=http://denied.test/', method='POST', data='x')")
        .control("get('http://allowed.test/redirect?status=307&to=http://denied.test/')")
        .by(&[Packet("93.184.216.20")]),
];
