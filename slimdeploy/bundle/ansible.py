"""The Ansible role that a bundle brings, for fleets that are run by Ansible: the agent's own verbs, in order.

A play names the bundle's folder `ansible` in its `roles_path` and uses the role `slimdeploy`. The role needs no
collection beside ansible.builtin, and is unchanged where the release flies already.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = "ansible/slimdeploy"

DEFAULTS = """\
---
# The releases' folder on the board; a relative one is below the user's home.
slimdeploy_root: ~/slimdeploy
# The board's Python, 3.8 or newer.
slimdeploy_python: python3
# Releases before the current one that stay.
slimdeploy_keep: 2
# The bundle's folder on the control machine: the one that this role lies in.
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

    - name: Copy the bundle
      ansible.builtin.copy:
        src: "{{ slimdeploy_bundle }}/"
        dest: "{{ slimdeploy_folder.path }}/"
        mode: preserve

    - name: Verify, build and check it
      ansible.builtin.command:
        argv:
          - "{{ slimdeploy_python }}"
          - "{{ slimdeploy_folder.path }}/agent.pyz"
          - receive
          - --root
          - "{{ slimdeploy_root }}"
      changed_when: true

    - name: Make it the current release
      ansible.builtin.command:
        argv:
          - "{{ slimdeploy_python }}"
          - "{{ slimdeploy_folder.path }}/agent.pyz"
          - activate
          - --root
          - "{{ slimdeploy_root }}"
      changed_when: true

    - name: Remove older releases
      ansible.builtin.command:
        argv:
          - "{{ slimdeploy_python }}"
          - "{{ slimdeploy_folder.path }}/agent.pyz"
          - prune
          - --root
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
    for name, text in (("defaults", DEFAULTS), ("tasks", TASKS)):
        path = bundle / FOLDER / name / "main.yml"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8", newline="\n")
