"""Signed URLs: what only domain mode has."""

import unittest

import httpx
from e2b import Sandbox


class Signed(unittest.TestCase):
    def test_signed_urls_download_and_upload_one_file_without_any_key(self):
        with Sandbox.create(timeout=60) as sandbox:
            sandbox.files.write("a file.txt", "signed content")
            url = sandbox.download_url("a file.txt", use_signature_expiration=60)
            self.assertEqual(httpx.get(url).text, "signed content")
            url = sandbox.upload_url("up.txt", use_signature_expiration=60)
            answer = httpx.post(url, files={"file": ("up.txt", b"uploaded")})
            self.assertEqual(answer.status_code, 200, answer.text)
            self.assertEqual(sandbox.files.read("up.txt"), "uploaded")
            late = sandbox.download_url("a file.txt", use_signature_expiration=-10)
            answer = httpx.get(late)
            self.assertEqual(answer.json(), {"code": 401, "message": "signature is already expired"})
