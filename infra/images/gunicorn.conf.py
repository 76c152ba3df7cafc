# gunicorn's configuration for every function. A pod answers as many requests at once as its service's `containerConcurrency`. THREADS is
# slightly higher, so that probes find a free thread. Knative adds pods under load; the number of processes stays one.
import gc
import os

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

# Objects made by imports live as long as the process; garbage collection among them takes a fifth of the CPU of a start.
gc.disable()


def post_worker_init(worker):
    """Called in the worker after the function has been loaded."""
    gc.freeze()
    gc.enable()
