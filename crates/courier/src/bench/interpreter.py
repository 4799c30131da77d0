# Runs in the sandbox: a kernel by Jupyter's own client, with nothing else in between.
# Arguments: executions that warm up, executions that count. Prints a time in microseconds a line:
# first the kernel's start, to the end of its first execution, then one for each execution.
import sys
import time

from jupyter_client.manager import KernelManager

CODE = "1+1"
PATIENCE_S = 60


def execute(client):
    request = client.execute(CODE)
    while True:
        message = client.get_iopub_msg(timeout=PATIENCE_S)
        is_ours = message["parent_header"].get("msg_id") == request
        if is_ours and message["content"].get("execution_state") == "idle":
            return


def timed(work):
    started = time.perf_counter()
    work()
    print(round((time.perf_counter() - started) * 1e6), flush=True)


def start():
    manager.start_kernel()
    client.load_connection_info(manager.get_connection_info())
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE_S)
    execute(client)


warm_up, runs = map(int, sys.argv[1:3])
manager = KernelManager(transport="ipc")
client = manager.client()
timed(start)
for _ in range(warm_up):
    execute(client)
for _ in range(runs):
    timed(lambda: execute(client))
client.stop_channels()
manager.shutdown_kernel(now=True)
