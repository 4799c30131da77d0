"""What a sandbox uses, as E2B's documentation shows it."""

import unittest
from datetime import datetime, timedelta, timezone

from e2b import Sandbox, SandboxNotFoundException

from support import until


class Metrics(unittest.TestCase):
    def test_samples_tell_the_cpu_memory_and_disk_that_are_used(self):
        begun = datetime.now(timezone.utc)
        sandbox = Sandbox.create(timeout=120)
        try:
            sandbox.commands.run("head -c 64M /dev/urandom > filler; sync")
            sandbox.commands.run("while true; do :; done", background=True)

            def busy():
                samples = sandbox.get_metrics()
                return [m for m in samples if m.cpu_used_pct > 20 and m.disk_used > 64 << 20]

            sample = until("a sample of a busy sandbox", busy, within_s=60)[0]
            info = sandbox.get_info()
            self.assertEqual(sample.cpu_count, info.cpu_count)
            self.assertEqual(sample.mem_total, info.memory_mb << 20)
            self.assertTrue(1 << 20 < sample.mem_used < sample.mem_total, sample)
            self.assertTrue(sample.disk_used < sample.disk_total, sample)
            self.assertTrue(begun <= sample.timestamp, sample)
            early = {"start": begun - timedelta(hours=1), "end": begun - timedelta(seconds=1)}
            self.assertEqual(sandbox.get_metrics(**early), [])
            self.assertTrue(Sandbox.get_metrics(sandbox.sandbox_id, start=begun))
        finally:
            sandbox.kill()
        with self.assertRaises(SandboxNotFoundException):
            sandbox.get_metrics()


if __name__ == "__main__":
    unittest.main()
