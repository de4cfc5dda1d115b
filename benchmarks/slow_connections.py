"""What idle and slow connections cost the other clients of a running `export.serve`.

    python -m export.serve --model_base_path=serving/msrn &
    python benchmarks/slow_connections.py photo.jpg [--connections=200] [--seconds=10]

Two clients of each protocol send one photo after the other: alone, and beside connections that send nothing, half a
head, or a byte of a body now and then, in turns. Printed are the latencies of the ordinary clients in both cases.
"""

import argparse
import contextlib
import itertools
import os
import platform
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from export.client_light import Client, RestClient

HEAD = b"POST /v1/models/msrn:predict HTTP/1.1\r\nHost: x\r\n"
BODY = HEAD + b"Content-Length: 100000\r\n\r\n{"


def latencies(options, photo, seconds):
    """Seconds of each request of two gRPC and two REST clients."""
    found, until = [], time.monotonic() + seconds

    def ask(kind, address):
        with kind(address, options.model_name, retries=0) as client:
            client.predict([photo])
            while time.monotonic() < until:
                started = time.perf_counter()
                client.predict([photo])
                found.append(time.perf_counter() - started)

    where = [(Client, options.grpc), (RestClient, options.rest)] * 2
    threads = [threading.Thread(target=ask, args=each) for each in where]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@contextlib.contextmanager
def slow_clients(options):
    """Half the connections to each port; those with a body go on with it, a byte in half a second each."""
    import grpc

    ended = threading.Event()

    def nothing():
        ended.wait()
        yield from ()

    host, _, port = options.rest.rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(options.connections // 2):
            channel = stack.enter_context(grpc.insecure_channel(options.grpc, [("grpc.use_local_subchannel_pool", 1)]))
            channel.stream_unary("/tensorflow.serving.PredictionService/Predict").future(nothing())
        sockets = [
            stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(options.connections // 2)
        ]
        for index, connection in enumerate(sockets):
            connection.sendall((b"", HEAD, BODY)[index % 3])

        def drip():
            while not ended.wait(0.5):
                for connection in sockets[2::3]:
                    with contextlib.suppress(OSError):  # the server has given it up
                        connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def percentile(values, part):
    """Milliseconds."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--grpc", default="localhost:8500")
    parser.add_argument("--rest", default="localhost:8501")
    parser.add_argument("--model_name", default="msrn")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with open(options.photo, "rb") as file:
        photo = file.read()
    print(f"{platform.machine()}, {os.cpu_count()} cores; {options.connections} idle and slow connections")
    print("round  alone: requests  p50 ms  p99 ms  beside them: requests  p50 ms  p99 ms  p99 ratio")
    alone, beside = [], []
    for number in range(1, options.rounds + 1):
        alone.append(latencies(options, photo, options.seconds))
        with slow_clients(options):
            beside.append(latencies(options, photo, options.seconds))
        line(number, alone[-1], beside[-1])
    line("all", [*itertools.chain(*alone)], [*itertools.chain(*beside)])


def line(name, alone, beside):
    """A row of the table."""
    p50, p99 = percentile(alone, 0.5), percentile(alone, 0.99)
    other = percentile(beside, 0.5), percentile(beside, 0.99)
    print(f"{name:>5}  {len(alone):15}  {p50:6.1f}  {p99:6.1f}  {len(beside):21}  {other[0]:6.1f}  {other[1]:6.1f}  "
          f"{other[1] / p99:9.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
