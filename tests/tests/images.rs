//! Templates from images, by the real server, registry and sandboxes: of an OCI registry, open or
//! locked, and of this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::program::{self, Ended};
use courier_tests::registry::{Doors, Layout, PASSWORD, Registry, USER, busybox_root, tar};
use courier_tests::server::{Options, Server, courier};
use courier_tests::{suite, tests};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Debian's bash without libraries.
const BASH: &str = "/bin/bash-static";
/// A build from a small image.
const BUILD: Duration = Duration::from_secs(120);
/// An architecture that no machine of these tests has.
const FOREIGN: &str = "s390x";

struct World {
    server: Server,
    open: Registry,
    locked: Registry,
    context: TempDir,
    _folders: [TempDir; 3],
}

/// The smallest image that sandboxes can be made of.
fn small_root(folder: &Path) {
    busybox_root(folder);
    let bash = folder.join("bin/bash");
    fs::copy(BASH, &bash).expect("install it: scripts/setup");
    fs::set_permissions(&bash, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::write(folder.join("etc/motd"), "a small image\n").expect("a file can be written");
}

/// The architecture of this machine, as images have it.
const fn own_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

impl World {
    fn make(environment: Environment) -> Self {
        let folders = [environment.folder(), environment.folder(), environment.folder()];
        let [open, locked, roots] = [folders[0].path(), folders[1].path(), folders[2].path()];
        let (open, locked) =
            (Registry::start(open, Doors::Open), Registry::start(locked, Doors::Locked));
        let (small, bare) = (roots.join("small"), roots.join("bare"));
        fs::create_dir_all(&small).and_then(|()| fs::create_dir_all(&bare)).expect("folders");
        small_root(&small);
        busybox_root(&bare);
        fs::write(roots.join("small.tar"), tar(&small)).expect("a file can be written");
        let mut layout = Layout::new(environment.folder());
        let run = json!({"Env": ["GREETING=hello"], "WorkingDir": "/srv", "User": "nobody"});
        let mut tag = |name: &str, architecture: &str, layers: &[Vec<u8>], run: &Value| {
            let image = layout.image(architecture, layers, run);
            layout.tag(name, image);
        };
        tag("small", own_architecture(), &[tar(&small)], &run);
        tag("bare", own_architecture(), &[tar(&bare)], &json!({}));
        tag("foreign", FOREIGN, &[tar(&small)], &json!({}));
        for name in ["small", "bare", "foreign"] {
            open.push(&layout, name, &format!("team/{name}:1"), &[]);
        }
        locked.push(&layout, "small", "team/small:1", &[]);
        let mut arguments = Vec::new();
        for registry in [&open, &locked] {
            arguments.extend(["--registry".to_owned(), format!("{},insecure", registry.address)]);
        }
        let image = |name: &str, path: &str| {
            ["--image".to_owned(), format!("{name}={}", roots.join(path).display())]
        };
        for (name, path) in [("folder", "small"), ("tar", "small.tar"), ("gone", "gone.tar")] {
            arguments.extend(image(name, path));
        }
        let server = Server::start(&environment, Options { arguments, ..Options::default() });
        let context = environment.folder();
        Self { server, open, locked, context, _folders: folders }
    }

    fn ask_with(&self, arguments: &[&str], stdin: &[u8]) -> Ended {
        let mut command = courier(&self.server.environment, &self.server.data);
        command.env("COURIER_URL", format!("http://{}", self.server.address));
        command.env("COURIER_API_KEY", &self.server.key);
        command.current_dir(self.context.path()).args(arguments);
        program::run(&mut command, stdin, BUILD)
    }

    /// Builds a template from an image, and one step on top of it.
    fn build(&self, image: &str, name: &str, more: &[&str], stdin: &[u8]) -> Ended {
        let text = format!("FROM {image}\nRUN cat /etc/motd > /made && id -un >> /made\n");
        fs::write(self.context.path().join(name), text).expect("a file can be written");
        let all = [&["template", "build", "-f", name, "--name", name], more].concat();
        self.ask_with(&all, stdin)
    }

    /// What a fresh sandbox of a template answers.
    #[track_caller]
    fn look(&self, name: &str) -> String {
        let id = self.ask_with(&["sandbox", "new", "--template", name], b"");
        let id = id.assert_code(0).out().trim().to_owned();
        let line = "id -un; pwd; echo \"$GREETING\"; cat /made";
        let seen = self.ask_with(&["sandbox", "exec", &id, "--", "bash", "-c", line], b"");
        self.ask_with(&["sandbox", "kill", &id], b"").assert_code(0);
        seen.assert_code(0).out()
    }
}

fn an_image_of_a_registry_becomes_sandboxes(world: &World) {
    world.build(&world.open.reference("team/small:1"), "pulled", &[], b"").assert_code(0);
    assert_eq!(world.look("pulled"), "user\n/home/user\nhello\na small image\nroot\n");
    let inspected = world.ask_with(&["template", "inspect", "pulled"], b"");
    assert!(inspected.assert_code(0).out().contains("sha256:"), "{}", inspected.out());
}

fn a_locked_registry_wants_the_right_login(world: &World) {
    let image = world.locked.reference("team/small:1");
    let login = ["--registry-user", USER, "--registry-password-stdin"];
    world.build(&image, "unlocked", &login, PASSWORD.as_bytes()).assert_code(0);
    assert!(world.look("unlocked").ends_with("a small image\nroot\n"));
    for (more, stdin) in [(&login[..], &b"wrong"[..]), (&[][..], b"")] {
        let refused = world.build(&image, "refused", more, stdin);
        let text = refused.assert_code(1).err();
        assert!(text.contains("login") || text.contains("401"), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

fn an_image_without_a_shell_for_commands_says_what_is_missing(world: &World) {
    let refused = world.build(&world.open.reference("team/bare:1"), "bare", &[], b"");
    assert!(refused.assert_code(1).err().contains("/bin/bash"), "{}", refused.err());
}

fn an_image_for_another_architecture_is_refused(world: &World) {
    let refused = world.build(&world.open.reference("team/foreign:1"), "foreign", &[], b"");
    let text = refused.assert_code(1).err();
    assert!(text.contains(FOREIGN) && text.contains(own_architecture()), "{text}");
}

fn an_image_that_is_not_there_is_told_by_its_name(world: &World) {
    let refused = world.build(&world.open.reference("team/none:1"), "none", &[], b"");
    assert!(refused.assert_code(1).err().contains("team/none"), "{}", refused.err());
}

fn a_folder_and_a_tar_of_this_machine_become_sandboxes(world: &World) {
    for name in ["folder", "tar"] {
        world.build(&format!("local/{name}"), name, &[], b"").assert_code(0);
        assert_eq!(world.look(name), "user\n/home/user\n\na small image\nroot\n");
    }
}

fn images_of_this_machine_are_those_that_the_operator_named(world: &World) {
    let unknown = world.build("local/unknown", "unknown", &[], b"");
    assert!(unknown.assert_code(1).err().contains("folder, tar, gone"), "{}", unknown.err());
    let gone = world.build("local/gone", "gone", &[], b"");
    let text = gone.assert_code(1).err();
    assert!(text.contains("cannot be opened") && !text.contains("gone.tar"), "{text}");
    let mut serve = Command::new(world.server.environment.binary("courier"));
    serve.args(["serve", "--image", "nonsense"]);
    let refused = program::run(&mut serve, b"", BUILD);
    assert!(refused.assert_code(2).err().contains("NAME=PATH"), "{}", refused.err());
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            an_image_of_a_registry_becomes_sandboxes,
            a_locked_registry_wants_the_right_login,
            an_image_without_a_shell_for_commands_says_what_is_missing,
            an_image_for_another_architecture_is_refused,
            an_image_that_is_not_there_is_told_by_its_name,
            a_folder_and_a_tar_of_this_machine_become_sandboxes,
            images_of_this_machine_are_those_that_the_operator_named,
        ],
    )
}
