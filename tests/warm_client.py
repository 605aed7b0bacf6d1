"""Have the warm server run this program: same arguments, folder, environment, descriptors, end.

Started by a file of the program's name, as `python -IS warm_client.py SOCKET PROGRAM ARGUMENTS`.
"""

import json
import os
import signal
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    here = os.getcwd()  # noqa: PTH109  (pathlib would take as long as all else)
    request = {"command": sys.argv[2:], "cwd": here, "env": dict(os.environ)}
    content = json.dumps(request).encode()
    # A signal that comes before there is a child waits for it.
    forwarded = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
    socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(content)
    pid = int.from_bytes(server.recv(8), "big")
    for number in forwarded - {signal.SIGQUIT}:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.signal(signal.SIGQUIT, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)
    answer = server.recv(8)
if not answer:
    sys.exit("the warm server is gone")
code = int.from_bytes(answer, "big", signed=True)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
