//! `courier bench egress`: what the way out of a sandbox costs, beside bare runsc on a network that
//! the kernel routes.
//!
//! Everything runs in a network namespace that ends with us: this process starts itself again in
//! one. The same program measures in both kinds of sandboxes, in turns, each turn in a fresh one.

mod decisions;
mod inside;
mod internet;
mod namespace;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use courier_types::egress::Policy;
use indicatif::ProgressBar;
use serde_json::json;

use self::inside::{DEADLINE, GO, Job, Order, PYTHON, Phases, Running};
use self::internet::{Internet, OPENED, PASSED, RAW, RAW_PORT, RESOLVER};
use super::floor::Floor;
use super::samples::{Results, Samples};
use super::service::{Measured, Service};
use super::{Args, TURN, WARM_UP, memory, unless_interrupted};
use crate::config::{Config, TEMPLATE};
use crate::template;

/// Small requests of one turn: they are short beside the start of a sandbox.
const REQUESTS: u32 = 5 * TURN;
/// Bytes of a small answer.
const SMALL_BYTES: u64 = 64;
/// Large downloads of one turn.
const DOWNLOADS: u32 = 2;
/// Bytes of a large download.
const LARGE_BYTES: u64 = 256 << 20;
/// Connections of one sandbox that are held open at once.
const HELD: u32 = 500;

/// One kind of request, and the way that it takes in our sandboxes.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    host: &'static str,
    port: u16,
    tls: bool,
}

const PASSED_TLS: Way = Way { name: "HTTPS, unopened", host: PASSED, port: 443, tls: true };
const OPENED_TLS: Way = Way { name: "HTTPS, opened", host: OPENED, port: 443, tls: true };
const HTTP: Way = Way { name: "HTTP", host: PASSED, port: 80, tls: false };
const TCP: Way = Way { name: "HTTP as any bytes", host: RAW, port: RAW_PORT, tls: false };
/// In the order in which they are measured and told; the floor has two of them.
const WAYS: [Way; 4] = [PASSED_TLS, OPENED_TLS, HTTP, TCP];
const FLOORS: [Way; 2] = [PASSED_TLS, HTTP];

impl Way {
    const fn first(self, runs: u32) -> Job {
        self.job(SMALL_BYTES, runs)
    }

    const fn download(self) -> Job {
        self.job(LARGE_BYTES, DOWNLOADS)
    }

    const fn job(self, bytes: u64, runs: u32) -> Job {
        Job { host: self.host, port: self.port, tls: self.tls, bytes, runs, hold: 0 }
    }

    const fn floor(self) -> &'static str {
        if self.tls { "HTTPS, bare runsc" } else { "HTTP, bare runsc" }
    }
}

/// The policy of the measured sandboxes.
fn policy() -> anyhow::Result<Policy> {
    Ok(serde_json::from_value(json!({"rules": [
        {"allow": PASSED},
        {"allow": OPENED, "methods": ["GET"], "paths": ["/bytes/*"]},
        {"allow": RAW, "ports": [RAW_PORT], "protocols": ["tcp"]},
    ]}))?)
}

/// Measures what can be measured here, and says what cannot.
pub(super) async fn measure(args: &Args, config: &Config) -> anyhow::Result<Results> {
    if !rustix::process::geteuid().is_root() {
        let mut results = Results::new("no sandbox".to_owned())?;
        decisions::measure(args.runs, &mut results)?;
        results.remarks.push(
            "only decisions were measured: the other parts need root, for network namespaces and \
             runsc itself: run `sudo courier bench egress`"
                .to_owned(),
        );
        return Ok(results);
    }
    let template = template::ensure(config, TEMPLATE).await?;
    if !args.cut_off {
        return Err(start_cut_off());
    }
    let floor = Floor::new(template.image(&config.templates))?;
    let internet = Internet::start().context("the bench's own network cannot be made")?;
    let service = Service::start(config, &serve_arguments(&internet)).await?;
    let turns = args.runs.div_ceil(TURN);
    let bar = ProgressBar::new(u64::from(turns) + 2);
    let bench = Bench { service, floor, internet, turns, bar };
    let measured = unless_interrupted(bench.measure(args.runs)).await;
    bench.bar.finish_and_clear();
    let stopped = bench.service.stop().await;
    let results = measured?;
    stopped.context("the measured server was not ended cleanly")?;
    Ok(results)
}

/// Becomes the same program in a new network namespace; returns only when that fails.
fn start_cut_off() -> anyhow::Error {
    let binary = match std::env::current_exe() {
        Ok(binary) => binary,
        Err(error) => return error.into(),
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(binary).args(std::env::args_os().skip(1)).arg("--cut-off");
    let error = command.exec();
    anyhow::Error::new(error).context("unshare (package util-linux) cannot be started")
}

fn serve_arguments(internet: &Internet) -> Vec<OsString> {
    vec![
        "--egress-resolver".into(),
        RESOLVER.to_string().into(),
        "--egress-ca".into(),
        internet.ca_file.clone().into(),
    ]
}

/// A bench under way.
struct Bench {
    service: Service,
    floor: Floor,
    internet: Internet,
    turns: u32,
    bar: ProgressBar,
}

/// What one way took, in all turns.
#[derive(Debug, Default)]
struct Times {
    requests: Vec<Phases>,
    downloads: Samples,
    /// Processor time of the server in all downloads.
    server: Duration,
}

impl Times {
    fn add_requests(&mut self, runs: Vec<Phases>) {
        self.requests.extend(runs.into_iter().skip(usize::try_from(WARM_UP).unwrap_or_default()));
    }

    fn add_downloads(&mut self, runs: Vec<Phases>) {
        runs.into_iter().for_each(|run| self.downloads.add(run.whole()));
    }

    fn samples(&self, time: impl Fn(&Phases) -> Duration) -> Samples {
        let mut samples = Samples::default();
        self.requests.iter().for_each(|phases| samples.add(time(phases)));
        samples
    }

    /// The median steps of a request, for people.
    fn steps(&self) -> Option<String> {
        let p50 = |time: fn(&Phases) -> Duration| {
            let summary = self.samples(time).summary()?;
            Some(summary.p50_us as f64 / 1_000.0)
        };
        let (resolve, connect) = (p50(|phases| phases.resolve)?, p50(|phases| phases.connect)?);
        let (secure, answer) = (p50(|phases| phases.secure)?, p50(|phases| phases.answer)?);
        Some(format!(
            "name {resolve:.2}, connection {connect:.2}, TLS {secure:.2}, answer {answer:.2} ms"
        ))
    }
}

impl Bench {
    async fn measure(&self, runs: u32) -> anyhow::Result<Results> {
        let mut results = Results::new(self.service.technology().await?)?;
        results.remarks.push(
            "floor: bare runsc (--network=sandbox) on a cable to the namespace of the server, which \
             routes without translation of addresses"
                .to_owned(),
        );
        decisions::measure(runs, &mut results)?;
        self.bar.inc(1);
        let mut floors: [Times; FLOORS.len()] = Default::default();
        let mut ours: [Times; WAYS.len()] = Default::default();
        for turn in 0..self.turns {
            self.bare_turn(turn, &mut floors).await?;
            self.our_turn(&mut ours).await?;
            self.bar.inc(1);
        }
        self.tell_requests(&floors, &ours, &mut results);
        self.tell_downloads(&floors, &ours, &mut results);
        for way in [PASSED_TLS, OPENED_TLS] {
            let remark = self.hold(way).await?;
            results.remarks.push(remark);
        }
        self.bar.inc(1);
        Ok(results)
    }

    fn order(&self, jobs: Vec<Job>) -> Order {
        Order { ca: self.internet.ca.clone(), resolver: None, jobs, go: GO }
    }

    /// One turn in a sandbox of runsc's own.
    async fn bare_turn(&self, turn: u32, floors: &mut [Times]) -> anyhow::Result<()> {
        let jobs = FLOORS.iter().flat_map(|way| [way.first(REQUESTS + WARM_UP), way.download()]);
        let order = Order { resolver: Some(RESOLVER), ..self.order(jobs.collect()) };
        let arguments = order.arguments()?;
        let program: Vec<&str> =
            std::iter::once(PYTHON).chain(arguments.iter().map(String::as_str)).collect();
        let (network, id) = (self.internet.routed(turn)?, format!("egress{turn}"));
        let path = network.path();
        let output = self.floor.run_in(&path, &id, &program);
        let output = tokio::time::timeout(DEADLINE, output).await;
        let output = output.context("the program in a bare sandbox takes too long")??;
        let mut told = inside::read(&output)?.into_iter();
        for times in floors {
            times.add_requests(told.next().context("a job was not done")?);
            times.add_downloads(told.next().context("a job was not done")?);
        }
        Ok(())
    }

    /// One turn in a sandbox of ours.
    async fn our_turn(&self, ours: &mut [Times]) -> anyhow::Result<()> {
        let sandbox = self.service.create(Some(policy()?)).await?;
        let jobs = WAYS.iter().map(|way| way.first(REQUESTS + WARM_UP)).collect();
        let told = self.order(jobs).run(&sandbox).await?;
        for (times, runs) in ours.iter_mut().zip(told) {
            times.add_requests(runs);
        }
        for (way, times) in WAYS.iter().zip(ours) {
            let before = memory::processor_time(self.service.pid()?)?;
            let told = self.order(vec![way.download()]).run(&sandbox).await?;
            let after = memory::processor_time(self.service.pid()?)?;
            times.server += after.saturating_sub(before);
            told.into_iter().for_each(|runs| times.add_downloads(runs));
        }
        self.service.kill(&sandbox).await
    }

    fn tell_requests(&self, floors: &[Times], ours: &[Times], results: &mut Results) {
        let ways = FLOORS.map(Way::floor).into_iter().zip(floors);
        for (name, times) in ways.chain(WAYS.map(|way| way.name).into_iter().zip(ours)) {
            let steps = times.steps().unwrap_or_default();
            results.remarks.push(format!("a request over {name}, at p50: {steps}"));
        }
        for (way, times) in FLOORS.into_iter().zip(floors) {
            let name = format!("first byte: {}", way.floor());
            results.add(&name, &times.samples(|phases| phases.first_byte()), &[]);
        }
        for (way, times) in WAYS.into_iter().zip(ours) {
            let (name, floor) =
                (format!("first byte: {}", way.name), format!("first byte: {}", way.floor()));
            results.add(&name, &times.samples(|phases| phases.first_byte()), &[&floor]);
        }
    }

    fn tell_downloads(&self, floors: &[Times], ours: &[Times], results: &mut Results) {
        for (way, times) in FLOORS.into_iter().zip(floors) {
            let name = format!("256 MiB: {}", way.floor());
            results.add_bytes(&name, &times.downloads, LARGE_BYTES, &[]);
        }
        for (way, times) in WAYS.into_iter().zip(ours) {
            let (name, floor) =
                (format!("256 MiB: {}", way.name), format!("256 MiB: {}", way.floor()));
            results.add_bytes(&name, &times.downloads, LARGE_BYTES, &[&floor]);
            let each = times.server.as_secs_f64() / f64::from(self.turns * DOWNLOADS);
            results.remarks.push(format!(
                "256 MiB over {} cost the server {each:.2} s of a processor",
                way.name
            ));
        }
    }

    /// Many connections at once in a fresh sandbox, each used before and after the server's memory
    /// is looked at.
    async fn hold(&self, way: Way) -> anyhow::Result<String> {
        let sandbox = self.service.create(Some(policy()?)).await?;
        // Whatever is made once is made now.
        self.order(vec![way.first(WARM_UP)]).run(&sandbox).await?;
        let outcome = self.held(way, &sandbox).await;
        self.service.kill(&sandbox).await?;
        outcome
    }

    async fn held(&self, way: Way, sandbox: &Measured) -> anyhow::Result<String> {
        let pid = self.service.pid()?;
        let before = memory::process_bytes(pid)?;
        let order = self.order(vec![Job { hold: HELD, ..way.first(1) }]);
        let mut running = Running::start(&order, sandbox).await?;
        let line = running.line().await?;
        anyhow::ensure!(line.trim_end() == "open", "the program inside printed {line:?}");
        let after = memory::process_bytes(pid)?;
        let time = running.go_on().await?;
        let each = after.saturating_sub(before) / u64::from(HELD) / 1_024;
        let millis = time.as_millis();
        Ok(format!(
            "{HELD} connections at once over {}: all answer, in {millis} ms; {each} KiB of the \
             server's memory each",
            way.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_the_measured_sandboxes_is_one() {
        let policy = policy().unwrap();
        assert!(WAYS.iter().all(|way| way.tls || way.port != 443));
        assert_eq!(policy.rules.len(), 3);
    }
}
