//! `courier run`: files in fresh sandboxes, by the real binary.

#![expect(clippy::panic, reason = "a helper of a test reports by panicking")]
#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::program::{self, Ended};
use courier_tests::server::{FIRST_START, courier};
use courier_tests::{host, suite, tests, wait};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// No run of these tests takes longer once the template is built.
const PATIENCE: Duration = Duration::from_secs(60);
/// What must happen at once happens within this.
const SOON: Duration = Duration::from_secs(20);

/// What the tests share: a folder of programs, a data folder, no server.
struct World {
    environment: Environment,
    folder: TempDir,
    data: PathBuf,
}

impl World {
    fn make(environment: Environment) -> Self {
        let folder = environment.folder();
        let data = folder.path().join("data");
        let world = Self { environment, folder, data };
        // The first run builds the template when nobody has yet.
        let first = world.file("first.py", "print('ready')");
        let mut command = world.command(&[&first]);
        program::run(&mut command, b"", FIRST_START).assert_code(0);
        world
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("scratch is ours");
        path.display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = courier(&self.environment, &self.data);
        command.current_dir(self.folder.path()).arg("run").args(arguments);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, b"")
    }

    #[track_caller]
    fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Ended {
        program::run(&mut self.command(arguments), stdin, PATIENCE)
    }

    /// Runs a program with `--json` and reads the object.
    #[track_caller]
    fn json(&self, arguments: &[&str], stdin: &[u8]) -> Value {
        let ended = self.run_with(&[&["--json"], arguments].concat(), stdin);
        serde_json::from_slice(&ended.stdout)
            .unwrap_or_else(|_| panic!("{}{}", ended.out(), ended.err()))
    }
}

fn output_and_exit_code_are_the_program_s_own(world: &World) {
    let python =
        world.file("a.py", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(7)");
    let ended = world.run(&[&python]);
    ended.assert_code(7);
    assert_eq!((ended.out().as_str(), ended.err().as_str()), ("out\n", "err\n"));
    let javascript = world.file("a.js", "console.log(6 * 7)");
    assert_eq!(world.run(&[&javascript]).assert_code(0).out(), "42\n");
    let bash = world.file("a.sh", "echo $((6 * 7))");
    assert_eq!(world.run(&[&bash]).assert_code(0).out(), "42\n");
}

fn a_program_from_standard_input_needs_its_language(world: &World) {
    let ended = world.run_with(&["--lang", "python", "-"], b"print('piped')");
    assert_eq!(ended.assert_code(0).out(), "piped\n");
    let ended = world.run_with(&["-"], b"print('piped')");
    ended.assert_code(125);
    assert!(ended.err().contains("--lang"), "{}", ended.err());
}

fn the_first_line_comes_before_the_program_ends(world: &World) {
    let file = world
        .file("slow.py", "import time\nprint('first', flush=True)\ntime.sleep(3)\nprint('last')");
    let running = program::start(&mut world.command(&[&file]), b"");
    let (first, line) = running.line(PATIENCE);
    assert_eq!(line, "first");
    let (last, line) = running.line(PATIENCE);
    assert_eq!(line, "last");
    assert!(last - first > Duration::from_secs(2), "both came together");
    running.wait(PATIENCE).assert_code(0);
}

fn the_program_reads_our_standard_input_and_its_arguments(world: &World) {
    let file = world.file("in.py", "import sys\nprint(sys.argv[1:], sys.stdin.read())");
    let ended = world.run_with(&[&file, "--", "a b", "--flag"], b"typed");
    assert_eq!(ended.assert_code(0).out(), "['a b', '--flag'] typed\n");
}

fn files_go_in_and_come_out_and_the_environment_is_only_what_was_given(world: &World) {
    let input = world.file("numbers.txt", "1\n2\n3\n");
    let program = world.file(
        "sum.py",
        "import os\nprint(os.environ['GIVEN'], 'COURIER_DATA' in os.environ)\n\
         open('sum.txt', 'w').write(str(sum(map(int, open('numbers.txt')))))",
    );
    let out = world.folder.path().join("result.txt").display().to_string();
    let ended = world.run(&[
        "--in",
        &format!("{input}:numbers.txt"),
        "--out",
        &format!("sum.txt:{out}"),
        "--env",
        "GIVEN=a=b",
        &program,
    ]);
    assert_eq!(ended.assert_code(0).out(), "a=b False\n");
    assert_eq!(std::fs::read_to_string(out).expect("the result came out"), "6");
}

fn a_whole_folder_goes_in_and_comes_out(world: &World) {
    let folder = world.folder.path().join("tree");
    std::fs::create_dir_all(folder.join("sub")).expect("scratch is ours");
    std::fs::write(folder.join("sub/a.txt"), "a").expect("scratch is ours");
    let program = world.file("tree.sh", "cp -r tree copy && echo b > copy/b.txt");
    let out = world.folder.path().join("back");
    let ended = world.run(&[
        "--in",
        &folder.display().to_string(),
        "--out",
        &format!("copy:{}", out.display()),
        &program,
    ]);
    ended.assert_code(0);
    let read = |name: &str| find(&out, name).unwrap_or_else(|| panic!("{name} did not come out"));
    assert_eq!((read("a.txt").as_str(), read("b.txt").as_str()), ("a", "b\n"));
}

/// The text of the file of that name somewhere below a folder.
fn find(folder: &Path, name: &str) -> Option<String> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let found = if path.is_dir() { find(&path, name) } else { None };
        if found.is_some() {
            return found;
        }
        if entry.file_name() == name {
            return std::fs::read_to_string(path).ok();
        }
    }
    None
}

fn json_tells_everything_about_a_run(world: &World) {
    let file =
        world.file("j.py", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)");
    let json = world.json(&[&file], b"");
    assert_eq!((&json["ended"], &json["exit_code"]), (&"exit".into(), &3.into()), "{json}");
    assert_eq!((&json["stdout"], &json["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert_eq!(json["isolation"], "gvisor");
    assert!(json["memory_peak_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{json}");
    assert!(json["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{json}");
    assert!(json["wall_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{json}");
}

fn output_that_is_no_text_arrives_unchanged(world: &World) {
    let file = world.file("b.py", "import sys\nsys.stdout.buffer.write(bytes(range(256)))");
    let ended = world.run(&[&file]);
    assert_eq!(ended.assert_code(0).stdout, (0..=255).collect::<Vec<u8>>());
    let json = world.json(&[&file], b"");
    assert!(
        json["stdout_base64"].as_str().is_some_and(|text| text.starts_with("AAECAw")),
        "{json}"
    );
}

fn a_signal_a_timeout_and_a_memory_limit_are_told_apart(world: &World) {
    let signal = world.file("s.py", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)");
    let ended = world.run(&[&signal]);
    ended.assert_code(139);
    assert_eq!(world.json(&[&signal], b"")["signal"], "SIGSEGV");
    let endless = world.file("t.py", "print('begun', flush=True)\nwhile True: pass");
    let ended = world.run(&["--timeout", "1s", &endless]);
    ended.assert_code(124);
    assert_eq!(ended.out(), "begun\n");
    assert!(ended.err().contains("killed: timeout"), "{}", ended.err());
    let bomb = world.file("m.py", "x = []\nwhile True: x.append(bytearray(b'x') * (1 << 20))");
    let ended = world.run(&["--memory-mib", "128", &bomb]);
    ended.assert_code(137);
    assert!(ended.err().contains("killed: memory"), "{}", ended.err());
    assert_eq!(world.json(&["--memory-mib", "128", &bomb], b"")["ended"], "memory");
}

fn limits_of_processes_and_disk_hold(world: &World) {
    let fork = world.file(
        "f.py",
        "import os, signal\nn = 0\ntry:\n    while n < 100:\n        p = os.fork()\n\
         \x20       if p == 0: signal.pause()\n        n += 1\nexcept OSError as e: print(e.strerror)",
    );
    let ended = world.run(&["--pids", "32", "--timeout", "20s", &fork]);
    assert!(
        ended.out().contains("Resource temporarily unavailable"),
        "{}{}",
        ended.out(),
        ended.err()
    );
    let fill = world.file("d.sh", "dd if=/dev/zero of=fill bs=1M count=100 2>&1 | head -1");
    let ended = world.run(&["--disk-mib", "32", &fill]);
    assert!(ended.out().contains("No space left on device"), "{}", ended.out());
}

fn several_files_run_side_by_side_and_keep_their_outputs_apart(world: &World) {
    let files: Vec<String> = (0..4)
        .map(|n| world.file(&format!("many{n}.py"), &format!("print('from {n}')\nexit({n} == 2)")))
        .collect();
    let mut arguments = vec!["-j", "2"];
    arguments.extend(files.iter().map(String::as_str));
    let ended = world.run(&arguments);
    ended.assert_code(1);
    for number in 0..4 {
        assert!(ended.out().contains(&format!("from {number}")), "{}", ended.out());
    }
    let ended = world.run(&[&["--json"], arguments.as_slice()].concat());
    let codes: Vec<Value> = ended
        .out()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("one object per line"))
        .map(|object| object["exit_code"].clone())
        .collect();
    assert_eq!(codes, [0, 0, 1, 0]);
}

fn one_program_runs_once_per_line_of_input(world: &World) {
    let file = world.file("square.py", "print(int(input()) ** 2)");
    let ended = world.run_with(&["--stdin-each", "-j", "2", &file], b"3\n4\n5\n");
    ended.assert_code(0);
    for square in ["9", "16", "25"] {
        assert!(ended.out().lines().any(|line| line == square), "{}", ended.out());
    }
}

fn control_c_kills_the_sandbox_and_the_run_ends_with_130(world: &World) {
    for signal in [Signal::INT, Signal::TERM] {
        let file = world.file("c.py", "print('begun', flush=True)\nimport time\ntime.sleep(1000)");
        let running = program::start(&mut world.command(&[&file]), b"");
        assert_eq!(running.line(PATIENCE).1, "begun");
        running.signal(signal);
        let code = if signal == Signal::INT { 130 } else { 143 };
        running.wait(SOON).assert_code(code);
        assert_no_sandbox(world);
    }
}

fn a_run_that_is_killed_takes_its_sandbox_with_it(world: &World) {
    let file = world.file("k.py", "print('begun', flush=True)\nimport time\ntime.sleep(1000)");
    let running = program::start(&mut world.command(&[&file]), b"");
    assert_eq!(running.line(PATIENCE).1, "begun");
    running.signal(Signal::KILL);
    assert_eq!(running.wait(SOON).signal, Some(9));
    assert_no_sandbox(world);
}

/// Panics unless soon no sandbox of these tests is left.
#[track_caller]
fn assert_no_sandbox(world: &World) {
    let folder = world.data.join("launcher/sandboxes");
    wait::until("no sandbox is left", SOON, || {
        let left: Vec<_> = std::fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn wrong_arguments_say_what_to_do_and_run_nothing(world: &World) {
    let file = world.file("w.py", "print('ran')");
    for (arguments, part) in [
        (vec!["--template", "no-such-template", file.as_str()], "no-such-template"),
        (vec!["--memory-mib", "1", file.as_str()], "64"),
        (vec!["--lang", "cobol", file.as_str()], "python"),
        (vec!["--timeout", "soon", file.as_str()], "soon"),
        (vec!["--in", "/not/there", file.as_str()], "/not/there"),
        (vec!["--env", "NOVALUE", file.as_str()], "="),
        (vec!["/not/there.py"], "/not/there.py"),
        (vec!["/"], "/"),
        (vec!["--keep", "--url", "http://127.0.0.1:1", file.as_str()], "127.0.0.1:1"),
    ] {
        let ended = world.run(&arguments);
        assert_ne!(ended.code, Some(0), "{arguments:?}");
        assert_eq!(ended.out(), "", "{arguments:?}");
        assert!(ended.err().contains(part), "{arguments:?}: {}", ended.err());
    }
}

fn a_program_without_a_known_language_is_refused(world: &World) {
    let file = world.file("unknown.xyz", "print('ran')");
    let ended = world.run(&[&file]);
    ended.assert_code(125);
    assert!(ended.err().contains("--lang"), "{}", ended.err());
}

fn the_launcher_ends_when_nobody_needs_it(world: &World) {
    wait::until("the launcher has ended", PATIENCE, || match host::launcher_of(&world.data) {
        None => Ok(()),
        Some(pid) => Err(format!("pid {pid}")),
    });
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            output_and_exit_code_are_the_program_s_own,
            a_program_from_standard_input_needs_its_language,
            the_first_line_comes_before_the_program_ends,
            the_program_reads_our_standard_input_and_its_arguments,
            files_go_in_and_come_out_and_the_environment_is_only_what_was_given,
            a_whole_folder_goes_in_and_comes_out,
            json_tells_everything_about_a_run,
            output_that_is_no_text_arrives_unchanged,
            a_signal_a_timeout_and_a_memory_limit_are_told_apart,
            limits_of_processes_and_disk_hold,
            several_files_run_side_by_side_and_keep_their_outputs_apart,
            one_program_runs_once_per_line_of_input,
            control_c_kills_the_sandbox_and_the_run_ends_with_130,
            a_run_that_is_killed_takes_its_sandbox_with_it,
            wrong_arguments_say_what_to_do_and_run_nothing,
            a_program_without_a_known_language_is_refused,
            the_launcher_ends_when_nobody_needs_it,
        ],
    )
}
