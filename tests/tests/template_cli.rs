//! `courier template` against a real server: a Dockerfile becomes sandboxes, and what is wrong with
//! one is told at its line.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::program::{self, Ended};
use courier_tests::server::{Options, Server, courier};
use courier_tests::{suite, tests};
use rustix::process::Signal;

/// A build from `base`, whose image is read into a layer first, on a busy machine.
const BUILD: Duration = Duration::from_secs(400);
/// A command that only asks.
const ASK: Duration = Duration::from_secs(60);

const DOCKERFILE: &str = r#"FROM template/base
ARG WHO
ENV GREETING="hello $WHO" PATH=/opt/app:$PATH
WORKDIR /opt/app
COPY src *.sh ./
COPY --chmod=644 <<CONF etc/
greeting=${GREETING}
CONF
RUN <<RUN1
set -e
test "$WHO" = world
test "$(id -un)" = root
RUN1
USER user
CMD ["sleep", "infinity"]
"#;

struct World {
    server: Server,
    context: tempfile::TempDir,
}

impl World {
    fn make(environment: Environment) -> Self {
        let server = Server::start(&environment, Options::default());
        let context = tempfile::tempdir().expect("a folder can be made");
        let file = |name: &str, content: &str| {
            let path = context.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it is in a folder"))
                .and_then(|()| std::fs::write(path, content))
                .expect("a file can be written");
        };
        file("Dockerfile", DOCKERFILE);
        file("src/a.txt", "a");
        file("src/secret.log", "left out");
        file("run.sh", "#!/bin/sh\necho from the script\n");
        file(".dockerignore", "**/*.log\n");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(context.path().join("run.sh"), mode).expect("it is ours");
        Self { server, context }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = courier(&self.server.environment, &self.server.data);
        command.env("COURIER_URL", format!("http://{}", self.server.address));
        command.env("COURIER_API_KEY", &self.server.key);
        command.current_dir(self.context.path()).args(arguments);
        command
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        program::run(&mut self.command(arguments), b"", ASK)
    }

    fn build(&self, arguments: &[&str]) -> Ended {
        let all = [&["template", "build"], arguments].concat();
        program::run(&mut self.command(&all), b"", BUILD)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.context.path().join(name), text).expect("a file can be written");
    }
}

/// The template that several tests start from: built once, and from its steps' cache after that.
#[track_caller]
fn web(world: &World) -> Ended {
    let built =
        world.build(&["--name", "web:v1", "--tag", "stable", "--build-arg", "WHO=world", "."]);
    built.assert_code(0);
    built
}

fn a_dockerfile_becomes_sandboxes_with_its_files_user_folder_and_variables(world: &World) {
    let built = web(world);
    assert!(built.out().contains("web (v1, stable) is build "), "{}", built.out());
    let id = world.ask(&["sandbox", "new", "--template", "web:stable"]);
    let id = id.assert_code(0).out().trim().to_owned();
    let line = "id -un; pwd; ls; run.sh; cat etc/CONF; printenv WHO || echo no WHO; pgrep -x sleep >/dev/null && echo started";
    let ran = world.ask(&["sandbox", "exec", &id, "--", "sh", "-c", line]);
    let expected = "user\n/opt/app\na.txt\netc\nrun.sh\nfrom the script\ngreeting=hello world\nno WHO\nstarted\n";
    assert_eq!(ran.assert_code(0).out(), expected);
    let refused = world.ask(&["template", "rm", "web"]);
    assert!(refused.assert_code(125).err().contains(&id), "{}", refused.err());
    world.ask(&["sandbox", "kill", &id]).assert_code(0);
}

fn what_an_earlier_build_did_is_not_done_again(world: &World) {
    web(world);
    let again = web(world);
    assert!(again.err().contains("CACHED [7/8] RUN <<RUN1 (line 9)"), "{}", again.err());
    assert!(!again.err().contains("uploading"), "{}", again.err());
}

fn templates_are_listed_inspected_tagged_and_removed(world: &World) {
    web(world);
    let inspected = world.ask(&["template", "inspect", "web:v1"]);
    let text = inspected.assert_code(0).out();
    for line in ["tags       stable, v1", "folder     /opt/app", "start      sleep infinity"] {
        assert!(text.contains(line), "{text}");
    }
    world.ask(&["template", "tag", "web:v1", "prod"]).assert_code(0);
    let listed = world.ask(&["template", "ls"]).out();
    assert!(listed.contains("prod,stable,v1"), "{listed}");
    world.ask(&["template", "tag", "--rm", "web", "prod"]).assert_code(0);
    assert!(!world.ask(&["template", "ls"]).out().contains("prod"));
    let build = text.lines().find_map(|line| line.strip_prefix("build      "));
    let logs = world.ask(&["template", "logs", build.expect("it has a build")]);
    assert!(logs.assert_code(0).out().contains("RUN"), "{}", logs.out());
    world.write("Small", "FROM template/base\n");
    world.build(&["-f", "Small", "--name", "small"]).assert_code(0);
    world.ask(&["template", "rm", "small"]).assert_code(0);
    world.ask(&["template", "inspect", "small"]).assert_code(125);
}

fn a_dockerfile_that_is_wrong_is_told_at_its_place_and_nothing_is_built(world: &World) {
    for (name, text, place) in [
        ("Syntax", "FROM a\nRUN x &&\nmake install\n", "Syntax:3:1: \"make\" is no instruction"),
        ("Stages", "FROM a\nFROM b\n", "Stages:2:1: a second FROM"),
        ("Missing", "FROM a\nCOPY none /x\n", "Missing:2:6: none is not in the context"),
        ("Out", "FROM a\nCOPY ../x /x\n", "Out:2:6: ../x leads out of the context"),
        ("Ignored", "FROM a\nCOPY src/secret.log /x\n", "Ignored:2:6: src/secret.log is left out"),
    ] {
        world.write(name, text);
        let refused = world.build(&["-f", name, "--name", "wrong"]);
        assert!(refused.assert_code(1).err().starts_with(place), "{}", refused.err());
    }
    world.ask(&["template", "inspect", "wrong"]).assert_code(125);
    world.build(&["-f", "NoSuchFile", "--name", "wrong"]).assert_code(125);
    world.build(&["no-such-context", "--name", "wrong"]).assert_code(125);
}

fn a_step_that_fails_shows_what_it_wrote_and_its_line(world: &World) {
    world.write("Failing", "FROM template/base\n\nRUN echo a sign && exit 3\n");
    let failed = world.build(&["-f", "Failing", "--name", "failing"]);
    let text = failed.assert_code(1).err();
    for part in
        ["  a sign\n", "Failing:3:1: this step failed: exit status 3", " 3 | RUN echo a sign"]
    {
        assert!(text.contains(part), "{text}");
    }
}

fn the_first_interrupt_cancels_the_build_on_the_server(world: &World) {
    world.write("Slow", "FROM template/base\nRUN echo it begins && sleep 600\n");
    let asked = world.command(&["template", "build", "-f", "Slow", "--name", "slow"]);
    // What it shows is on standard error, whose lines are not handed out as they come.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(asked.get_program()).args(asked.get_args());
    command.current_dir(world.context.path()).env_clear();
    command.envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let running = program::start(&mut command, b"");
    while running.line(BUILD).1.trim() != "it begins" {}
    running.signal(Signal::INT);
    let ended = running.wait(ASK);
    assert!(ended.assert_code(130).out().contains("the build is cancelled"), "{}", ended.out());
    let listed = world.ask(&["template", "ls"]).out();
    let line = listed.lines().find(|line| line.contains("slow")).unwrap_or_default();
    assert!(line.contains("error"), "{listed}");
    assert_eq!(world.server.running(), Vec::<String>::new());
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            a_dockerfile_becomes_sandboxes_with_its_files_user_folder_and_variables,
            what_an_earlier_build_did_is_not_done_again,
            templates_are_listed_inspected_tagged_and_removed,
            a_dockerfile_that_is_wrong_is_told_at_its_place_and_nothing_is_built,
            a_step_that_fails_shows_what_it_wrote_and_its_line,
            the_first_interrupt_cancels_the_build_on_the_server,
        ],
    )
}
