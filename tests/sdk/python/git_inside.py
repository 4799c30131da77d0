"""Git inside, as E2B's documentation shows it, against a server that only a tunnel leads to."""

import json
import os
import unittest
from urllib.parse import quote
from urllib.request import Request, urlopen

from e2b import (
    CommandExitException,
    GitAuthException,
    GitUpstreamException,
    Sandbox,
)

HOST = "http://git.tunnel.internal"
PASSWORD = "p@ss:w/rd"
LOGIN = {"username": "octo", "password": quote(PASSWORD, safe="")}


class GitInside(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        body = {"timeout_ms": 300_000, "egress": {"tunnels": ["git"]}}
        request = Request(
            os.environ["E2B_API_URL"] + "/v1/sandboxes",
            json.dumps(body).encode(),
            {
                "X-API-Key": os.environ["E2B_API_KEY"],
                "Content-Type": "application/json",
            },
        )
        with urlopen(request) as answer:
            cls.sandbox = Sandbox.connect(json.load(answer)["id"])
        cls.git = cls.sandbox.git
        cls.git.configure_user("Octo Py", "octo.py@example.com")

    @classmethod
    def tearDownClass(cls):
        cls.sandbox.kill()

    def test_what_is_public_is_cloned_without_a_password(self):
        self.git.clone(f"{HOST}/public/py.git", path="/home/user/public", depth=1)
        text = self.sandbox.files.read("/home/user/public/README.md")
        self.assertEqual(text, "# public/py\n")
        branches = self.git.branches("/home/user/public")
        self.assertEqual((branches.branches, branches.current_branch), (["main"], "main"))
        self.assertTrue(self.git.status("/home/user/public").is_clean)

    def test_what_is_private_wants_the_right_password(self):
        url, path = f"{HOST}/private/py.git", "/home/user/refused"
        with self.assertRaises(GitAuthException):
            self.git.clone(url, path=path)
        with self.assertRaises(GitAuthException):
            self.git.clone(url, path=path, username="octo", password="wrong")
        with self.assertRaisesRegex(CommandExitException, "not found"):
            self.git.clone(f"{HOST}/private/none.git", path=path, **LOGIN)
        self.assertFalse(self.sandbox.files.exists(path))

    def test_a_branch_is_made_committed_and_pushed_and_another_clone_pulls_it(self):
        path = "/home/user/work"
        self.git.clone(f"{HOST}/private/py.git", path=path, **LOGIN)
        self.assertEqual(self.git.remote_get(path, "origin"), f"{HOST}/private/py.git")
        self.git.create_branch(path, "feature")
        self.sandbox.files.write(f"{path}/hello.txt", "from the sandbox\n")
        files = self.git.status(path).file_status
        self.assertEqual([(f.name, f.status) for f in files], [("hello.txt", "untracked")])
        self.git.add(path)
        self.git.commit(path, "say hello from Python")
        with self.assertRaises(GitUpstreamException):
            self.git.push(path, set_upstream=False)
        with self.assertRaises(GitAuthException):
            self.git.push(path, remote="origin", branch="feature")
        self.git.push(path, remote="origin", branch="feature", **LOGIN)
        config = self.sandbox.files.read(f"{path}/.git/config")
        self.assertNotIn(LOGIN["password"], config)

        other = "/home/user/other"
        self.git.clone(f"{HOST}/private/py.git", path=other, branch="main", **LOGIN)
        self.git.pull(other, remote="origin", branch="feature", **LOGIN)
        text = self.sandbox.files.read(f"{other}/hello.txt")
        self.assertEqual(text, "from the sandbox\n")

    def test_a_stored_password_serves_every_command_after_it(self):
        home = {"HOME": "/tmp/stored-home"}
        self.sandbox.commands.run("mkdir /tmp/stored-home")
        self.git.dangerously_authenticate(
            "octo", PASSWORD, host="git.tunnel.internal", protocol="http", envs=home
        )
        self.git.clone(f"{HOST}/private/py.git", path="/home/user/stored", envs=home)
        text = self.sandbox.files.read("/home/user/stored/README.md")
        self.assertEqual(text, "# private/py\n")


if __name__ == "__main__":
    unittest.main()
