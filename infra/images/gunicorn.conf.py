# gunicorn's configuration for every function. A pod answers as many requests at once as its service's `containerConcurrency`. THREADS is
# slightly higher, so that probes find a free thread. Knative adds pods under load; the number of processes stays one.
import errno
import gc
import os
import time

from gunicorn.workers import gthread

# Seconds for a request to arrive whole, and for a client to read a piece of the response.
_REQUEST_SECONDS = 20.0
_PIECE_SECONDS = 10.0

bind = f"0.0.0.0:{os.environ.get('PORT', '8080')}"
workers = 1
worker_class = "gthread"
threads = int(os.environ.get("THREADS", "10"))
# Seconds without a heartbeat after which the worker is restarted; gthread sends one every second. The service's `timeoutSeconds` bounds requests.
timeout = 30
# Seconds for requests in progress at SIGTERM. Knative has drained the pod before, and waits `timeoutSeconds` in total.
graceful_timeout = 25
# Longer than Knative keeps idle connections; otherwise a request could meet a connection that is being closed.
keepalive = 120
# The root file system is read-only; /dev/shm is memory in every container.
worker_tmp_dir = "/dev/shm"  # noqa: S108
control_socket_disable = True
# The queue proxy connects from 127.0.0.1, which gunicorn trusts by default: a header SCRIPT_NAME or PATH_INFO of an outsider would change the
# path, and X-Forwarded-Proto the scheme.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers = {}
loglevel = "warning"

# A line of 8 KiB holds the addresses of all routes with their queries.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
# Waiting connections; Knative's proxy in front of the process holds as many as requests are in progress.
worker_connections = 500
backlog = 512


class Connection(gthread.TConn):
    """gunicorn reads a request in a thread of the pool, without a limit of time. Here slow clients lose their connection instead."""

    def init(self):
        """Begin a request; called in a thread of the pool."""
        first = not self.initialized
        super().init()
        self.sock.settimeout(_PIECE_SECONDS)
        self.ends = time.monotonic() + _REQUEST_SECONDS
        if first:
            receive = self.parser.unreader.chunk

            def chunk():
                try:
                    if time.monotonic() < self.ends:
                        return receive()
                except TimeoutError:
                    pass
                # gunicorn ends the connection without a traceback in the log; an application that reads a body answers 400.
                raise ConnectionResetError(errno.ECONNRESET, "the request was too slow")

            self.parser.unreader.chunk = chunk

    def wait_for_data(self, timeout):
        """Whether data have arrived. A silent connection waits without a thread."""
        return super().wait_for_data(0)


gthread.TConn = Connection

# Objects made by imports live as long as the process; garbage collection among them takes a fifth of the CPU of a start.
gc.disable()


def post_worker_init(worker):
    """Called in the worker after the function has been loaded."""
    gc.freeze()
    gc.enable()
