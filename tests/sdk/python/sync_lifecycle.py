"""Lifecycle by the synchronous Python SDK, as E2B's documentation shows it."""

import os
import unittest

from e2b import (
    AuthenticationException,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)

from support import until


class Lifecycle(unittest.TestCase):
    def test_a_sandbox_is_created_runs_tells_about_itself_and_is_killed_twice(self):
        sandbox = Sandbox.create(timeout=60, metadata={"purpose": "python"})
        self.assertTrue(sandbox.is_running())
        info = sandbox.get_info()
        self.assertEqual(info.sandbox_id, sandbox.sandbox_id)
        self.assertEqual(info.state, SandboxState.RUNNING)
        self.assertEqual(info.metadata["purpose"], "python")
        self.assertTrue(sandbox.kill())
        self.assertFalse(sandbox.is_running())
        self.assertFalse(sandbox.kill())
        self.assertFalse(Sandbox.kill(sandbox.sandbox_id))
        with self.assertRaises(SandboxNotFoundException):
            sandbox.get_info()

    def test_a_sandbox_in_a_with_block_is_gone_after_it(self):
        with Sandbox.create("base", timeout=60, envs={"GREETING": "hello"}) as sandbox:
            self.assertEqual(sandbox.commands.run("echo $GREETING").stdout, "hello\n")
            identity = sandbox.sandbox_id
        self.assertFalse(Sandbox.kill(identity))

    def test_connecting_reaches_the_same_sandbox(self):
        with Sandbox.create(timeout=60) as first:
            first.files.write("note.txt", "from the first")
            second = Sandbox.connect(first.sandbox_id)
            self.assertEqual(second.files.read("note.txt"), "from the first")
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.connect(first.sandbox_id)

    def test_a_shortened_timeout_ends_the_sandbox_though_nobody_calls(self):
        sandbox = Sandbox.create(timeout=120)
        sandbox.set_timeout(1)
        until("the sandbox has ended", lambda: not sandbox.is_running())
        with self.assertRaises(TimeoutException):
            sandbox.commands.run("echo too late")

    def test_the_list_is_filtered_by_metadata_newest_first_and_has_pages(self):
        mark = f"list {os.getpid()} & more=%20"
        sandboxes = []
        try:
            for number in "123":
                metadata = {"mark": mark, "number": number}
                sandboxes.append(Sandbox.create(timeout=60, metadata=metadata))
            query = SandboxQuery(metadata={"mark": mark}, state=[SandboxState.RUNNING])
            pages = Sandbox.list(query=query, limit=1)
            seen = []
            while pages.has_next:
                seen += [item.metadata["number"] for item in pages.next_items()]
            self.assertEqual(seen, ["3", "2", "1"])
        finally:
            for sandbox in sandboxes:
                sandbox.kill()

    def test_a_wrong_key_an_unknown_id_and_an_unknown_template_have_their_errors(self):
        with self.assertRaises(AuthenticationException):
            Sandbox.create(api_key="e2b_" + "0" * 40)
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.connect("i00000000000000000000")
        with self.assertRaisesRegex(SandboxException, "no-such-template"):
            Sandbox.create("no-such-template")

    def test_two_creations_with_one_idempotency_key_make_one_sandbox(self):
        key = f"idempotent-{os.getpid()}"
        first = Sandbox.create(timeout=60, idempotency_key=key)
        try:
            second = Sandbox.create(timeout=60, idempotency_key=key)
            self.assertEqual(first.sandbox_id, second.sandbox_id)
        finally:
            first.kill()
