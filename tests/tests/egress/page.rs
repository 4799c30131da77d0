//! The page that says which entry of the catalogue each test is for.

use std::collections::BTreeMap;

use courier_tests::suite::Test;
use courier_tests::tests;

use crate::world::World;
use crate::{TABLES, TESTS as ALL};

/// The groups of the catalogue that are about networks, secrets and the API.
const GROUPS: [&str; 3] = ["NE", "SC", "AP"];

pub(crate) const TESTS: &[Test<World>] = tests![
    the_page_names_every_probe_and_every_test,
    the_page_answers_every_entry_of_the_catalogue,
    the_suite_has_the_promised_number_of_network_probes,
];

/// The lines of the page's tables, by their first cell.
fn rows(world: &World) -> BTreeMap<String, String> {
    let sources = &world.server.environment.sources;
    let page = sources.join("../docs/egress-probes.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    cells.map(|(id, rest)| (id.to_owned(), rest.to_owned())).collect()
}

/// The entry of the catalogue that a probe is a variant of: its id without the letter.
fn entry(id: &str) -> &str {
    id.trim_end_matches(|c: char| c.is_ascii_lowercase())
}

fn the_page_names_every_probe_and_every_test(world: &World) {
    let rows = rows(world);
    for probe in TABLES.iter().flat_map(|table| table.iter()) {
        let row = rows.get(entry(probe.id)).map_or("", String::as_str);
        assert!(row.contains(&format!("`{}`", probe.name)), "{}: {}", probe.id, probe.name);
    }
    for (path, _test) in ALL.iter().flat_map(|tests| tests.iter()) {
        let name = path.rsplit("::").next().expect("a name has a last part");
        assert!(rows.values().any(|row| row.contains(&format!("`{name}`"))), "{name}");
    }
}

/// Where the catalogue is at hand (`COURIER_PROBES`), nothing of it may be forgotten. It is no part
/// of the sources: without it this test can only say so.
fn the_page_answers_every_entry_of_the_catalogue(world: &World) {
    let Some(catalogue) = &world.server.environment.probes else {
        eprintln!("COURIER_PROBES names no catalogue: its entries are not compared");
        return;
    };
    let rows = rows(world);
    let catalogue = std::fs::read_to_string(catalogue).expect("COURIER_PROBES can be read");
    let mut compared = 0;
    for line in catalogue.lines() {
        let mut cells = line.split(',');
        let (Some(group), Some(id)) = (cells.next(), cells.next()) else { continue };
        if GROUPS.contains(&group) {
            assert!(rows.contains_key(id), "no line for {id}");
            compared += 1;
        }
    }
    assert!(compared > 0, "COURIER_PROBES has none of the groups {GROUPS:?}");
}

fn the_suite_has_the_promised_number_of_network_probes(_world: &World) {
    let probes = TABLES.iter().map(|table| table.len()).sum::<usize>();
    assert!(probes >= 75, "{probes}");
    let names: std::collections::BTreeSet<&str> =
        TABLES.iter().flat_map(|table| table.iter()).map(|probe| probe.id).collect();
    assert_eq!(names.len(), probes, "each probe has an id of its own");
}
