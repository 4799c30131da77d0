"""The asynchronous Python SDK, as E2B's documentation shows it."""

import asyncio
import unittest

from e2b import (
    AsyncSandbox,
    CommandExitException,
    FilesystemEventType,
    NotFoundException,
    PtySize,
    SandboxNotFoundException,
    TimeoutException,
)

from support import until_async


class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.sandbox = await AsyncSandbox.create(timeout=120)

    async def asyncTearDown(self):
        await self.sandbox.kill()

    async def test_lifecycle(self):
        self.assertTrue(await self.sandbox.is_running())
        await self.sandbox.set_timeout(90)
        again = await AsyncSandbox.connect(self.sandbox.sandbox_id)
        self.assertTrue(await again.kill())
        self.assertFalse(await self.sandbox.is_running())
        with self.assertRaises(SandboxNotFoundException):
            await self.sandbox.get_info()

    async def test_commands_with_callbacks_input_and_errors(self):
        seen = []

        async def take(text):
            seen.append(text)

        result = await self.sandbox.commands.run("echo out; echo err >&2", on_stdout=take)
        self.assertEqual((result.stdout, result.stderr), ("out\n", "err\n"))
        self.assertEqual("".join(seen), "out\n")
        handle = await self.sandbox.commands.run("cat; exit 3", background=True, stdin=True)
        await handle.send_stdin("typed")
        await handle.close_stdin()
        with self.assertRaises(CommandExitException) as raised:
            await handle.wait()
        self.assertEqual((raised.exception.exit_code, raised.exception.stdout), (3, "typed"))
        with self.assertRaises(TimeoutException):
            await self.sandbox.commands.run("sleep 60", timeout=0.5)

    async def test_many_commands_at_once_keep_their_outputs_apart(self):
        runs = [self.sandbox.commands.run(f"echo {n}") for n in range(20)]
        results = await asyncio.gather(*runs)
        self.assertEqual([result.stdout for result in results], [f"{n}\n" for n in range(20)])

    async def test_files_and_watching(self):
        files = self.sandbox.files
        await files.write("a/b.txt", "text")
        self.assertEqual(await files.read("a/b.txt"), "text")
        parts = [part async for part in await files.read("a/b.txt", format="stream")]
        self.assertEqual(b"".join(parts), b"text")
        with self.assertRaises(NotFoundException):
            await files.read("missing")
        events = []
        handle = await files.watch_dir("a", events.append)
        await files.write("a/new.txt", "x")
        await until_async("three events", lambda: len(events) >= 3)
        self.assertEqual(events[0].type, FilesystemEventType.CREATE)
        await handle.stop()

    async def test_a_terminal(self):
        seen = bytearray()
        handle = await self.sandbox.pty.create(PtySize(rows=24, cols=80), on_data=seen.extend)
        await self.sandbox.pty.send_stdin(handle.pid, b"echo $((40 + 2))-shown\n")
        await until_async("the answer", lambda: b"42-shown" in seen)
        self.assertTrue(await handle.kill())

    async def test_a_request_in_flight_tells_that_the_sandbox_was_killed(self):
        handle = await self.sandbox.commands.run("sleep 60", background=True)
        waiting = asyncio.create_task(handle.wait())
        await self.sandbox.kill()
        with self.assertRaises(TimeoutException):
            await waiting
