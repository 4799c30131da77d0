//! The two namespaces of the test internet and the one cable between them.
//!
//! ```text
//!   NODE                                    NET
//!   courier serve, controls                 decoys, sniffer
//!   node0 93.184.217.2 ───────────────────▶ net0 93.184.217.1
//!   default routes via net0                 every address is its own; no way on
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::namespace::Namespace;

/// The node's own address: one that looks public, so that only a rule about the host itself can
/// keep a sandbox from it.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(93, 184, 217, 2);
/// The node's own IPv6 address.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x217, 0, 0, 0, 0, 2);
/// The node's next hop.
pub const NET_V4: Ipv4Addr = Ipv4Addr::new(93, 184, 217, 1);
/// The node's next IPv6 hop.
pub const NET_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x217, 0, 0, 0, 0, 1);
/// The next hop's link-local address.
const NET_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Hardware address of the node's end: what the sniffer tells the node's packets by.
pub const NODE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const NET_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// The node's end of the cable, and the internet's.
const NODE_LINK: &str = "node0";
const NET_LINK: &str = "net0";

/// Both namespaces, joined.
#[derive(Debug)]
pub struct Wiring {
    /// Where the node runs.
    pub node: Namespace,
    /// Where the decoys run.
    pub net: Namespace,
}

impl Wiring {
    /// Makes the namespaces and the cable. `resolvers` are addresses that NET owns by itself: an
    /// answer by UDP must come from the address that was asked.
    #[track_caller]
    #[must_use]
    pub fn make(resolvers: &[IpAddr]) -> Self {
        let wiring = Self { node: Namespace::new(), net: Namespace::new() };
        wiring.cable();
        wiring.make_node();
        wiring.make_net(resolvers);
        wiring.assert_no_way_out();
        wiring
    }

    fn cable(&self) {
        let net = self.net.path();
        let (node_mac, net_mac) = (mac(NODE_MAC), mac(NET_MAC));
        self.node.ip(&format!(
            "link add name {NODE_LINK} address {node_mac} type veth \
             peer name {NET_LINK} address {net_mac} netns {net}"
        ));
        for (namespace, link) in [(&self.node, NODE_LINK), (&self.net, NET_LINK)] {
            // No packet but those that somebody asked for: no address finding, no announcements.
            namespace.set(&format!("ipv6/conf/{link}/accept_dad"), "0");
            namespace.set(&format!("ipv6/conf/{link}/router_solicitations"), "0");
            namespace.ip(&format!("link set dev {link} addrgenmode none"));
            namespace.ip("link set dev lo up");
            namespace.ip(&format!("link set dev {link} up"));
        }
        let neighbours = [
            (&self.node, NODE_LINK, IpAddr::V4(NET_V4), NET_MAC),
            (&self.node, NODE_LINK, IpAddr::V6(NET_V6), NET_MAC),
            (&self.node, NODE_LINK, IpAddr::V6(NET_LINK_LOCAL), NET_MAC),
            (&self.net, NET_LINK, IpAddr::V4(NODE_V4), NODE_MAC),
            (&self.net, NET_LINK, IpAddr::V6(NODE_V6), NODE_MAC),
        ];
        for (namespace, link, address, hardware) in neighbours {
            let hardware = mac(hardware);
            namespace.ip(&format!("neigh replace {address} lladdr {hardware} dev {link}"));
        }
    }

    fn make_node(&self) {
        self.node.ip(&format!("addr add {NODE_V4}/24 dev {NODE_LINK}"));
        self.node.ip(&format!("addr add {NODE_V6}/64 dev {NODE_LINK}"));
        self.node.ip(&format!("-6 route add fe80::/64 dev {NODE_LINK}"));
        self.node.ip(&format!("route add default via {NET_V4}"));
        self.node.ip(&format!("-6 route add default via {NET_V6}"));
        // The controls send echo requests.
        self.node.set("ipv4/ping_group_range", "0 2147483647");
    }

    fn make_net(&self, resolvers: &[IpAddr]) {
        self.net.ip(&format!("addr add {NET_V4}/24 dev {NET_LINK}"));
        self.net.ip(&format!("addr add {NET_V6}/64 dev {NET_LINK}"));
        self.net.ip(&format!("addr add {NET_LINK_LOCAL}/64 dev {NET_LINK}"));
        for address in resolvers {
            self.net.ip(&format!("addr add {address} dev lo"));
        }
        // Every other address is here too, so that whatever is dialled answers. (Not in the table
        // of local addresses, which would hide the node.)
        self.net.ip("route add local 0.0.0.0/0 dev lo table main");
        self.net.ip("-6 route add local ::/0 dev lo table main");
        self.net.set("ipv4/ip_forward", "0");
        self.net.set("ipv6/conf/all/forwarding", "0");
    }

    /// Refuses to go on if anything could leave the two namespaces.
    #[track_caller]
    fn assert_no_way_out(&self) {
        for (namespace, link) in [(&self.node, NODE_LINK), (&self.net, NET_LINK)] {
            let links = namespace.ip("-oneline link show up");
            let names: Vec<&str> =
                links.lines().filter_map(|line| line.split([':', '@']).nth(1)).collect();
            let expected = ["lo".to_owned(), link.to_owned()];
            let found: Vec<String> = names.iter().map(|name| name.trim().to_owned()).collect();
            assert_eq!(found, expected, "the test internet must have no other way out");
        }
        for family in ["-4", "-6"] {
            let out = self.net.ip(&format!("{family} route show table all type unicast default"));
            assert_eq!(out, "", "the test internet must have no route out");
        }
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
