"""Looks at a host in one SSH round trip, without Python there; it changes nothing.

script is what prints "name=value" lines (roles/prepare_host/files/preflight.sh), argv its
arguments, of which the first is the helper that looks at the host. bring is a program on
the deployer that does so in its place, and is gone again afterwards. processors are those
that there are helpers for, as uname -m and Go call them. insist: without a report of the
helper the task fails.

The result has seen, with goarch, and report, null if there is none. It fails on hosts of
whose user or processor nothing can come, with the reason in why.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex

from ansible.plugins.action import ActionBase

LINE = re.compile(r"([a-z]+)=(.*)")


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("script", "argv", "bring", "processors", "insist"))

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        args = self._task.args
        argv, sent = [str(word) for word in args["argv"]], b"\n"
        if args.get("bring"):
            argv[0] = "-"
            with open(args["bring"], "rb") as file:
                sent = gzip.compress(file.read(), 1)
        # The script is no file there: what is on standard input may be the helper's.
        answer = self._low_level_execute_command("set -- %s; %s" % (shlex.join(argv), args["script"]), in_data=sent)
        seen = dict(match.groups() for match in map(LINE.fullmatch, answer["stdout_lines"]) if match)
        seen["goarch"] = args["processors"].get(seen.get("arch"), "")
        result.update(rc=answer["rc"], stderr=answer["stderr"], changed=False, seen=seen, report=_report(seen.pop("report", "")))
        why = _refusal(seen, args["processors"], answer)
        if not why and (answer["rc"] != 0 or result["report"] is None and args.get("insist")):
            why = "found %s, wanted a report of its helper" % _first(answer["stderr"], "", answer["rc"])
            why += "" if args.get("bring") else ": is /usr/local mounted noexec?"
        if why:
            result.update(failed=True, stdout=answer["stdout"], why=why, msg="the network of this host was not changed, the others go on: " + why)
        return result


def _first(text, other, status):
    return " ".join((text.strip() or other.strip() or "exit status %s" % status).split())[:400]


def _report(text):
    """What the helper says. One of another version may say nothing that is of use."""
    try:
        return json.loads(text[text.find("{"):])
    except ValueError:
        return None


def _refusal(seen, processors, answer):
    if "uid" not in seen or "arch" not in seen:
        # A command that the key is bound to says why on standard output.
        return "found %s, wanted a shell" % _first(answer["stdout"], answer["stderr"], answer["rc"])
    if seen["uid"] != "0":
        return "found user ID %s, wanted root (0): set ansible_user or ansible_become" % seen["uid"]
    if not seen["goarch"]:
        return "found a processor %s, wanted one of %s" % (seen["arch"], ", ".join(processors))
    return ""
