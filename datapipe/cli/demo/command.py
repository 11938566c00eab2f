"""The demo as a story: each part says what it does, does it with the public API, and prints what came out.

What enters: `--input` or the text of this machine. What leaves: OUT/{dataset, train, profile}, and exit code 0
if each promise was kept: the ledger adds up, the loss fell, the resumed process had the very batches it should have
had. Invariant: run again, it goes on from what is already done.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption
from datapipe.cli.live import RunView
from datapipe.cli.preprocess import summary_lines

if TYPE_CHECKING:
    from datapipe.cli.demo.training import Trained
    from datapipe.preprocess import RunSummary

OVERRIDES: Final = {"vocabulary.size": 4096, "pack.seq_len": 256}
_PARTS: Final = 5
MARKER: Final = "demo.json"
"""What tells the demo's folder from anybody's."""


def demo(
    input_: Annotated[
        str | None, typer.Option("--input", help="Your own text: a file, folder, glob or URL.", metavar="PATH_OR_URL")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("datapipe-demo"),
    steps: Annotated[int, typer.Option(help="Training steps.", min=10)] = 200,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Run the whole way on real input: preprocess, train, stop, resume in a fresh process, profile.

    Example: datapipe demo --input ~/notes --out /tmp/demo --steps 60
    """
    from datapipe.errors import ConfigError

    if device not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"--device {device}", expected="auto, cpu or cuda")
    started = time.monotonic()
    _claim(out)
    tell = _Teller(quiet=json)

    tell.part("a corpus")
    source = _corpus(input_, out, tell)

    tell.part("preprocessing: raw files → dataset")
    summary = _preprocess(source, out, tell)

    tell.part("training on it through datapipe.DataLoader")
    from datapipe.cli.demo.training import resume_check, train_profiled

    trained = train_profiled(out, steps=steps, device=device, tell=tell.line)
    tell.line(
        f"loss {trained.first_loss:.3f} → {trained.last_loss:.3f} over {trained.steps} steps (means of the first and "
        f"last tenth), {trained.tokens_per_s:,.0f} tokens/s on {trained.device}"
    )
    if not trained.learnt:
        tell.line("the loss did not fall: too few steps, or text without structure")
    tell.line(
        f"stopped after step {trained.steps}: {trained.position} of {trained.epoch_steps} batches into epoch "
        f"{trained.epoch}"
    )
    resumed = resume_check(out, trained, device=device)
    for expected, got in resumed.pairs:
        tell.line(
            f"next batch {expected[:16]}, in a fresh process {got[:16]}: {'the same' if expected == got else 'ANOTHER'}"
        )
    tell.line(f"the fresh process went on: step {trained.steps + resumed.steps}, loss {resumed.loss:.3f}")

    tell.part("where the time went")
    profile = _profile(out, tell)

    tell.part("your own data")
    for line in _next_commands(out):
        tell.line(line)
    seconds = time.monotonic() - started
    tell.line(f"\n{seconds:.0f} s in all")
    kept = resumed.same and trained.learnt
    if json:
        console.emit(_facts(kept, summary, trained, profile) | {"resumed_same": resumed.same, "seconds": seconds})
    if not kept:
        raise typer.Exit(1)


def _claim(out: Path) -> None:
    """Take `out` for the demo: it must be new, empty, or the demo's own, as the demo replaces what lies in it."""
    from datapipe.errors import OutputError

    if out.exists() and not (out / MARKER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out} holds something else",
            expected="a folder that is new, empty, or of an earlier demo",
            fix="give another one: datapipe demo --out FOLDER",
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text('{"made_by": "datapipe demo"}\n')


def _corpus(input_: str | None, out: Path, tell: _Teller) -> str:
    if input_ is not None:
        from datapipe.storage import mask

        tell.line(f"yours: {mask(input_)}")
        return input_
    from datapipe.cli.demo.corpus import gather

    found = gather(out / "corpus")
    tell.line(
        f"{found.files:,} files, {console.size(found.bytes)} of text of this machine, copied to {found.folder}, from"
    )
    for root in found.roots:
        tell.line(f"  {root}")
    return str(found.folder)


def _preprocess(source: str, out: Path, tell: _Teller) -> RunSummary:
    from datapipe.preprocess import preprocess

    with RunView(quiet=tell.quiet) as view:
        summary = preprocess(
            [source],
            str(out / "dataset"),
            recipe="text",
            overrides=OVERRIDES,
            on_progress=view.update,
        )
    for line in summary_lines(summary):
        tell.line(line)
    return summary


def _profile(out: Path, tell: _Teller) -> Any:
    from datapipe.profiling import load_profile, render

    loaded = load_profile(out / "profile")
    if not tell.quiet:
        console.out().print(render(loaded))
    for name in ("report.html", "profile.json", "trace.json.gz"):
        tell.line(f"{out / 'profile' / name}")
    return loaded


def _next_commands(out: Path) -> list[str]:
    return [
        "datapipe preprocess YOUR_FILES my-dataset        # the same recipe on your text",
        f"datapipe plan {out / 'dataset'} --batch-size 16   # what an epoch costs, before it is read",
        "datapipe profile -o runs/mine your_train.py      # where your own script's time goes, unmodified",
    ]


def _facts(ok: bool, summary: RunSummary, trained: Trained, profile: Any) -> dict[str, Any]:
    return {"ok": ok, "preprocess": summary.as_dict(), "train": trained.as_dict(), "profile": asdict(profile)}


class _Teller:
    """Says what the demo does, in numbered parts."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._part = 0

    def part(self, title: str) -> None:
        self._part += 1
        if not self.quiet:
            console.show(f"\n{self._part}/{_PARTS}  {title}", "bold")

    def line(self, text: str) -> None:
        if not self.quiet:
            console.show("  " + text.replace("\n", "\n  "))
