"""What gets out of a sandbox, and with which credential. The server lives in the private test
internet; what its decoys received is looked at by the test that runs this."""

import unittest

from e2b import ALL_TRAFFIC, Sandbox, Secret

NAME = "py-internet"
# The test that runs this looks for them.
FIRST = "py-internet-first-value"
SECOND = "py-internet-second-value"


class Internet(unittest.TestCase):
    def get(self, sandbox, url):
        header = "-H 'Authorization: Bearer of-the-guest'"
        asked = f"curl -sS -m 20 {header} '{url}' 2>&1 || echo \"refused $?\""
        return sandbox.commands.run(asked).stdout

    def refused(self, sandbox, url):
        self.assertRegex(self.get(sandbox, url), r"refused \d+", url)

    def test_a_sandbox_reaches_what_it_may_with_a_credential_that_it_never_sees(self):
        Secret.create(NAME, FIRST)
        headers = {"Authorization": f"Bearer {Secret.fill(NAME)}"}
        network = {
            "rules": {"allowed.test": [{"transform": {"headers": headers}}]},
            "allow_out": lambda context: list(context.rules),
            "deny_out": [ALL_TRAFFIC],
        }
        try:
            with Sandbox.create(timeout=120, network=network) as sandbox:
                self.assertEqual(self.get(sandbox, "https://allowed.test/first"), "decoy allowed.test\n")
                echo = self.get(sandbox, "https://allowed.test/echo/raw")
                self.assertIn("redacted", echo)
                self.assertNotIn(FIRST, echo)
                for url in ["https://denied.test/", "http://denied.test/", "http://93.184.216.20/"]:
                    self.refused(sandbox, url)
                Secret.update(NAME, SECOND)
                self.assertEqual(self.get(sandbox, "https://allowed.test/second"), "decoy allowed.test\n")
                sandbox.update_network({"allow_out": ["later.test"], "deny_out": [ALL_TRAFFIC]})
                self.refused(sandbox, "http://allowed.test/third")
                self.assertEqual(self.get(sandbox, "http://later.test/fourth"), "decoy later.test\n")
                sandbox.update_network({"allow_internet_access": True, "deny_out": ["93.184.216.20"]})
                self.assertEqual(self.get(sandbox, "http://allowed.test/fifth"), "decoy allowed.test\n")
                self.refused(sandbox, "https://denied.test/")
                sandbox.update_network({"allow_internet_access": False})
                self.refused(sandbox, "http://later.test/sixth")
        finally:
            Secret.destroy(NAME)

    def test_what_no_field_asks_for_is_not_reached(self):
        with Sandbox.create(timeout=60) as sandbox:
            self.refused(sandbox, "https://denied.test/")
