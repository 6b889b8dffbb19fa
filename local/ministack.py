"""Runs MiniStack for as long as standard input stays open.

The process that starts it holds the other end of that pipe and never writes. The kernel closes it when that process
ends, even by SIGKILL, and then this group ends too: MiniStack and the functions it runs, with their temporary files.
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback

directory = tempfile.mkdtemp(prefix="manga-chat-")
tempfile.tempdir = os.environ["TMPDIR"] = directory


def end():
    shutil.rmtree(directory, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def end_with_parent():
    sys.stdin.buffer.read()
    end()


os.setpgid(0, 0)
threading.Thread(target=end_with_parent, daemon=True).start()
try:
    from ministack.app import main

    main()
except BaseException:
    traceback.print_exc()
end()
