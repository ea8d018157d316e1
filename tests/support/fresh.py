"""Programs in interpreters of their own, which have the libraries loaded already: that takes longer than most programs.

Nothing of this package is loaded beforehand, so that what a program forgets to import fails as it would for a user.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path

_IS_FORKED = "forkserver" in multiprocessing.get_all_start_methods()  # Windows has none: there it takes longer
_CONTEXT = multiprocessing.get_context("forkserver" if _IS_FORKED else "spawn")
_CONTEXT.set_forkserver_preload(["tests.support.libraries"])
COMMAND = "from hf_canary.__main__ import main; main()"


def run_python(program, *arguments, cwd, check=True, environment=None) -> subprocess.CompletedProcess:
    """Code, or the path of a script, as `python` runs it; piped.

    Args:
        program: a `Path` of a script, or code.
        arguments: of its command line.
        cwd: the folder that it runs in.
        check: whether it must end well.
        environment: variables besides those of the tests.
    """
    (result,) = _run_all(program, arguments, cwd, [environment or {}])
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def run_together(module, *arguments, cwd, seconds=240):
    """`python -m module ...` in two processes that find each other, as under torchrun on one machine.

    Args:
        module: with a `__main__`.
        arguments: of its command line, the same for both.
        cwd: the folder that it runs in.
        seconds: after which both are killed.
    """
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = str(asked.getsockname()[1])
    alike = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    environments = [
        alike | {"RANK": rank, "LOCAL_RANK": rank, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        for rank in ("0", "1")
    ]
    program = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    for result in _run_all(program, arguments, cwd, environments, seconds):
        assert result.returncode == 0, result.stdout + result.stderr


def _run_all(program, arguments, cwd, environments, seconds=None):
    """A program at once in a process for each environment; what they printed and how they ended."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for number, environment in enumerate(environments):
            out, errors = Path(folder, f"out-{number}"), Path(folder, f"errors-{number}")
            given = (program, [str(each) for each in arguments], str(cwd), environment, str(out), str(errors))
            process = _CONTEXT.Process(target=_run, args=given)
            process.start()
            started.append((process, out, errors))
        for process, _, _ in started:
            process.join(seconds)
            if process.is_alive():
                process.kill()
                process.join()
        return [
            subprocess.CompletedProcess(
                [program, *arguments], process.exitcode, out.read_text("utf-8"), errors.read_text("utf-8")
            )
            for process, out, errors in started
        ]


def run_command(*arguments, cwd, check=True):
    """`hf-canary ...`, as a user runs it; piped, so without bars and colours."""
    return run_python(COMMAND, *arguments, cwd=cwd, check=check)


def _run(program, arguments, cwd, environment, out, errors):
    for file, number in ((out, 1), (errors, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.update(environment)
    is_script = isinstance(program, Path)
    sys.argv = [str(program) if is_script else "-c", *arguments]
    try:
        if is_script:
            sys.path.insert(0, str(program.parent))
            runpy.run_path(str(program), run_name="__main__")
        else:
            sys.path.insert(0, "")
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(program, "<string>", "exec"), main.__dict__)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
