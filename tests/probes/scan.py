"""Looks for a canary everywhere a program can look without harm, and prints where it was found.

    scan.py REVERSED_CANARY PATH...

The canary is given reversed, so that this program's own arguments are no finding. The paths are
files and folders of the host that hold the canary.
"""

import json
import os
import sys

# Nothing that holds a canary is larger.
LARGEST = 1 << 20
# Folders of the image that are the same for everybody, and folders without an end.
SKIPPED = {"/usr", "/proc", "/sys", "/dev"}

canary = sys.argv[1][::-1].encode()
found = []


def look(place, read):
    try:
        if canary in read():
            found.append(place)
    except OSError:
        pass


def content(path):
    def read():
        with open(path, "rb") as file:
            return file.read(LARGEST)

    return read


look("environment", lambda: repr(dict(os.environ)).encode())
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline", "mountinfo", "cgroup", "maps"):
        look(f"/proc/*/{name}", content(f"/proc/{pid}/{name}"))
    look("/proc/*/cwd", lambda: os.readlink(f"/proc/{pid}/cwd").encode())
    look("/proc/*/root", lambda: repr(os.listdir(f"/proc/{pid}/root")).encode())
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        descriptors = []
    for descriptor in descriptors:
        look("/proc/*/fd", lambda: os.readlink(f"/proc/{pid}/fd/{descriptor}").encode())
for name in ("mounts", "net/unix", "net/tcp", "cmdline", "partitions", "keys", "sysvipc/shm"):
    look(f"/proc/{name}", content(f"/proc/{name}"))
for path in sys.argv[2:]:
    look("path", content(path))
if "--deep" in sys.argv:
    for folder, folders, files in os.walk("/"):
        folders[:] = [f for f in folders if os.path.join(folder, f) not in SKIPPED]
        for file in files:
            path = os.path.join(folder, file)
            if os.path.isfile(path) and not os.path.islink(path):
                look("anywhere", content(path))
print(json.dumps(sorted(set(found))))
