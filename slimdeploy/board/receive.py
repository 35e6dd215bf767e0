"""Receive a bundle on a board by code that is not the bundle's own: its signature is checked before any of it runs.

    python3 receive.py BUNDLE ROOT [--keep N]

This file needs nothing of slimdeploy. The Ansible role brings it, and an image for Mender holds a copy; run from the
bundle that it judges, it would prove nothing. The agent uses the same functions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"  # the name that ssh-keygen -Y sign gives it
AGENT = "agent.pyz"
NAMESPACE = "slimdeploy-bundle"  # a signature made for another purpose does not count
SIGNERS = "allowed_signers"
SYSTEM_SIGNERS = Path("/etc/slimdeploy") / SIGNERS
LIMIT_BYTES = 16 << 20  # of a manifest, a signature, an agent and a list of signers
VERIFY_S = 30.0  # for ssh-keygen
FAILED, DEVICE_FAILED = 2, 4


class Refused(Exception):
    """A bundle, or a list of signers, that must not be used.

    Args:
        wrong: what was wrong.
        wanted: what was wanted instead.
        do: what to do next.
        device: whether the board is at fault, and not the bundle.
    """

    def __init__(self, wrong: str, *, wanted: str = "", do: str = "", device: bool = False) -> None:
        self.wrong, self.wanted, self.do, self.device = wrong, wanted, do, device
        super().__init__("; ".join([wrong, *([f"wanted: {wanted}"] if wanted else []), *([f"do: {do}"] if do else [])]))


def signers_of(root: Path) -> Path | None:
    """Return the list of those who may sign for a board, or None where anybody may.

    The system's list, which root alone writes, outranks the one in the board's folder. Whatever stands at the name
    counts as a list, readable or not, so that a broken list lets nobody in.
    """
    for path in (SYSTEM_SIGNERS, root / SIGNERS):
        try:
            os.lstat(str(path))
        except FileNotFoundError:
            if not os.path.islink(str(path.parent)) or os.path.exists(str(path.parent)):  # noqa: PTH110, PTH114
                continue
        except OSError:
            pass  # it is there, and cannot be looked at
        return path
    return None


def require_list(signers: Path) -> None:
    """Raise Refused unless a list of signers is a file that can be read and names somebody."""
    try:
        text = read_regular(signers, follow=True)
    except OSError as error:
        raise Refused(
            f"the list of signers {signers} cannot be read: {error.strerror}", wanted="a file", device=True
        ) from error
    if all(line.strip()[:1] in (b"", b"#") for line in text.split(b"\n")):
        raise Refused(f"the list of signers {signers} names nobody", wanted="a line for each signer", device=True)


def read_regular(path: Path, *, follow: bool = False) -> bytes:
    """Return what an ordinary file of limited size holds.

    Args:
        path: the file.
        follow: whether it may be a link to one.

    Raises:
        OSError: it is none, is too large, or cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must not wait
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    opened = os.open(str(path), flags | getattr(os, "O_BINARY", 0))
    with os.fdopen(opened, "rb") as stream:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(0, "it is no ordinary file")
        content = stream.read(LIMIT_BYTES + 1)
    if len(content) > LIMIT_BYTES:
        raise OSError(0, f"it is larger than {LIMIT_BYTES >> 20} MiB")
    return content


def signer(manifest: bytes, signature: Path, signers: Path) -> str:
    """Return who signed a manifest, one of the allowed signers.

    Args:
        manifest: its bytes.
        signature: the file that signs them.
        signers: in the form of ssh-keygen(1), ALLOWED SIGNERS.

    Raises:
        Refused: there is no signature, it is another file's, its key is not allowed, or ssh-keygen does not work.
    """
    try:
        read_regular(signature)
    except OSError as error:
        raise Refused(
            "the bundle is not signed",
            wanted=f"a signature of one of those in {signers}",
            do="sign it with 'slimdeploy bundle sign'",
        ) from error
    require_list(signers)
    given = ["-s", str(signature), "-f", str(signers), "-n", NAMESPACE]
    named = _ssh_keygen(["-Y", "find-principals", *given[:4]], b"")
    principals = named.stdout.decode(errors="replace").split("\n")[0].strip() if named.returncode == 0 else ""
    if not principals:
        raise _wrong_signature(named.stderr, f"a key in {signers}")
    principal = principals.split(",")[0]
    checked = _ssh_keygen(["-Y", "verify", *given, "-I", principal], manifest)
    if checked.returncode != 0:
        raise _wrong_signature(checked.stderr or checked.stdout, "the bundle as it was signed")
    return principal


def _wrong_signature(said: bytes, wanted: str) -> Refused:
    lines = said.decode(errors="replace").strip().split("\n")
    return Refused(
        f"the bundle's signature does not hold: {lines[-1] or 'no reason given'}",
        wanted=wanted,
        do="sign it with such a key",
    )


def _ssh_keygen(arguments: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=given, capture_output=True, timeout=VERIFY_S)
    except OSError as error:
        raise Refused(
            "ssh-keygen is not installed", wanted="OpenSSH 8.2 or newer, for signatures", device=True
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"ssh-keygen gave no answer within {VERIFY_S:g} s", device=True) from error


def trusted_agent(bundle: Path, signers: Path | None, private: Path) -> Path:
    """Copy a bundle's manifest and agent to where nobody else can write, verify them, and return the agent.

    Args:
        bundle: the bundle's folder.
        signers: the list of signers, or None where the board asks for no signature.
        private: a folder that is this user's alone; `manifest.json` there is the one that was verified.

    Raises:
        Refused: it is not signed by one of them, or the agent is not the one that the manifest names.
    """
    try:
        for name in (MANIFEST, AGENT, *([SIGNATURE] if (bundle / SIGNATURE).is_file() else [])):
            (private / name).write_bytes(read_regular(bundle / name))
        manifest = (private / MANIFEST).read_bytes()
    except OSError as error:
        raise Refused(f"{bundle} is no bundle: {error}", wanted="a bundle's folder") from error
    if signers is not None:
        signer(manifest, private / SIGNATURE, signers)
    try:
        wanted = json.loads(manifest.decode("utf-8"))["files"][AGENT]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{MANIFEST} of {bundle} is damaged", do="copy the bundle again") from error
    if hashlib.sha256((private / AGENT).read_bytes()).hexdigest() != wanted:
        raise Refused(f"{bundle} holds an altered {AGENT}", wanted="the bundle as it was exported", do="copy it again")
    return private / AGENT


def receive(bundle: Path, root: Path, keep: int) -> int:
    """Verify a bundle, let a trusted agent build and check it, and make it the current release; return the exit code.

    The agent is the installed release's, where one is installed and its signature holds; else the bundle's own, once
    its signature holds.
    """
    signers = signers_of(root)
    with tempfile.TemporaryDirectory(prefix="slimdeploy-") as folder:
        private = Path(folder)
        (private / "new").mkdir()
        agent = trusted_agent(bundle, signers, private / "new")
        installed = root / "current" / "bundle"
        if installed.is_dir():
            (private / "installed").mkdir()
            try:
                agent = trusted_agent(installed, signers, private / "installed")
            except Refused as refused:
                sys.stderr.write(f"receive: the installed release is not trusted to judge: {refused}\n")
        # `activate` takes the name from the manifest that was verified, not from one that may have been exchanged
        for verb in (
            ["receive", "--bundle", str(bundle)],
            ["activate", "--bundle", str(private / "new")],
            ["prune", "--keep", str(keep)],
        ):
            code = subprocess.run([sys.executable, str(agent), *verb, "--root", str(root)]).returncode
            if code != 0:
                return code if code > 0 else DEVICE_FAILED
    return 0


def main(argv: list[str] | None = None) -> int:
    """Receive the bundle that the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(prog="receive", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("root", help="the releases' folder; a relative one is below the user's home")
    parser.add_argument("--keep", type=int, default=2, metavar="N", help="releases before the current one that stay")
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    root = Path(os.path.expanduser("~")) / os.path.expanduser(arguments.root)  # noqa: PTH111 - "~/x" and "x" alike
    try:
        return receive(arguments.bundle.resolve(), root, arguments.keep)
    except Refused as refused:
        sys.stderr.write(f"receive: {refused}\n")
        return DEVICE_FAILED if refused.device else FAILED


if __name__ == "__main__":
    sys.exit(main())
