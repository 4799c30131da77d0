"""Secrets by the Python SDK, as E2B's documentation shows them: a value goes in and never comes out."""

import os
import unittest

from e2b import (
    AsyncSecret,
    AuthenticationException,
    Sandbox,
    Secret,
    SecretException,
    SecretNotFoundException,
)

NAME = "py-" + os.environ["COURIER_TEST_MODE"]
VALUE = "py-secret-value-that-stays-outside"


class Secrets(unittest.TestCase):
    def test_a_secret_is_stored_told_about_given_a_new_value_and_destroyed_twice(self):
        made = Secret.create(f"{NAME}-life", VALUE, metadata={"owner": "tests"})
        try:
            self.assertEqual((made.name, made.version), (f"{NAME}-life", 1))
            self.assertEqual(made.metadata, {"owner": "tests"})
            by_name, by_id = Secret.get_info(made.name), Secret.get_info(made.secret_id)
            self.assertEqual((by_name.secret_id, by_id.name), (made.secret_id, made.name))
            self.assertNotIn(VALUE, repr([made, by_name, by_id]))
            updated = Secret.update(made.name, f"{VALUE}-2")
            self.assertEqual((updated.version, updated.metadata), (2, {"owner": "tests"}))
            self.assertGreaterEqual(updated.updated_at, made.updated_at)
            replaced = Secret.update(made.secret_id, f"{VALUE}-3", metadata={"other": "x"})
            self.assertEqual((replaced.version, replaced.metadata), (3, {"other": "x"}))
            self.assertTrue(Secret.exists(made.name))
        finally:
            self.assertTrue(Secret.destroy(made.name))
        self.assertFalse(Secret.exists(made.name))
        self.assertFalse(Secret.destroy(made.name))
        with self.assertRaises(SecretNotFoundException):
            Secret.get_info(made.name)
        with self.assertRaises(SecretNotFoundException):
            Secret.update(made.name, VALUE)

    def test_the_list_has_every_secret_once_page_by_page(self):
        names = [f"{NAME}-page-{letter}" for letter in "abc"]
        try:
            for name in names:
                Secret.create(name, VALUE)
            pages, seen = Secret.list(limit=1), []
            while pages.has_next:
                page = pages.next_items()
                self.assertLessEqual(len(page), 1)
                seen += page
            ours = [secret.name for secret in seen if secret.name in names]
            self.assertEqual(sorted(ours), names)
            self.assertNotIn(VALUE, repr(seen))
        finally:
            for name in names:
                Secret.destroy(name)

    def test_a_second_secret_of_a_name_a_name_that_is_none_and_a_wrong_key_are_refused(self):
        Secret.create(f"{NAME}-twice", VALUE)
        try:
            with self.assertRaisesRegex(SecretException, "409"):
                Secret.create(f"{NAME}-twice", VALUE)
            with self.assertRaisesRegex(SecretException, "400"):
                Secret.create("no name", VALUE)
            with self.assertRaises(AuthenticationException):
                Secret.get_info(f"{NAME}-twice", api_key="e2b_" + "0" * 40)
        finally:
            Secret.destroy(f"{NAME}-twice")

    def test_a_secret_as_an_environment_variable_is_a_token_inside_not_the_value(self):
        Secret.create(f"{NAME}-env", VALUE)
        try:
            with Sandbox.create(timeout=60, envs={"KEY": Secret.fill(f"{NAME}-env")}) as sandbox:
                told = sandbox.commands.run('echo "$KEY"; env').stdout
            self.assertRegex(told, r"^cct_[A-Za-z0-9_-]{43}\n")
            self.assertNotIn(VALUE, told)
        finally:
            Secret.destroy(f"{NAME}-env")


class AsyncSecrets(unittest.IsolatedAsyncioTestCase):
    async def test_the_asynchronous_calls_do_the_same(self):
        made = await AsyncSecret.create(f"{NAME}-async", VALUE)
        try:
            self.assertEqual((await AsyncSecret.update(made.name, "new")).version, 2)
            self.assertEqual((await AsyncSecret.get_info(made.secret_id)).name, made.name)
            pages, names = AsyncSecret.list(), []
            while pages.has_next:
                names += [secret.name for secret in await pages.next_items()]
            self.assertIn(made.name, names)
        finally:
            self.assertTrue(await AsyncSecret.destroy(made.name))
        self.assertFalse(await AsyncSecret.exists(made.name))
