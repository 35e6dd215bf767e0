"""The Ansible role that a bundle brings, for fleets that are run by Ansible: the bundle is received by the role's code.

A play names the bundle's folder `ansible` in its `roles_path` and uses the role `slimdeploy`. The role needs no
collection beside ansible.builtin, and is unchanged where the release flies already. Its file `receive.py` verifies the
bundle on the board before any of the bundle's own code runs there.
"""

from __future__ import annotations

from pathlib import Path

from slimdeploy.board import receive

FOLDER = "ansible/slimdeploy"
RECEIVE = f"{FOLDER}/files/receive.py"

DEFAULTS = """\
---
# The releases' folder on the board; a relative one is below the user's home.
slimdeploy_root: ~/slimdeploy
# The board's Python, 3.8 or newer.
slimdeploy_python: python3
# Releases before the current one that stay.
slimdeploy_keep: 2
# The bundle's folder on the control machine. By default the one that this role lies in; for bundles that others bring,
# keep a copy of this role that you trust, and name the bundle here.
slimdeploy_bundle: "{{ role_path | dirname | dirname }}"
"""
TASKS = """\
---
- name: See which release flies
  ansible.builtin.slurp:
    src: "{{ slimdeploy_root }}/current/bundle/manifest.json"
  register: slimdeploy_flying
  failed_when: false

- name: Ship the bundle unless it flies already
  when: >-
    slimdeploy_flying.content is not defined or
    (slimdeploy_flying.content | b64decode | hash('sha256')) !=
    (lookup('ansible.builtin.file', slimdeploy_bundle ~ '/manifest.json', rstrip=false) | hash('sha256'))
  block:
    - name: Make a folder for what comes
      ansible.builtin.tempfile:
        state: directory
        prefix: slimdeploy-
      register: slimdeploy_folder

    - name: Copy what verifies the bundle, which comes from this role and not from the bundle
      ansible.builtin.copy:
        src: receive.py
        dest: "{{ slimdeploy_folder.path }}/receive.py"
        mode: "0600"

    - name: Copy the bundle
      ansible.builtin.copy:
        src: "{{ slimdeploy_bundle }}/"
        dest: "{{ slimdeploy_folder.path }}/bundle/"
        directory_mode: "0700"
        mode: preserve

    - name: Verify it, build and check it, make it the current release, and remove older ones
      ansible.builtin.command:
        argv:
          - "{{ slimdeploy_python }}"
          - "{{ slimdeploy_folder.path }}/receive.py"
          - "{{ slimdeploy_folder.path }}/bundle"
          - "{{ slimdeploy_root }}"
          - --keep
          - "{{ slimdeploy_keep | string }}"
      changed_when: true
  always:
    - name: Remove the folder
      ansible.builtin.file:
        path: "{{ slimdeploy_folder.path }}"
        state: absent
      when: slimdeploy_folder.path is defined
"""


def write_role(bundle: Path) -> None:
    """Put the role into a bundle's folder."""
    verifier = Path(receive.__file__).read_text(encoding="utf-8")
    texts = {"defaults/main.yml": DEFAULTS, "tasks/main.yml": TASKS, "files/receive.py": verifier}
    for name, text in texts.items():
        path = bundle / FOLDER / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8", newline="\n")
