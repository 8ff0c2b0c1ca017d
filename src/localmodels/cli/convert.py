"""``localmodels convert FOLDER``: a folder of safetensors becomes a GGUF file. No server is asked.

The rule: the file gets its name when all of it is on disk; what was there before stays until then.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from msgspec.structs import replace

from localmodels.artifacts.convert.job import IGNORED, PRE_TOKENIZER, Job, Outline
from localmodels.artifacts.convert.process import Converter
from localmodels.artifacts.model_files import is_adapter, is_safetensors
from localmodels.artifacts.quantize import read_file_type
from localmodels.cli.flags import json_argument
from localmodels.cli.materials import expanded
from localmodels.cli.progress import shower
from localmodels.cli.tables import write_json
from localmodels.cli.words import size
from localmodels.cli.world import World
from localmodels.client.parcels import model_files, placed
from localmodels.core.artifact_names import ARCHIVES
from localmodels.core.errors import CallerError, DiskFull, InvalidRequest, ModelDamaged, Unsupported
from localmodels.core.library import Progress, Watcher

CHILD = "localmodels.engine.converter"
# What may help with a refusal, by the field of the job that the converter blames.
HINTS: Mapping[str | None, str] = {
    PRE_TOKENIZER: "; name one that does the same with --pre-tokenizer NAME",
    IGNORED: "; name it with --ignore to do without it",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it understands."""
    parser.add_argument(
        "folder", metavar="DIRECTORY", help="a model as save_pretrained leaves it, or a LoRA adapter of PEFT"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the GGUF file, replaced if it is there, or a directory for it (default: DIRECTORY-TYPE.gguf, here)",
    )
    parser.add_argument(
        "-q", "--quantize", metavar="TYPE", default="", help="type of the weights: Q4_K_M, Q8_0, F16 … (default: as is)"
    )
    parser.add_argument("--adapter", metavar="DIRECTORY", help="a LoRA adapter that is merged into the model")
    parser.add_argument(
        "--base", metavar="PATH", help="if DIRECTORY is an adapter: the model it is for, a folder or a GGUF file"
    )
    parser.add_argument("--name", metavar="TEXT", help="what the model calls itself (default: the folder's name)")
    parser.add_argument(
        "--pre-tokenizer", metavar="NAME", default="", help="llama.cpp's name of how text is cut, if it is not known"
    )
    parser.add_argument(
        "--ignore", metavar="FIELD", action="append", help="a field of config.json that computes nothing; repeatable"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="that compute at once (default: all)")
    json_argument(parser)


def run(args: argparse.Namespace, world: World) -> int:
    """Converts it, showing how far it is."""
    folder = placed(expanded(args.folder))
    job = job_of(args, folder)
    output = expanded(args.output) if args.output else Path()
    require_place(output)
    with shower(args, world) as show, Converter(job, module=CHILD) as child:
        with blamed(args):
            outline = child.outline()
            if outline.merge:
                what = f"convert the base's folder of safetensors with --adapter {args.folder} instead"
                raise InvalidRequest(f"{outline.merge}; {what}")
        if output.is_dir():
            output /= f"{folder.name}-{outline.target}.gguf"
        for note in outline.notes:
            show(Progress(note))
        require_room(output, outline.size)
        with replaced(output) as file, blamed(args):
            copied(child.pieces(), file, outline, show)
    if args.json:
        write_json({"file": str(output), **_told(outline)}, world.out)
    else:
        world.out.write(f"{output}  {outline.target}  {size(outline.size)}\n")
    return 0


@contextmanager
def blamed(args: argparse.Namespace) -> Iterator[None]:
    """What is wrong with a folder says with which, and how the command line has what may help."""
    where = f"{args.folder} with {args.adapter}" if args.adapter else args.folder
    try:
        yield
    except (ModelDamaged, Unsupported, CallerError) as error:
        raise error.reworded(f"{where}: {error.message}{HINTS.get(error.param, '')}", error.param) from error


def require_place(output: Path) -> None:
    """Looks whether the file can be where it is to be.

    Raises:
        InvalidRequest: there is no such folder.
    """
    if not output.is_dir() and not output.parent.is_dir():
        raise InvalidRequest(f"there is no folder {str(output.parent)!r} for {output.name}")


def require_room(output: Path, needed: int) -> None:
    """Looks whether there is room, before it takes a while to find out.

    Raises:
        DiskFull: there is none.
    """
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise DiskFull(f"{output} will have {size(needed)}, and {str(output.parent)!r} has room for {size(free)}")


def job_of(args: argparse.Namespace, folder: Path) -> Job:
    """What the child is to do.

    Raises:
        InvalidRequest: the arguments do not go together.
    """
    files = paths(folder)
    target = read_file_type(args.quantize).name if args.quantize else ""
    threads = args.threads if args.threads > 0 else os.cpu_count() or 1
    job = Job(
        files=files,
        target=target,
        title=args.name or folder.name,
        threads=threads,
        ignored=tuple(args.ignore or ()),
        pre_tokenizer=args.pre_tokenizer,
        adapter=paths(expanded(args.adapter)) if args.adapter else {},
    )
    if not is_adapter(files):
        if args.base:
            raise InvalidRequest(f"--base is for adapters, and {args.folder} is a whole model")
        return job
    if args.quantize or args.adapter:
        flag = "--quantize" if args.quantize else "--adapter"
        raise InvalidRequest(f"{flag} is for whole models, and {args.folder} is an adapter, which is stored as it is")
    if not args.base:
        raise InvalidRequest(f"{args.folder} is an adapter; name the model that it is for with --base")
    base = expanded(args.base)
    whole, heads = (paths(base), ()) if base.is_dir() else ({}, (str(base),))
    return replace(job, files=whole, target="", adapter=files, apart=True, base=heads)


def paths(folder: Path) -> dict[str, str]:
    """The files of a folder that a model is made of.

    Raises:
        InvalidRequest: it is none, or none of a model.
    """
    if not folder.is_dir():
        raise InvalidRequest(not_a_folder(folder))
    return {file.name: str(file.path) for file in model_files(folder).files}


def not_a_folder(path: Path) -> str:
    """What is wrong with a path that should be one, and what may have been meant."""
    if not path.exists():
        return f"there is no folder {str(path)!r}"
    if is_safetensors(path.name):
        return f"{path} are weights alone; give their folder, {str(path.parent)!r}"
    if path.name.lower().endswith(ARCHIVES):
        return f"{path} is an archive; unpack it, or give it to `localmodels deploy`"
    return f"{path} is not a folder; what is GGUF already, `localmodels create` quantizes"


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name when it is whole and on disk.

    Raises:
        DiskFull, InvalidRequest: it cannot be written; nothing of it is left.
    """
    part = path.with_name(f"{path.name}.{token_hex(4)}.part")  # of this run alone: another may write the same file
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        synced(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            kind = DiskFull if error.errno in {errno.ENOSPC, errno.EDQUOT} else InvalidRequest
            raise kind(f"{path} cannot be written: {error.strerror or error}") from error
        raise


def synced(folder: Path) -> None:
    """New names in it are on disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copied(pieces: Iterable[bytes], file: IO[bytes], outline: Outline, show: Watcher) -> None:
    """Writes the pieces, telling how far it is."""
    done = 0
    for piece in pieces:
        file.write(piece)
        done += len(piece)
        show(Progress(f"converting to {outline.target}", total=outline.size, completed=done))


def _told(outline: Outline) -> dict[str, object]:
    return {
        "type": outline.target,
        "size": outline.size,
        "architecture": outline.architecture,
        "parameters": outline.parameters,
        "notes": outline.notes,
    }
