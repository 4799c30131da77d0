//! Whole Dockerfiles, as plans and as errors.

use proptest::strategy::Strategy as _;

use super::dockerfile::*;

fn plan_with(text: &str, given: &[(&str, &str)]) -> Result<Plan, DockerfileError> {
    let source = Source::new("Dockerfile", text.as_bytes())?;
    let given: Vec<(String, String)> =
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(&source, &given)
}

#[track_caller]
fn plan(text: &str) -> Plan {
    match plan_with(text, &[]) {
        Ok(plan) => plan,
        Err(error) => panic!("{error}"),
    }
}

/// A plan as text, one line a step.
fn shown(plan: &Plan) -> String {
    let mut text = format!("{:?}\n", plan.base);
    for step in &plan.steps {
        let action = match &step.action {
            Action::Run(command) => format!("run {command}"),
            Action::Copy(copy) => format!("{copy:?}"),
            Action::Workdir(path) => format!("workdir {path}"),
            Action::User(name) => format!("user {name}"),
            Action::Env(pairs) => format!("env {pairs:?}"),
        };
        text.push_str(&format!("{:>2}: {action}\n", step.place.line));
    }
    if let Some(start) = &plan.start {
        text.push_str(&format!("start {start}\n"));
    }
    for note in &plan.notes {
        text.push_str(&format!("note {}: {}\n", note.line, note.text));
    }
    text
}

fn runs(plan: &Plan) -> Vec<&str> {
    plan.steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Run(command) => Some(command.as_str()),
            Action::Copy(_) | Action::Workdir(_) | Action::User(_) | Action::Env(_) => None,
        })
        .collect()
}

const EVERYTHING: &str = r#"# syntax=docker/dockerfile:1
ARG VERSION=3.12
FROM python:${VERSION}-slim AS build

ARG EXTRA=fast
ENV HOME=/srv LANG="C.UTF-8" PATH=/opt/bin:$PATH
ENV GREETING hello  there
WORKDIR $HOME/app
RUN apt-get update \
    # a comment between
    && apt-get install -y "git"
RUN ["echo", "a b", "$HOME"]
COPY --chown=app --chmod=0644 requirements*.txt setup.py ./
COPY ["a file", "there/"]
COPY <<EOF /etc/motd
home is $HOME
\$HOME
EOF
COPY <<'EOF' <<-TWO etc/
$HOME
EOF
	tabbed ${EXTRA:-x}
	TWO
RUN <<EOF
set -e
echo "$HOME"
EOF
RUN cat <<A > /a && cat <<-B > /b
one
A
	two
	B
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN false | true
USER app
EXPOSE 80
LABEL a=b
HEALTHCHECK CMD curl localhost
ENTRYPOINT ["python3", "-m"]
CMD ["http.server", "8000"]
"#;

#[test]
fn everything_that_a_template_can_carry_becomes_steps() {
    insta::assert_snapshot!(shown(&plan(EVERYTHING)));
}

#[test]
fn errors_name_file_line_and_column_and_what_would_be_right() {
    let texts = [
        "",
        "# nothing\n",
        "RUN x\nFROM a\n",
        "FRM a\n",
        "FROM a\nRUN apt-get update &&\n    apt-get install git\n",
        "FROM a b\n",
        "FROM scratch\n",
        "FROM a AS one\nRUN x\nFROM b\nCOPY --from=one /x /x\n",
        "FROM --platform=linux/s390x a\n",
        "FROM a:$TAG\n",
        "FROM a\nCOPY --from=one /x /x\n",
        "FROM a\nCOPY x\n",
        "FROM a\nCOPY x y z\n",
        "FROM a\nCOPY --chmod=u+x x y\n",
        "FROM a\nCOPY --chown= x y\n",
        "FROM a\nCOPY --parents x y\n",
        "FROM a\nCOPY --exclude=x . .\n",
        "FROM a\nADD https://example.com/x.tar.gz /x\n",
        "FROM a\nADD --checksum=sha256:0 x y\n",
        "FROM a\nCOPY $FILES /x\n",
        "FROM a\nCOPY <<EOF /x\n$HOME\nEOF\n",
        "FROM a\nCOPY <<EOF /x\nbody\n",
        "FROM a\nRUN --mount=type=cache,target=/x make\n",
        "FROM a\nRUN --network=none make\n",
        "FROM a\nRUN\n",
        "FROM a\nRUN []\n",
        "FROM a\nENV A\n",
        "FROM a\nENV A=b C\n",
        "FROM a\nENV 1A=b\n",
        "FROM a\nENV A=\"b\n",
        "FROM a\nENV A='$HOME'\n",
        "FROM a\nENV A=${B%x}\n",
        "FROM a\nARG\n",
        "FROM a\nARG A-B\n",
        "FROM a\nARG A\nWORKDIR ${A:?is missing}\n",
        "FROM a\nWORKDIR\n",
        "FROM a\nUSER a:b\n",
        "FROM a\nSHELL /bin/bash -c\n",
        "FROM a\nONBUILD RUN x\n",
        "FROM a\nCMD\n",
        "# escape=|\nFROM a\n",
        "FROM a\nRUN a \\\n  && b \\\n  && c\nINCLUDE \tx\n",
    ];
    let told = texts.map(|text| plan_with(text, &[]).unwrap_err().to_string());
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn without_a_user_and_a_folder_the_sandbox_has_its_own() {
    let text = shown(&plan("FROM a\nRUN x"));
    let expected =
        " 1: user root\n 1: workdir /\n 2: run x\n 1: user user\n 1: workdir /home/user\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn a_template_is_a_base_too() {
    assert_eq!(plan("FROM template/base:1").base, Base::Template("base:1".to_owned()));
    assert_eq!(plan("FROM docker.io/template/a").base, Base::Image("docker.io/template/a".into()));
}

#[test]
fn arguments_are_variables_of_run_from_where_they_are_said_and_of_nothing_else() {
    let text = "ARG A=outer\nFROM a:$A\nRUN one\nARG A\nARG B=\"x y\"\nRUN two\nENV B=env\nARG B=late\n\
                RUN three $B\nARG C\nRUN four";
    assert_eq!(
        runs(&plan(text)),
        ["one", "export A=outer B='x y'\ntwo", "export A=outer\nthree $B", "export A=outer\nfour"]
    );
    let given = plan_with(text, &[("A", "given"), ("C", "c"), ("D", "d")]).unwrap();
    assert_eq!(given.base, Base::Image("a:given".to_owned()));
    assert_eq!(runs(&given)[3], "export A=given C=c\nfour");
    assert!(given.notes[0].text.contains("--build-arg D"), "{:?}", given.notes);
}

#[test]
fn the_platform_and_proxies_need_no_default() {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let text = "FROM --platform=linux/$TARGETARCH a:$TARGETARCH\nARG TARGETARCH\nRUN x";
    let plan = plan_with(text, &[("HTTP_PROXY", "http://p.test")]).unwrap();
    assert_eq!(plan.base, Base::Image(format!("a:{arch}")));
    assert_eq!(runs(&plan), [format!("export HTTP_PROXY=http://p.test TARGETARCH={arch}\nx")]);
    assert_eq!(plan.notes, []);
}

#[test]
fn values_that_stand_on_the_base_image_are_left_to_the_build() {
    let plan = plan("FROM a\nENV A=/x:$PATH B=1\nENV C=$A/$B PRICE=5$\n");
    let env = |index: usize| match &plan.steps[index].action {
        Action::Env(pairs) => pairs.clone(),
        other => panic!("{other:?}"),
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(env(2), [pair("A", "/x:${PATH}"), pair("B", "1")]);
    assert_eq!(env(3), [pair("C", "${A}/1"), pair("PRICE", "5$")]);
    let error = plan_with("FROM a\nENV A=/x:$PATH\nWORKDIR $A", &[]).unwrap_err();
    assert_eq!((error.line, error.column), (3, 9));
}

#[test]
fn an_entry_point_and_a_command_are_put_together_as_docker_does() {
    for (text, expected) in [
        ("CMD a b", Some("a b")),
        ("CMD [\"a\", \"b c\"]", Some("a 'b c'")),
        ("CMD []", None),
        ("CMD one\nENTRYPOINT [\"a\"]", Some("a")),
        ("ENTRYPOINT [\"a\"]\nCMD [\"b\"]\nCMD [\"c\"]", Some("a c")),
        ("ENTRYPOINT [\"a\"]\nCMD b c", Some("a /bin/sh -c 'b c'")),
        ("ENTRYPOINT a\nCMD [\"b\"]", Some("a")),
        ("SHELL [\"/bin/dash\", \"-c\"]\nCMD a b", Some("/bin/dash -c 'a b'")),
    ] {
        let plan = plan(&format!("FROM a\n{text}"));
        assert_eq!(plan.start.as_deref(), expected, "{text}");
    }
}

#[test]
fn what_was_probably_meant_as_an_array_is_said() {
    let plan = plan("FROM a\nCMD ['a', 'b']\nRUN [ -d /x ]");
    assert_eq!(plan.notes.len(), 1);
    assert_eq!(plan.notes[0].line, 2);
}

/// Pieces of Dockerfiles, at which parsers stop.
const PIECES: &[&str] = &[
    "FROM a\n",
    "ARG A=",
    "ENV A=",
    "RUN ",
    "COPY ",
    "ADD ",
    "<<E ",
    "<<-'E'",
    "E\n",
    "\n",
    "\\\n",
    "\\",
    "`",
    "# escape=`\n",
    "${A:-",
    "${",
    "}",
    "$A",
    "\"",
    "'",
    " ",
    "\t",
    "[\"a\"]",
    "[",
    "]",
    "--from=",
    "--chmod=7",
    "=",
    "é",
    "\r\n",
    "CMD ",
    "SHELL ",
    "USER ",
    "WORKDIR ",
    "FROM ",
    "#",
];

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(512))]

    /// Pieces of Dockerfiles in any order, and any bytes, give a plan or an error with a place.
    #[test]
    fn nothing_makes_the_parser_panic(
        pieces in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
                proptest::collection::vec(proptest::num::u8::ANY, 0..8),
            ],
            0..24,
        ),
    ) {
        if let Ok(source) = Source::new("D", &pieces.concat())
            && let Err(error) = parse(&source, &[("A".to_owned(), "$A".to_owned())])
        {
            proptest::prop_assert!(error.line >= 1 && error.column >= 1);
            proptest::prop_assert!(error.line <= source.text().split('\n').count());
            proptest::prop_assert!(error.to_string().len() < 4_096);
        }
    }
}
