"""The code interpreter by `e2b-code-interpreter`, as E2B's documentation shows it."""

import base64
import time
import unittest

from e2b import NotFoundException, TimeoutException
from e2b_code_interpreter import AsyncSandbox, Sandbox


class Pattern(unittest.IsolatedAsyncioTestCase):
    def test_the_pattern_that_every_integration_starts_from_works(self):
        sandbox = Sandbox.create()
        try:
            execution = sandbox.run_code("print('hello')\n1 + 1")
            self.assertEqual(execution.logs.stdout, ["hello\n"])
            self.assertIsNone(execution.error)
            self.assertEqual(execution.text, "2")
        finally:
            self.assertTrue(sandbox.kill())

    async def test_the_asynchronous_sandbox_does_the_same(self):
        sandbox = await AsyncSandbox.create()
        try:
            execution = await sandbox.run_code("print('hello')\n1 + 1")
            self.assertEqual((execution.logs.stdout, execution.text), (["hello\n"], "2"))
            context = await sandbox.create_code_context(language="js")
            shown = await sandbox.run_code("[1].map((n) => n + 1)[0]", context=context)
            self.assertEqual(shown.text, "2")
        finally:
            await sandbox.kill()


class Interpreter(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sandbox = Sandbox.create(timeout=300, envs={"OF_SANDBOX": "one"})
        cls.run_code = staticmethod(cls.sandbox.run_code)

    @classmethod
    def tearDownClass(cls):
        cls.sandbox.kill()

    def test_state_stays_and_callbacks_hear_everything(self):
        out, err, results = [], [], []
        self.run_code("kept = 20")
        execution = self.run_code(
            "import sys\nprint('o')\nprint('e', file=sys.stderr)\nkept + 1",
            on_stdout=lambda message: out.append(message.line),
            on_stderr=lambda message: err.append(message.line),
            on_result=lambda result: results.append(result.text),
        )
        self.assertEqual((out, err, results, execution.text), (["o\n"], ["e\n"], ["21"], "21"))

    def test_an_error_has_its_name_value_and_traceback(self):
        errors = []
        error = self.run_code("def f():\n    {}['key']\nf()", on_error=errors.append).error
        self.assertEqual((error.name, error.value), ("KeyError", "'key'"))
        self.assertIn("line 2", error.traceback)
        self.assertEqual(errors, [error])

    def test_variables_of_the_sandbox_and_of_an_execution_are_there(self):
        code = "import os; print(os.environ['OF_SANDBOX'], os.environ.get('OWN'))"
        self.assertEqual(self.run_code(code, envs={"OWN": "two"}).logs.stdout, ["one two\n"])
        self.assertEqual(self.run_code(code).logs.stdout, ["one None\n"])

    def test_every_language_runs(self):
        self.assertEqual(self.run_code("const n = 20; n + 1", language="javascript").text, "21")
        self.assertEqual(self.run_code("const n: number = 2; n", language="ts").text, "2")
        self.assertEqual(self.run_code("echo hi", language="bash").logs.stdout, ["hi\n"])
        self.assertEqual("".join(self.run_code("cat(mean(c(1, 3)))", language="r").logs.stdout), "2")

    def test_contexts_are_made_listed_restarted_and_removed(self):
        context = self.sandbox.create_code_context(cwd="/var/tmp", language="bash")
        self.assertEqual((context.language, context.cwd), ("bash", "/var/tmp"))
        self.assertEqual(self.run_code("kept=1; pwd", context=context).logs.stdout, ["/var/tmp\n"])
        self.assertEqual(self.sandbox.list_code_contexts()[-1].id, context.id)
        self.sandbox.restart_code_context(context)
        shown = self.run_code("echo ${kept-gone}", context=context)
        self.assertEqual(shown.logs.stdout, ["gone\n"])
        self.sandbox.remove_code_context(context)
        with self.assertRaises(NotFoundException):
            self.run_code("echo", context=context)

    def test_charts_frames_and_images_are_typed(self):
        chart = self.run_code(
            "import matplotlib.pyplot as plt\nplt.pie([1, 3], labels=['a', 'b'])\nplt.show()"
        ).results[0]
        self.assertEqual([slice.label for slice in chart.chart.elements], ["a", "b"])
        self.assertEqual(base64.b64decode(chart.png)[1:4], b"PNG")
        frame = self.run_code("import pandas as pd\npd.DataFrame({'a': [1, 2]})").results[0]
        self.assertEqual(frame.data, {"a": [1, 2]})
        self.assertIn("<table", frame.html)
        self.assertEqual(self.run_code("[1, {'a': 2}]").results[0].json, [1, {"a": 2}])

    def test_code_that_takes_too_long_is_a_timeout_and_is_interrupted(self):
        with self.assertRaises(TimeoutException):
            self.run_code("there = 7\nwhile True: pass", timeout=1)
        started = time.monotonic()
        self.assertEqual(self.run_code("there").text, "7")
        self.assertLess(time.monotonic() - started, 5)

    def test_ten_megabytes_of_output_come_complete(self):
        execution = self.run_code("for _ in range(1000): print('x' * 9999)")
        self.assertEqual(len("".join(execution.logs.stdout)), 10_000_000)
