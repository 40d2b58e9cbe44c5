"""`iqdb search`, `hash` and `compare`: looking at pictures, and adding nothing."""

from __future__ import annotations

import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from api.roles.command_parts import show
from api.roles.command_parts.arithmetic import Arithmetic
from api.roles.command_parts.content import content_of_file
from api.roles.command_parts.files import is_file, is_handed, path_of, reason_to_pass
from api.roles.command_parts.likeness import EVEN, verdict_of
from api.roles.command_parts.local import compared
from api.roles.command_parts.opening import opened, picture_of
from api.roles.command_parts.reasons import reason_of
from api.roles.options import DECODING, TARGET, with_settings
from api.roles.printable import printable
from iqdb_client import Question
from iqdb_core import codec
from iqdb_core.errors import ImageError
from iqdb_core.likelihood_words import LIKELY
from iqdb_core.settings import Settings
from iqdb_core.signature import DecodeLimits, read_image
from iqdb_core.web_address import split_web_address

app: Final = typer.Typer()

NOTHING_FOUND: Final = 4
SOME_REFUSED: Final = 3
MOST: Final = 1000
"""Matches, as of a server."""


class Turns(StrEnum):
    """How a picture is turned as well."""

    MIRROR = "mirror"
    ALL = "all"


@app.command()
@with_settings("commands", only=(*DECODING, *TARGET))
def search(
    settings: Settings,
    picture: Annotated[
        str,
        typer.Argument(help="a file, - for standard input, an address, a hash, or the id of a known image"),
    ],
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="most matches")] = 10,
    everything: Annotated[bool, typer.Option("--all", help="also list what merely looks alike")] = False,
    turns: Annotated[
        Turns | None, typer.Option(help="mirrored copies (the default), or all eight turns")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the matches as JSON")] = False,
    open_best: Annotated[bool, typer.Option("--open", help="open the best match's file or web page")] = False,
) -> int:
    """Find copies of a picture: scaled, cropped, bordered, in a screenshot, mirrored.

    With a hash or an id, only the whole picture is looked for, not its parts.

    Exit code 4: no copy is known.
    """
    question = Question(
        limit=min(limit + 1, MOST),  # one more tells whether there are more
        find="copies",
        turns=turns,
        min_likelihood=None if everything else LIKELY,
    )
    with opened(settings) as target:
        best = target.search(picture_of(picture), question)
        is_empty = not best and not json and target.status()["images"] == 0
    found = best[:limit]
    if json:
        show.matches_as_json(found)
    else:
        show.matches(found)
        if is_empty:
            show.say("no pictures are known yet; 'iqdb add' adds some")
        elif not found:
            turned = "" if turns is Turns.ALL else "; --turns all looks for turned ones, too"
            show.say(f"no copy is known{turned}")
        elif len(best) > limit and not everything:
            show.say(f"more copies are known; -n {MOST} shows them")
    if open_best and found:
        _open(found[0].source, is_of_this_machine=not settings.url)
    return 0 if found else NOTHING_FOUND


def _open(source: str | None, *, is_of_this_machine: bool) -> None:
    """Show where an image comes from, or say why not.

    A source says what whoever added the image wanted: it may be an option of the browser, or name a program.
    """
    if not source:
        show.say("the best match has no source to open")
        return
    address = split_web_address(source)
    if address is not None:
        shown = address.geturl()
    elif is_of_this_machine and Path(source).is_absolute() and is_file(Path(source)):
        shown = Path(source).as_uri()
    else:
        kinds = "a web address or a file that is there" if is_of_this_machine else "a web address"
        show.say(f"the best match's source is not opened: {source} is not {kinds}")
        return
    if not webbrowser.open(shown):
        show.say(f"there is no browser to open {source}")


@app.command(name="hash")
@with_settings("commands", only=DECODING)
def hash_command(
    settings: Settings,
    files: Annotated[list[Path], typer.Argument(help="pictures; - for standard input")],
    *,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
) -> int:
    """Print the hashes of pictures, as `hash=` of the API takes them, without adding the pictures."""
    limits = DecodeLimits(max_pixels=settings.max_pixels)
    is_all_read = True
    with Arithmetic() as arithmetic:
        for file in files:
            path = path_of(str(file))
            why_not = reason_to_pass(path)
            if why_not is not None and not is_handed(path):
                is_all_read = False
                show.say(f"{file}: {why_not}")
                continue
            try:
                content = content_of_file(path)
                with arithmetic.decoding():
                    read = read_image(content, limits=limits)
            except (OSError, ImageError) as error:
                is_all_read = False
                show.say(f"{file}: {reason_of(error, limits.max_pixels)}")
                continue
            text = codec.to_hash(read.signature)
            if json:
                damage = {"damaged": True} if read.is_damaged else {}
                show.as_json_line({"file": str(file), "hash": text, **damage})
            else:
                typer.echo(f"{text}  {printable(str(file))}")
                if read.is_damaged:
                    show.say(f"{file}: it is damaged; the hash is of what is there of it")
    return 0 if is_all_read else SOME_REFUSED


@app.command()
@with_settings("commands", only=DECODING)
def compare(
    settings: Settings,
    first: Annotated[
        str, typer.Argument(help="a picture: a file, - for standard input, an address or a hash")
    ],
    second: Annotated[str, typer.Argument(help="another")],
    *,
    json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> int:
    """Tell how likely two pictures show the same, or one a part of the other.

    Whole pictures are compared turned in any way. Parts of a picture, as in a frame or a screenshot, are
    compared as they are and mirrored, the two best guesses at a part turned in any way.
    """
    found = compared(picture_of(first), picture_of(second), max_pixels=settings.max_pixels)
    verdict = verdict_of(found.likelihood)
    if json:
        show.as_json({"verdict": verdict, **show.known_of(found)})
        return 0
    shown = {
        "verdict": verdict,
        "likelihood": f"{found.likelihood:.3f}",
        "score": f"{found.score:.1f}",
        "turned": found.turn,
    }
    if found.part_of is not None and found.likelihood >= EVEN:
        part = "second" if found.part_of == "first" else "first"
        shown["part"] = f"the {part} is a part of the {found.part_of}"
    show.pairs(shown)
    return 0
