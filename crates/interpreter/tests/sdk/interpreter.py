"""`e2b-code-interpreter` against a server on this machine."""

import unittest

from e2b import NotFoundException, TimeoutException
from e2b_code_interpreter import Sandbox


class Interpreter(unittest.TestCase):
    def test_code_runs_as_documented(self):
        sandbox = Sandbox.create()
        try:
            execution = sandbox.run_code("print('hello')\n1 + 1")
            self.assertEqual(execution.text, "2")
            self.assertEqual(execution.logs.stdout, ["hello\n"])
            self.assertIsNone(execution.error)
        finally:
            sandbox.kill()

    def test_charts_and_frames_are_typed(self):
        sandbox = Sandbox.create()
        chart = sandbox.run_code("import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.show()")
        bars = chart.results[0].chart
        self.assertEqual([(bar.label, bar.value) for bar in bars.elements], [("a", 1), ("b", 2)])
        frame = sandbox.run_code("import pandas as pd\npd.DataFrame({'a': [1, 2]})")
        self.assertEqual(frame.results[0].data, {"a": [1, 2]})

    def test_contexts_variables_and_timeouts(self):
        sandbox = Sandbox.create()
        context = sandbox.create_code_context(cwd="/tmp", language="bash")
        shown = sandbox.run_code("echo $A; pwd", context=context, envs={"A": "b"})
        self.assertEqual("".join(shown.logs.stdout), "b\n/tmp\n")
        sandbox.remove_code_context(context)
        with self.assertRaises(NotFoundException):
            sandbox.run_code("echo", context=context)
        with self.assertRaises(TimeoutException):
            sandbox.run_code("while True: pass", timeout=1)
        self.assertEqual(sandbox.run_code("1 + 1").text, "2")


unittest.main()
