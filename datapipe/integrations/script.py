"""Any PyTorch training script, unmodified, under a profile.

What enters: a script's path or a module's name, and its arguments. What leaves: its exit code, and the profile.
Invariant: the script sees what it would see alone: `sys.argv`, `__main__`, its standard streams; its exit code, and the
traceback of an exception that ends it, are what Python alone would give; every patch is undone, however it ends. Ctrl-C
and a polite kill (SIGTERM, what schedulers and torchrun send) end the script as an exception does, and the profile of
what ran is written; so it is before `os._exit`.

A step runs from one `next()` of a data loader to the next. Named inside it: "forward" (the outermost module's call),
"backward", "optimizer"; a pass over a loader without gradients is "evaluate".
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.integrations.endings import Terminated, terminable, written_before_exit
from datapipe.integrations.loops import StepsDone
from datapipe.integrations.parquet_evidence import parquet_evidence
from datapipe.profiling import profile, write_report
from datapipe.profiling.profile_file import NAME, save_profile
from datapipe.profiling.ranks import this_rank
from datapipe.profiling.unfinished import begin, end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec

    from datapipe.profiling import Profile, Summary
    from datapipe.profiling.live import Sink
    from datapipe.profiling.loader_facts import Setting

_INTERRUPTED: Final = 130
"""What a shell reports for a process that Ctrl-C ended (128 + SIGINT)."""
_TERMINATED: Final = 143
"""The same for SIGTERM."""


def profile_script(
    argv: Sequence[str],
    out: str | os.PathLike[str],
    module: bool = False,
    live: Sequence[Sink] = (),
    options: Mapping[str, Setting] | None = None,
    stand_in: str = "as-is",
    steps: int | None = None,
    brief: bool = False,
    unwritten: Callable[[Summary], None] | None = None,
) -> int:
    """Run a script under a profile and write the profile into `out`.

    Args:
        argv: the script and its arguments, as on a command line without `python`.
        out: folder for `profile.json`, `report.html` and `trace.json.gz`; under torchrun they go to `rank-N` inside it.
        module: `argv[0]` is a module to run as with `python -m`.
        live: told about once a second how the run goes, as for `datapipe.profile`.
        options: of the script's loaders, in place of what it says: see `loader_options`.
        stand_in: what takes the place of the script's loaders: "as-is" (nothing), "synthetic", "cached" or "loader",
            see `stand_ins`.
        steps: after how many steps the script is ended, in its call for a further batch; None: where it ends.
        brief: write `profile.json` and `report.html` alone: no trace, no spans to replay, no advice.
        unwritten: told what the run came to where that cannot be written (a disk that filled up meanwhile).

    Returns:
        The exit code the script ended with: 0 if it ran to its end, that of `sys.exit`, 130 after Ctrl-C, 143 after
        SIGTERM, and 1 after an exception, whose traceback (from the script's first frame on) is then on standard error.

    Raises:
        SystemExit: this is a child that the script forked, which ends here, as it would alone; it writes no profile.
        ConfigError: there is no such script or module, or nothing can be written into `out`; nothing was run then.
        ProfileError, NoSpaceError: the profile of a script that did not fail cannot be written.
    """
    process = os.getpid()
    code = _profiled(argv, out, module, live, options or {}, stand_in, steps, brief, unwritten)
    if os.getpid() != process:
        raise SystemExit(code)
    return code


def _profiled(
    argv: Sequence[str],
    out: str | os.PathLike[str],
    module: bool,
    live: Sequence[Sink],
    options: Mapping[str, Setting],
    stand_in: str,
    steps: int | None,
    brief: bool,
    unwritten: Callable[[Summary], None] | None,
) -> int:
    if not argv:
        raise ConfigError("no script was named", expected="a script and its arguments", fix="datapipe profile train.py")
    target = str(argv[0])
    _check(target, module=module)
    rank = this_rank()
    folder = Path(out) / (rank.folder if rank is not None else "")
    begin(folder)
    _forget(out)
    prof = profile(out, title=target if module else Path(target).name, live=live, brief=brief)
    raised: list[Exception] = []
    process = os.getpid()
    with _as_main(list(argv), module=module):
        try:
            with terminable() as ending, prof, ending.written_whole(), written_before_exit(prof):
                from datapipe.integrations.loader_options import loader_options
                from datapipe.integrations.torch_hooks import torch_hooks

                with (
                    loader_options(prof, options) as datasets,
                    torch_hooks(prof, stand_in=stand_in, steps=steps),
                ):
                    _run(target, prof, raised, module=module)
        except SystemExit as ended:
            return exit_code(ended)
        except KeyboardInterrupt:
            return _INTERRUPTED
        except Terminated:
            return _TERMINATED
        except Exception as error:
            if not any(error is own for own in raised):
                raise  # not the script's: the profile's
            _print_traceback(error)
            return 1
        finally:
            if os.getpid() == process:
                end(folder)
                if prof.unwritten is not None and unwritten is not None:
                    unwritten(prof.summary())
    if ending.came:
        return _TERMINATED
    if os.getpid() == process:
        _tell(prof, datasets)
    return 0


def _tell(prof: Profile, datasets: list[object]) -> None:
    """Add what the dataset's files cost to the report's advice: read after the run, so that it is no part of it."""
    summary, folder = prof.summary(), prof.folder
    evidence = parquet_evidence(datasets[0]) if datasets else ()
    if evidence and summary.advice is not None and folder is not None:
        told = replace(summary, advice=replace(summary.advice, evidence=evidence))
        save_profile(told, folder)
        write_report(told, folder)


def _print_traceback(error: Exception) -> None:
    """What Python prints of an exception that nobody caught: none of the frames that ran the script."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in {__name__, "runpy"}:
        frames = frames.tb_next
    traceback.print_exception(type(error), error.with_traceback(frames), frames)


def _run(target: str, prof: Profile, raised: list[Exception], *, module: bool) -> None:
    """Run it as `__main__`. `sys.exit(0)` ends a whole run, so it must not pass through the profile as an error."""
    try:
        if module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    except SystemExit as ended:
        code = exit_code(ended)
        if code:
            prof.note("exit code", code)
            raise SystemExit(code) from None
    except StepsDone:
        prof.note("ended after steps", "as many as were asked for")
    except Exception as error:
        raised.append(error)
        raise


def exit_code(ended: SystemExit) -> int:
    """The process exit code of a `SystemExit`; a message in place of a code is said on standard error, and means 1."""
    if ended.code is None:
        return 0
    if isinstance(ended.code, int):
        return ended.code & 0xFF
    sys.stderr.write(f"{ended.code}\n")
    return 1


def _forget(out: str | os.PathLike[str]) -> None:
    """A rank's profile from an earlier job must not be merged with this job's."""
    rank = this_rank()
    if rank is not None:
        with contextlib.suppress(OSError):
            (Path(out) / rank.folder / NAME).unlink()


def _check(target: str, *, module: bool) -> None:
    if module:
        found = _found(target)
        if found is None:
            raise ConfigError(
                f"there is no module {target!r}",
                expected="a module, or a package with a `__main__`, that `python -m` would run",
                fix="name it as you import it, from the folder that holds it",
            )
    elif not Path(target).is_file():
        raise ConfigError(
            f"{target} is a folder" if Path(target).is_dir() else f"there is no script at {target}",
            expected="a Python file",
            fix="check the path; a module, or a package with a `__main__`: datapipe profile -m NAME",
        )


def _found(module: str) -> ModuleSpec | None:
    """What `python -m` would run: the module, or a package's `__main__`; None where there is none.

    The working folder is looked in first, as Python does; the parents of a module inside a package are imported.
    """
    import importlib.util

    with _as_main([module], module=True):
        try:
            spec = importlib.util.find_spec(module)
            if spec is not None and spec.submodule_search_locations is not None:
                spec = importlib.util.find_spec(f"{module}.__main__")
        except (ImportError, ValueError):
            return None
    return spec


class _as_main:  # noqa: N801  (a context manager, used as one)
    """`sys.argv` and `sys.path` as Python sets them for a script, put back afterwards."""

    def __init__(self, argv: list[str], *, module: bool) -> None:
        self._argv = argv
        # `python script.py` puts the script's folder first, `python -m` the working folder.
        self._first = os.getcwd() if module else str(Path(argv[0]).resolve().parent)  # noqa: PTH109  (sys.path: str)

    def __enter__(self) -> None:
        self._before = (sys.argv, sys.path, sys.modules.get("__main__"))
        sys.argv = self._argv
        sys.path = [self._first, *sys.path]

    def __exit__(self, *_: object) -> None:
        sys.argv, sys.path = self._before[:2]
        if self._before[2] is not None:
            sys.modules["__main__"] = self._before[2]
