//! What running code gives.

use serde_json::{Value, json};

use super::rig::{World, of, stdout, text};

pub(crate) fn python_gives_output_results_and_errors(world: &World) {
    let interpreter = world.interpreter();
    let events = interpreter.execute(
        &json!({"code": "import sys\nprint('out')\nprint('err', file=sys.stderr)\n'va' + 'lue'",
        "context_id": null, "language": null, "env_vars": null}),
    );
    assert_eq!(events[0], json!({"type": "number_of_executions", "execution_count": 1}));
    assert_eq!(stdout(&events), "out\n");
    let stderr = of(&events, "stderr");
    assert_eq!(stderr[0]["text"], "err\n");
    assert!(stderr[0]["timestamp"].as_i64().expect("a number") > 1_700_000_000_000_000_000);
    assert_eq!(text(&events), "value");

    let events = interpreter.execute(&json!({"code": "1/0"}));
    let error = of(&events, "error")[0];
    assert_eq!(
        (&error["name"], &error["value"]),
        (&json!("ZeroDivisionError"), &json!("division by zero"))
    );
    let traceback = error["traceback"].as_str().expect("a text");
    assert!(traceback.contains("1/0") && !traceback.contains('\u{1b}'), "{traceback}");
    assert_eq!(events[0]["execution_count"], 2);
}

pub(crate) fn results_come_as_data_charts_images_and_json(world: &World) {
    let interpreter = world.interpreter();
    let first = |code: &str| {
        let events = interpreter.execute(&json!({"code": code}));
        let results = of(&events, "result");
        assert!(!results.is_empty(), "{events:?}");
        results[0].clone()
    };
    let frame = first(
        "import pandas as pd\npd.DataFrame({'n': [1, float('nan')], \
         't': [pd.Timestamp('2026-01-02'), pd.NaT]})",
    );
    assert_eq!(frame["data"], json!({"n": [1.0, null], "t": ["2026-01-02T00:00:00", null]}));
    assert!(frame["html"].as_str().expect("a text").contains("<table"));

    let chart = first(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4], label='l')\n\
         plt.title('T'); plt.xlabel('x (s)'); plt.show()",
    );
    assert_eq!((&chart["chart"]["type"], &chart["chart"]["title"]), (&json!("line"), &json!("T")));
    assert_eq!(chart["chart"]["x_unit"], "s");
    let points = json!([{"label": "l", "points": [[1.0, 3.0], [2.0, 4.0]]}]);
    assert_eq!(chart["chart"]["elements"], points);
    assert!(chart["png"].as_str().expect("a text").starts_with("iVBOR"));
    assert_eq!(chart["is_main_result"], false);

    let image = first("from PIL import Image\nImage.new('RGB', (2, 2)).save('a.png')");
    assert!(image["png"].is_string(), "{image}");
    assert!(interpreter.sandbox.read("/home/user/a.png").body.starts_with(b"\x89PNG"));

    assert_eq!(first("{'a': [1, 2]}")["json"], json!({"a": [1, 2]}));

    let plotly = first("import plotly.express as px\npx.bar(x=['a'], y=[1])");
    assert!(plotly["extra"]["application/vnd.plotly.v1+json"]["data"].is_array(), "{plotly}");

    let fitted = "from sklearn.linear_model import LinearRegression\nimport numpy, scipy.stats\n\
        round(LinearRegression().fit([[0], [1]], [0, 2]).coef_[0]), scipy.stats.mode([1, 2, 2]).mode";
    assert_eq!(first(fitted)["text"], "(2, np.int64(2))");
}

pub(crate) fn javascript_and_typescript_wait_import_and_declare_again(world: &World) {
    let interpreter = world.interpreter();
    let js = |code: &str| interpreter.execute(&json!({"code": code, "language": "js"}));
    for (code, expected) in [
        ("const a = 1; a + 1", "2"),
        ("const a = 5; class A { v() { return a } }; new A().v()", "5"),
        ("const { b, ...c } = await Promise.resolve({ b: 1, d: 2 }); c", "{ d: 2 }"),
        ("function twice(x) { return 2 * x }; await 0; twice(b)", "2"),
        ("twice(a)", "10"),
        ("import os, { platform as p } from 'node:os'; os.platform() === p()", "true"),
        ("p()", "linux"),
    ] {
        assert_eq!(text(&js(code)), expected, "{code}");
    }
    let events = js("console.log('x'); throw new TypeError('no')");
    assert_eq!(stdout(&events), "x\n");
    let error = of(&events, "error")[0];
    assert_eq!((&error["name"], &error["value"]), (&json!("TypeError"), &json!("no")));

    let ts = |code: &str| interpreter.execute(&json!({"code": code, "language": "ts"}));
    let typed = "enum E { A = 3 }; interface I { n: number }; const i: I = { n: E.A }; i.n";
    assert_eq!(text(&ts(typed)), "3");
    assert_eq!(text(&ts("typeof a")), "undefined", "each language has a context of its own");
}

pub(crate) fn r_and_bash_run_and_fail_as_their_users_know_them(world: &World) {
    let interpreter = world.interpreter();
    let r = |code: &str| interpreter.execute(&json!({"code": code, "language": "r"}));
    assert_eq!(stdout(&r("x <- c(1, 3); cat('größer', mean(x))")).trim(), "größer 2");
    let shown = r("data.frame(n = x)");
    assert!(of(&shown, "result")[0]["html"].as_str().expect("a text").contains("<table"));
    let plot = r("plot(1:3)");
    assert!(of(&plot, "result")[0]["png"].is_string(), "{plot:?}");
    let failed = r("stop('no')");
    assert!(of(&failed, "error")[0]["value"].as_str().expect("a text").contains("no"));

    let bash = |code: &str| interpreter.execute(&json!({"code": code, "language": "bash"}));
    assert_eq!(stdout(&bash("cd /var/tmp; y=3")), "");
    assert_eq!(stdout(&bash("pwd; for n in 1 2; do echo $((n * y)); done")), "/var/tmp\n3\n6\n");
    assert_eq!(of(&bash("(exit 7)"), "error")[0]["value"], "7");
}

/// Code that prints a variable, for each language.
const PRINT: [(&str, &str); 5] = [
    ("python", "import os; print(os.environ.get('NAME', 'unset'))"),
    ("javascript", "console.log(process.env.NAME ?? 'unset')"),
    ("typescript", "console.log(process.env.NAME ?? 'unset')"),
    ("bash", "echo \"${NAME-unset}\""),
    ("r", "cat(Sys.getenv('NAME', 'unset'), '\\n', sep = '')"),
];

/// No shell and no language may take anything of it for its own.
const AWKWARD: &str = "it's \"$HOME\" \\n `id`";

pub(crate) fn variables_of_the_sandbox_reach_every_kernel(world: &World) {
    let interpreter = world.interpreter_with(&json!({"envVars": {"GIVEN": AWKWARD}}));
    for (language, code) in PRINT {
        let code = code.replace("NAME", "GIVEN");
        let events = interpreter.execute(&json!({"code": code, "language": language}));
        assert_eq!(stdout(&events), format!("{AWKWARD}\n"), "{language}");
    }
}

pub(crate) fn variables_of_an_execution_are_there_for_it_alone(world: &World) {
    let interpreter = world.interpreter_with(&json!({"envVars": {"GIVEN": "the sandbox's"}}));
    let given = json!({"GIVEN": "mine", "OWN": AWKWARD});
    for (language, code) in PRINT {
        let print = |name: &str, variables: &Value| {
            let code = code.replace("NAME", name);
            let body = json!({"code": code, "language": language, "env_vars": variables});
            stdout(&interpreter.execute(&body))
        };
        assert_eq!(print("GIVEN", &given), "mine\n", "{language}");
        assert_eq!(print("OWN", &given), format!("{AWKWARD}\n"), "{language}");
        assert_eq!(print("GIVEN", &Value::Null), "the sandbox's\n", "{language}");
        assert_eq!(print("OWN", &Value::Null), "unset\n", "{language}");
    }
}

/// Installed from a folder, for the tests' sandboxes reach nothing.
pub(crate) fn a_package_that_a_cell_installs_is_there_for_the_next(world: &World) {
    let interpreter = world.interpreter();
    let project = "[project]\nname = 'little'\nversion = '1'\n\
        [build-system]\nrequires = []\nbuild-backend = 'setuptools.build_meta'\n\
        [tool.setuptools]\npy-modules = ['little']\n";
    interpreter.sandbox.write("/home/user/little/pyproject.toml", project.as_bytes());
    interpreter.sandbox.write("/home/user/little/little.py", b"size = 'small'\n");
    let install = "!pip install -q --no-build-isolation --no-index ./little";
    let events = interpreter.execute(&json!({"code": install}));
    assert_eq!(interpreter.python("import little; little.size"), "small", "{events:?}");
}
