//! Plans over the accounts of a made-up system.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const PASSWD: &str = "root:x:0:0::/nowhere:/bin/sh\nada:x:7:7::/tmp:/bin/cat\n";
const GROUP: &str = "root:x:0:\nada:x:7:\nwheel:x:10:\nsudo:x:27:ada\n";

struct System {
    root: tempfile::TempDir,
    accounts: Accounts,
}

impl System {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(root.path().join("etc/group"), GROUP).unwrap();
        let accounts = Accounts::under(root.path());
        Self { root, accounts }
    }

    fn folder(&self) -> OwnedFd {
        std::fs::File::open(self.root.path()).unwrap().into()
    }

    fn plan(&self, run: &Run) -> Result<Plan, PlanError> {
        let environment = vec!["SHELL=/bin/sh".into()];
        let from = Caller { environment, uid: 7, gid: 7 };
        Plan::of(&self.accounts, &from, run, Some(self.folder()))
    }

    #[track_caller]
    fn why(&self, run: &Run) -> String {
        self.plan(run).unwrap_err().to_string()
    }
}

fn command(line: &str) -> Run {
    Run { command: line.split(' ').map(Text::from).collect(), ..Run::default() }
}

fn at(folder: &OwnedFd) -> PathBuf {
    let status = rustix::fs::fstat(folder).unwrap();
    let is = |path: &&str| rustix::fs::stat(*path).is_ok_and(|it| it.st_ino == status.st_ino);
    ["/", "/tmp"].iter().find(|path| is(path)).map(PathBuf::from).unwrap_or_default()
}

#[test]
fn a_command_runs_as_root_under_the_name_that_was_typed() {
    let plan = System::new().plan(&command("sh -c true")).unwrap();
    assert!(Path::new(&plan.program).is_absolute() && plan.program != plan.argv0);
    assert_eq!((plan.argv0, plan.args), ("sh".into(), vec!["-c".into(), "true".into()]));
    assert_eq!((plan.target.uid, plan.target.gid), (0, 0));
}

#[test]
fn a_command_is_looked_up_in_the_secure_path_and_relative_to_the_callers_folder() {
    let system = System::new();
    let path = system.root.path().join("tool");
    std::fs::write(&path, "").unwrap();
    assert_eq!(system.why(&command("tool")), "tool: command not found");
    assert_eq!(system.why(&command("./tool")), "./tool: command not found");
    assert_eq!(system.why(&command("./etc")), "./etc: command not found");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(system.plan(&command("./tool")).unwrap().program, "./tool");
    assert_eq!(system.why(&command("tool")), "tool: command not found");
    assert_eq!(system.why(&command("")), ": command not found");
}

#[test]
fn users_and_groups_have_names_and_numbers() {
    let system = System::new();
    let target = |user: Option<&str>, group: Option<&str>| {
        let (user, group) = (user.map(Into::into), group.map(Into::into));
        let plan = system.plan(&Run { user, group, ..command("sh") }).unwrap();
        (plan.target.uid, plan.target.gid, plan.target.groups)
    };
    assert_eq!(target(Some("ada"), None), (7, 7, vec![7, 27]));
    assert_eq!(target(Some("#7"), None), (7, 7, vec![7, 27]));
    assert_eq!(target(Some("root"), Some("wheel")), (0, 10, vec![10, 0]));
    assert_eq!(
        target(None, Some("wheel")),
        (7, 10, vec![10, 7, 27]),
        "a group alone is for oneself"
    );
    assert_eq!(target(None, Some("#4242")), (7, 4242, vec![4242, 7, 27]));
    let named = |user: Option<&str>, group: Option<&str>| {
        let (user, group) = (user.map(Into::into), group.map(Into::into));
        system.why(&Run { user, group, ..command("sh") })
    };
    assert_eq!(named(Some("bob"), None), "unknown user bob");
    assert_eq!(named(Some("#8"), None), "unknown user #8");
    assert_eq!(named(Some("#-1"), None), "unknown user #-1");
    assert_eq!(named(None, Some("nobody")), "unknown group nobody");
}

#[test]
fn a_login_shell_begins_in_its_home_or_at_the_root_without_one() {
    let system = System::new();
    let login = |user: &str| {
        let run = Run { mode: Mode::Login, user: Some(user.into()), ..Run::default() };
        system.plan(&run).unwrap()
    };
    let plan = login("ada");
    assert_eq!((plan.program, plan.argv0), ("/bin/cat".into(), "-cat".into()));
    assert_eq!(at(&plan.folder), Path::new("/tmp"));
    assert!(plan.args.is_empty());
    assert_eq!(at(&login("root").folder), Path::new("/"));
}

#[test]
fn a_shell_is_the_one_that_the_caller_uses_and_gets_a_command_as_one_line() {
    let run = Run { mode: Mode::Shell, ..command("echo $HOME a;b 'c' d/é") };
    let plan = System::new().plan(&run).unwrap();
    assert_eq!((plan.program, plan.argv0), ("/bin/sh".into(), "sh".into()));
    assert_eq!(plan.args, ["-c", r"echo $HOME a\;b \'c\' d\/é"]);
}

#[test]
fn empty_words_and_new_lines_survive_a_shell() {
    let words: Vec<Text> = ["printf", "[%s]", "", "a\nb", "c d\\"].map(Text::from).into();
    let output = std::process::Command::new("sh").arg("-c").arg(quoted(&words)).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "[][a\nb][c d\\]");
}

#[test]
fn the_directory_that_was_asked_for_is_relative_to_the_callers() {
    let system = System::new();
    let inode = |run: &Run| rustix::fs::fstat(system.plan(run).unwrap().folder).unwrap().st_ino;
    let expected = |path: &str| rustix::fs::stat(system.root.path().join(path)).unwrap().st_ino;
    assert_eq!(inode(&command("sh")), expected("."));
    assert_eq!(inode(&Run { folder: Some("etc".into()), ..command("sh") }), expected("etc"));
    assert_eq!(
        system.why(&Run { folder: Some("none".into()), ..command("sh") }),
        "unable to change directory to none: No such file or directory (os error 2)"
    );
}
