"""Commands, files and terminals by the synchronous Python SDK, as E2B's documentation shows them."""

import gzip
import io
import unittest

from e2b import (
    CommandExitException,
    FileType,
    FilesystemEventType,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxException,
    TimeoutException,
)

from support import until


class Shared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sandbox = Sandbox.create(timeout=300)
        cls.run_command = staticmethod(cls.sandbox.commands.run)
        cls.files = cls.sandbox.files

    @classmethod
    def tearDownClass(cls):
        cls.sandbox.kill()


class Commands(Shared):
    def test_output_exit_code_and_callbacks(self):
        out, err = [], []
        result = self.run_command("echo out; echo err >&2", on_stdout=out.append, on_stderr=err.append)
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, "out\n", "err\n"))
        self.assertEqual(("".join(out), "".join(err)), ("out\n", "err\n"))

    def test_a_failing_command_raises_with_everything_in_it(self):
        with self.assertRaises(CommandExitException) as raised:
            self.run_command("echo half; echo why >&2; exit 3")
        self.assertEqual(raised.exception.exit_code, 3)
        self.assertEqual(raised.exception.stdout, "half\n")
        self.assertEqual(raised.exception.stderr, "why\n")

    def test_a_background_command_takes_input_is_listed_and_waited_for(self):
        handle = self.run_command("read line; echo got $line", background=True, stdin=True)
        self.assertIn(handle.pid, [process.pid for process in self.sandbox.commands.list()])
        self.sandbox.commands.send_stdin(handle.pid, "a line\n")
        self.assertEqual(handle.wait().stdout, "got a line\n")
        self.assertNotIn(handle.pid, [process.pid for process in self.sandbox.commands.list()])

    def test_input_can_be_streamed_and_closed(self):
        handle = self.run_command("wc -c", background=True, stdin=True)
        self.sandbox.commands.stream_input(handle.pid, iter([b"x" * 65_536] * 16))
        handle.close_stdin()
        self.assertEqual(handle.wait().stdout.strip(), str(16 * 65_536))

    def test_connecting_to_a_running_command_sees_its_end(self):
        script = "until [ -e /tmp/gate ]; do sleep 0.05; done; echo late"
        handle = self.run_command(script, background=True)
        handle.disconnect()
        again = self.sandbox.commands.connect(handle.pid)
        self.files.write("/tmp/gate", "")
        self.assertEqual(again.wait().stdout, "late\n")

    def test_killing_works_once_and_a_timeout_is_a_timeout(self):
        handle = self.run_command("sleep 60", background=True)
        self.assertTrue(handle.kill())
        self.assertFalse(self.sandbox.commands.kill(handle.pid))
        with self.assertRaises(CommandExitException):
            self.run_command(f"kill -0 {handle.pid}")
        with self.assertRaises(TimeoutException):
            self.run_command("sleep 60", timeout=0.5)

    def test_user_root_sudo_folder_and_environment(self):
        self.assertEqual(self.run_command("whoami", user="root").stdout, "root\n")
        self.assertEqual(self.run_command("sudo whoami").stdout, "root\n")
        result = self.run_command("pwd; echo $A", cwd="/tmp", envs={"A": "b c"})
        self.assertEqual(result.stdout, "/tmp\nb c\n")
        with self.assertRaisesRegex(SandboxException, "does not exist"):
            self.run_command("pwd", cwd="/not/there")

    def test_an_unknown_process_is_not_found(self):
        with self.assertRaises(NotFoundException):
            self.sandbox.commands.connect(999_999)
        self.assertFalse(self.sandbox.commands.kill(999_999))


class Files(Shared):
    def test_text_bytes_streams_and_files_go_in_and_out_unchanged(self):
        info = self.files.write("text.txt", "grüß Gott")
        self.assertEqual(info.path, "/home/user/text.txt")
        self.assertEqual(self.files.read("text.txt"), "grüß Gott")
        pattern = bytes(range(256)) * 4096
        self.files.write("bytes.bin", pattern)
        self.assertEqual(bytes(self.files.read("bytes.bin", format="bytes")), pattern)
        self.files.write("io.bin", io.BytesIO(pattern))
        self.assertEqual(b"".join(self.files.read("io.bin", format="stream")), pattern)
        self.files.write("empty", "")
        self.assertEqual(self.files.read("empty"), "")

    def test_compressed_transfer_gives_the_same_bytes(self):
        text = "again and again " * 10_000
        self.files.write("gzip.txt", text, gzip=True)
        self.assertEqual(self.files.read("gzip.txt", gzip=True), text)
        raw = self.files.read("gzip.txt", format="bytes")
        self.assertNotEqual(bytes(raw)[:2], gzip.compress(b"")[:2])

    def test_many_files_in_one_call(self):
        entries = [{"path": f"many/{n}.txt", "data": f"content {n}"} for n in range(10)]
        self.assertEqual(len(self.files.write_files(entries)), 10)
        self.assertEqual(self.files.read("many/7.txt"), "content 7")

    def test_metadata_is_kept_with_a_file(self):
        self.files.write("meta.txt", "x", metadata={"Origin": "test"})
        self.assertEqual(self.files.get_info("meta.txt").metadata, {"origin": "test"})

    def test_folders_are_made_listed_renamed_and_removed(self):
        self.assertTrue(self.files.make_dir("tree/branch"))
        self.assertFalse(self.files.make_dir("tree/branch"))
        self.files.write("tree/branch/leaf", "x")
        self.assertEqual([e.name for e in self.files.list("tree", depth=2)], ["branch", "leaf"])
        moved = self.files.rename("tree/branch", "moved")
        self.assertEqual((moved.path, moved.type), ("/home/user/moved", FileType.DIR))
        self.assertFalse(self.files.exists("tree/branch"))
        self.assertTrue(self.files.exists("moved/leaf"))
        self.files.remove("moved")
        self.assertFalse(self.files.exists("moved"))
        self.files.remove("moved")

    def test_what_is_missing_is_not_found(self):
        for missing in (self.files.read, self.files.get_info, self.files.list):
            with self.assertRaises(NotFoundException):
                missing("missing")
        with self.assertRaises(NotFoundException):
            self.files.rename("missing", "there")

    def test_a_file_of_the_kernel_is_read_to_its_end(self):
        self.assertEqual(len(self.files.read("/proc/sys/kernel/random/boot_id")), 37)

    def test_watching_tells_of_a_new_file_in_exactly_three_events(self):
        self.files.make_dir("watched")
        watcher = self.files.watch_dir("watched")
        self.files.write("watched/new.txt", "x")
        events = []

        def three_events():
            events.extend(watcher.get_new_events())
            return len(events) >= 3

        until("three events", three_events)
        self.assertEqual(events[0].type, FilesystemEventType.CREATE)
        self.assertEqual({event.name for event in events}, {"new.txt"})
        kinds = {FilesystemEventType.CREATE, FilesystemEventType.CHMOD, FilesystemEventType.WRITE}
        self.assertEqual({event.type for event in events}, kinds)
        self.assertEqual(watcher.get_new_events(), [])
        watcher.stop()
        with self.assertRaises(SandboxException):
            watcher.get_new_events()

    def test_watching_recursively_and_what_is_no_folder(self):
        self.files.make_dir("deep")
        watcher = self.files.watch_dir("deep", recursive=True)
        self.files.write("deep/a/b/c.txt", "x")
        names = set()

        def nested():
            names.update(event.name for event in watcher.get_new_events())
            return "a/b/c.txt" in names

        until("the nested file", nested)
        watcher.stop()
        self.files.write("plain.txt", "x")
        with self.assertRaises(InvalidArgumentException):
            self.files.watch_dir("plain.txt")


class Terminals(Shared):
    def test_a_terminal_echoes_is_resized_and_exits_with_its_code(self):
        handle = self.sandbox.pty.create(PtySize(rows=24, cols=80), envs={"MARK": "marked"})
        self.sandbox.pty.resize(handle.pid, PtySize(rows=43, cols=132))
        self.sandbox.pty.send_stdin(handle.pid, b'echo "$MARK-$(whoami)"; stty size; exit 7\n')
        seen = bytearray()
        with self.assertRaises(CommandExitException) as raised:
            handle.wait(on_pty=seen.extend)
        self.assertEqual(raised.exception.exit_code, 7)
        self.assertIn(b"marked-user", seen)
        self.assertIn(b"43 132", seen)

    def test_killing_a_terminal_works_once(self):
        handle = self.sandbox.pty.create(PtySize(rows=24, cols=80))
        self.assertTrue(self.sandbox.pty.kill(handle.pid))
        self.assertFalse(self.sandbox.pty.kill(handle.pid))
