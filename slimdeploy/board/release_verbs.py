"""The agent's verbs around a release, for systems that bring bundles to boards by themselves: receive to prune."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Callable, Mapping

from slimdeploy.board import release, service, stage, whole
from slimdeploy.board.errors import SCHEMA
from slimdeploy.board.machine import Machine

DEFAULT_ROOT = "~/slimdeploy"

Verb = Callable[[argparse.Namespace, Machine], "tuple[Mapping[str, Any], str]"]


def add_release_verbs(add: Callable[[str, Verb, str], argparse.ArgumentParser]) -> None:
    """Add the verbs to the agent's command line.

    Args:
        add: adds one, by its name, what it does, and its help.
    """
    verbs = (
        ("receive", _receive, "verify, build and check this bundle as a release that nothing points at yet"),
        ("activate", _activate, "make this bundle, once received, the current release, in one step"),
        ("rollback", _rollback, "make the release before the current one the current one"),
        ("status", _status, "which releases are here, and which is the current one"),
        ("prune", _prune, "remove all but the current release and those kept"),
        ("service", _service, "show the systemd unit that would run the current release; --install installs it"),
    )
    for name, verb, what in verbs:
        parser = add(name, verb, what)
        parser.add_argument("--root", default=DEFAULT_ROOT, metavar="DIR", help="the releases' folder")
        if name == "prune":
            parser.add_argument("--keep", type=int, default=release.KEPT, help="releases before the current one")
        if name == "service":
            parser.add_argument("--source", default="0", help="what it watches: a camera, a stream or a pipeline")
            parser.add_argument("--udev-rule", action="store_true", help="start it when the camera appears (root)")
            parser.add_argument("--install", action="store_true", help="install it: root's, or the user's own")
            parser.add_argument("--remove", action="store_true", help="stop it and take it away")


def _root(arguments: argparse.Namespace) -> Path:
    return Path(os.path.expanduser(arguments.root)).resolve()  # noqa: PTH111 - "~" may stand in an option


def _receive(arguments: argparse.Namespace, _: Machine) -> tuple[Mapping[str, Any], str]:
    root = _root(arguments)
    with release.locked(root):
        received = stage.stage(root, stage.receive(root, arguments.bundle))
    return received, f"received, built and checked: {received['release']}"


def _activate(arguments: argparse.Namespace, machine: Machine) -> tuple[Mapping[str, Any], str]:
    root = _root(arguments)
    with release.locked(root):
        done = service.activate(root, whole.bundle_hash(arguments.bundle), machine)
    return done, f"current: {done['current']}, before: {done['previous'] or 'nothing'}"


def _rollback(arguments: argparse.Namespace, machine: Machine) -> tuple[Mapping[str, Any], str]:
    root = _root(arguments)
    with release.locked(root):
        done = service.rollback(root, machine)
    return done, f"current: {done['current']}, before: {done['previous']}"


def _status(arguments: argparse.Namespace, _: Machine) -> tuple[Mapping[str, Any], str]:
    told = release.status(_root(arguments))
    lines = [f"{'*' if one['current'] else ' '} {one['release']}" for one in told["releases"]]
    return told, "\n".join(lines) or "no release yet"


def _prune(arguments: argparse.Namespace, _: Machine) -> tuple[Mapping[str, Any], str]:
    root = _root(arguments)
    with release.locked(root):
        done = release.prune(root, arguments.keep)
    return done, f"removed: {', '.join(done['removed']) or 'nothing'}"


def _service(arguments: argparse.Namespace, machine: Machine) -> tuple[Mapping[str, Any], str]:
    root, system = _root(arguments), os.geteuid() == 0
    if not (arguments.install or arguments.remove):
        unit = service.unit_text(root, arguments.source, system=system)
        rule = service.rule_text(arguments.source) if arguments.udev_rule else ""
        return {"schema": SCHEMA, "unit": unit, "udev_rule": rule}, "\n".join([unit, rule]).rstrip()
    with release.locked(root):
        if arguments.remove:
            done = service.remove(root, machine)
            return done, f"removed: {done['removed']}"
        if release.current(root) is not None:
            release.require_current(root)
        warnings = service.install(root, machine, arguments.source, udev=arguments.udev_rule, system=system)
        if release.current(root) is not None:
            service.start(root, machine)
        known = service.told(root, machine) or {}
    return {"schema": SCHEMA, "service": known, "warnings": warnings}, "\n".join(
        [f"installed: {known['unit']}", *warnings]
    )
