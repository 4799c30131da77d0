use super::*;

fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn refusal(reach: &Reach, address: &str) -> Option<&'static str> {
    match reach.check(address.parse().unwrap()) {
        Ok(()) => None,
        Err(ReachError::Never { .. }) => Some("never"),
        Err(ReachError::Host { .. }) => Some("host"),
        Err(ReachError::Private { .. }) => Some("private"),
        Err(ReachError::Unknown { .. }) => Some("unknown"),
    }
}

#[test]
fn special_addresses_are_out_of_reach_and_public_ones_are_not() {
    let reach = Reach::default();
    for (address, refused) in [
        ("0.0.0.0", Some("never")),
        ("0.255.255.255", Some("never")),
        ("127.0.0.1", Some("never")),
        ("127.255.255.254", Some("never")),
        ("169.254.169.254", Some("never")),
        ("169.254.170.2", Some("never")),
        ("192.0.0.1", Some("never")),
        ("192.0.0.192", Some("never")),
        ("198.18.0.1", Some("never")),
        ("198.19.255.255", Some("never")),
        ("224.0.0.251", Some("never")),
        ("239.255.255.250", Some("never")),
        ("240.0.0.1", Some("never")),
        ("255.255.255.255", Some("never")),
        ("100.100.100.200", Some("never")),
        ("168.63.129.16", Some("never")),
        ("10.0.0.1", Some("private")),
        ("172.16.0.1", Some("private")),
        ("172.31.255.255", Some("private")),
        ("192.168.255.255", Some("private")),
        ("100.64.0.1", Some("private")),
        ("100.127.255.255", Some("private")),
        ("1.0.0.0", None),
        ("126.255.255.255", None),
        ("172.15.255.255", None),
        ("172.32.0.1", None),
        ("192.0.1.1", None),
        ("198.17.255.255", None),
        ("198.20.0.1", None),
        ("100.63.255.255", None),
        ("100.128.0.1", None),
        ("203.0.113.1", None),
    ] {
        assert_eq!(refusal(&reach, address), refused, "{address}");
    }
}

#[test]
fn a_permitted_range_opens_itself_and_no_metadata_service_in_it() {
    let reach = Reach::new(nets(&["10.1.0.0/16", "100.64.0.0/10"])).unwrap();
    for (address, refused) in [
        ("10.1.2.3", None),
        ("10.2.0.1", Some("private")),
        ("100.64.0.1", None),
        ("100.100.100.200", Some("never")),
        ("192.168.0.1", Some("private")),
    ] {
        assert_eq!(refusal(&reach, address), refused, "{address}");
    }
}

#[test]
fn what_touches_the_unreachable_cannot_be_permitted() {
    for range in [
        "0.0.0.0/0",
        "0.0.0.0/8",
        "127.0.0.1/32",
        "126.0.0.0/7",
        "169.254.169.254/32",
        "168.0.0.0/6",
        "224.0.0.0/8",
        "192.0.0.0/2",
        "255.255.255.255/32",
    ] {
        assert!(Reach::new(nets(&["10.0.0.0/8", range])).is_err(), "{range}");
    }
    let message = Reach::new(nets(&["126.0.0.0/7"])).unwrap_err().to_string();
    assert_eq!(
        message,
        "126.0.0.0/7 cannot be permitted: it touches 127.0.0.0/8, which is never reachable"
    );
}

#[test]
fn a_host_of_the_nodes_configuration_opens_private_addresses_at_its_port_only() {
    let name: HostName = "mirror.test".parse().unwrap();
    let other: HostName = "other.test".parse().unwrap();
    let reach = Reach::default().with_hosts(vec![(name.clone(), 443)]);
    let to = |address: &str, port| SocketAddrV4::new(address.parse().unwrap(), port);
    assert!(reach.check_dialled(to("10.0.0.1", 443), Some(&name)).is_ok());
    assert!(reach.check_dialled(to("10.0.0.1", 22), Some(&name)).is_err());
    assert!(reach.check_dialled(to("10.0.0.1", 443), Some(&other)).is_err());
    assert!(reach.check_dialled(to("10.0.0.1", 443), None).is_err());
    assert!(reach.check_dialled(to("169.254.169.254", 443), Some(&name)).is_err());
    assert!(reach.check_named("10.0.0.1".parse().unwrap(), &name).is_ok());
    assert!(reach.check_named("10.0.0.1".parse().unwrap(), &other).is_err());
    assert!(reach.check("10.0.0.1".parse().unwrap()).is_err());
}

#[test]
fn addresses_of_the_host_are_known_by_asking_the_system() {
    assert!(is_of_the_host(Ipv4Addr::LOCALHOST).unwrap());
    assert!(is_of_the_host(Ipv4Addr::new(127, 1, 2, 3)).unwrap());
    assert!(!is_of_the_host(Ipv4Addr::new(203, 0, 113, 77)).unwrap());
}
