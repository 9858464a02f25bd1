"""Work by several processes: Ctrl-C of a terminal reaches all of them, and ends all of them."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

SCRIPT = """
    import signal, sys, time
    from m2cnn.parallel import in_chunks

    def work(tasks):
        time.sleep(0.05)
        return tasks

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        for done in in_chunks(work, range(400), 2, 4, "working"):
            print("done", flush=True)
    else:
        print("starts", flush=True)
        time.sleep(float(sys.argv[-1]))  # a worker that imports for long
"""


def ended(group):
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
@pytest.mark.parametrize("moment", ["starts", "done"])
def test_ctrl_c_of_a_terminal_ends_every_process(tmp_path, moment):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-u", str(script), "1.0" if moment == "starts" else "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    while moment not in (line := process.stdout.readline()):  # two processes may write into one line
        assert line, process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said.count("Traceback") == 1 and said.rstrip().endswith("KeyboardInterrupt")  # no word from a worker
    deadline = time.monotonic() + 10
    while not ended(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
