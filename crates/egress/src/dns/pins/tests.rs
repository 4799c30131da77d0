use tokio::time::advance;

use super::*;

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(20, 0, 0, 0).to_bits() + n)
}

fn names_of(pins: &Pins, address: Ipv4Addr) -> Vec<String> {
    let pinned = pins.names(address);
    pinned.map_or_else(Vec::new, |(_, names)| names.iter().map(ToString::to_string).collect())
}

#[tokio::test(start_paused = true)]
async fn an_address_has_the_names_that_it_was_given_out_for_and_no_others() {
    let pins = Pins::default();
    pins.pin(&name("a.test"), &[address(1), address(2)], Duration::ZERO);
    pins.pin(&name("b.test"), &[address(2)], Duration::ZERO);
    pins.pin(&name("a.test"), &[address(2)], Duration::ZERO);
    assert_eq!(names_of(&pins, address(1)), ["a.test"]);
    assert_eq!(names_of(&pins, address(2)), ["a.test", "b.test"]);
    assert_eq!(pins.names(address(3)), None);
}

#[tokio::test(start_paused = true)]
async fn a_pin_outlives_its_ttl_and_ends() {
    let pins = Pins::default();
    pins.pin(&name("short.test"), &[address(1)], Duration::ZERO);
    pins.pin(&name("long.test"), &[address(1)], Duration::from_hours(48));
    advance(LIFE_MIN - Duration::from_secs(1)).await;
    assert_eq!(names_of(&pins, address(1)), ["long.test", "short.test"]);
    advance(Duration::from_secs(2)).await;
    assert_eq!(names_of(&pins, address(1)), ["long.test"]);
    advance(LIFE_MAX).await;
    assert_eq!(pins.names(address(1)), None);
}

#[tokio::test(start_paused = true)]
async fn addresses_and_names_are_bounded_and_the_unused_go_first() {
    let pins = Pins::default();
    let max = u32::try_from(ADDRESSES_MAX.get()).unwrap();
    for n in 0..max {
        pins.pin(&name("a.test"), &[address(n)], Duration::ZERO);
    }
    assert_eq!(names_of(&pins, address(0)), ["a.test"]);
    pins.pin(&name("a.test"), &[address(max)], Duration::ZERO);
    assert_eq!(names_of(&pins, address(0)), ["a.test"], "it was in use");
    assert_eq!(pins.names(address(1)), None, "it was not");
    for n in 0..NAMES_MAX + 1 {
        pins.pin(&name(&format!("n{n}.test")), &[address(0)], Duration::ZERO);
    }
    let names = names_of(&pins, address(0));
    assert_eq!(names.len(), NAMES_MAX);
    assert_eq!(names[0], format!("n{NAMES_MAX}.test"));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_keeps_its_address_whatever_else_is_pinned() {
    let pins = Pins::default();
    let tunnel: TunnelName = "db".parse().unwrap();
    let host = name("db.tunnel.internal");
    let pinned = pins.pin_tunnel(tunnel.clone(), host.clone());
    for n in 0..10_000 {
        pins.pin_refused(name(&format!("n{n}.test")));
        pins.pin(&name("a.test"), &[address(n)], Duration::ZERO);
    }
    advance(LIFE_MAX * 2).await;
    assert_eq!(pins.names(pinned), Some((Pinned::Tunnel(tunnel.clone()), vec![host.clone()])));
    assert_eq!(pins.pin_tunnel(tunnel, host), pinned);
    assert_eq!(pinned.octets()[..3], [198, 18, 0]);
}

#[tokio::test(start_paused = true)]
async fn refused_names_have_an_address_each_and_the_unused_lose_theirs() {
    let pins = Pins::default();
    let max = LEARN_MAX.get();
    let given: Vec<Ipv4Addr> =
        (0..max).map(|n| pins.pin_refused(name(&format!("n{n}.test")))).collect();
    let distinct: std::collections::HashSet<_> = given.iter().collect();
    assert_eq!(distinct.len(), max);
    assert!(given.iter().all(|address| address.octets()[..2] == [198, 19]));
    assert_eq!(pins.names(given[0]), Some((Pinned::Learn, vec![name("n0.test")])));
    let next = pins.pin_refused(name("next.test"));
    assert_eq!(next, given[1], "the first was in use");
    assert_eq!(names_of(&pins, next), ["next.test"]);
    assert_eq!(pins.pin_refused(name("n0.test")), given[0]);
}
