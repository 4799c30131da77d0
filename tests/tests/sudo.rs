//! `sudo` inside a sandbox: the command that everybody expects, without set-user-id bits.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::program::{self, Ended};
use courier_tests::server::{FIRST_START, courier};
use courier_tests::{suite, tests};
use tempfile::TempDir;

/// No script here takes longer once the template is built.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a terminal, runs the command of its arguments there and presses Ctrl-C when it says
/// `ready`; its exit code is what a shell would see.
const CONTROL_C: &str = r"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b''
while b'ready' not in seen:
    seen += os.read(terminal, 1024)
os.write(terminal, b'\x03')
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
";

/// What the tests share: a data folder, no server.
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
        world.within("true", FIRST_START).assert_code(0);
        world
    }

    /// Runs a script of bash as the usual user of a fresh sandbox.
    #[track_caller]
    fn bash(&self, script: &str) -> Ended {
        self.within(script, PATIENCE)
    }

    #[track_caller]
    fn within(&self, script: &str, patience: Duration) -> Ended {
        let mut command = courier(&self.environment, &self.data);
        command.current_dir(self.folder.path()).args(["run", "--lang", "bash", "-"]);
        program::run(&mut command, script.as_bytes(), patience)
    }

    /// The lines that a script says.
    #[track_caller]
    fn lines(&self, script: &str) -> Vec<String> {
        let ended = self.bash(script);
        ended.assert_code(0);
        ended.out().lines().map(str::to_owned).collect()
    }
}

fn a_command_runs_as_root_or_whoever_was_named(world: &World) {
    let script = "id -un; sudo id -un; sudo -u nobody id -un; sudo -u '#1000' -g nogroup id -gn
        sudo sudo sudo id -u";
    assert_eq!(world.lines(script), ["user", "root", "nobody", "nogroup", "0"]);
}

fn streams_and_directory_are_the_caller_s(world: &World) {
    let script = "echo written | sudo tee /etc/made; stat -c %U /etc/made; cd /tmp; sudo pwd
        mkdir -m 700 mine; cd mine; sudo -u nobody pwd; sudo -D /var pwd
        head -c 3000000 /dev/zero | sudo cat | wc -c";
    let expected = ["written", "root", "/tmp", "/tmp/mine", "/var", "3000000"];
    assert_eq!(world.lines(script), expected);
}

fn the_end_of_the_command_is_the_end_of_sudo(world: &World) {
    let script = "sudo sh -c 'exit 37'; echo $?; sudo sh -c 'kill -TERM $$'; echo $?
        sudo no-such 2>/tmp/err; echo $?; cat /tmp/err
        timeout -s INT 1 sudo sh -c 'trap \"exit 5\" INT; while :; do sleep 0.1; done'; echo $?";
    let expected = ["37", "143", "1", "sudo: no-such: command not found", "124"];
    assert_eq!(world.lines(script), expected);
}

fn the_environment_is_reset_unless_it_is_preserved(world: &World) {
    let script = "export KEY=value LANG=C.UTF-8
        sudo sh -c 'echo $HOME $USER $SUDO_USER $SUDO_UID $LANG $E2B_SANDBOX [$KEY]'
        sudo -E sh -c 'echo $HOME [$KEY]'; sudo --preserve-env=KEY sh -c 'echo $HOME [$KEY]'
        sudo KEY=other sh -c 'echo [$KEY]'; PATH=/usr/bin sudo sh -c 'echo $PATH'";
    let expected = [
        "/root root user 1000 C.UTF-8 true []",
        "/home/user [value]",
        "/root [value]",
        "[other]",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ];
    assert_eq!(world.lines(script), expected);
}

fn a_login_shell_begins_at_home(world: &World) {
    let script = "sudo -i pwd; echo 'echo $0; pwd' | sudo -i; sudo -s echo '$HOME' 'a b'";
    assert_eq!(world.lines(script), ["/root", "-bash", "/root", "/root a b"]);
}

fn who_is_not_in_the_group_may_not(world: &World) {
    let script = "sudo -u nobody sudo id; echo $?; sudo -u nobody sudo -n true; echo $?
        sudo useradd ada; sudo -u ada sudo true; echo $?
        sudo usermod -aG sudo ada; sudo -u ada sudo id -un";
    let ended = world.bash(script);
    assert_eq!(ended.out(), "1\n1\n1\nroot\n", "{}", ended.err());
    assert!(ended.err().contains("nobody is not in the sudoers file"), "{}", ended.err());
}

fn control_c_ends_the_command_and_the_script_around_it(world: &World) {
    let script = format!(
        "cat > /tmp/press.py <<'END'{CONTROL_C}END
        python3 /tmp/press.py sudo sh -c 'echo ready; exec sleep 50'; echo $?
        python3 /tmp/press.py bash -c 'sudo sh -c \"echo ready; exec sleep 50\"; touch /tmp/on'; echo $?
        ls /tmp/on 2>/dev/null; pgrep sleep; true"
    );
    assert_eq!(world.lines(&script), ["130", "130"]);
}

fn a_command_in_the_background_outlives_sudo_and_another_hears_of_its_death(world: &World) {
    let script = "mkfifo /tmp/done /tmp/ready
        sudo -b sh -c 'echo background > /tmp/done'; cat /tmp/done
        sudo sh -c 'trap \"echo hangup > /tmp/done; exit\" HUP; echo > /tmp/ready
            while :; do sleep 0.1; done' & cat /tmp/ready; pkill -9 -x sudo; cat /tmp/done";
    assert_eq!(world.lines(script), ["background", "", "hangup"]);
}

fn many_at_once_all_run(world: &World) {
    let script = "for i in $(seq 60); do sudo sh -c 'echo $0' $i & done; wait";
    let mut numbers: Vec<u32> =
        world.lines(script).iter().filter_map(|line| line.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            a_command_runs_as_root_or_whoever_was_named,
            streams_and_directory_are_the_caller_s,
            the_end_of_the_command_is_the_end_of_sudo,
            the_environment_is_reset_unless_it_is_preserved,
            a_login_shell_begins_at_home,
            who_is_not_in_the_group_may_not,
            control_c_ends_the_command_and_the_script_around_it,
            a_command_in_the_background_outlives_sudo_and_another_hears_of_its_death,
            many_at_once_all_run,
        ],
    )
}
