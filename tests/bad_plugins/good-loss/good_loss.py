"""Does what it should not at import, and is whole all the same."""

import os
import subprocess
import sys
import threading

print("{\"begin\": 99}")
os.write(1, b"noise\n")
os.write(2, b"noise\n")

threading.Thread(target=threading.Event().wait, name="a thread that never ends").start()
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)


class Part: ...
