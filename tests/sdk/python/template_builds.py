"""Templates by the Python SDKs, as E2B's documentation builds them, from template `base`."""

import asyncio
import os
import pathlib
import tempfile
import traceback
import unittest
import urllib.request

from e2b import (
    AsyncTemplate,
    BuildException,
    Sandbox,
    Template,
    TemplateException,
    default_build_logger,
    wait_for_port,
)


API = os.environ.get("E2B_API_URL") or f"https://api.{os.environ['E2B_DOMAIN']}"


def call(method, path):
    """A call of the API that the SDK has no function for; its status."""
    headers = {"X-API-Key": os.environ["E2B_API_KEY"]}
    request = urllib.request.Request(API + path, method=method, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return answer.status


def inside(template, command):
    """What a command prints in a new sandbox of a template."""
    with Sandbox.create(template, timeout=60) as sandbox:
        return sandbox.commands.run(command).stdout


class Templates(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.context = pathlib.Path(folder.name)
        (self.context / "app").mkdir()
        (self.context / "app" / "main.txt").write_text("main\n")
        (self.context / "one.txt").write_text("one\n")

    def test_a_template_is_built_of_every_kind_of_step(self):
        template = (
            Template(file_context_path=self.context)
            .from_base_image()
            .set_envs({"GREETING": "hello"})
            .set_workdir("/srv/app")
            .copy("app", "code/")
            .copy("one.txt", "/srv/one.txt", user="root", mode=0o600)
            .run_cmd(['echo "$GREETING" > greeting', "whoami > who"])
            .set_user("worker")
        )
        messages = []
        built = Template.build(
            template, "py-steps", on_build_logs=lambda entry: messages.append(entry.message)
        )
        self.assertEqual(built.tags, ["default"])
        # An earlier run on the same server has uploaded it already.
        told = ("Uploaded 'app'", "Skipping upload of 'app'")
        self.assertTrue(any(part in text for part in told for text in messages), messages)
        script = "pwd; cat greeting who code/main.txt; stat -c '%U %a' /srv/one.txt; id -un"
        expected = "/srv/app\nhello\nuser\nmain\nroot 600\nworker\n"
        self.assertEqual(inside("py-steps", script), expected)
        self.assertTrue(Template.exists("py-steps"))
        self.assertFalse(Template.exists("py-nothing"))

    def test_a_failing_command_ends_the_build_with_its_words_and_its_line(self):
        template = Template().from_template("base").run_cmd("true").run_cmd("exit 9")
        try:
            Template.build(template, "py-failing", on_build_logs=default_build_logger())
            self.fail("it was built")
        except BuildException as error:
            self.assertEqual(str(error), "failed to run command 'exit 9': exit status 9")
            frames = traceback.extract_tb(error.__traceback__)
            self.assertIn('run_cmd("exit 9")', " ".join(frame.line or "" for frame in frames))
        template = Template().from_template("base").run_cmd("whoami", user="root123")
        with self.assertRaises(BuildException) as raised:
            Template.build(template, "py-failing")
        expected = (
            "failed to run command 'whoami': command failed: unauthenticated: "
            "invalid username: 'root123'"
        )
        self.assertEqual(str(raised.exception), expected)

    def test_a_build_in_the_background_says_so_and_can_be_cancelled(self):
        template = Template().from_template("base").run_cmd("sleep 600")
        built = Template.build_in_background(template, "py-background")
        self.assertEqual(Template.get_build_status(built).status.value, "building")
        self.assertEqual(call("POST", f"/v1/builds/{built.build_id}/cancel"), 204)
        status = Template.get_build_status(built)
        self.assertEqual(status.status.value, "error")
        self.assertEqual(status.reason.message, "the build was cancelled")

    def test_deleting_a_template_ends_its_build(self):
        template = Template().from_template("base").run_cmd("sleep 600")
        built = Template.build_in_background(template, "py-deleted")
        self.assertEqual(call("DELETE", f"/templates/{built.template_id}"), 204)
        with self.assertRaises(BuildException):
            Template.get_build_status(built)
        self.assertFalse(Template.exists("py-deleted"))

    def test_a_dockerfile_is_built_and_a_start_command_runs(self):
        dockerfile = "FROM e2bdev/base\nWORKDIR /opt/site\nCOPY one.txt ./\nRUN echo two >> one.txt\n"
        template = Template(file_context_path=self.context).from_dockerfile(dockerfile)
        template = template.set_start_cmd("python3 -m http.server 8000", wait_for_port(8000))
        Template.build(template, "py-dockerfile")
        served = inside("py-dockerfile", "curl -s http://127.0.0.1:8000/one.txt")
        self.assertEqual(served, "one\ntwo\n")

    def test_tags_name_builds_move_and_go(self):
        template = Template().from_template("base").run_cmd("echo one > /tmp/word")
        first = Template.build(template, "py-tags:v1")
        template = Template().from_template("base").run_cmd("echo two > /tmp/word")
        second = Template.build(template, "py-tags", tags=["v2", "default"])
        self.assertEqual(inside("py-tags", "cat /tmp/word"), "two\n")
        assigned = Template.assign_tags("py-tags:v1", ["default", "old"])
        self.assertEqual((assigned.build_id, assigned.tags), (first.build_id, ["default", "old"]))
        self.assertEqual(inside("py-tags", "cat /tmp/word"), "one\n")
        tags = {tag.tag: tag.build_id for tag in Template.get_tags("py-tags")}
        builds = (first.build_id, second.build_id)
        expected = {"default": builds[0], "old": builds[0], "v1": builds[0], "v2": builds[1]}
        self.assertEqual(tags, expected)
        Template.remove_tags("py-tags", ["old", "v1"])
        self.assertFalse(Template.exists("py-tags:v1"))
        with self.assertRaises(TemplateException):
            Template.remove_tags("py-tags", "default")

    def test_the_asynchronous_sdk_builds_too(self):
        async def build():
            template = AsyncTemplate(file_context_path=self.context).from_template("base")
            template = template.copy("one.txt", "/tmp/").run_cmd("cat /tmp/one.txt > /tmp/two.txt")
            await AsyncTemplate.build(template, "py-async")
            self.assertTrue(await AsyncTemplate.exists("py-async"))
            with self.assertRaises(BuildException):
                failing = AsyncTemplate().from_template("base").run_cmd("exit 1")
                await AsyncTemplate.build(failing, "py-async-failing")

        asyncio.run(build())
        self.assertEqual(inside("py-async", "cat /tmp/two.txt"), "one\n")

    def test_a_template_that_is_not_there_is_named(self):
        template = Template().from_template("py-nowhere").run_cmd("true")
        with self.assertRaises(BuildException) as raised:
            Template.build(template, "py-of-nothing")
        self.assertIn("py-nowhere", str(raised.exception))


if __name__ == "__main__":
    unittest.main()
