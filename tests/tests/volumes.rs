//! Volumes: with the official SDKs, over restarts and crashes, full, and from hostile clients and
//! sandboxes.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use courier_tests::dns::Dns;
use courier_tests::environment::Environment;
use courier_tests::http::{Request, Whole};
use courier_tests::sandbox::{Sandbox, escape};
use courier_tests::sdk::{self, Mode};
use courier_tests::server::{Options, Server, courier, free_port};
use courier_tests::{host, program, suite, tests, wait};
use serde_json::{Value, json};

/// What is let go of is gone within this.
const NOTICED: Duration = Duration::from_secs(20);

struct World {
    server: Server,
    dns: Dns,
    domain: String,
}

impl World {
    fn make(environment: Environment) -> Self {
        let domain = format!("volumes.test:{}", free_port());
        let arguments = vec!["--domain".to_owned(), domain.clone()];
        let server = Server::start(&environment, Options { arguments, ..Options::default() });
        Self { server, dns: Dns::start(), domain }
    }

    fn domain(&self) -> Mode<'_> {
        Mode::Domain { dns: &self.dns, domain: &self.domain }
    }

    #[track_caller]
    fn volume(&self, name: &str, size_mb: u32) -> Volume<'_> {
        let body = json!({"name": name, "sizeMB": size_mb});
        let made = self.server.call("POST", "/volumes", Some(&body));
        let made = made.assert_status(201).json();
        let text = |key: &str| made[key].as_str().expect("a text").to_owned();
        Volume {
            server: &self.server,
            id: text("volumeID"),
            token: text("token"),
            name: text("name"),
        }
    }

    #[track_caller]
    fn courier(&self, arguments: &[&str]) -> String {
        let mut command = courier(&self.server.environment, &self.server.data);
        command.env("COURIER_URL", format!("http://{}", self.server.address));
        command.env("COURIER_API_KEY", &self.server.key);
        command.args(arguments);
        let ran = program::run(&mut command, b"", Duration::from_secs(60));
        ran.assert_code(0);
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// Loop devices whose file is a volume of this server.
    fn loop_devices(&self) -> Vec<String> {
        let volumes = self.server.data.join("launcher/volumes");
        let devices = std::fs::read_dir("/sys/block").expect("Linux has it").flatten();
        devices
            .filter_map(|entry| {
                std::fs::read_to_string(entry.path().join("loop/backing_file")).ok()
            })
            .filter(|file| file.starts_with(volumes.to_str().expect("a plain path")))
            .collect()
    }
}

struct Volume<'a> {
    server: &'a Server,
    id: String,
    token: String,
    name: String,
}

impl<'a> Volume<'a> {
    #[track_caller]
    fn sandbox(&self, path: &str) -> Sandbox<'a> {
        let mounts = json!([{"name": self.name, "path": path}]);
        let body = json!({"templateID": "base", "timeout": 300, "volumeMounts": mounts});
        let answer = self.server.call("POST", "/v2/sandboxes", Some(&body));
        Sandbox::from_answer(self.server, answer.assert_status(201))
    }

    fn content(&self, method: &str, what: &str, path: &str) -> Request {
        let target = format!("/volumecontent/{}/{what}?path={}", self.id, escape(path));
        Request::new(method, &target).header("Authorization", &format!("Bearer {}", self.token))
    }

    #[track_caller]
    fn read(&self, path: &str) -> Whole {
        self.content("GET", "file", path).send(self.server.address)
    }

    #[track_caller]
    fn write(&self, path: &str, bytes: &[u8]) -> Whole {
        let request = self.content("PUT", "file", path);
        request.body("application/octet-stream", bytes).send(self.server.address)
    }

    #[track_caller]
    fn delete(&self) -> Whole {
        self.server.call("DELETE", &format!("/volumes/{}", self.id), None)
    }
}

fn the_npm_sdk_does_volumes_by_url(world: &World) {
    sdk::javascript(&world.server, Mode::Url, "volumes.mjs");
}

fn the_npm_sdk_does_volumes_by_domain(world: &World) {
    sdk::javascript(&world.server, world.domain(), "volumes.mjs");
}

fn the_python_sdk_does_volumes_by_url(world: &World) {
    sdk::python(&world.server, Mode::Url, "volume_content.py");
}

fn the_python_sdk_does_volumes_by_domain(world: &World) {
    sdk::python(&world.server, world.domain(), "volume_content.py");
}

fn the_command_line_makes_mounts_lists_and_deletes_volumes(world: &World) {
    assert_eq!(world.courier(&["volume", "create", "cli", "--size-mib", "64"]), "cli");
    let listed = world.courier(&["volume", "ls"]);
    assert!(listed.contains("cli") && listed.contains("64 MiB"), "{listed}");
    let id = world.courier(&["sandbox", "new", "--volume", "cli:/data"]);
    let seen = world.courier(&["sandbox", "exec", &id, "--", "stat", "-c", "%U %F", "/data"]);
    assert_eq!(seen, "user directory");
    world.courier(&["sandbox", "kill", &id]);
    assert_eq!(world.courier(&["volume", "rm", "cli"]), "cli");
}

fn what_was_written_outlives_a_killed_server_and_a_killed_launcher(world: &World) {
    let volume = world.volume("crash", 64);
    let sandbox = volume.sandbox("/data");
    sandbox.sh("echo kept > /data/a && sync").assert_ok();
    volume.write("/b", b"written").assert_status(201);
    world.server.kill_9();
    world.server.restart();
    // The sandbox is adopted with its volume.
    assert_eq!(sandbox.sh("cat /data/a /data/b").out(), "kept\nwritten");
    sandbox.sh("echo more >> /data/a && sync /data/a").assert_ok();
    let launcher = host::launcher_of(&world.server.data).expect("a launcher runs");
    world.server.kill_9();
    host::kill_9(launcher);
    wait::until("no loop device is left", NOTICED, || {
        let left = world.loop_devices();
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    world.server.restart();
    let again = volume.sandbox("/data");
    assert_eq!(again.sh("cat /data/a").out(), "kept\nmore");
    again.kill();
    volume.delete().assert_status(204);
}

fn two_sandboxes_see_what_each_other_does_as_it_is_promised(world: &World) {
    let volume = world.volume("pair", 64);
    let (one, two) = (volume.sandbox("/data"), volume.sandbox("/data"));
    // A whole file by a rename: never half of it.
    let writer = "for i in $(seq 200); do printf '%08d%08d' $i $i > /data/.new && \
                  mv /data/.new /data/now; done";
    let reader = "until [ -e /data/done ]; do a=$(cat /data/now 2>/dev/null) || continue; \
                  [ \"${a:0:8}\" = \"${a:8}\" ] || { echo \"torn: $a\"; exit 1; }; done";
    std::thread::scope(|scope| {
        let read = scope.spawn(|| two.sh(reader));
        one.sh(writer).assert_ok();
        one.sh("touch /data/done").assert_ok();
        read.join().expect("the reader ends").assert_ok();
    });
    // A folder is made by one of them only.
    let taken = "for i in $(seq 100); do mkdir /data/lock.$i 2>/dev/null && echo $i; done";
    let (mine, yours) = std::thread::scope(|scope| {
        let yours = scope.spawn(|| two.sh(taken));
        (one.sh(taken).out(), yours.join().expect("it ends").out())
    });
    let mut all: Vec<&str> = mine.lines().chain(yours.lines()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), mine.lines().count() + yours.lines().count()), (100, 100));
    // Memory that is mapped from a file is shared between sandboxes too.
    let map = "import mmap,os;f=os.open('/data/map',os.O_RDWR|os.O_CREAT);os.ftruncate(f,4096);\
               m=mmap.mmap(f,4096);m[0:5]=b'hello';m.flush()";
    one.sh(&format!("python3 -c \"{map}\"")).assert_ok();
    assert_eq!(two.sh("head -c 5 /data/map").out(), "hello");
    // Locks are each sandbox's own: that is told in the documentation.
    let lock = "import fcntl,time;f=open('/data/now');fcntl.flock(f,fcntl.LOCK_EX|fcntl.LOCK_NB)";
    let mark = "open('/data/held','w').close();time.sleep(2)";
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| one.sh(&format!("python3 -c \"{lock};{mark}\"")));
        two.sh("until [ -e /data/held ]; do :; done").assert_ok();
        two.sh(&format!("python3 -c \"{lock}\"")).assert_ok();
        assert_ne!(one.sh(&format!("python3 -c \"{lock}\"")).code(), 0, "it is held in there");
        holder.join().expect("it ends").assert_ok();
    });
    one.kill();
    two.kill();
    volume.delete().assert_status(204);
}

fn a_full_volume_hurts_nobody_else_and_has_room_again(world: &World) {
    let volume = world.volume("full", 32);
    let sandbox = volume.sandbox("/data");
    let filled = sandbox.sh("head -c 64M /dev/zero > /data/all");
    assert!(filled.code() != 0 && filled.err().contains("No space left"), "{}", filled.err());
    let refused = volume.write("/more", &vec![1; 4 << 20]);
    refused.assert_status(507);
    // Nothing of what did not fit is there.
    assert_eq!(sandbox.sh("ls -A /data").out(), "all");
    sandbox.sh("echo x > /tmp/x && rm /data/all").assert_ok();
    volume.write("/more", &vec![1; 4 << 20]).assert_status(201);
    sandbox.kill();
    volume.delete().assert_status(204);
}

fn a_volume_in_use_is_not_deleted_and_a_deleted_one_is_gone(world: &World) {
    let volume = world.volume("used", 32);
    let sandbox = volume.sandbox("/data");
    volume.delete().assert_error(409, &sandbox.id);
    sandbox.sh("echo still > /data/there").assert_ok();
    sandbox.kill();
    // A sandbox of the server's own that has it stands in nobody's way.
    assert_eq!(volume.read("/there").assert_status(200).text(), "still\n");
    assert_eq!(world.server.running().len(), 0, "it is not shown");
    volume.delete().assert_status(204);
    volume.read("/there").assert_error(401, "gone");
    volume.delete().assert_error(404, "not found");
    let path = world.server.data.join("launcher/volumes");
    let left = |path: &PathBuf| std::fs::read_dir(path).map(Iterator::count).unwrap_or_default();
    let owners = std::fs::read_dir(&path).expect("there were volumes").flatten();
    assert_eq!(owners.map(|owner| left(&owner.path())).sum::<usize>(), 0);
}

fn the_content_of_a_volume_leads_nowhere_else(world: &World) {
    let volume = world.volume("links", 64);
    let sandbox = volume.sandbox("/data");
    let links = "ln -s / /data/root; ln -s /etc/passwd /data/passwd; ln -s ../../etc /data/up; \
                 ln -s /data/self /data/self; ln -s inner/.. /data/fine; mkdir /data/inner; \
                 echo in > /data/inner/file; mkfifo /data/pipe; ln -s /proc/self/environ /data/env";
    sandbox.root(links).assert_ok();
    for path in
        ["/root/etc/passwd", "/passwd", "/up/passwd", "/env", "/self", "/../etc/passwd", ".."]
    {
        volume.read(path).assert_status(400);
        volume.write(path, b"x").assert_status(400);
    }
    assert_eq!(volume.read("/fine/inner/file").assert_status(200).text(), "in\n");
    let stat = volume.content("GET", "path", "/passwd").send(world.server.address);
    assert_eq!(stat.assert_status(200).json()["type"], "symlink");
    // What is removed is the link.
    volume.content("DELETE", "path", "/root").send(world.server.address).assert_status(204);
    volume.content("DELETE", "path", "/").send(world.server.address).assert_status(400);
    assert_eq!(sandbox.sh("test -e /etc/passwd && echo there").out(), "there");
    let odd = "/inner/ä%2f..\n\u{1f600}?&#";
    volume.write(odd, b"odd").assert_status(201);
    assert_eq!(volume.read(odd).assert_status(200).text(), "odd");
    sandbox.kill();
    volume.delete().assert_status(204);
}

fn a_token_opens_its_own_volume_and_nothing_else(world: &World) {
    let (one, two) = (world.volume("one", 32), world.volume("two", 32));
    one.write("/a", b"one").assert_status(201);
    let stolen =
        Volume { token: two.token.clone(), id: one.id.clone(), name: String::new(), ..one };
    stolen.read("/a").assert_error(401, "token");
    let target = format!("/volumecontent/{}/file?path=/a", one.id);
    Request::new("GET", &target).send(world.server.address).assert_error(401, "token");
    world.server.request("GET", &target).send(world.server.address).assert_error(401, "token");
    let bearer = format!("Bearer {}", one.token);
    let sandboxes = Request::new("GET", "/v2/sandboxes").header("Authorization", &bearer);
    sandboxes.send(world.server.address).assert_status(401);
    for path in ["", "/none", "/a/b"] {
        let status = one.read(path).status;
        assert!((400..500).contains(&status), "{path:?}: {status}");
    }
    one.delete().assert_status(204);
    two.delete().assert_status(204);
}

fn senseless_orders_are_refused_and_make_nothing(world: &World) {
    for (body, part) in [
        (json!({"name": ""}), "a-z"),
        (json!({"name": "../x"}), "a-z"),
        (json!({"name": "x".repeat(129)}), "128"),
        (json!({"name": "x", "sizeMB": 1}), "MiB"),
        (json!({}), "name"),
        (Value::Null, "object"),
    ] {
        world.server.call("POST", "/volumes", Some(&body)).assert_error(400, part);
    }
    let volume = world.volume("orders", 32);
    for path in ["", "/", "data", "/a/../b", "/proc/x", "/usr", "/a\n"] {
        let mounts = json!([{"name": volume.name, "path": path}]);
        let body = json!({"templateID": "base", "volumeMounts": mounts});
        world.server.call("POST", "/v2/sandboxes", Some(&body)).assert_error(400, "place");
    }
    let body = json!({"templateID": "base", "volumeMounts": [{"name": "none", "path": "/data"}]});
    world.server.call("POST", "/v2/sandboxes", Some(&body)).assert_error(404, "none");
    let many: Vec<Value> =
        (0..17).map(|n| json!({"name": volume.name, "path": format!("/m{n}")})).collect();
    let body = json!({"templateID": "base", "volumeMounts": many});
    world.server.call("POST", "/v2/sandboxes", Some(&body)).assert_error(400, "16");
    assert_eq!(world.server.running().len(), 0);
    volume.delete().assert_status(204);
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            the_npm_sdk_does_volumes_by_url,
            the_npm_sdk_does_volumes_by_domain,
            the_python_sdk_does_volumes_by_url,
            the_python_sdk_does_volumes_by_domain,
            the_command_line_makes_mounts_lists_and_deletes_volumes,
            two_sandboxes_see_what_each_other_does_as_it_is_promised,
            a_full_volume_hurts_nobody_else_and_has_room_again,
            a_volume_in_use_is_not_deleted_and_a_deleted_one_is_gone,
            the_content_of_a_volume_leads_nowhere_else,
            a_token_opens_its_own_volume_and_nothing_else,
            senseless_orders_are_refused_and_make_nothing,
            what_was_written_outlives_a_killed_server_and_a_killed_launcher,
        ],
    )
}
