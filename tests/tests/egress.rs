//! A sandbox reaches nothing but what its policy says. Hostile programs run in a sandbox whose node
//! lives in the private test internet; whatever gets out is seen there, as a packet or by a decoy.
//! Each has a control: the same program without the fence gets out, or the probe is broken.
//!
//! `docs/egress-probes.md` says which entry of the catalogue each test is for.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

#[path = "egress/addresses.rs"]
mod addresses;
#[path = "egress/brokered.rs"]
mod brokered;
#[path = "egress/changes.rs"]
mod changes;
#[path = "egress/doors.rs"]
mod doors;
#[path = "egress/framing.rs"]
mod framing;
#[path = "egress/names.rs"]
mod names;
#[path = "egress/page.rs"]
mod page;
#[path = "egress/probe.rs"]
mod probe;
#[path = "egress/secrets.rs"]
mod secrets;
#[path = "egress/streams.rs"]
mod streams;
#[path = "egress/wire.rs"]
mod wire;
#[path = "egress/world.rs"]
mod world;

use std::process::ExitCode;

use courier_tests::suite::{self, Case, Test};

use crate::probe::Probe;
use crate::world::World;

/// The probes that are lines of a table.
const TABLES: &[&[Probe]] = &[
    addresses::PROTOCOLS,
    addresses::SERVICES,
    addresses::METADATA,
    addresses::HOST,
    names::QUESTIONS,
    names::REBINDING,
    names::CONFUSION,
    streams::HELLOS,
    streams::REQUESTS,
    framing::SMUGGLING,
    framing::DETOURS,
];

/// The tests that need more than one attempt.
const TESTS: &[&[Test<World>]] =
    &[page::TESTS, world::TESTS, changes::TESTS, secrets::TESTS, doors::TESTS, wire::TESTS];

fn main() -> ExitCode {
    let probes = TABLES
        .iter()
        .flat_map(|table| table.iter())
        .map(|probe| Case { name: probe.name, act: Box::new(|world: &World| world.hold(probe)) });
    let tests = TESTS.iter().flat_map(|tests| tests.iter()).map(Case::from);
    suite::run_cases(World::make, tests.chain(probes).collect())
}
