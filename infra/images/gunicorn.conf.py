# How gunicorn serves a function. A pod answers as many requests at once as its service's `containerConcurrency`, so THREADS is that and
# a few more, so that probes are answered while all of them are taken. More load makes more pods, not more processes.
import gc
import os

bind = f"0.0.0.0:{os.environ.get('PORT', '8080')}"
workers = 1
worker_class = "gthread"
threads = int(os.environ.get("THREADS", "10"))
# gthread's worker tells every second that it is alive; requests themselves are bounded by the service's `timeoutSeconds`.
timeout = 30
# What is in progress at SIGTERM has this long. Knative has drained the pod before, and waits for `timeoutSeconds` in all.
graceful_timeout = 25
# Longer than Knative's own side keeps idle connections, or a request meets a connection that is just being closed.
keepalive = 120
# The root file system is read-only; /dev/shm is memory in every container.
worker_tmp_dir = "/dev/shm"  # noqa: S108
control_socket_disable = True
loglevel = "warning"

# Importing makes nothing but what stays, and looking for garbage in it is a fifth of the CPU of a start.
gc.disable()


def post_worker_init(worker):
    """The function is loaded."""
    gc.freeze()
    gc.enable()
