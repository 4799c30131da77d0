use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use courier_archive::{Reader, decompress};

use super::super::dockerfile::{Action, Source, parse};
use super::*;

/// A context with some files.
fn context(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn copy(instruction: &str) -> Copy {
    let text = format!("FROM a\n{instruction}\n");
    let plan = parse(&Source::new("D", text.as_bytes()).unwrap(), &[]).unwrap();
    let copy = plan.steps.into_iter().find_map(|step| match step.action {
        Action::Copy(copy) => Some(copy),
        Action::Run(_) | Action::Workdir(_) | Action::User(_) | Action::Env(_) => None,
    });
    copy.unwrap()
}

fn pack(folder: &tempfile::TempDir, instruction: &str) -> Result<Packed, String> {
    let context = Context::open(folder.path(), None).map_err(|error| error.to_string())?;
    context.pack(&copy(instruction)).map_err(|error| match error {
        ContextError::Asked(fault) => format!("{}; {}", fault.what, fault.remedy),
        other => other.to_string(),
    })
}

/// The entries of an archive, one line each.
fn listed(packed: Packed) -> Vec<String> {
    let mut reader = Reader::new(decompress(packed.archive).unwrap(), Bounds::CONTEXT);
    let mut lines = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let header = entry.header.clone();
        assert_eq!((header.uid, header.gid, header.mtime), (0, 0, (TIME, 0)));
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let what = match header.kind {
            Kind::Directory => "/".to_owned(),
            Kind::Symlink { target } => format!(" -> {}", String::from_utf8_lossy(&target)),
            _ => format!(" = {content}"),
        };
        lines.push(format!("{:o} {}{what}", header.mode, header.path));
    }
    lines
}

#[track_caller]
fn of(folder: &tempfile::TempDir, instruction: &str) -> (String, Vec<String>) {
    match pack(folder, instruction) {
        Ok(packed) => (packed.source.clone(), listed(packed)),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn refused(folder: &tempfile::TempDir, instruction: &str) -> String {
    match pack(folder, instruction) {
        Ok(packed) => panic!("{packed:?}"),
        Err(error) => error.replace(&folder.path().display().to_string(), "CONTEXT"),
    }
}

#[test]
fn one_file_goes_by_its_name_and_a_folder_by_its_content() {
    let folder = context(&[("a/b/c.txt", "c"), ("a/d", "d")]);
    fs::set_permissions(folder.path().join("a/d"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(folder.path().join("a/b"), fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(of(&folder, "COPY a/d /x"), ("d".into(), vec!["755 d = d".into()]));
    let whole = ["750 b/", "644 b/c.txt = c", "755 d = d"].map(str::to_owned).to_vec();
    assert_eq!(of(&folder, "COPY a /x"), (".".into(), whole.clone()));
    assert_eq!(of(&folder, "COPY ./a/ /x"), (".".into(), whole));
}

#[test]
fn several_sources_and_patterns_are_put_together() {
    let folder = context(&[("a.txt", "a"), ("b.txt", "b"), ("sub/c", "c"), ("sub/a.txt", "other")]);
    let (source, lines) = of(&folder, "COPY *.txt s?b /x/");
    assert_eq!((source.as_str(), lines.len()), (".", 3));
    // What comes later replaces what came before.
    assert_eq!(lines, ["644 a.txt = other", "644 b.txt = b", "644 c = c"]);
    assert_eq!(of(&folder, "COPY sub/*.txt /x").0, "a.txt");
    assert!(refused(&folder, "COPY *.txt /x").contains("write /x/ as the destination"));
    assert!(refused(&folder, "COPY *.md /x/").starts_with("nothing in the context fits *.md"));
}

#[test]
fn here_documents_are_files_of_the_archive() {
    let folder = context(&[]);
    let (source, lines) = of(&folder, "COPY <<one /x\ntext\none");
    assert_eq!((source.as_str(), lines), ("one", vec!["644 one = text\n".to_owned()]));
}

#[test]
fn what_dockerignore_leaves_out_stays_out() {
    let folder = context(&[
        (".dockerignore", "*.log\nnode_modules\n!node_modules/keep\n"),
        ("a.log", ""),
        ("b", "b"),
        ("node_modules/keep/x", "x"),
        ("node_modules/other/y", "y"),
    ]);
    let (_source, lines) = of(&folder, "COPY . /x/");
    let names: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(names, [".dockerignore", "b", "node_modules/keep/", "node_modules/keep/x"]);
    assert!(refused(&folder, "COPY a.log /x").starts_with("a.log is left out by .dockerignore"));
    let own = folder.path().join("Dockerfile");
    fs::write(folder.path().join("Dockerfile.dockerignore"), "[z-a]").unwrap();
    let error = Context::open(folder.path(), Some(&own)).unwrap_err().to_string();
    assert!(error.contains("Dockerfile.dockerignore:1: "), "{error}");
}

#[test]
fn links_are_kept_as_they_are_and_lead_nobody_out() {
    let folder = context(&[("real/a", "a"), ("sub/b", "b")]);
    symlink("/etc/passwd", folder.path().join("sub/absolute")).unwrap();
    symlink("../real", folder.path().join("sub/inside")).unwrap();
    symlink("real", folder.path().join("alias")).unwrap();
    symlink("..", folder.path().join("up")).unwrap();
    let (_source, lines) = of(&folder, "COPY sub /x");
    assert_eq!(lines, ["777 absolute -> /etc/passwd", "644 b = b", "777 inside -> ../real"]);
    assert_eq!(of(&folder, "COPY alias /x").1, ["644 a = a"]);
    for source in ["up", "up/a", "sub/absolute"] {
        let error = refused(&folder, &format!("COPY {source} /x"));
        assert!(error.contains("leads out of the context"), "{error}");
    }
    assert!(refused(&folder, "COPY ../x /x").starts_with("../x leads out of the context"));
}

#[test]
fn what_cannot_be_copied_is_told_with_what_to_do() {
    let folder = context(&[("a.tar", ""), ("[slug].ts", "x"), ("f", "")]);
    fs::write(folder.path().join("a.tar"), [0x1f, 0x8b, 8]).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::Mode::RUSR)
        .unwrap();
    let told = [
        "COPY none /x",
        "COPY f/g /x",
        "ADD a.tar /x",
        "COPY pipe /x",
        "COPY . /x",
        "COPY *.ts /x",
    ]
    .map(|instruction| format!("{instruction}: {}", refused(&folder, instruction)));
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(pack(&folder, "COPY a.tar /x").unwrap().source, "a.tar");
    assert_eq!(of(&folder, "COPY *.ts /x/").0, ".");
}

#[test]
fn the_same_files_give_the_same_archive_and_others_another() {
    let files = [("a", "one"), ("b/c", "two")];
    let packed = |folder: &tempfile::TempDir| pack(folder, "COPY . /x/").unwrap();
    let bytes = |packed: &mut Packed| {
        let mut bytes = Vec::new();
        packed.archive.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let (first, second) = (context(&files), context(&files));
    let (mut one, mut two) = (packed(&first), packed(&second));
    assert_eq!(one.hash, two.hash);
    assert_eq!(one.hash.len(), 64);
    let length = one.length;
    let whole = bytes(&mut one);
    assert_eq!(whole, bytes(&mut two));
    assert_eq!(whole.len() as u64, length);
    fs::set_permissions(first.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(packed(&first).hash, two.hash);
    fs::write(second.path().join("a"), "two").unwrap();
    assert_ne!(packed(&second).hash, two.hash);
    let (moved, other) = (context(&[("a", "one"), ("b/d", "two")]), context(&files));
    assert_ne!(packed(&moved).hash, packed(&other).hash);
}
