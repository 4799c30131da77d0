"""What every version of `e2b-code-interpreter` from PyPI is held to."""

from checks import check, end
from e2b_code_interpreter import Sandbox

sandbox = None


@check("create")
def _():
    global sandbox
    sandbox = getattr(Sandbox, "create", Sandbox)(timeout=120)


if sandbox is None:
    end()


@check("code")
def _():
    execution = sandbox.run_code('x = 41\nx += 1\nprint("hello")\nx')
    told = ("".join(execution.logs.stdout), execution.text, execution.error)
    assert told == ("hello\n", "42", None), told


@check("state")
def _():
    assert sandbox.run_code("x + 1").text == "43"


@check("error")
def _():
    error = sandbox.run_code("1 / 0").error
    assert error.name == "ZeroDivisionError", error
    assert "ZeroDivisionError" in error.traceback, error


@check("results")
def _():
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    assert sandbox.run_code(code).results[0].png.startswith("iVBOR")


@check("contexts")
def _():
    context = sandbox.create_code_context()
    assert sandbox.run_code("x", context=context).error.name == "NameError"


@check("language")
def _():
    execution = sandbox.run_code("console.log(6 * 7)", language="js")
    assert "".join(execution.logs.stdout) == "42\n", execution


@check("commands")
def _():
    assert sandbox.commands.run("echo beside").stdout == "beside\n"


@check("kill")
def _():
    sandbox.kill()
    try:
        sandbox.run_code("1")
    except Exception:
        return
    raise AssertionError("a killed sandbox ran code")


end()
