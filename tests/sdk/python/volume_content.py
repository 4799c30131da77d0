"""Volumes with the Python SDK: mounted in two sandboxes, and reached without one."""

import os
import unittest

from e2b import Sandbox, Volume
from e2b.exceptions import NotFoundException

NAME = f"py-{os.environ['COURIER_TEST_MODE']}"


class Volumes(unittest.TestCase):
    def test_a_volume_outlives_its_sandboxes(self):
        volume = Volume.create(f"{NAME}-mounted")
        try:
            with Sandbox.create("base", timeout=120, volume_mounts={"/data": volume}) as first:
                first.files.write("/data/a", "kept")
                first.commands.run("ln -s a /data/link && mkdir /data/sub && sync")
            with Sandbox.create("base", timeout=120, volume_mounts={"/other": volume}) as second:
                self.assertEqual(second.files.read("/other/link"), "kept")
            self.assertEqual(volume.read_file("/link"), "kept")
            entries = {entry.path: entry.type.value for entry in volume.list("/")}
            self.assertEqual(entries, {"/a": "file", "/link": "symlink", "/sub": "directory"})
            self.assertEqual(volume.get_info("/link").target, "a")
        finally:
            self.assertTrue(Volume.destroy(volume.volume_id))
        self.assertFalse(Volume.destroy(volume.volume_id))

    def test_content_comes_back_as_it_was_written(self):
        volume = Volume.create(f"{NAME}-content")
        try:
            written = volume.write_file("/b.bin", bytes(range(256)) * 4096, mode=0o640)
            self.assertEqual((written.size, written.mode), (1 << 20, 0o640))
            self.assertEqual(bytes(volume.read_file("/b.bin", format="bytes")), bytes(range(256)) * 4096)
            self.assertEqual(volume.make_dir("/x/y", force=True).path, "/x/y")
            self.assertEqual(volume.update_metadata("/x", mode=0o700).mode, 0o700)
            self.assertTrue(volume.exists("/x/y"))
            volume.remove("/x")
            self.assertFalse(volume.exists("/x/y"))
            with self.assertRaises(NotFoundException):
                volume.read_file("/none")
            connected = Volume.connect(volume.volume_id)
            self.assertEqual((connected.name, connected.token), (volume.name, volume.token))
        finally:
            Volume.destroy(volume.volume_id)


if __name__ == "__main__":
    unittest.main()
