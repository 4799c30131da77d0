//! What running code gives.

use serde_json::json;

use crate::rig::{Server, of, stdout, text};

#[tokio::test]
async fn python_gives_output_results_and_errors() {
    let server = Server::start().await;
    let events = server
        .execute(
            json!({"code": "import sys\nprint('out')\nprint('err', file=sys.stderr)\n'va' + 'lue'",
            "context_id": null, "language": null, "env_vars": null}),
        )
        .await;
    assert_eq!(events[0], json!({"type": "number_of_executions", "execution_count": 1}));
    assert_eq!(stdout(&events), "out\n");
    let stderr = of(&events, "stderr");
    assert_eq!(stderr[0]["text"], "err\n");
    assert!(stderr[0]["timestamp"].as_i64().unwrap() > 1_700_000_000_000_000_000);
    assert_eq!(text(&events), "value");

    let events = server.execute(json!({"code": "1/0"})).await;
    let error = of(&events, "error")[0];
    assert_eq!(
        (&error["name"], &error["value"]),
        (&json!("ZeroDivisionError"), &json!("division by zero"))
    );
    let traceback = error["traceback"].as_str().unwrap();
    assert!(traceback.contains("1/0") && !traceback.contains('\u{1b}'), "{traceback}");
    assert_eq!(events[0]["execution_count"], 2);
}

#[tokio::test]
async fn results_come_as_data_charts_images_and_json() {
    let server = Server::start().await;
    let frame = server
        .execute(json!({"code": "import pandas as pd\npd.DataFrame({'n': [1, float('nan')], \
            't': [pd.Timestamp('2026-01-02'), pd.NaT]})"}))
        .await;
    let frame = of(&frame, "result")[0];
    assert_eq!(frame["data"], json!({"n": [1.0, null], "t": ["2026-01-02T00:00:00", null]}));
    assert!(frame["html"].as_str().unwrap().contains("<table"));

    let chart = server
        .execute(
            json!({"code": "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4], label='l')\n\
            plt.title('T'); plt.xlabel('x (s)'); plt.show()"}),
        )
        .await;
    let chart = of(&chart, "result")[0];
    assert_eq!((&chart["chart"]["type"], &chart["chart"]["title"]), (&json!("line"), &json!("T")));
    assert_eq!(chart["chart"]["x_unit"], "s");
    assert_eq!(
        chart["chart"]["elements"],
        json!([{"label": "l", "points": [[1.0, 3.0], [2.0, 4.0]]}])
    );
    assert!(chart["png"].as_str().unwrap().starts_with("iVBOR"));
    assert_eq!(chart["is_main_result"], false);

    let image = server
        .execute(json!({"code": "from PIL import Image\nImage.new('RGB', (2, 2)).save('a.png')"}))
        .await;
    assert!(of(&image, "result")[0]["png"].is_string());
    assert!(server.cwd.path().join("a.png").exists());

    let object = server.execute(json!({"code": "{'a': [1, 2]}"})).await;
    assert_eq!(of(&object, "result")[0]["json"], json!({"a": [1, 2]}));
}

#[tokio::test]
async fn javascript_and_typescript_wait_import_and_declare_again() {
    let server = Server::start().await;
    let js = |code: &str| json!({"code": code, "language": "js"});
    for (code, expected) in [
        ("const a = 1; a + 1", "2"),
        ("const a = 5; class A { v() { return a } }; new A().v()", "5"),
        ("const { b, ...c } = await Promise.resolve({ b: 1, d: 2 }); c", "{ d: 2 }"),
        ("function twice(x) { return 2 * x }; await 0; twice(b)", "2"),
        ("twice(a)", "10"),
        ("import os, { platform as p } from 'node:os'; os.platform() === p()", "true"),
        ("p()", "linux"),
    ] {
        assert_eq!(text(&server.execute(js(code)).await), expected, "{code}");
    }
    let events = server.execute(js("console.log('x'); throw new TypeError('no')")).await;
    assert_eq!(stdout(&events), "x\n");
    let error = of(&events, "error")[0];
    assert_eq!((&error["name"], &error["value"]), (&json!("TypeError"), &json!("no")));

    let typed = "enum E { A = 3 }; interface I { n: number }; const i: I = { n: E.A }; i.n";
    let events = server.execute(json!({"code": typed, "language": "ts"})).await;
    assert_eq!(text(&events), "3");
    let events = server.execute(json!({"code": "typeof a", "language": "typescript"})).await;
    assert_eq!(text(&events), "undefined", "each language has a context of its own");
}

#[tokio::test]
async fn variables_of_an_execution_are_there_for_it_alone() {
    let server = Server::start().await;
    let given = json!({"GIVEN": "mine", "OWN": "it's \"$HOME\""});
    for (language, read, own, before) in [
        (
            "python",
            "import os; print(os.environ.get('GIVEN'), os.environ.get('OWN'))",
            "it's \"$HOME\"",
            "None",
        ),
        (
            "javascript",
            "console.log(process.env.GIVEN, process.env.OWN)",
            "it's \"$HOME\"",
            "undefined",
        ),
        ("bash", "echo \"$GIVEN\" \"${OWN-unset}\"", "it's \"$HOME\"", "unset"),
    ] {
        let run = |variables| {
            server.execute(json!({"code": read, "language": language, "env_vars": variables}))
        };
        assert_eq!(stdout(&run(given.clone()).await), format!("mine {own}\n"), "{language}");
        assert_eq!(
            stdout(&run(json!(null)).await),
            format!("from the sandbox {before}\n"),
            "{language}"
        );
    }
}
