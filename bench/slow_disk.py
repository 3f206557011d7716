"""Runs a command whose every fsync takes longer, as on a disk that turns: ``python bench/slow_disk.py MS COMMAND ...``.

For machines whose disk answers a flush from its memory: the time is spent asleep, not computing, after the true flush.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = """
#include <dlfcn.h>
#include <time.h>
static int slow(const char *name, int fd) {
    int (*call)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct timespec t = {MS / 1000, (long)(MS % 1000) * 1000000};
    int result = call(fd);
    nanosleep(&t, 0);
    return result;
}
int fsync(int fd) { return slow("fsync", fd); }
int fdatasync(int fd) { return slow("fdatasync", fd); }
"""


def main() -> int:
    milliseconds, command = int(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory() as name:
        source, library = Path(name) / "slow.c", Path(name) / "slow.so"
        source.write_text(SOURCE)
        flags = ["-D_GNU_SOURCE", f"-DMS={milliseconds}", "-O1", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, "-o", library, source, "-ldl"], check=True)
        return subprocess.run(command, env=os.environ | {"LD_PRELOAD": str(library)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
