//! Measured times, and what people read of them.

use std::time::Duration;

use serde::Serialize;

/// The times of one thing, measured again and again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds the time of a run, unless it was one to warm up.
    pub(crate) fn add_warm(&mut self, run: u32, time: Duration) {
        if run >= super::WARM_UP {
            self.add(time);
        }
    }

    /// Adds all of another's.
    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The figures; `None` when nothing was measured.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent| rank(&sorted, percent).map(micros);
        Some(Summary {
            runs: sorted.len(),
            min_us: sorted.first().copied().map(micros)?,
            p50_us: at(50)?,
            p95_us: at(95)?,
            p99_us: at(99)?,
        })
    }
}

/// The smallest time that so many per cent do not exceed.
fn rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let index = (sorted.len() * percent).div_ceil(100).checked_sub(1)?;
    sorted.get(index).copied()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The figures of one measurement, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// How often it was measured.
    pub(crate) runs: usize,
    /// The fastest.
    pub(crate) min_us: u64,
    /// The median.
    pub(crate) p50_us: u64,
    /// 95 of 100 were not slower.
    pub(crate) p95_us: u64,
    /// 99 of 100 were not slower.
    pub(crate) p99_us: u64,
}

/// How a measurement stands to another of the same run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// Name of the other.
    pub(crate) floor: String,
    /// The median divided by the other's.
    pub(crate) ratio_p50: f64,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measurement {
    /// What was measured, for people.
    pub(crate) name: String,
    /// The figures.
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Bytes moved per run, where it moves any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// The measurements that it is compared with.
    pub(crate) compared: Vec<Comparison>,
}

impl Measurement {
    /// Megabytes (10^6) per second at the median, where it moves bytes.
    pub(crate) fn megabytes_per_second(&self) -> Option<f64> {
        let bytes = self.bytes? as f64;
        Some(bytes / self.summary.p50_us.max(1) as f64)
    }
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Results {
    /// Processor threads that we may use.
    pub(crate) cpus: usize,
    /// The kernel.
    pub(crate) kernel: String,
    /// What isolates.
    pub(crate) technology: String,
    /// `release` or `dev`: how this program was compiled.
    pub(crate) profile: &'static str,
    /// The measurements, in the order in which they are shown.
    pub(crate) measurements: Vec<Measurement>,
    /// Proportional set size of an idle sandbox with everything that belongs to it, in bytes, where
    /// it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_pss_bytes: Option<u64>,
    /// What else is to be told, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remarks: Vec<String>,
}

impl Results {
    /// Nothing measured yet, on this machine.
    ///
    /// # Errors
    /// The machine does not say what it is.
    pub(crate) fn new(technology: String) -> anyhow::Result<Self> {
        Ok(Self {
            cpus: std::thread::available_parallelism()?.get(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            technology,
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            measurements: Vec::new(),
            idle_pss_bytes: None,
            remarks: Vec::new(),
        })
    }

    /// Adds a measurement, compared with the earlier ones that `floors` names.
    pub(crate) fn add(&mut self, name: &str, samples: &Samples, floors: &[&str]) {
        self.push(name, samples, None, floors);
    }

    /// The same for something that moves so many bytes each time.
    pub(crate) fn add_bytes(&mut self, name: &str, samples: &Samples, bytes: u64, floors: &[&str]) {
        self.push(name, samples, Some(bytes), floors);
    }

    fn push(&mut self, name: &str, samples: &Samples, bytes: Option<u64>, floors: &[&str]) {
        let Some(summary) = samples.summary() else { return };
        let below = self.measurements.iter().filter(|m| floors.contains(&m.name.as_str()));
        let compared = below.map(|floor| Comparison {
            floor: floor.name.clone(),
            ratio_p50: summary.p50_us as f64 / floor.summary.p50_us.max(1) as f64,
        });
        let compared = compared.collect();
        self.measurements.push(Measurement { name: name.to_owned(), summary, bytes, compared });
    }

    /// As a table.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} on Linux {}, {} CPUs; courier compiled as {}\n\n",
            self.technology, self.kernel, self.cpus, self.profile
        );
        let heads = ["runs", "min", "p50", "p95", "p99"].map(|head| format!("{head:>10}"));
        text.push_str(&format!("{:<44}{}\n", "milliseconds", heads.concat()));
        for measurement in &self.measurements {
            text.push_str(&row(measurement));
        }
        if let Some(bytes) = self.idle_pss_bytes {
            let pss = bytes as f64 / f64::from(1 << 20);
            text.push_str(&format!("\nan idle sandbox holds {pss:.1} MiB (PSS)\n"));
        }
        for remark in &self.remarks {
            text.push_str(&format!("\n{remark}\n"));
        }
        text
    }
}

fn row(measurement: &Measurement) -> String {
    let Measurement { name, summary, compared, .. } = measurement;
    let millis = |micros: u64| format!("{:>10.2}", micros as f64 / 1_000.0);
    let times = [summary.min_us, summary.p50_us, summary.p95_us, summary.p99_us].map(millis);
    let mut line = format!("{name:<44}{:>10}{}", summary.runs, times.concat());
    if let Some(speed) = measurement.megabytes_per_second() {
        line.push_str(&format!("  {speed:.1} MB/s"));
    }
    for Comparison { floor, ratio_p50 } in compared {
        line.push_str(&format!("  {ratio_p50:.2} times {floor}"));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(millis: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        millis.into_iter().for_each(|millis| samples.add(Duration::from_millis(millis)));
        samples
    }

    fn results() -> Results {
        Results {
            cpus: 2,
            kernel: "6.1".to_owned(),
            technology: "fake".to_owned(),
            profile: "dev",
            measurements: Vec::new(),
            idle_pss_bytes: Some(3 << 20),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn percentiles_are_times_that_were_really_measured() {
        let summary = samples(1..=100).summary().unwrap();
        assert_eq!((summary.min_us, summary.p50_us), (1_000, 50_000));
        assert_eq!((summary.p95_us, summary.p99_us), (95_000, 99_000));
        assert_eq!(samples([7]).summary().unwrap().p99_us, 7_000);
        assert_eq!(Samples::default().summary(), None);
    }

    #[test]
    fn a_measurement_is_compared_with_its_floors_by_the_median() {
        let mut results = results();
        results.add("floor", &samples([2, 2, 100]), &[]);
        results.add("other", &samples([12]), &["floor"]);
        results.add("ours", &samples([3, 3, 3]), &["floor", "other"]);
        let text = results.text();
        assert!(text.contains("6.00 times floor\nours"), "{text}");
        assert!(text.contains("1.50 times floor  0.25 times other\n"), "{text}");
        assert!(text.ends_with("an idle sandbox holds 3.0 MiB (PSS)\n"), "{text}");
    }

    #[test]
    fn what_moves_bytes_is_told_in_megabytes_per_second() {
        let mut results = results();
        results.add_bytes("write", &samples([100]), 20_000_000, &[]);
        assert_eq!(results.measurements[0].megabytes_per_second(), Some(200.0));
    }
}
