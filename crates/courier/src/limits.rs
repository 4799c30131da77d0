//! The flags that cap a sandbox.

use courier_protocol::v1::LimitsBody;
use courier_types::{LimitError, Limits, LimitsRequest};

/// Caps of one sandbox; what is absent takes its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory in MiB, 64 to 1048576 [default: 512]
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u64>,
    /// CPU in cores, 0.1 to 512 [default: 2]
    #[arg(long, value_name = "CORES", value_parser = cores)]
    cpus: Option<u64>,
    /// Processes and threads per user inside, 16 to 32768 [default: 512]
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
    /// Writable disk in MiB, 16 to 1048576 [default: 2048]
    #[arg(long, value_name = "MIB")]
    disk_mib: Option<u64>,
    /// Open files per process, 64 to 1048576 [default: 16384]
    #[arg(long, value_name = "N")]
    open_files: Option<u64>,
}

impl LimitArgs {
    /// The limits as the API takes them, each checked against its range first.
    pub(crate) fn body(self) -> Result<LimitsBody, LimitError> {
        let body = LimitsBody {
            memory_mib: self.memory_mib,
            cpu_millis: self.cpus,
            pids: self.pids,
            disk_mib: self.disk_mib,
            open_files: self.open_files,
        };
        self.limits().map(|_checked| body)
    }

    /// The limits, with defaults for what is absent.
    pub(crate) fn limits(self) -> Result<Limits, LimitError> {
        LimitsRequest {
            memory_mib: self.memory_mib,
            cpu_millis: self.cpus,
            pids: self.pids,
            disk_mib: self.disk_mib,
            open_files: self.open_files,
        }
        .try_into()
    }
}

/// Reads cores with up to three decimals as thousandths: `2`, `0.5`, `1.25`.
fn cores(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is not a number of cores: write e.g. 2, 0.5 or 1.25");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 || whole.len() > 6 {
        return Err(refused());
    }
    let number = |part: &str| part.parse::<u64>().map_err(|_too_long| refused());
    Ok(number(whole)? * 1000 + number(&format!("{decimals:0<3}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_to_thousandths() {
        for (text, millis) in [("2", 2000), ("0.5", 500), ("1.25", 1250), ("0.001", 1)] {
            assert_eq!(cores(text), Ok(millis), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0001", "inf", "9999999"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_out_of_range_is_refused_before_anything_runs() {
        let args = LimitArgs { memory_mib: Some(1), ..LimitArgs::default() };
        assert!(args.body().is_err());
    }

    #[test]
    fn the_help_tells_the_real_ranges_and_defaults() {
        use clap::CommandFactory as _;
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            limits: LimitArgs,
        }
        let help = Cli::command().render_long_help().to_string();
        for range in [Limits::MEMORY_MIB, Limits::PIDS, Limits::DISK_MIB, Limits::OPEN_FILES] {
            let told = format!("{} to {} [default: {}]", range.min, range.max, range.default);
            assert!(help.contains(&told), "{told} is not in:\n{help}");
        }
    }
}
