"""Programs in interpreters of their own, which have the libraries loaded already: that takes longer than most programs.

Nothing of this package is loaded beforehand, so that what a program forgets to import fails as it would for a user.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.libraries"])
COMMAND = "from hf_canary.cli import main; main()"


def run_python(program, *arguments, cwd, check=True, environment=None) -> subprocess.CompletedProcess:
    """Code, or the path of a script, as `python` runs it; piped.

    Args:
        program: a `Path` of a script, or code.
        arguments: of its command line.
        cwd: the folder that it runs in.
        check: whether it must end well.
        environment: variables besides those of the tests.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder, "out"), Path(folder, "errors")
        process = _CONTEXT.Process(
            target=_run,
            args=(program, [str(each) for each in arguments], str(cwd), environment or {}, str(out), str(errors)),
        )
        process.start()
        process.join()
        result = subprocess.CompletedProcess(
            [program, *arguments], process.exitcode, out.read_text("utf-8"), errors.read_text("utf-8")
        )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


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
