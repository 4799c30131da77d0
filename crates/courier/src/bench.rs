//! `courier bench`: how fast sandboxes are here, beside what this machine could do without us.
//!
//! Ours is measured as a user meets it: a server of its own, over its API. Each measurement is
//! interleaved with the one that it is compared with (commands in turns of ten), so that both meet
//! the same machine.

mod egress;
mod floor;
mod interpreter;
mod memory;
mod ports;
mod samples;
mod service;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use indicatif::ProgressBar;

use self::floor::Floor;
use self::samples::{Results, Samples};
use self::service::{Measured, Service};
use crate::config::{Config, TEMPLATE};
use crate::template;

/// Runs of each measurement when nobody says.
const RUNS: u32 = 30;
/// Runs before those that count: caches fill, files are read for the first time.
const WARM_UP: u32 = 3;
/// Commands of one kind that run in a row.
const TURN: u32 = 10;
/// Sandboxes that are made at once in the second measurement of creation.
const AT_ONCE: u32 = 8;
/// A large file.
const LARGE_BYTES: usize = 64 * 1024 * 1024;
/// A small file.
const SMALL_BYTES: usize = 1024;
/// Large files are moved more rarely: one takes as long as a hundred small ones.
const LARGE_SHARE: u32 = 5;
/// Idle sandboxes whose memory is looked at.
const IDLE: u32 = 4;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Making sandboxes and working in them
    Sandboxes,
    /// The way out of sandboxes
    Egress,
    /// Servers in sandboxes, through the port proxy
    Ports,
    /// Executions of the code interpreter
    Interpreter,
}

/// Flags of `courier bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is measured
    #[arg(value_enum, default_value_t = Part::Sandboxes)]
    part: Part,
    /// How often each thing is measured
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// We are in a network namespace of our own
    #[arg(long, hide = true)]
    cut_off: bool,
}

/// Runs `courier bench`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        eprintln!("courier: this is a debug build; figures of `cargo build --release` are better");
    }
    let results = match args.part {
        Part::Sandboxes => sandboxes(args.runs, config).await?,
        Part::Egress => egress::measure(&args, config).await?,
        Part::Ports => ports::measure(&args, config).await?,
        Part::Interpreter => interpreter::measure(&args, config).await?,
    };
    crate::output::print(&results.text())?;
    if let Some(file) = args.json {
        let text = serde_json::to_vec_pretty(&results)?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn sandboxes(runs: u32, config: &Config) -> anyhow::Result<Results> {
    if !rustix::process::geteuid().is_root() {
        bail!("the comparison with runsc itself needs root: run `sudo courier bench`");
    }
    let template = template::ensure(config, TEMPLATE).await?;
    let floor = Floor::new(template.image(&config.templates))?;
    let service = Service::start(config, &[]).await?;
    let bench = Bench { service, floor, runs, bar: ProgressBar::new(STAGES) };
    let measured = unless_interrupted(bench.measure()).await;
    bench.bar.finish_and_clear();
    let stopped = bench.service.stop().await;
    let results = measured?;
    stopped.context("the measured server was not ended cleanly")?;
    Ok(results)
}

/// Does something until Ctrl-C, so that what was started can be ended in order.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        signal = tokio::signal::ctrl_c() => Err(match signal {
            Ok(()) => anyhow::anyhow!("interrupted"),
            Err(error) => error.into(),
        }),
    }
}

/// Stages of a bench, for the progress bar.
const STAGES: u64 = 6;

/// A bench under way.
struct Bench {
    service: Service,
    floor: Floor,
    runs: u32,
    bar: ProgressBar,
}

impl Bench {
    async fn measure(&self) -> anyhow::Result<Results> {
        let mut results = Results::new(self.service.technology().await?)?;
        self.create_and_kill(&mut results).await?;
        self.create_at_once(&mut results).await?;
        self.commands(&mut results).await?;
        self.commands_at_once(&mut results).await?;
        self.files(&mut results).await?;
        results.idle_pss_bytes = Some(self.idle_memory().await?);
        self.bar.inc(1);
        Ok(results)
    }

    async fn create_and_kill(&self, results: &mut Results) -> anyhow::Result<()> {
        let (mut below, mut ours) = (Samples::default(), Samples::default());
        let (mut bare_kills, mut kills) = (Samples::default(), Samples::default());
        for run in 0..self.runs + WARM_UP {
            let floor = tokio::task::block_in_place(|| self.floor.run(&format!("create{run}")))?;
            let (sandbox, time) = self.create_to_output().await?;
            let started = Instant::now();
            self.service.kill(&sandbox).await?;
            let kill = started.elapsed();
            let idle = tokio::task::block_in_place(|| self.floor.idle(&format!("kill{run}")))?;
            let bare_kill = tokio::task::block_in_place(|| idle.kill())?;
            if run >= WARM_UP {
                below.add(floor);
                ours.add(time);
                kills.add(kill);
                bare_kills.add(bare_kill);
            }
        }
        results.add("runsc run, to the first output", &below, &[]);
        let floors = ["runsc run, to the first output"];
        results.add("create a sandbox, to the first output", &ours, &floors);
        results.add("SIGKILL to a bare Sentry", &bare_kills, &[]);
        results.add("kill a sandbox", &kills, &["SIGKILL to a bare Sentry"]);
        self.bar.inc(1);
        Ok(())
    }

    /// Makes a sandbox and runs a program in it, until its output is there.
    async fn create_to_output(&self) -> anyhow::Result<(Measured, Duration)> {
        let started = Instant::now();
        let sandbox = self.service.create(None).await?;
        let mut events = sandbox.first_output().await?;
        let elapsed = started.elapsed();
        while events.next().await?.is_some() {}
        Ok((sandbox, elapsed))
    }

    /// Several sandboxes at once: each one's time, and the floor's the same way.
    async fn create_at_once(&self, results: &mut Results) -> anyhow::Result<()> {
        let (mut below, mut ours) = (Samples::default(), Samples::default());
        let batches = self.runs.div_ceil(AT_ONCE);
        for batch in 0..batches {
            below.append(tokio::task::block_in_place(|| self.floor_at_once(batch))?);
            let creations = (0..AT_ONCE).map(|_one| self.create_to_output());
            let mut sandboxes = Vec::new();
            for created in futures_all(creations).await {
                let (sandbox, time) = created?;
                ours.add(time);
                sandboxes.push(sandbox);
            }
            for sandbox in &sandboxes {
                self.service.kill(sandbox).await?;
            }
        }
        let name = format!("runsc run, {AT_ONCE} at once");
        results.add(&name, &below, &[]);
        results.add(&format!("create, {AT_ONCE} at once"), &ours, &[&name]);
        self.bar.inc(1);
        Ok(())
    }

    fn floor_at_once(&self, batch: u32) -> anyhow::Result<Samples> {
        let mut samples = Samples::default();
        std::thread::scope(|scope| {
            let run = |one: u32| move || self.floor.run(&format!("batch{batch}x{one}"));
            let threads: Vec<_> = (0..AT_ONCE).map(|one| scope.spawn(run(one))).collect();
            for thread in threads {
                let time =
                    thread.join().map_err(|_panic| anyhow::anyhow!("a thread panicked"))??;
                samples.add(time);
            }
            Ok(samples)
        })
    }

    /// Commands by turns of [`TURN`], each kind with the machine to itself: an idle sandbox of
    /// runsc's own burns some of a core, and the end of a `runsc exec` works on for a while.
    async fn commands(&self, results: &mut Results) -> anyhow::Result<()> {
        let (mut host, mut exec, mut ours) =
            (Samples::default(), Samples::default(), Samples::default());
        let sandbox = self.service.create(None).await?;
        for turn in 0..self.runs.div_ceil(TURN) {
            for run in 0..TURN + WARM_UP {
                let time = tokio::task::block_in_place(floor::spawn_on_host)?;
                host.add_warm(run, time);
            }
            let idle = tokio::task::block_in_place(|| self.floor.idle(&format!("exec{turn}")))?;
            for run in 0..TURN + WARM_UP {
                let time = tokio::task::block_in_place(|| idle.exec())?;
                exec.add_warm(run, time);
            }
            tokio::task::block_in_place(|| drop(idle));
            for run in 0..TURN + WARM_UP {
                let started = Instant::now();
                sandbox.run().await?;
                ours.add_warm(run, started.elapsed());
            }
        }
        self.service.kill(&sandbox).await?;
        let floors = ["the program as a process of the host", "runsc exec"];
        let [on_host, by_exec] = floors;
        results.add(on_host, &host, &[]);
        results.add(by_exec, &exec, &[on_host]);
        results.add("a command in a running sandbox", &ours, &floors);
        self.bar.inc(1);
        Ok(())
    }

    /// Several commands at once in one sandbox, and as many processes of the host.
    async fn commands_at_once(&self, results: &mut Results) -> anyhow::Result<()> {
        let (mut host, mut ours) = (Samples::default(), Samples::default());
        let sandbox = self.service.create(None).await?;
        for batch in 0..self.runs.div_ceil(AT_ONCE) + 1 {
            let on_host =
                (0..AT_ONCE).map(|_one| tokio::task::spawn_blocking(floor::spawn_on_host));
            let on_host = futures_all(on_host).await;
            let inside = (0..AT_ONCE).map(|_one| async {
                let started = Instant::now();
                sandbox.run().await?;
                anyhow::Ok(started.elapsed())
            });
            let inside = futures_all(inside).await;
            // The first batch warms up.
            if batch == 0 {
                continue;
            }
            for time in on_host {
                host.add(time??);
            }
            for time in inside {
                ours.add(time?);
            }
        }
        self.service.kill(&sandbox).await?;
        let name = format!("processes of the host, {AT_ONCE} at once");
        results.add(&name, &host, &[]);
        results.add(&format!("commands in a sandbox, {AT_ONCE} at once"), &ours, &[&name]);
        self.bar.inc(1);
        Ok(())
    }

    async fn files(&self, results: &mut Results) -> anyhow::Result<()> {
        let sandbox = self.service.create(None).await?;
        for (size, label, runs) in [
            (SMALL_BYTES, "1 KiB", self.runs),
            (LARGE_BYTES, "64 MiB", self.runs.div_ceil(LARGE_SHARE)),
        ] {
            let content = Bytes::from(noise(size));
            let (mut writes, mut reads) = (Samples::default(), Samples::default());
            let (mut host_writes, mut host_reads) = (Samples::default(), Samples::default());
            for run in 0..runs + WARM_UP {
                let started = Instant::now();
                sandbox.write("/home/user/bench", content.clone()).await?;
                let write = started.elapsed();
                let started = Instant::now();
                let length = sandbox.read("/home/user/bench").await?;
                let read = started.elapsed();
                if length != size {
                    bail!("a file of {size} bytes came back with {length}");
                }
                let (host_write, host_read) =
                    tokio::task::block_in_place(|| self.floor.file(&content))?;
                if run >= WARM_UP {
                    writes.add(write);
                    reads.add(read);
                    host_writes.add(host_write);
                    host_reads.add(host_read);
                }
            }
            let bytes = u64::try_from(size)?;
            for (verb, host, ours) in
                [("write", &host_writes, &writes), ("read", &host_reads, &reads)]
            {
                let floor = format!("{verb} {label} on the host");
                results.add_bytes(&floor, host, bytes, &[]);
                results.add_bytes(&format!("{verb} a file of {label}"), ours, bytes, &[&floor]);
            }
        }
        self.service.kill(&sandbox).await?;
        self.bar.inc(1);
        Ok(())
    }

    /// Mean of what some idle sandboxes hold, each after one command.
    async fn idle_memory(&self) -> anyhow::Result<u64> {
        let mut sandboxes = Vec::new();
        for _one in 0..IDLE {
            sandboxes.push(self.create_to_output().await?.0);
        }
        let sizes: std::io::Result<Vec<u64>> =
            sandboxes.iter().map(|sandbox| memory::pss_bytes(&sandbox.id)).collect();
        for sandbox in &sandboxes {
            self.service.kill(sandbox).await?;
        }
        let sizes = sizes.context("the memory of an idle sandbox cannot be read")?;
        Ok(sizes.iter().sum::<u64>() / u64::from(IDLE))
    }
}

/// Waits for all, side by side on this task: what they wait for is not ours to compute.
async fn futures_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    futures_util::future::join_all(futures).await
}

/// Bytes that do not compress: a small generator of pseudo-random numbers (xorshift).
fn noise(size: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_size_asked_for_and_all_kinds_of_bytes() {
        let bytes = noise(10_001);
        assert_eq!(bytes.len(), 10_001);
        assert!((0..=u8::MAX).all(|value| bytes.contains(&value)));
    }
}
