"""`python -m export.serve`: serves models of this package by TensorFlow Serving's gRPC and REST APIs, in one process.

For a laptop, a test, or a small load where TensorFlow Serving is not installed. The server watches the model's folder
and changes versions without failing a request. On SIGTERM it answers what it has accepted, and ends.
"""

import os
import signal
import sys
import threading

from export.serving.serve_config import ServeConfig
from msrn_tf import command_line
from msrn_tf.extras import needs
from msrn_tf.terminal import say


def main(config: ServeConfig) -> None:
    """Serves until SIGTERM or SIGINT; status 1 where accepted requests were left unanswered."""
    with needs("serving"):
        from export.serving.log import write_log
        from export.serving.server import Server
    if config.prefer_tflite_model:
        with needs("tflite"):
            import export.serving.tflite_functions  # noqa: F401  before a version is loaded
    write_log(sys.stderr, config.log_requests)
    server = Server(config)
    opened, ended = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        ended.set()
        if not opened.is_set():  # nothing was accepted: a model is being loaded, perhaps for minutes
            sys.exit()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    port = server.start()
    opened.set()
    if config.rest_port:
        say(f"REST on {config.host}:{config.rest_port}")
    say(f"serving on {config.host}:{port}")
    ended.wait()
    unanswered = server.stop()
    if unanswered:
        say(f"{unanswered} requests were not answered within --drain_seconds={config.drain_seconds:g}", error=True)
    if server.is_at_work:
        # Threads that TensorFlow computes in cannot be ended, and must not be while the interpreter comes down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if unanswered else 0)
    sys.exit()


if __name__ == "__main__":
    command_line.run(main, usage=__doc__, extra_flags=ServeConfig)
