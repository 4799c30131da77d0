"""What every version of `e2b` from PyPI is held to. Only what all versions have, under the names
that they have for it."""

import re
import time

import e2b
from checks import check, end
from e2b import CommandExitException, NotFoundException, Sandbox

sandbox = None


def until(look):
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.02)
    raise AssertionError("not in time")


def fails(kind, act):
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@check("create")
def _():
    global sandbox
    make = getattr(Sandbox, "create", Sandbox)
    sandbox = make(timeout=120, metadata={"by": "old"}, envs={"GREETING": "hi"})


if sandbox is None:
    end()


@check("command")
def _():
    seen = []
    result = sandbox.commands.run(
        'echo "$GREETING $MORE"; echo no >&2', envs={"MORE": "there"}, on_stdout=seen.append
    )
    told = (result.stdout, result.stderr, result.exit_code)
    assert told == ("hi there\n", "no\n", 0), told
    assert "".join(str(part) for part in seen) == "hi there\n", seen
    error = fails(CommandExitException, lambda: sandbox.commands.run("exit 3"))
    assert error.exit_code == 3, error


@check("background")
def _():
    handle = sandbox.commands.run("sleep 60", background=True)
    assert handle.pid in [process.pid for process in sandbox.commands.list()]
    assert handle.kill() is True
    fails(Exception, handle.wait)


@check("terminal")
def _():
    size = getattr(e2b, "PtySize", None)
    if size is None:
        from e2b.sandbox.commands.command_handle import PtySize as size
    terminal = sandbox.pty.create(size(rows=24, cols=80))
    sandbox.pty.send_stdin(terminal.pid, b"echo $((40 + 2))\n")
    seen = b""
    for _out, _err, data in terminal:
        seen += data or b""
        if re.search(rb"[\r\n]42\r", seen):
            break
    assert re.search(rb"[\r\n]42\r", seen), seen
    assert sandbox.pty.kill(terminal.pid) is True


@check("files")
def _():
    sandbox.files.write("deep/a.txt", "one")
    assert sandbox.files.read("deep/a.txt") == "one"
    assert [entry.name for entry in sandbox.files.list("deep")] == ["a.txt"]
    sandbox.files.rename("deep/a.txt", "deep/b.txt")
    assert sandbox.files.exists("deep/a.txt") is False
    sandbox.files.remove("deep/b.txt")
    fails(NotFoundException, lambda: sandbox.files.read("deep/b.txt"))


@check("watch")
def _():
    watch = getattr(sandbox.files, "watch_dir", None) or sandbox.files.watch
    handle = watch("deep")
    news = getattr(handle, "get_new_events", None) or handle.get
    sandbox.files.write("deep/watched.txt", "x")
    until(lambda: "watched.txt" in [event.name for event in news()])
    (getattr(handle, "stop", None) or handle.close)()


@check("list")
def _():
    listed = Sandbox.list()
    everything = listed.next_items() if hasattr(listed, "next_items") else listed
    ours = [one for one in everything if one.sandbox_id.startswith(sandbox.sandbox_id)]
    assert [one.metadata for one in ours] == [{"by": "old"}], ours


@check("reconnect")
def _():
    again = Sandbox.connect(sandbox.sandbox_id)
    assert again.commands.run("cat deep/watched.txt").stdout == "x"


@check("timeout")
def _():
    sandbox.set_timeout(90)
    assert sandbox.is_running() is True


@check("kill")
def _():
    sandbox.kill()
    fails(Exception, lambda: sandbox.commands.run("echo too late"))


end()
