"""`slimdeploy bundle`: check, read, sign and pack what goes to a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slimdeploy.cli._shared import JsonOption, show
from slimdeploy.cli.export import limits_text

NAME = "bundle"
BundleArgument = Annotated[Path, typer.Argument(help="A bundle: its folder, or one .tar.zst.")]
NewBundleOption = Annotated[Path, typer.Option("--out", help="What to make: NAME.tar.zst, or else a folder.")]

app = typer.Typer(help="Check, read, sign and pack a bundle.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def verify(
    bundle: BundleArgument,
    allowed_signers: Annotated[
        Path | None, typer.Option(help="Who may sign, as ssh-keygen reads it; with it, a signature is asked for.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check that a bundle is whole: every file there, unaltered, and nothing else.

    Example: slimdeploy bundle verify bundle.tar.zst --allowed-signers allowed_signers
    """
    from slimdeploy.bundle.archive import opened
    from slimdeploy.bundle.pack import verify as verify_folder
    from slimdeploy.bundle.sign import signer

    with opened(bundle) as folder:
        found = summary(folder, verify_folder(folder))
        if allowed_signers is not None:
            found["signed_by"] = signer(folder, allowed_signers)
    by = f", signed by {found['signed_by']}" if "signed_by" in found else ""
    show(found, text=f"{bundle} is whole{by}: {len(found['files'])} files, {found['hash']}", as_json=json)


@app.command(name="show")
def show_bundle(bundle: BundleArgument, json: JsonOption = False) -> None:
    """Say what a bundle holds, after checking that it is whole.

    Example: slimdeploy bundle show bundle
    """
    from slimdeploy.bundle.archive import opened
    from slimdeploy.bundle.pack import verify as verify_folder

    with opened(bundle) as folder:
        manifest = verify_folder(folder)
        found = summary(folder, manifest)
    show({**found, "manifest": manifest}, text=as_text(found, manifest), as_json=json)


@app.command()
def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="An OpenSSH key; the public one where an agent holds it.")],
    out: NewBundleOption,
    json: JsonOption = False,
) -> None:
    """Sign a bundle with an OpenSSH key, so that a board with a list of allowed signers takes it.

    Example: slimdeploy bundle sign bundle --key ~/.ssh/id_ed25519 --out signed.tar.zst
    """
    from slimdeploy.bundle.sign import sign as sign_bundle

    written = sign_bundle(bundle, key.expanduser(), out)
    show({"bundle": str(written)}, text=f"signed: {written}", as_json=json, complete=written)


@app.command()
def pack(bundle: BundleArgument, out: NewBundleOption, json: JsonOption = False) -> None:
    """Write a bundle as one .tar.zst, or back as a folder; the same bundle gives the same bytes.

    Example: slimdeploy bundle pack bundle --out bundle.tar.zst
    """
    from slimdeploy.bundle.archive import opened, write_bundle
    from slimdeploy.outputs import refuse_existing

    refuse_existing(out)
    with opened(bundle) as folder:
        written = write_bundle(folder, out)
    show({"bundle": str(written)}, text=f"packed: {written}", as_json=json, complete=written)


def summary(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a whole bundle, for `--json`."""
    from slimdeploy.board.whole import SIGNATURE, bundle_hash, size_bytes

    return {
        "hash": bundle_hash(folder),
        "signed": (folder / SIGNATURE).is_file(),
        "size_bytes": size_bytes(manifest),
        "files": {name: known["size_bytes"] for name, known in manifest["files"].items()},
    }


def as_text(found: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Return a bundle as lines for a person."""
    model, target = manifest["model"], manifest["target"]
    shape = "x".join(str(side) for side in manifest["input"]["shape"])
    lines = [
        f"hash:    {found['hash']}",
        f"signed:  {'yes; by whom, tells verify --allowed-signers' if found['signed'] else 'no'}",
        f"target:  {target['name']}, {target['title']}",
        f"model:   {model['file']}, {model['precision']}, opset {model['opset']}, input {shape}",
        f"classes: {', '.join(model['classes'])}",
        f"weights: {manifest['weights']['file']}, {manifest['weights']['sha256']}",
        f"made by: {', '.join(f'{name} {version}' for name, version in manifest['versions'].items())}",
    ]
    if "limits" in manifest:
        lines.append(f"limits:  {limits_text(manifest['limits'])}; the board refuses what exceeds them")
    return "\n".join([*lines, *(f"{size / 1e6:9.3f} MB  {name}" for name, size in found["files"].items())])
