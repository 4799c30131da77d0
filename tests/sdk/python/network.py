"""What a sandbox may reach and who may reach it, by the Python SDK. Names here mean nothing to
anybody: what really gets out is in internet.py."""

import os
import unittest
import urllib.error
import urllib.request

from e2b import ALL_TRAFFIC, AsyncSandbox, Sandbox, SandboxException, Secret

from support import until

MODE = os.environ["COURIER_TEST_MODE"]
PORT = 8123
HEADER = "e2b-traffic-access-token"
SERVER = f"""
import http.server
class Told(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(('127.0.0.1', {PORT}), Told).serve_forever()
"""


def ask(sandbox, **headers):
    """Asks a server inside, in the way of this mode; status and text."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if MODE == "url":
        url = os.environ["E2B_SANDBOX_URL"] + "/"
        headers |= {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(PORT)}
    else:
        url = f"https://{sandbox.get_host(PORT)}/"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def serve(sandbox):
    """Starts a server inside that says what it is asked with, and waits until it answers there."""
    sandbox.files.write("server.py", SERVER)
    sandbox.commands.run("python3 server.py", background=True)
    asked = f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{PORT}/ || true"
    until("the server inside answers", lambda: sandbox.commands.run(asked).stdout == "200")


class Network(unittest.TestCase):
    def test_what_was_asked_for_is_told_by_get_info(self):
        name = f"py-network-{MODE}"
        Secret.create(name, "py-network-value")
        headers = {"Authorization": f"Bearer {Secret.fill(name)}", "X-Fixed": "told"}
        rules = {"api.allowed.test": [{"transform": {"headers": headers}}]}
        network = {
            "rules": rules,
            "allow_out": lambda context: [*context.rules, "*.wide.test", "8.8.8.0/24"],
            "deny_out": lambda context: [context.all_traffic],
            "mask_request_host": "localhost:${PORT}",
        }
        try:
            with Sandbox.create(timeout=120, network=network) as sandbox:
                self.assertIsNone(sandbox.traffic_access_token)
                told = sandbox.get_info().network
            self.assertEqual(told["allow_out"], ["api.allowed.test", "*.wide.test", "8.8.8.0/24"])
            self.assertEqual(told["deny_out"], [ALL_TRAFFIC])
            self.assertEqual(told["rules"], rules)
            self.assertEqual(told["mask_request_host"], "localhost:${PORT}")
            self.assertNotIn("py-network-value", repr(told))
        finally:
            Secret.destroy(name)

    def test_an_update_replaces_all_of_it_and_what_it_leaves_out_is_cleared(self):
        with Sandbox.create(timeout=120, network={"allow_out": ["a.test", "b.test"]}) as sandbox:
            sandbox.update_network({"allow_out": ["c.test"], "deny_out": [ALL_TRAFFIC]})
            told = sandbox.get_info().network
            self.assertEqual((told["allow_out"], told["deny_out"]), (["c.test"], [ALL_TRAFFIC]))
            Sandbox.update_network(sandbox.sandbox_id, {"deny_out": ["8.8.8.8"]})
            told = sandbox.get_info().network
            self.assertEqual((told.get("allow_out", []), told["deny_out"]), ([], ["8.8.8.8"]))

    def test_without_internet_access_nothing_is_reached_and_get_info_tells_so(self):
        with Sandbox.create(timeout=120, allow_internet_access=False) as sandbox:
            self.assertIs(sandbox.get_info().allow_internet_access, False)
            asked = 'curl -sS -m 10 http://allowed.test/ 2>&1 || echo "refused $?"'
            self.assertRegex(sandbox.commands.run(asked).stdout, r"refused \d+")

    def test_a_network_that_makes_no_sense_is_refused_at_create_and_at_update(self):
        for network in [{"allow_out": ["not a host"]}, {"deny_out": ["a.test"]}]:
            with self.assertRaisesRegex(SandboxException, "400"):
                Sandbox.create(network=network)
        with Sandbox.create(timeout=120, network={"allow_out": ["a.test"]}) as sandbox:
            with self.assertRaisesRegex(SandboxException, "400"):
                sandbox.update_network({"allow_out": ["not a host"]})
            self.assertEqual(sandbox.get_info().network["allow_out"], ["a.test"])

    def test_ports_of_a_sandbox_without_public_traffic_want_its_token(self):
        with Sandbox.create(timeout=120, network={"allow_public_traffic": False}) as sandbox:
            token = sandbox.traffic_access_token
            self.assertTrue(token)
            self.assertIs(sandbox.get_info().network["allow_public_traffic"], False)
            self.assertEqual(Sandbox.connect(sandbox.sandbox_id).traffic_access_token, token)
            serve(sandbox)
            status, text = ask(sandbox)
            self.assertEqual(status, 403)
            self.assertIn("is missing", text)
            status, text = ask(sandbox, **{HEADER: token + "x"})
            self.assertEqual(status, 403)
            self.assertIn("is invalid", text)
            status, text = ask(sandbox, **{HEADER: token})
            self.assertEqual(status, 200)
            self.assertNotIn(token, text)
            # Commands and files have a key of their own.
            self.assertEqual(sandbox.commands.run("echo open").stdout, "open\n")

    def test_a_public_port_answers_whoever_asks(self):
        with Sandbox.create(timeout=120) as sandbox:
            serve(sandbox)
            self.assertEqual(ask(sandbox)[0], 200)


class AsyncNetwork(unittest.IsolatedAsyncioTestCase):
    async def test_the_asynchronous_calls_do_the_same(self):
        network = {"allow_out": ["a.test"], "allow_public_traffic": False}
        sandbox = await AsyncSandbox.create(timeout=120, network=network)
        try:
            self.assertTrue(sandbox.traffic_access_token)
            await sandbox.update_network({"allow_out": ["b.test"]})
            told = (await sandbox.get_info()).network
            self.assertEqual((told["allow_out"], told["allow_public_traffic"]), (["b.test"], False))
        finally:
            await sandbox.kill()
