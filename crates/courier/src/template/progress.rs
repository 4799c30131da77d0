//! How far a build is, on a terminal as a bar, elsewhere as one line per step.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Resolution of the bar.
const WHOLE: u64 = 1_000;
/// The rate at which the bar's clock ticks while a step is silent.
const TICK: Duration = Duration::from_millis(200);
/// How many packages template `base` comes to, until apt has said it.
const EXPECTED_PACKAGES: u64 = 560;
/// What happens to each package, and is counted: fetched, unpacked, set up.
const STATIONS: u64 = 3;

/// A part of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildStep {
    /// The Debian packages are fetched and installed.
    Packages,
    /// Files and users are put in place.
    Provision,
    /// The image is written.
    Image,
}

impl BuildStep {
    /// What people read.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Packages => "installing packages",
            Self::Provision => "setting up",
            Self::Image => "writing the image",
        }
    }

    /// First and last thousandth, of a whole build: in proportion to the time that each takes.
    const fn span(self) -> (u64, u64) {
        match self {
            Self::Packages => (0, 880),
            Self::Provision => (880, 910),
            Self::Image => (910, WHOLE),
        }
    }
}

/// The progress of one build.
#[derive(Debug)]
pub(crate) struct Progress {
    name: String,
    bar: ProgressBar,
    step: Option<BuildStep>,
    packages: PackageCount,
}

impl Progress {
    /// Nothing is shown before the first step.
    pub(crate) fn new(name: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(WHOLE)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template(
            "template {prefix}  [{bar:30}] {percent:>3}%  {elapsed}  {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_invalid| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        Self { name: name.to_owned(), bar, step: None, packages: PackageCount::default() }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, step: BuildStep) {
        if self.step.is_none() {
            self.bar.enable_steady_tick(TICK);
        }
        self.step = Some(step);
        self.bar.set_message(step.title());
        if self.bar.is_hidden() {
            eprintln!("template {}: {}", self.name, step.title());
        }
        self.at(0, 1);
    }

    /// The step has come so far.
    pub(crate) fn at(&self, done: u64, all: u64) {
        let (first, last) = self.step.map_or((0, 0), BuildStep::span);
        let part = (last - first).saturating_mul(done.min(all)) / all.max(1);
        self.bar.set_position(first + part);
    }

    /// A line of what installs packages.
    pub(crate) fn package_line(&mut self, line: &str) {
        if let Some(message) = self.packages.read(line) {
            self.bar.set_message(message);
        }
        self.at(self.packages.done, self.packages.all());
    }

    /// The end, good or bad: the bar goes.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Counts what apt and dpkg say that they do.
#[derive(Debug, Default)]
struct PackageCount {
    announced: u64,
    done: u64,
    is_fetching: bool,
}

impl PackageCount {
    fn all(&self) -> u64 {
        self.announced.max(EXPECTED_PACKAGES) * STATIONS
    }

    /// Returns what people should read now, where that changed.
    fn read(&mut self, line: &str) -> Option<String> {
        let mut words = line.split_whitespace();
        match words.next()? {
            // The package lists are fetched before the first announcement and are not counted.
            "Get:1" | "Fetched" => self.is_fetching = self.announced > 0,
            _ => {}
        }
        if let Some(count) = newly_installed(line) {
            self.announced += count;
            self.is_fetching = true;
        }
        let verb = match line {
            _ if line.starts_with("Get:") && self.is_fetching => "fetching",
            _ if line.starts_with("Unpacking ") => "unpacking",
            _ if line.starts_with("Setting up ") => "configuring",
            _ => return None,
        };
        self.done = (self.done + 1).min(self.all());
        let package = match verb {
            "fetching" => line.split_whitespace().nth(4),
            "unpacking" => line.split_whitespace().nth(1),
            _ => line.split_whitespace().nth(2),
        };
        Some(format!("{verb} {}", package?))
    }
}

/// `0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.`
fn newly_installed(line: &str) -> Option<u64> {
    let (before, _after) = line.split_once(" newly installed,")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_counted_at_each_station_once_apt_has_announced_them() {
        let mut count = PackageCount::default();
        assert_eq!(count.read("Get:1 http://m.example/debian bookworm InRelease [151 kB]"), None);
        count.read("0 upgraded, 700 newly installed, 0 to remove and 0 not upgraded.");
        assert_eq!(count.all(), 2_100);
        let lines = [
            "Get:1 http://m.example/debian bookworm/main amd64 zip amd64 3.0 [1 kB]",
            "Unpacking zip (3.0) ...",
            "Setting up zip (3.0) ...",
        ];
        let messages: Vec<_> = lines.iter().filter_map(|line| count.read(line)).collect();
        assert_eq!(messages, ["fetching zip", "unpacking zip", "configuring zip"]);
        assert_eq!(count.done, 3);
    }

    #[test]
    fn the_steps_follow_each_other_without_a_gap() {
        let steps = [BuildStep::Packages, BuildStep::Provision, BuildStep::Image];
        let mut end = 0;
        for step in steps {
            assert_eq!(step.span().0, end);
            end = step.span().1;
        }
        assert_eq!(end, WHOLE);
    }
}
