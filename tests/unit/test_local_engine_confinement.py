"""Steps that the kernel confines: what hostile ones reach, and that everyday ones work. Without Landlock, those tests are skipped."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, plans
from fuseml.embedded import server as embedded_server
from fuseml.embedded.step_options import StepOptions
from fuseml.engines import local
from fuseml.engines.local import confinement
from fuseml.processes import landlock
from tests.contract import engines
from tests.contract.engines import UnderTest
from tests.unit.test_local_engine_recovery import server, until
from tests.waiting import wait_until

ABI = landlock.abi()
needs_landlock = pytest.mark.skipif(not ABI, reason="this kernel has no Landlock of ABI 2 or newer")
CHECKOUT = plans.Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")


@pytest.fixture
def under_test(tmp_path: Path) -> Iterator[UnderTest]:
    (tmp_path / "database").write_text("database")
    (tmp_path / "runs" / "other" / "steps").mkdir(parents=True)
    (tmp_path / "runs" / "other" / "steps" / "log").write_text("log of another run")
    (tmp_path / "environments" / "q").mkdir(parents=True)
    (tmp_path / "environments" / "q" / "module.py").touch()
    with engines.local_engine(tmp_path, grace=0.2) as engine:
        yield engine


def run(under_test: UnderTest, script: str) -> tuple[str, str]:
    """The state and the log of a step that runs the script."""
    plan = engines.make_plan(engines.shell("s", script))
    result = under_test.run(plan)
    return result.steps["s"].state, under_test.log(plan, "s")


# {home} is the folder of the server, {own} that of the step.
REFUSED = {
    "read the key": "cat {home}/key",
    "read the database": "cat {home}/database",
    "list the home": "ls {home}",
    "list the runs": "ls {home}/runs",
    "read another run": "cat {home}/runs/other/steps/log",
    "read the key through the root of its process": "cat /proc/self/root{home}/key",
    "read the key through a link": 'ln -s {home}/key "$TMPDIR/key"; cat "$TMPDIR/key"',
    "link to the key": 'ln {home}/key "$TMPDIR/key"',
    "move another run": 'mv {home}/runs/other "$TMPDIR/other"',
    "read its own plan": "cat {own}/../../plan.json",
    "read its own record": "cat {own}/step.json",
    "replace its own record": "echo x > {own}/step.json.new",
    "remove its own log": "rm {own}/log",
    "forge its exit code": "echo 0 > {own}/exit",
    "replace its results folder": "rmdir {own}/results",
    "change its script": "echo x >> {own}/script",
    "write to the environment of another project": "touch {home}/environments/q/module.py; echo x > {home}/environments/q/module.py",
    "write to the Python of the server": f"touch {Path(sys.prefix)}/pyvenv.cfg.new",
    "write to the system": "touch /usr/lib/new",
    "write to /etc": "touch /etc/new",
    "write to /tmp": "touch /tmp/new-4711",
    "list the home of the user": f"ls {os.path.expanduser('~')}",
    "end the server": "kill -9 {server}",
    "suspend its supervisor": "kill -STOP $PPID",
    "end every process": "kill -9 -1; kill -0 {server}",
    "read the variables of the server": "cat /proc/{server}/environ",
    "read the files of the server": "ls -l /proc/{server}/fd/ | grep -- '->' && echo leaked; readlink /proc/{server}/fd/1 || ls /proc/{server}/cwd/",
    "read the memory of the server": "head -c 1 /proc/{server}/mem",
    "enter the folder of the server": "ls /proc/{server}/cwd/",
    "read the memory of its supervisor": "head -c 1 /proc/$PPID/mem",
    "trace the server": f"{sys.executable} -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, {{server}}, 0, 0) != 0)'",
}


@needs_landlock
@pytest.mark.parametrize("attempt", REFUSED)
def test_a_hostile_step_is_refused(under_test: UnderTest, tmp_path: Path, attempt: str) -> None:
    before = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name in ("key", "database", "module.py", "log")
    }
    plan = engines.make_plan(engines.shell("s", "script"))
    own = tmp_path / "runs" / plan.id / "steps" / "s"
    script = REFUSED[attempt].format(home=tmp_path, own=own, server=os.getpid())
    plan = plan.model_copy(update={"steps": (engines.shell("s", f"set +e\n{script} && echo REACHED\nexit 0"),)})
    assert under_test.run(plan).run.state == "succeeded"
    log = under_test.log(plan, "s")
    assert "REACHED" not in log
    assert any(text in log for text in ("not permitted", "denied", "cross-device")) or attempt == "trace the server"
    assert {path: path.read_bytes() for path in before} == before


@needs_landlock
def test_a_step_reaches_no_abstract_socket_outside(under_test: UnderTest) -> None:
    if ABI < 6:
        pytest.skip("this kernel's Landlock has no scopes")
    import socket

    name = f"fuseml-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}')"
        state, log = run(under_test, f"#!{sys.executable}\n{connect}\n")
    assert (state, "Operation not permitted" in log) == ("failed", True)


# A step that does these things works as outside.
EVERYDAY = {
    "temporary files": "import tempfile; tempfile.TemporaryFile().write(b'x'); tempfile.mkdtemp()",
    "a process pool with fork": "import multiprocessing as m; print(m.get_context('fork').Pool(2).map(abs, [-1]))",
    "a process pool with spawn": "import multiprocessing as m\nif __name__ == '__main__': print(m.get_context('spawn').Pool(2).map(abs, [-1]))",
    "a process pool with forkserver": (
        "import multiprocessing as m\nif __name__ == '__main__': print(m.get_context('forkserver').Pool(2).map(abs, [-1]))"
    ),
    "a manager": "import multiprocessing as m\nif __name__ == '__main__':\n    with m.Manager() as manager: print(manager.list([1]))",
    "joblib": "import joblib\nif __name__ == '__main__': print(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(n) for n in [-1, -2]))",
    "shared memory": "from multiprocessing import shared_memory as s; m = s.SharedMemory(create=True, size=9); m.unlink(); m.close()",
    "sqlite in the current folder": "import sqlite3; c = sqlite3.connect('x.db'); c.execute('create table t (a)'); c.commit()",
    "files of configuration and cache": (
        "import pathlib; p = pathlib.Path.home() / '.config' / 'matplotlib'; p.mkdir(parents=True); (p / 'matplotlibrc').touch()\n"
        "(pathlib.Path.home() / '.cache').mkdir()"
    ),
    "matplotlib": "import matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot as p; p.plot([1]); p.savefig('x.png')",
    "scikit-learn": "from sklearn.linear_model import LinearRegression as L; print(L(n_jobs=2).fit([[1], [2]], [1, 2]).coef_)",
    "a rename from one folder to another": "import os; open('a', 'w').close(); os.mkdir('d'); os.rename('a', 'd/a'); os.link('d/a', 'b')",
    "links, FIFOs and sockets": "import os, socket; os.symlink('a', 'l'); os.mkfifo('f'); socket.socket(socket.AF_UNIX).bind('s')",
    "modes and times": "import os; open('a', 'w').close(); os.chmod('a', 0o600); os.utime('a')",
    "names of users and hosts": "import getpass, socket; print(getpass.getuser(), socket.getaddrinfo('localhost', 80))",
    "a server on loopback": (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); socket.create_connection(s.getsockname())"
    ),
    "the number of processors and the memory": "import os; os.cpu_count(); open('/proc/meminfo').read(); open('/proc/self/status').read()",
    "random numbers and null": "import os; open('/dev/urandom', 'rb').read(1); open(os.devnull, 'w').write('x')",
    "its standard streams by name": "open('/dev/stdout', 'w').write('x'); open('/dev/stderr', 'w').write('x')",
    "signals to its own processes": (
        "import subprocess; p = subprocess.Popen(['sleep', '60']); p.terminate(); assert p.wait() == -15\n"
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), signal.SIGTERM)"
    ),
    "a virtual environment": "import venv, subprocess; venv.create('e', with_pip=False); subprocess.run(['e/bin/python', '-c', '1'], check=True)",
    "git": (
        "import subprocess as s\nfor c in ('init -q', '-c user.name=a -c user.email=a@b commit -q --allow-empty -m m', 'clone -q . copy', 'gc -q'):\n"
        "    s.run(['git', *c.split()], check=True)"
    ),
    "certificates": "import ssl; print(len(ssl.create_default_context().get_ca_certs()))",
    "time zones": "import zoneinfo; print(zoneinfo.ZoneInfo('Europe/Berlin'))",
}
_WITH_PACKAGES = {"joblib", "matplotlib", "scikit-learn"}


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[UnderTest]:
    # A short path: sockets of a step have paths of 107 bytes at most.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="fuseml-") as folder, engines.local_engine(Path(folder)) as engine:
        yield engine


@pytest.mark.parametrize("deed", EVERYDAY)
def test_an_everyday_step_works(shared_engine: UnderTest, deed: str) -> None:
    if deed in _WITH_PACKAGES:
        pytest.importorskip({"scikit-learn": "sklearn"}.get(deed, deed))
    # -X utf8 keeps the interpreter quiet about the locale. A file, because spawned processes import it.
    script = f"cat > main.py <<'END'\n{EVERYDAY[deed]}\nEND\nexec {sys.executable} main.py"
    state, log = run(shared_engine, script)
    assert state == "succeeded", log


@needs_landlock
@pytest.mark.parametrize("abi", range(landlock.LOWEST, ABI + 1))
def test_each_abi_confines_and_lets_steps_work(tmp_path: Path, abi: int) -> None:
    with engines.local_engine(tmp_path, abi=abi) as under_test:
        script = f'echo x > "$TMPDIR/a"; mkdir b; mv "$TMPDIR/a" b/a; cat b/a > /dev/null; cat {tmp_path}/key || echo refused'
        assert run(under_test, script) == ("succeeded", f"cat: {tmp_path}/key: Permission denied\nrefused\n")


def test_without_confinement_the_same_step_reaches_the_key(tmp_path: Path) -> None:
    with engines.local_engine(tmp_path, confined=False) as under_test:
        assert run(under_test, f"cat {tmp_path}/key > /dev/null; echo reached") == ("succeeded", "reached\n")


@needs_landlock
def test_allowed_paths_can_be_read_or_written_and_never_hold_the_home_of_the_server(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    for folder in (data, cache):
        folder.mkdir()
        (folder / "file").write_text("content\n")
    allowed = [local.AllowedPath.parse(str(data)), local.AllowedPath.parse(f"{cache}:rw"), local.AllowedPath(tmp_path)]
    with engines.local_engine(tmp_path, allowed=allowed) as under_test:
        assert run(under_test, f"cat {data}/file; echo x > {cache}/new; cat {cache}/new") == ("succeeded", "content\nx\n")
        plan = engines.make_plan(engines.shell("s", f"echo x > {data}/new"))
        cause = under_test.run(plan).steps["s"].cause or ""
        assert f"a step cannot write to {data}/new: let all steps do so with `fuseml up --allow-path {data}:rw`" in cause
        plan = engines.make_plan(engines.shell("s", f"ls {tmp_path}/runs/"))
        assert "which belongs to the server" in (under_test.run(plan).steps["s"].cause or "")
        state, log = run(under_test, f"cat {tmp_path}/key")
        assert (state, "Permission denied" in log) == ("failed", True)


@needs_landlock
@pytest.mark.parametrize(
    ("script", "advice"),
    [
        (f"#!{sys.executable}\nopen('/srv-4711')\n", ""),
        (f"#!{sys.executable}\nopen('{{shut}}/data.csv')\n", "`fuseml up --allow-path {shut}`"),
        ("cat {shut}/data.csv", "`fuseml up --allow-path {shut}`"),
        ("ls {shut}", "`fuseml up --allow-path {shut}`"),
        ("echo x > /tmp/x-4711", "use the folder $TMPDIR"),
        ("echo denied; exit 1", ""),
        ('mkdir "$HOME/x"; chmod 0 "$HOME/x"; echo "cat: $HOME/x: Permission denied"; exit 1', ""),
    ],
)
def test_a_step_that_fails_on_a_path_outside_gets_advice(script: str, advice: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var", prefix="fuseml-") as shut, tempfile.TemporaryDirectory() as folder:
        (Path(shut) / "data.csv").touch()
        with engines.local_engine(Path(folder)) as under_test:
            plan = engines.make_plan(engines.shell("s", script.replace("{shut}", shut)))
            result = under_test.run(plan)
            cause = result.steps["s"].cause or ""
        assert result.run.state == "failed"
        assert ("a step cannot" in cause) == bool(advice)
        assert advice.replace("{shut}", shut) in cause


@pytest.mark.parametrize("text", ["data", "/no/such/folder-4711", "", ":rw"])
def test_an_allowed_path_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError, match="give an absolute path"):
        local.AllowedPath.parse(text)


DAEMON = """\
import os, sys, time
# Twice, with sessions of its own, without the descriptors of the step, and deaf to signals.
import signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(0, 100)
        while True:
            with open({beat!r}, "a") as file:
                file.write("x")
            time.sleep(0.01)
    os._exit(0)
while not os.path.exists({beat!r}):
    time.sleep(0.01)
print("up", flush=True)
"""
ENDINGS = {"exits": "", "fails": "sys.exit(3)", "is killed": "os.kill(os.getpid(), 9)", "is cancelled": "time.sleep(3600)"}


def beats(file: Path) -> bool:
    """Whether the daemon still writes."""
    before = file.stat().st_size
    time.sleep(0.2)
    return file.stat().st_size > before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
@pytest.mark.parametrize("confined", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_daemon_ends_with_its_step(tmp_path: Path, ending: str, confined: bool) -> None:
    beat = tmp_path / "shared" / "beat"
    script = f"#!{sys.executable}\n{DAEMON.format(beat=str(beat))}\n{ENDINGS[ending]}\n"
    plan = engines.make_plan(engines.shell("s", script))
    with engines.local_engine(tmp_path, confined=confined) as under_test:
        under_test.engine.submit(plan, {})
        if ending == "is cancelled":
            wait_until(lambda: "up" in under_test.log(plan, "s"), "the daemon")
            under_test.engine.cancel(plan.id, "no longer needed")
        under_test.inbox.finished(plan.id)
        assert not beats(beat)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_a_daemon_ends_with_its_step_after_the_server_was_killed(tmp_path: Path) -> None:
    beat, go = tmp_path / "shared" / "beat", tmp_path / "shared" / "go"
    script = f"#!{sys.executable}\n{DAEMON.format(beat=str(beat))}\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    plan = engines.make_plan(engines.shell("s", script))
    with server(tmp_path, plan):
        until(beat, "x")
    assert beats(beat)
    with engines.local_engine(tmp_path) as under_test:
        go.touch()
        assert under_test.inbox.finished(plan.id).run.state == "succeeded"
        assert not beats(beat)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_a_chain_of_processes_that_fork_and_end_is_ended(tmp_path: Path) -> None:
    count = tmp_path / "shared" / "count"
    chain = "import os\nos.setsid()\nwhile True:\n    if os.fork(): os._exit(0)\n"
    chain += f"    os.close(os.open({str(count)!r}, os.O_CREAT | os.O_WRONLY))\n    os.utime({str(count)!r})"
    script = f"#!{sys.executable}\nimport os, subprocess, sys, time\n"
    script += f"subprocess.Popen([sys.executable, '-S', '-c', {chain!r}])\nwhile not os.path.exists({str(count)!r}): time.sleep(0.01)\n"
    with engines.local_engine(tmp_path) as under_test:
        state, log = run(under_test, script)
        assert (state, log) == ("succeeded", "")
        before = count.stat().st_mtime_ns
        time.sleep(0.2)
        assert count.stat().st_mtime_ns == before


FILLERS = {
    "one file": "head -c 300000000 /dev/zero > file; sleep 60",
    "its temporary folder": 'head -c 300000000 /dev/zero > "$TMPDIR/file"; sleep 60',
    "its results": 'head -c 300000000 /dev/zero > "$FUSEML_ENV_RESULTS/file"; sleep 60',
    "many files": "mkdir -p a/b; for n in $(seq 300); do head -c 1000000 /dev/zero > a/b/$n; done; sleep 60",
    "its checkout": "head -c 300000000 /dev/zero > file; sleep 60",
}


@pytest.mark.parametrize("kind", FILLERS)
def test_a_step_that_fills_the_disk_ends(tmp_path: Path, kind: str) -> None:
    checkouts = (CHECKOUT,) if kind == "its checkout" else ()
    plan = engines.make_plan(engines.shell("s", FILLERS[kind], checkouts=checkouts, retries=2))
    with engines.local_engine(tmp_path, limits=local.StepLimits(disk=100 << 20)) as under_test:
        result = under_test.run(plan).steps["s"]
    cause = "it wrote more than 100 MiB; the server's setting FUSEML_STEP_DISK_LIMIT has the limit"
    assert (result.state, result.attempts, result.cause) == ("failed", 1, cause)


def test_a_sparse_file_and_the_files_of_a_codeset_do_not_count(tmp_path: Path) -> None:
    def large(checkout: plans.Checkout, directory: Path) -> Sequence[plans.Submodule]:
        (directory / "large").write_bytes(bytes(50 << 20))
        os.utime(directory / "large")
        time.sleep(2.1)
        return ()

    plan = engines.make_plan(engines.shell("s", "truncate -s 1T sparse; sleep 1", checkouts=(CHECKOUT,)))
    with engines.local_engine(tmp_path, limits=local.StepLimits(disk=20 << 20), checkout=large) as under_test:
        assert under_test.run(plan).run.state == "succeeded"


# --- the computation of the ruleset


def test_rights_grow_with_the_abi() -> None:
    expected = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16, 8: 16, 9: 17, 20: 17}
    assert {abi: landlock.handled(abi).bit_length() for abi in expected} == expected
    assert landlock.handled(0) == 0
    assert [landlock.scopes(abi) for abi in (2, 5, 6, 9)] == [0, 0, 3, 3]


@pytest.mark.parametrize(
    ("machine", "number"),
    [
        ("x86_64", 444),
        ("aarch64", 444),
        ("armv7l", 444),
        ("riscv64", 444),
        ("s390x", 444),
        ("ppc64le", 444),
        ("mips64", 5444),
        ("alpha", 554),
        ("vax", None),
    ],
)
def test_system_calls_have_the_numbers_of_the_machine(machine: str, number: int | None) -> None:
    assert landlock.first_call(machine) == number


def test_a_kernel_without_landlock_confines_nothing_and_no_request_asks_for_it(tmp_path: Path) -> None:
    none = confinement.make(0, environment={}, protected=[tmp_path])
    assert (none, none.of_step([tmp_path], [tmp_path]), none.hint("cat: /x: Permission denied", [])) == (local.Confinement(), [], "")
    with pytest.raises(OSError, match="no Landlock"):
        landlock.confine([], 0)


@given(st.lists(st.sampled_from(["a", "b", "a/b", "a/c", "a/b/d", "e", "a/b/d/f"]), max_size=4))
def test_carved_paths_never_contain_a_protected_one_and_cover_the_rest(
    tmp_path_factory: pytest.TempPathFactory, protected: list[str]
) -> None:
    root = tmp_path_factory.getbasetemp() / "carved"
    names = ["a", "b", "a/b", "a/c", "a/b/d", "e", "a/b/d/f", "a/g"]
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
    closed = [str(root / name) for name in protected]
    granted = [Path(path) for path in confinement.carve(str(root), closed)]
    for name in names:
        path = root / name
        reachable = any(path.is_relative_to(grant) for grant in granted)
        hidden = any(path.is_relative_to(folder) for folder in closed)
        above = any(Path(folder).is_relative_to(path) for folder in closed)
        assert reachable == (not hidden and not above)


@pytest.mark.parametrize("place", ["opt/fuseml", "usr/share/fuseml", "srv/fuseml"])
def test_the_home_of_the_server_is_never_granted_wherever_it_is(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / place
    home.mkdir(parents=True)
    (home.parent / "other").mkdir()
    monkeypatch.setattr(confinement, "_SYSTEM", tuple(str(tmp_path / name) for name in ("opt", "usr")))
    made = confinement.make(
        7, environment={"PATH": f"{home}/bin:{home.parent}"}, protected=[home], allowed=[local.AllowedPath(tmp_path, True)]
    )
    assert not any(home.is_relative_to(path) or Path(path).is_relative_to(home) for path, _ in made.grants)
    assert str(home.parent / "other") in {path for path, _ in made.grants}


def test_the_home_of_the_user_is_not_granted_but_installations_of_programs_in_it(tmp_path: Path) -> None:
    user = tmp_path / "user"
    for name in (".ssh", "bin", ".local/bin", ".local/share", "conda/bin", "conda/conda-meta", ".pyenv/shims", ".pyenv/versions"):
        (user / name).mkdir(parents=True)
    path = ":".join(str(user / name) for name in ("bin", ".local/bin", "conda/bin", ".pyenv/shims"))
    made = confinement.make(7, environment={"PATH": f"{path}:relative:{user}:/", "HOME": str(user)}, protected=[tmp_path / "home"])
    granted = {Path(grant).relative_to(user).as_posix() for grant, _ in made.grants if Path(grant).is_relative_to(user)}
    assert granted == {"bin", ".local/bin", "conda", "conda/bin", ".pyenv", ".pyenv/shims"}
    assert not any(user.is_relative_to(grant) for grant, _ in made.grants)


def test_the_server_says_at_its_start_whether_steps_are_confined(monkeypatch: pytest.MonkeyPatch) -> None:
    for abi, confined, words in (
        (7, True, "confined by Landlock (ABI 7)"),
        (0, True, "has no Landlock"),
        (7, False, "FUSEML_STEP_CONFINEMENT=off"),
    ):
        monkeypatch.setattr(landlock, "abi", lambda abi=abi: abi)
        assert words in embedded_server.confinement_of(StepOptions(confined=confined))
