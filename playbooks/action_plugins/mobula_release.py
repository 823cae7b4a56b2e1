"""Takes helpers from a release (make release) once they are known to be what it says.

folder is the release, take where each helper goes, by its platform (linux-arm64). It runs
on the deployer, also in check mode, and changes nothing but these files. The result has
checksums: by platform, the SHA-256 of each helper that was taken, and
problems: by platform, what was found and what is wanted, of each helper in take that was
not taken, and of each other one in the release that is not what its name says.
"""

from __future__ import annotations

import hashlib
import os
import re

from ansible.plugins.action import ActionBase

SUMS = "SHA256SUMS"
SUM = re.compile(r"([0-9a-f]{64}) [ *](\S+)")
HELPER = re.compile(r"mobula-([a-z0-9]+-[a-z0-9]+)")

# What Go writes into each program: this, binary fields, then lines of text (the package
# debug/buildinfo). The build settings are the last of them.
BUILD_INFO = b"\xff Go buildinf:"
BUILD_INFO_BYTES = 1 << 16
PACKAGE = b"path\tmobula/helper/cmd/mobula\n"
SETTING = re.compile(rb"build\t(GOOS|GOARCH)=(\w+)\n")


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("folder", "take"))

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        folder, take = self._task.args["folder"], self._task.args["take"]
        checksums, problems = {}, {}
        try:
            sums = _read_sums(os.path.join(folder, SUMS))
        except ValueError as wrong:
            return dict(result, changed=False, checksums={}, problems={platform: str(wrong) for platform in take})
        for platform in sorted(set(sums) | set(take)):
            try:
                content = _read_helper(folder, platform, sums)
            except FileNotFoundError as wrong:
                # One that nobody needs need not be there.
                if platform in take:
                    problems[platform] = str(wrong)
                continue
            except (ValueError, OSError) as wrong:
                problems[platform] = str(wrong)
                continue
            if platform in take:
                _write(take[platform], content)
                checksums[platform] = sums[platform]
        return dict(result, changed=False, checksums=checksums, problems=problems)


def _read_sums(path):
    """The SHA-256 of each helper that the file names, by platform."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as wrong:
        raise ValueError(f"{path}: found {_why(wrong)}, wanted the SHA-256 of each helper: mobula_release is a folder that make release made") from wrong
    sums = {}
    for number, line in enumerate(lines, 1):
        match = SUM.fullmatch(line)
        if not match:
            raise ValueError(f'{path}:{number}: found "{line[:80]}", wanted a SHA-256, two spaces and the name of a file')
        name = HELPER.fullmatch(match[2])
        if name:
            sums[name[1]] = match[1]
    return sums


def _read_helper(folder, platform, sums):
    path = os.path.join(folder, "mobula-" + platform)
    if platform not in sums:
        there = ", ".join("mobula-" + other for other in sorted(sums)) or "no helper"
        raise ValueError(f"{os.path.join(folder, SUMS)}: found {there}, wanted mobula-{platform}, too: "
                         f"without mobula_release it is built, with Go")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as wrong:
        raise type(wrong)(f"{path}: found {_why(wrong)}, wanted the helper that {SUMS} names") from wrong
    found = hashlib.sha256(content).hexdigest()
    if found != sums[platform]:
        raise ValueError(f"{path}: found SHA-256 {found}, wanted {sums[platform]}, as {SUMS} says: get both files again")
    found = _what_is(content)
    if found != platform:
        raise ValueError(f"{path}: found {'a helper for ' + found if found else 'no helper of Mobula'}, wanted one for {platform}")
    return content


def _what_is(content):
    """The platform for which the helper was built; "" if it is none."""
    at = content.find(BUILD_INFO)
    while at >= 0:
        info = content[at:at + BUILD_INFO_BYTES]
        settings = dict(SETTING.findall(info))
        if PACKAGE in info and len(settings) == 2:
            return (settings[b"GOOS"] + b"-" + settings[b"GOARCH"]).decode()
        at = content.find(BUILD_INFO, at + 1)
    return ""


def _why(wrong):
    if isinstance(wrong, FileNotFoundError):
        return "no such file"
    return wrong.strerror.lower() if isinstance(wrong, OSError) else str(wrong)


def _write(path, content):
    """In one step: what was there may be running. What is in the folder runs as root on all hosts."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.chmod(os.path.dirname(path), 0o700)
    new = path + ".new"
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o755)) as file:
        file.write(content)
    os.chmod(new, 0o755)
    os.replace(new, path)
