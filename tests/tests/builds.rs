//! Builds made by the node's own builder, in real sandboxes of template `base`.

#![expect(clippy::unwrap_used, reason = "everything here is a test or its helper")]
#![expect(clippy::indexing_slicing, reason = "what is not there fails the test")]

#[path = "builds/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use courier_protocol::node::{
    BuildError, BuildLogLevel, BuildOrder, BuildSource, BuildStage, Builder as _, Node as _,
    StepKind,
};
use courier_tests::{suite, tests, wait};
use courier_types::{BuildConfig, GuestFile, Limits, LimitsRequest, SandboxSpec};
use world::{Watcher, World, failure, order, run, run_as};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn env(pairs: &[(&str, &str)]) -> StepKind {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    StepKind::Env(pairs.iter().map(owned).collect())
}

fn copy(source: &str, destination: &str) -> StepKind {
    StepKind::Copy {
        source: source.to_owned(),
        destination: destination.to_owned(),
        owner: None,
        mode: None,
        files: "context".to_owned(),
    }
}

fn steps_make_what_sandboxes_of_the_build_find(world: &World) {
    let steps = vec![
        run_as("root", "rm /etc/issue && mkdir /opt/tool && echo v1 > /opt/tool/version"),
        env(&[("GREETING", "hello"), ("BOTH", "$GREETING world")]),
        run_as("root", "printf '#!/bin/sh\\necho tool' > /opt/tool/run && chmod 755 /opt/tool/run"),
        env(&[("PATH", "/opt/tool:$PATH")]),
        run("run"),
        StepKind::User("app".to_owned()),
        StepKind::Workdir("/srv/app".to_owned()),
        run("echo \"$BOTH\" > greeting && whoami > who && pwd > where"),
        copy("src/main.txt", "."),
        copy("src", "all/"),
        run_as("root", "chmod 4755 /opt/tool/version"),
    ];
    let (built, log) = world.build(order("steps-1", steps));
    let built = built.unwrap_or_else(|error| unreachable!("{error:?}\n{}", log.text()));
    assert_eq!((built.config.user.as_str(), built.config.workdir.as_str()), ("app", "/srv/app"));
    let sandbox = world.sandbox("steps-1", built.config);
    let script = "cat greeting who where main.txt all/main.txt; stat -c '%U:%G %n' . greeting \
                  main.txt; echo $BOTH; run; cat /opt/tool/version; ls /etc/issue 2>&1; whoami; \
                  stat -c %a /opt/tool/version";
    let (code, out) = world.sh(&sandbox, script);
    // The last one: no image has set-ID bits.
    let expected = "hello world\napp\n/srv/app\nthe main file\nthe main file\napp:app .\n\
                    app:app greeting\napp:app main.txt\nhello world\ntool\nv1\n\
                    ls: cannot access '/etc/issue': No such file or directory\napp\n755\n";
    assert_eq!((code, out.as_str()), (0, expected));
    world.kill(&sandbox);
}

fn what_was_done_is_not_done_again_until_something_changes(world: &World) {
    let steps = |last: &str| vec![run("date +%N > first"), run("date +%N > second"), run(last)];
    let stamp = |reference: &str| {
        let sandbox = world.sandbox(reference, BuildConfig::default());
        let (_code, out) = world.sh(&sandbox, "cat first second");
        world.kill(&sandbox);
        out
    };
    world.build(order("cache-1", steps("true"))).0.unwrap();
    let (built, log) = world.build(order("cache-2", steps("true")));
    built.unwrap();
    assert!(log.text().contains("CACHED [3/3] RUN true"), "{}", log.text());
    assert_eq!(stamp("cache-1"), stamp("cache-2"));
    let (built, log) = world.build(order("cache-3", steps("echo changed")));
    built.unwrap();
    assert!(log.text().contains("CACHED [2/3]") && log.text().contains("changed"));
    assert_eq!(stamp("cache-1"), stamp("cache-3"));
    let mut forced = order("cache-4", steps("true"));
    forced.steps[1].force = true;
    world.build(forced).0.unwrap();
    let (old, new) = (stamp("cache-1"), stamp("cache-4"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&old)[0], lines(&new)[0]);
    assert_ne!(lines(&old)[1], lines(&new)[1]);
    world.build(BuildOrder { force: true, ..order("cache-5", steps("true")) }).0.unwrap();
    assert_ne!(lines(&stamp("cache-5"))[0], lines(&old)[0]);
}

fn a_build_goes_on_from_another_one(world: &World) {
    let config = world.build(order("parent", vec![run("echo one > ~/a; rm -rf ~/.profile")]));
    let config = config.0.unwrap().config;
    let mut child = order("child", vec![run("test ! -e ~/.profile && cat ~/a && rm ~/a")]);
    child.source = BuildSource::Build { build: "parent".to_owned(), config };
    let (built, log) = world.build(child);
    built.unwrap_or_else(|error| unreachable!("{error:?}\n{}", log.text()));
    assert!(log.text().contains("\none\n"), "{}", log.text());
    for (reference, code) in [("parent", 0), ("child", 2)] {
        let sandbox = world.sandbox(reference, BuildConfig::default());
        assert_eq!(world.sh(&sandbox, "ls ~/a > /dev/null 2>&1").0, code, "{reference}");
        world.kill(&sandbox);
    }
}

fn a_failing_step_is_told_in_the_words_of_the_wire(world: &World) {
    let texts = [
        (run("echo out; echo err >&2; exit 7"), "exit status 7"),
        (run("no-such-command-here"), "exit status 127"),
        (run("kill -9 $$"), "signal: killed"),
        (
            run_as("root123", "whoami"),
            "command failed: unauthenticated: invalid username: 'root123'",
        ),
    ];
    for (step, why) in texts {
        let StepKind::Run { command, .. } = step.clone() else { unreachable!() };
        let (built, log) = world.build(order("failing", vec![run("true"), step]));
        let (stage, message) = failure(built);
        assert_eq!(stage, BuildStage::Step(2));
        assert_eq!(message, format!("failed to run command '{command}': {why}"));
        assert_eq!(log.entries().last().unwrap().level, BuildLogLevel::Error);
    }
    assert!(world.store.build("failing").unwrap().is_none());
}

fn output_comes_line_by_line_by_level_and_a_flood_is_cut(world: &World) {
    let script = "echo out; echo err >&2; printf '\\033[31mred\\033[0m\\n'; head -c 20000000 \
                  /dev/zero | tr '\\0' x; echo; yes | head -n 500000; echo last >&2";
    let (built, log) = world.build(order("output", vec![run(script)]));
    built.unwrap();
    let entries = log.entries();
    let level = |message: &str| {
        entries.iter().find(|entry| entry.message == message).map(|entry| entry.level)
    };
    assert_eq!(level("out"), Some(BuildLogLevel::Info));
    assert_eq!(level("err"), Some(BuildLogLevel::Warn));
    assert_eq!(level("red"), Some(BuildLogLevel::Info));
    let longest = entries.iter().map(|entry| entry.message.len()).max().unwrap();
    assert!(longest < 5_000, "{longest}");
    let bytes: usize = entries.iter().map(|entry| entry.message.len()).sum();
    assert!(bytes < 5 << 20, "{bytes}");
    assert!(log.text().contains("lines are left out"));
}

fn a_registrys_image_is_made_fit_for_sandboxes_once(world: &World) {
    let without = "userdel --remove user; rm -f /usr/bin/sudo; chmod 4755 /usr/bin/mount";
    world.build(order("image", vec![run_as("root", without)])).0.unwrap();
    let of_image = |reference: &str, source: &str| {
        let command = "whoami; pwd; echo $PATH; sudo -n whoami; touch made";
        let mut order = order(reference, vec![run(command)]);
        order.source = BuildSource::Image { reference: source.to_owned(), login: None };
        order
    };
    let (built, log) = world.build(of_image("of-image", "image"));
    let built = built.unwrap_or_else(|error| unreachable!("{error:?}\n{}", log.text()));
    let out = "\nuser\n/home/user\n/opt/bin:/usr/bin:/bin\nroot\n";
    assert!(log.text().contains(out), "{}", log.text());
    let sandbox = world.sandbox("of-image", built.config);
    let (_code, out) =
        world.sh(&sandbox, "ls; whoami; find / -xdev -type f -perm /6000 2>/dev/null");
    assert_eq!(out, "made\nuser\n");
    world.kill(&sandbox);
    let (again, log) = world.build(of_image("of-image-2", "image"));
    again.unwrap();
    assert!(log.text().contains("CACHED [1/1]"), "{}", log.text());
    let (stage, message) = failure(world.build(of_image("of-none", "none")).0);
    assert_eq!((stage, message.as_str()), (BuildStage::Base, "there is no such image"));
}

fn what_runs_short_is_named(world: &World) {
    let limits = |memory_mib, disk_mib| {
        let request = LimitsRequest { memory_mib, disk_mib, ..LimitsRequest::default() };
        Limits::try_from(request).unwrap()
    };
    let mut full = order("disk", vec![run("head -c 300000000 /dev/urandom > ~/big")]);
    full.sandbox.limits = limits(None, Some(128));
    let (stage, message) = failure(world.build(full).0);
    assert_eq!(stage, BuildStage::Step(1));
    assert!(message.contains("disk (128 MiB) is full"), "{message}");
    let hungry = "python3 -c 'x = bytearray(1 << 30); print(len(x))'";
    let mut hungry = order("memory", vec![run(hungry)]);
    hungry.sandbox.limits = limits(Some(192), None);
    let (_stage, message) = failure(world.build(hungry).0);
    assert!(message.contains("memory") && message.contains("192 MiB"), "{message}");
}

fn what_a_build_starts_runs_in_its_sandboxes(world: &World) {
    let mut serving = order("serving", vec![run("mkdir www && echo served > www/index.html")]);
    serving.start = Some("cd www && exec python3 -m http.server 8123".to_owned());
    serving.ready = Some("curl --silent --fail http://127.0.0.1:8123/ > /dev/null".to_owned());
    let (built, log) = world.build(serving);
    let built = built.unwrap_or_else(|error| unreachable!("{error:?}\n{}", log.text()));
    let sandbox = world.sandbox("serving", built.config);
    let (code, out) = world.sh(&sandbox, "curl --silent --fail http://127.0.0.1:8123/");
    assert_eq!((code, out.as_str()), (0, "served\n"));
    world.kill(&sandbox);

    let mut broken = order("broken", Vec::new());
    broken.start = Some("echo no config >&2; exit 4".to_owned());
    broken.ready = Some("false".to_owned());
    let (stage, message) = failure(world.build(broken).0);
    assert_eq!(stage, BuildStage::Finalize);
    assert_eq!(message, "the start command failed: exit status 4; it wrote:\nno config");
}

fn what_a_preset_brings_is_in_no_layer(world: &World) {
    let mut with_preset =
        order("preset", vec![run("cat /etc/mirror.conf; echo $MIRROR; echo x > x")]);
    let text = "index = https://mirror.example/simple\n".to_owned();
    with_preset.sandbox.files = vec![GuestFile { path: "/etc/mirror.conf".to_owned(), text }];
    with_preset.sandbox.env = BTreeMap::from([("MIRROR".to_owned(), "set".to_owned())]);
    let (built, log) = world.build(with_preset);
    let config = built.unwrap().config;
    assert!(log.text().contains("mirror.example") && log.text().contains("\nset\n"));
    assert!(config.env.is_empty());
    let sandbox = world.sandbox("preset", config);
    let script = "ls /etc/mirror.conf /usr/local/share/ca-certificates 2>/dev/null; cat x; \
                  echo \"[$MIRROR]\"; grep -rl mirror.example /etc 2>/dev/null";
    let (_code, out) = world.sh(&sandbox, script);
    assert!(!out.contains("mirror.") && out.contains("x\n[]\n"), "{out}");
    world.kill(&sandbox);
}

fn a_dropped_build_leaves_nothing(world: &World) {
    let watcher = Watcher::shared();
    let building = world.runtime.spawn({
        let (builder, watcher) = (world.builder.clone(), watcher.clone());
        let order = order("dropped", vec![run("echo begun; sleep 300")]);
        async move { builder.build(order, watcher).await }
    });
    wait::until("the step has begun", PATIENCE, || {
        if watcher.text().contains("\nbegun\n") { Ok(()) } else { Err(watcher.text()) }
    });
    assert_eq!(world.machines(), 1);
    let reaped = world.runtime.block_on(world.node.reap_except(&[])).unwrap();
    assert_eq!((reaped.len(), world.machines()), (0, 1), "a build's sandbox is not reaped");
    building.abort();
    wait::until("its sandbox is gone", PATIENCE, || match world.machines() {
        0 => Ok(()),
        left => Err(format!("{left} machines")),
    });
    assert!(world.store.build("dropped").unwrap().is_none());
}

fn a_hostile_context_is_refused_and_names_its_entry(world: &World) {
    let step = StepKind::Copy {
        source: ".".to_owned(),
        destination: "/srv".to_owned(),
        owner: None,
        mode: None,
        files: "escaping".to_owned(),
    };
    let (stage, message) = failure(world.build(order("escaping", vec![step])).0);
    assert_eq!(stage, BuildStage::Step(1));
    assert!(message.contains("../outside"), "{message}");
}

fn a_build_that_takes_too_long_ends_and_says_so(world: &World) {
    let mut slow = order("slow", vec![run("sleep 300")]);
    slow.sandbox.deadline = courier_node::system_clock()().plus(Duration::from_secs(8));
    let (_stage, message) = failure(world.build(slow).0);
    assert!(message.contains("did not end within its"), "{message}");
    wait::until("its sandbox is gone", PATIENCE, || match world.machines() {
        0 => Ok(()),
        left => Err(format!("{left} machines")),
    });
}

fn an_unknown_source_is_told(world: &World) {
    let mut unknown = order("unknown", Vec::new());
    let config = BuildConfig::default();
    unknown.source = BuildSource::Build { build: "no-such".to_owned(), config };
    let error = world.build(unknown).0.unwrap_err();
    let BuildError::Node(error) = error else { unreachable!("{error:?}") };
    assert_eq!(error.to_string(), "build \"no-such\" is not on this node");
    let spec = SandboxSpec { build: "no-such".to_owned(), ..order("x", Vec::new()).sandbox };
    world.runtime.block_on(world.node.create(spec)).unwrap_err();
}

fn main() -> ExitCode {
    suite::run(
        World::start,
        tests![
            steps_make_what_sandboxes_of_the_build_find,
            what_was_done_is_not_done_again_until_something_changes,
            a_build_goes_on_from_another_one,
            a_failing_step_is_told_in_the_words_of_the_wire,
            output_comes_line_by_line_by_level_and_a_flood_is_cut,
            a_registrys_image_is_made_fit_for_sandboxes_once,
            what_runs_short_is_named,
            what_a_build_starts_runs_in_its_sandboxes,
            what_a_preset_brings_is_in_no_layer,
            a_dropped_build_leaves_nothing,
            a_hostile_context_is_refused_and_names_its_entry,
            a_build_that_takes_too_long_ends_and_says_so,
            an_unknown_source_is_told,
        ],
    )
}
