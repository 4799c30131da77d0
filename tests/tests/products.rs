//! The product's own templates: each is built by its recipe in a real sandbox, with packages from
//! where this machine gets its own, and its tools do their work in another one.

use std::process::{Command, ExitCode};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::program::{self, Ended};
use courier_tests::server::courier;
use courier_tests::{suite, tests};

/// A build from nothing takes a minute or two; one that is there already takes none.
const BUILD: Duration = Duration::from_secs(1_200);
/// A run of a template's tools.
const RUN: Duration = Duration::from_secs(180);

const NODE: &str = r#"
set -eu
cd "$(mktemp -d)"
node --version | grep '^v22\.'
npm --version
pnpm --version
echo 'export const add = (a: number, b: number): number => a + b;' > add.ts
echo 'import { add } from "./add"; const sum: string = add(1, 2);' > wrong.ts
echo 'import { expect, test } from "vitest"; import { add } from "./add";
test("adds", () => expect(add(1, 2)).toBe(3));' > add.test.ts
tsc --noEmit --strict add.ts
if tsc --noEmit --strict wrong.ts; then echo 'a wrong type is taken'; exit 1; fi
vitest run
sed -i 's/toBe(3)/toBe(4)/' add.test.ts
if vitest run; then echo 'a wrong sum is taken'; exit 1; fi
echo all is well
"#;

const PYTHON: &str = r#"
set -eu
cd "$(mktemp -d)"
python3 -c 'import sys, ssl, sqlite3, ctypes, lzma; print(sys.version_info[:2])' | grep '(3, 13)'
uv --version
poetry --version
echo 'def text(number: int) -> str:
    return str(number)' > right.py
echo 'def text(number: int) -> str:
    return number' > wrong.py
echo 'import os' > unused.py
ruff check right.py
if ruff check unused.py; then echo 'an unused import is taken'; exit 1; fi
mypy --strict right.py
if mypy --strict wrong.py; then echo 'a wrong type is taken'; exit 1; fi
python3 -m venv environment
environment/bin/pip --version
echo all is well
"#;

const BUN: &str = r#"
set -eu
cd "$(mktemp -d)"
bun --version
echo 'const number: number = 41; console.log(number + 1);' > answer.ts
test "$(bun answer.ts)" = 42
echo 'import { expect, test } from "bun:test"; test("adds", () => expect(1 + 2).toBe(3));' > a.test.ts
bun test
sed -i 's/toBe(3)/toBe(4)/' a.test.ts
if bun test; then echo 'a wrong sum is taken'; exit 1; fi
echo 'const text: string = 1;' > wrong.ts
if tsc --noEmit --strict wrong.ts; then echo 'a wrong type is taken'; exit 1; fi
echo all is well
"#;

struct World {
    environment: Environment,
    folder: tempfile::TempDir,
}

impl World {
    fn make(environment: Environment) -> Self {
        let folder = environment.folder();
        Self { environment, folder }
    }

    /// Builds a template. What says where packages come from may be in the environment, so that is
    /// passed on, unlike in other tests.
    #[track_caller]
    fn build(&self, name: &str) {
        let mut build = Command::new(self.environment.binary("courier"));
        build.env("COURIER_DATA", self.folder.path().join("data"));
        build.env("COURIER_TEMPLATES", &self.environment.templates);
        build.args(["template", "build", name]);
        program::run(&mut build, b"", BUILD).assert_code(0);
    }

    /// Runs a script in a fresh sandbox of a template, which reaches nothing.
    fn run(&self, name: &str, script: &str) -> Ended {
        let mut run = courier(&self.environment, &self.folder.path().join("data"));
        run.args(["run", "--local", "--template", name, "--lang", "bash", "-"]);
        program::run(&mut run, script.as_bytes(), RUN)
    }

    #[track_caller]
    fn assert_works(&self, name: &str, script: &str) {
        self.build(name);
        let ran = self.run(name, script);
        assert!(ran.assert_code(0).out().ends_with("all is well\n"), "{}", ran.out());
    }
}

fn node_22_ts_checks_types_and_runs_tests(world: &World) {
    world.assert_works("node-22-ts", NODE);
}

fn python_checks_types_and_style_and_makes_environments(world: &World) {
    world.assert_works("python-3.12", PYTHON);
}

fn bun_ts_runs_typescript_and_tests(world: &World) {
    world.assert_works("bun-ts", BUN);
}

fn a_template_that_is_built_is_not_built_again(world: &World) {
    world.build("bun-ts");
    let image = || {
        let named = std::fs::read(world.environment.templates.join("bun-ts.json"));
        named.expect("it has a manifest")
    };
    let before = image();
    world.build("bun-ts");
    assert!(image() == before, "the manifest was written anew");
}

fn main() -> ExitCode {
    suite::run(
        World::make,
        tests![
            node_22_ts_checks_types_and_runs_tests,
            python_checks_types_and_style_and_makes_environments,
            bun_ts_runs_typescript_and_tests,
            a_template_that_is_built_is_not_built_again,
        ],
    )
}
