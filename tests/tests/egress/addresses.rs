//! Below names: addresses, protocols and services that a sandbox may not reach.

use crate::probe::Sign::{Answer, Canary, HostService, Metadata, Packet};
use crate::probe::{Probe, probe};

/// Both: the bytes got out, and somebody answered.
const TALK: &[crate::probe::Sign] = &[Canary, Answer];

/// Ways past TCP over IPv4.
pub(crate) const PROTOCOLS: &[Probe] = &[
    probe("NE02a", "an_ipv6_address_is_out_of_reach", "dial('2606:2800::5', 80)").by(TALK),
    probe(
        "NE02b",
        "an_ipv4_address_written_as_ipv6_is_the_ipv4_address",
        "dial('::ffff:93.184.216.20', 80, family=6)",
    )
    .by(TALK),
    probe("NE02c", "a_nat64_address_is_out_of_reach", "dial('64:ff9b::5db8:d814', 80)").by(TALK),
    probe("NE02d", "a_6to4_address_is_out_of_reach", "dial('2002:5db8:d814::1', 80)").by(TALK),
    probe("NE02e", "a_teredo_address_is_out_of_reach", "dial('2001:0:5db8:d814::1', 80)").by(TALK),
    probe(
        "NE02f",
        "a_link_local_ipv6_address_is_out_of_reach",
        "dial('fe80::1', 80, family=6, scope=True)",
    )
    .by(TALK),
    probe("NE02g", "a_unique_local_ipv6_address_is_out_of_reach", "dial('fd00::5', 80)").by(TALK),
    probe("NE02h", "a_datagram_over_ipv6_goes_nowhere", "udp('2606:2800::5', 443, family=6)"),
    probe("NE04a", "an_echo_request_goes_nowhere", "icmp('93.184.216.20')").by(TALK),
    probe("NE04b", "an_echo_request_over_ipv6_goes_nowhere", "icmp('2606:2800::5', family=6)")
        .by(TALK),
    probe("NE04c", "root_cannot_send_raw_icmp", "icmp('93.184.216.20', raw=True)")
        .by(TALK)
        .as_root(),
    probe("NE04d", "a_traceroute_by_icmp_learns_nothing", "icmp('93.184.216.20', ttl=3)").by(TALK),
    probe("NE04e", "a_traceroute_by_udp_learns_nothing", "udp('93.184.216.20', 33434, ttl=3)"),
    probe("NE04f", "an_echo_request_to_an_allowed_host_goes_nowhere", "icmp('93.184.216.10')")
        .by(TALK)
        .on_the_internet(),
    probe("NX01a", "a_datagram_to_a_denied_host_goes_nowhere", "udp('93.184.216.20', 9000)"),
    probe("NX01b", "quic_to_an_allowed_host_goes_nowhere", "udp('93.184.216.10', 443)"),
    probe("NX01c", "quic_goes_nowhere_on_the_internet", "udp('93.184.216.10', 443)")
        .on_the_internet(),
    probe("NX01d", "a_time_server_is_out_of_reach", "udp('93.184.216.20', 123)").on_the_internet(),
    probe("NX01e", "root_cannot_send_other_ip_protocols", "raw_packet('93.184.216.20', 47)")
        .as_root(),
    probe("NX02a", "a_denied_address_is_out_of_reach", "dial('93.184.216.20', 80)")
        .by(&[Canary, Answer, Packet("93.184.216.20")])
        .fence("policy"),
    probe(
        "NX02b",
        "a_denied_address_is_out_of_reach_by_tls",
        "hello('denied.test', address='93.184.216.20')",
    )
    .by(&[Answer, Packet("93.184.216.20")])
    .fence("policy"),
    probe(
        "NX02c",
        "a_denied_address_is_out_of_reach_on_other_ports",
        "dial('93.184.216.20', 9000)",
    )
    .by(TALK),
    probe(
        "NX02d",
        "an_allowed_host_is_out_of_reach_on_other_ports",
        "raw('allowed.test', CANARY, 9000)",
    )
    .by(TALK),
    probe(
        "NX02e",
        "an_allowed_host_is_out_of_reach_on_a_port_of_the_web",
        "raw('allowed.test', None, 8080)",
    )
    .by(TALK),
];

/// Resolvers and everything that finds neighbours.
pub(crate) const SERVICES: &[Probe] = &[
    probe(
        "NE11a",
        "another_resolver_is_out_of_reach_over_udp",
        "dns(CANARY+'.denied.test', server='8.8.8.8')",
    )
    .by(TALK),
    probe(
        "NE11b",
        "another_resolver_is_out_of_reach_over_tcp",
        "dns(CANARY+'.denied.test', server='8.8.8.8', tcp=True)",
    )
    .by(TALK),
    probe(
        "NE11c",
        "the_node_s_own_resolver_is_out_of_reach",
        "dns(CANARY+'.denied.test', server='93.184.216.53')",
    )
    .by(TALK),
    probe(
        "NE11d",
        "another_resolver_is_out_of_reach_over_ipv6",
        "dns(CANARY+'.denied.test', server='2001:4860:4860::8888')",
    )
    .by(TALK),
    probe(
        "NE11e",
        "dns_over_tls_is_out_of_reach",
        "hello(CANARY+'.denied.test', port=853, address='1.1.1.1')",
    )
    .by(TALK),
    probe(
        "NE11f",
        "dns_over_tls_is_out_of_reach_at_an_allowed_host",
        "hello(CANARY+'.denied.test', 'allowed.test', port=853)",
    )
    .by(TALK),
    probe("NE11g", "dns_over_quic_is_out_of_reach", "udp('1.1.1.1', 853)"),
    probe(
        "NE11h",
        "dns_over_https_at_an_address_is_out_of_reach",
        "hello(CANARY+'.denied.test', address='1.1.1.1')",
    )
    .by(TALK),
    probe(
        "NE11i",
        "dns_over_https_at_a_denied_name_is_out_of_reach",
        "get('https://doh.test/dns-query?dns='+CANARY)",
    )
    .by(TALK),
    probe(
        "NE11j",
        "another_resolver_is_out_of_reach_on_the_internet_too",
        "dns(CANARY+'.denied.test', server='8.8.8.8')",
    )
    .by(TALK)
    .on_the_internet(),
    probe("NE13a", "multicast_dns_goes_nowhere", "udp('224.0.0.251', 5353, ttl=9)"),
    probe("NE13b", "llmnr_goes_nowhere", "udp('224.0.0.252', 5355, ttl=9)"),
    probe("NE13c", "ssdp_goes_nowhere", "udp('239.255.255.250', 1900, ttl=9)"),
    probe("NE13d", "a_broadcast_goes_nowhere", "udp('255.255.255.255', 137, broadcast=True)"),
    probe(
        "NE13e",
        "a_broadcast_of_a_subnet_goes_nowhere",
        "udp('93.184.217.255', 137, broadcast=True)",
    ),
    probe("NE13f", "multicast_over_ipv6_goes_nowhere", "multicast6('ff02::fb', 5353)"),
    probe("NE13g", "multicast_to_all_nodes_goes_nowhere", "multicast6('ff02::1', 9)"),
    probe("NE13h", "multicast_goes_nowhere_on_the_internet", "udp('224.0.0.251', 5353, ttl=9)")
        .on_the_internet(),
];

/// What only metadata services tell.
const TOLD: &[crate::probe::Sign] = &[Metadata, Packet("169.254.169.254")];

/// Metadata services: never, even where the whole internet is allowed.
pub(crate) const METADATA: &[Probe] = &[
    probe("NE31a", "the_metadata_service_is_out_of_reach", "dial('169.254.169.254', 80)")
        .by(TOLD)
        .on_the_internet()
        .fence("address"),
    probe("NE31b", "the_metadata_service_is_out_of_reach_over_ipv6", "dial('fd00:ec2::254', 80)")
        .by(&[Metadata, Packet("fd00:ec2::254")])
        .on_the_internet(),
    probe(
        "NE31c",
        "the_metadata_service_is_out_of_reach_as_a_number",
        "run('curl -sS -m 3 http://2852039166/')",
    )
    .by(TOLD)
    .on_the_internet(),
    probe(
        "NE31d",
        "the_metadata_service_is_out_of_reach_in_hexadecimal",
        "run('curl -sS -m 3 http://0xA9FEA9FE/')",
    )
    .by(TOLD)
    .on_the_internet(),
    probe(
        "NE31e",
        "the_metadata_service_is_out_of_reach_in_octal",
        "run('curl -sS -m 3 http://0251.0376.0251.0376/')",
    )
    .by(TOLD)
    .on_the_internet(),
    probe(
        "NE31f",
        "the_metadata_service_is_out_of_reach_in_short",
        "run('curl -sS -m 3 http://169.254.43518/')",
    )
    .by(TOLD)
    .on_the_internet(),
    probe(
        "NE31g",
        "the_metadata_service_is_out_of_reach_by_its_name",
        "get('http://metadata.google.internal/computeMetadata/v1/', {'Metadata-Flavor': 'Google'})",
    )
    .by(TOLD)
    .on_the_internet(),
    probe(
        "NE31h",
        "the_metadata_service_is_out_of_reach_for_an_allowed_name",
        "get('http://metadata.rebind.test/')",
    )
    .by(TOLD),
    probe("NE31i", "a_cloud_s_wire_server_is_out_of_reach", "dial('168.63.129.16', 80)")
        .by(&[Canary, Packet("168.63.129.16")])
        .on_the_internet(),
    probe("NE31j", "a_metadata_service_elsewhere_is_out_of_reach", "dial('100.100.100.200', 80)")
        .by(&[Canary, Packet("100.100.100.200")])
        .on_the_internet(),
    probe("NE31k", "the_task_metadata_service_is_out_of_reach", "dial('169.254.170.2', 80)")
        .by(&[Canary, Packet("169.254.170.2")])
        .on_the_internet(),
    probe("NE31l", "a_link_local_address_is_out_of_reach", "dial('169.254.7.7', 80)")
        .by(&[Canary, Packet("169.254.7.7")])
        .on_the_internet(),
];

/// The host, and networks behind it.
pub(crate) const HOST: &[Probe] = &[
    probe("NE32a", "the_host_s_own_address_is_out_of_reach", "dial('93.184.217.2', 7777)")
        .by(&[HostService, Answer])
        .on_the_internet()
        .fence("address"),
    probe("NE32b", "the_host_s_loopback_is_not_the_sandbox_s", "dial('127.0.0.1', 7777)")
        .by(&[HostService, Answer])
        .on_the_internet(),
    probe("NE32c", "the_host_s_ipv6_loopback_is_not_the_sandbox_s", "dial('::1', 7777)")
        .by(&[HostService, Answer])
        .on_the_internet(),
    probe("NE32d", "the_unspecified_address_is_not_the_host_s", "dial('0.0.0.0', 7777)")
        .by(&[HostService, Answer])
        .on_the_internet(),
    probe("NE32e", "no_port_of_the_gateway_is_open", "scan('192.0.0.1', range(1, 65536))")
        .control("scan('93.184.217.2', [7777])")
        .by(&[Answer]),
    probe("NE32f", "no_port_of_the_host_is_open", "scan('93.184.217.2', range(1, 10000))")
        .by(&[Answer])
        .on_the_internet(),
    probe("NE32g", "the_node_s_next_hop_is_refused_by_the_policy", "dial('93.184.217.1', 80)")
        .by(TALK),
    probe(
        "NE33a",
        "the_addresses_of_a_user_mode_network_are_out_of_reach",
        "each(*[dial(f'10.0.2.{n}', 80) for n in (2, 3, 4)])",
    )
    .by(&[Canary, Packet("10.0.2.2"), Packet("10.0.2.3"), Packet("10.0.2.4")])
    .on_the_internet(),
    probe("NE33b", "there_is_no_tftp", "udp('10.0.2.2', 69)").on_the_internet(),
    probe("NX03a", "a_private_network_is_out_of_reach_10", "dial('10.0.0.5', 80)")
        .by(&[Canary, Packet("10.0.0.5")])
        .on_the_internet(),
    probe("NX03b", "a_private_network_is_out_of_reach_172", "dial('172.16.0.1', 80)")
        .by(&[Canary, Packet("172.16.0.1")])
        .on_the_internet(),
    probe("NX03c", "a_private_network_is_out_of_reach_192", "dial('192.168.1.1', 80)")
        .by(&[Canary, Packet("192.168.1.1")])
        .on_the_internet(),
    probe("NX03d", "a_carrier_s_network_is_out_of_reach", "dial('100.64.0.1', 80)")
        .by(&[Canary, Packet("100.64.0.1")])
        .on_the_internet(),
    probe("NX03e", "the_network_of_benchmarks_is_out_of_reach", "dial('198.18.0.9', 80)")
        .by(&[Canary, Packet("198.18.0.9")])
        .on_the_internet(),
    probe(
        "NE42a",
        "root_with_another_address_gets_no_further",
        "with_address('93.184.216.99', lambda: dial('93.184.216.20', 80))",
    )
    .control("dial('93.184.216.20', 80)")
    .by(TALK)
    .as_root(),
    probe(
        "NE42b",
        "root_cannot_send_from_another_address",
        "udp('93.184.216.20', 9000, source='93.184.216.99')",
    )
    .control("udp('93.184.216.20', 9000)")
    .as_root(),
    probe(
        "NE42c",
        "root_gets_no_further_with_other_routes",
        "each(run('ip route replace default via 192.0.0.3; ip route add 93.184.216.20 dev eth0; \
         ip route flush cache; ip link set eth0 promisc on; nft flush ruleset; iptables -F'), \
         dial('93.184.216.20', 80), run('ip route replace default via 192.0.0.1'))",
    )
    .control("dial('93.184.216.20', 80)")
    .as_root(),
];
