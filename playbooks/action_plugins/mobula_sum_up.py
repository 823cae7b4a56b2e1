"""Says what a deploy did, in lines: what changed on whom, who is missing and why, what packet
filters close, and how the hosts reach each other, for which it asks the host it runs on.

ask is what that host runs (mobula status --mesh --json); in check mode nobody is asked. It
never fails: what it does not get to know it says. All else comes from what the tasks of the
deploy registered, which begins with __mobula_.
"""

from __future__ import annotations

import json
import re
import shlex
import time

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

FEW = 5  # hosts that are named; more are counted
GROUPS = 4  # kinds of changes that are told apart by their numbers

# Agents that began anew need some seconds to know their ways: after changes they are asked again
# for so long.
PATIENCE, PAUSE = 15, 2

# What Ansible says in front of why SSH does not reach a host; the callback has the same.
NOT_REACHED = re.compile(r'^(Task failed: |Failed to connect to the host via ssh: |Data could not be sent to remote host ".*?"\. Make sure this host can be reached over ssh: )+')
UNCHANGED_HOST = "the network of this host was not changed, the others go on"
# What ssh says of itself beside what the program says.
SSH_SAYS = re.compile(r"(Shared connection|Connection) to .* closed\.|Warning: Permanently added .*")


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("ask",))

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        here, everybody = task_vars["ansible_play_hosts"], task_vars["ansible_play_hosts_all"]
        hosts = {name: task_vars["hostvars"][name] for name in everybody}
        deeds = {name: deed(hosts[name]) for name in here}
        lines = [done(deeds)] + missing({name: reason(hosts[name]) for name in everybody if name not in deeds})
        lines += closed({name: report(hosts[name]).get("closed") or [] for name in here})
        compiled = _json(_result(hosts[here[0]], "__mobula_compiled").get("stdout")).get("hosts") or {}
        if len(compiled) > 1 and not self._task.check_mode:
            ids = {name: host["host_id"] for name, host in compiled.items()}
            lines.append(self._ways(ids, here, PATIENCE if any(deeds.values()) else 0))
        return dict(result, changed=False, lines=lines)

    def _ways(self, ids, here, patience):
        """How the hosts reach each other, asked again while those that are here do not."""
        end = time.monotonic() + patience
        while True:
            text, settled = self._asked(ids, here)
            if settled or time.monotonic() + PAUSE > end:
                return text
            time.sleep(PAUSE)

    def _asked(self, ids, here):
        unknown = "how the hosts reach each other is not known: "
        try:
            answer = self._low_level_execute_command(shlex.join(self._task.args["ask"]), in_data=b"\n")
            if answer["rc"] != 0:
                return unknown + (said(answer) or "exit status %s" % answer["rc"]), False
            return ways(json.loads(answer["stdout"]), ids, here)
        except AnsibleError as wrong:
            return unknown + _short(NOT_REACHED.sub("", str(wrong))), False
        except (ValueError, KeyError, TypeError, AttributeError):
            return unknown + "found \"%s\", wanted what mobula status --mesh --json says" % _short(answer["stdout"])[:80], True


def _json(text):
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _result(host, name):
    found = host.get(name)
    return found if isinstance(found, dict) else {}


def _short(text):
    return " ".join(str(text).split())[:400]


def _count(number, what):
    return "%d %s%s" % (number, what, "" if number == 1 else "s")


def _order(name):
    """That of numbers for the numbers in names."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _listed(words):
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def few(names):
    return ", ".join(sorted(names, key=_order)) if len(names) <= FEW else "%d hosts" % len(names)


def report(host):
    """What the helper on a host said first."""
    return (_result(host, "__mobula_again") or _result(host, "__mobula_look")).get("report") or {}


def deed(host):
    """What was done to a host, as the number of its changes and what else; () if nothing was."""
    made = _result(host, "__mobula_made")
    outcome = _json(made.get("stdout"))
    changes, words = len(outcome.get("operations") or []) if made.get("changed") else 0, []
    if report(host).get("generation") == "none":
        words.append("new")
    else:
        if made.get("changed") and _helper_is_new(host):
            words.append("a new helper")
        if _result(host, "__mobula_key").get("changed"):
            words.append("a new key")
        if any(_result(host, name).get("changed") for name in ("__mobula_apt", "__mobula_dnf")):
            words.append("packages")
        if not made.get("changed") and outcome.get("names"):
            words.append("names")
    if _result(host, "__mobula_rebooted").get("changed"):
        words.append("rebooted")
    if made.get("changed") and not changes and not words:
        words.append("changed")
    return (changes, *words) if changes or words else ()


def _helper_is_new(host):
    seen = _result(host, "__mobula_look").get("seen") or {}
    arch = seen.get("goarch")
    built = dict(line.split() for line in (_result(host, "__mobula_built").get("stdout_lines") or [])[1:])
    wanted = (_result(host, "__mobula_taken").get("checksums") or {}).get("linux-%s" % arch) or built.get(arch)
    return bool(wanted) and seen.get("helper") != wanted


def done(deeds):
    """One line: the hosts by what was done to them, those that were left as they are last."""
    groups = {}
    for name, what in deeds.items():
        groups.setdefault(what, []).append(name)
    if len(groups) > GROUPS:
        groups = {}
        for name, what in deeds.items():
            groups.setdefault(what[1:] if what else None, []).append(name)
        groups = {_merged(deeds, names): names for names in groups.values()}
    texts = ["%s: %s" % (few(groups[what]), _words(what)) for what in sorted(groups, key=lambda what: (not what, _order(min(groups[what], key=_order))))]
    return "; ".join(texts)


def _merged(deeds, names):
    """What was done to hosts to which the same was done but for the number of changes."""
    what, numbers = deeds[names[0]], sorted(deeds[name][0] for name in names if deeds[name])
    if not what or numbers[0] == numbers[-1]:
        return what
    return ("%d to %d changes" % (numbers[0], numbers[-1]), *what[1:])


def _words(what):
    if not what:
        return "unchanged"
    changes, *words = what
    if not isinstance(changes, str):
        changes = _count(changes, "change") if changes else ""
    if words and words[0] == "new":
        return ", ".join(filter(None, ["new", changes] + words[1:]))
    return ", ".join(filter(None, [changes] + words))


def said(result):
    """What a program said of why it failed."""
    lines = [line.strip() for line in (result.get("stderr") or "").splitlines()]
    return _short("; ".join([line for line in lines if line and not SSH_SAYS.fullmatch(line)][-3:]))


def reason(host):
    """Why a host is missing, as SSH, the helper or the task that failed said it."""
    name, result = "", {}
    for key in host:
        found = _result(host, key) if key.startswith("__mobula_") else {}
        if found.get("unreachable") is True or found.get("failed") is True:
            name, result = key, found
    confirms = name == "__mobula_confirm"
    if result.get("unreachable"):
        return "not reached%s: %s" % (", so that it takes its change back" if confirms else "", _short(NOT_REACHED.sub("", result.get("msg") or "")))
    messages = result.get("msg") or []
    messages = [messages] if isinstance(messages, str) else list(messages)
    if result.get("why"):
        return "refused: %s" % _short(result["why"])
    if any(text.startswith(UNCHANGED_HOST) for text in messages):
        return "refused: %s" % _short("; ".join(filter(None, (text.removeprefix(UNCHANGED_HOST).removeprefix(": ") for text in messages))))
    why = _json(result.get("stdout")).get("error") or said(result) or _short("; ".join(messages))
    return "%s: %s" % ("not confirmed" if confirms else "failed", why) if why else "failed"


def missing(reasons):
    if not reasons:
        return []
    lines = ["%s: %s" % (names, why) for why, names in _by_text(reasons.items())]
    return ["not deployed, the others work without them:"] + lines + ["Deploy again when that is mended, or when they are back: they catch up."]


def closed(found):
    return ["%s: %s" % (names, text) for text, names in _by_text((name, line) for name, lines in found.items() for line in lines)]


def _by_text(pairs):
    groups = {}
    for name, text in pairs:
        groups.setdefault(text, []).append(name)
    return [(text, few(names)) for text, names in groups.items()]


def ways(mesh, ids, here):
    """How the hosts of mobula status --mesh --json reach each other, in few words, and whether
    nothing is open between those that are here. ids are those of the inventory's names."""
    names = {host_id: name for name, host_id in ids.items()}
    hosts = {host["host_id"]: host for host in mesh["hosts"]}

    def called(host_id):
        return names.get(host_id) or hosts.get(host_id, {}).get("name") or "host %d" % host_id

    answer = [host_id for host_id, host in hosts.items() if host["answer"] in ("yes", "part")]
    pairs = _pairs(hosts.values())
    gone = {host_id for host_id in hosts if host_id not in answer and answer and all(pairs.get(_pair(host_id, other)) == "down" for other in answer)}
    pairs = {pair: way for pair, way in pairs.items() if not gone.intersection(pair)}
    mute = len(hosts) - len(answer) - len(gone)
    down = [pair for pair in sorted(pairs) if pairs[pair] == "down"]
    unknown = sum(way == "unknown" for way in pairs.values()) + mute * (mute - 1) // 2
    over = [way for way in pairs.values() if isinstance(way, int)]
    left = len(hosts) - len(gone)
    total = left * (left - 1) // 2
    up = total - len(down) - unknown

    texts = []
    if gone:
        by = "the others" if len(answer) > 1 else called(answer[0])
        texts.append("%s %s not reached by %s" % (few([called(host_id) for host_id in gone]), "is" if len(gone) == 1 else "are", by))
    if down:
        which = ", ".join("%s and %s" % (called(a), called(b)) for a, b in down) if len(down) <= 3 else "%d pairs" % len(down)
        texts.append("%s do not reach each other" % which)
    if unknown:
        texts.append("of %s it is not known yet" % _count(unknown, "pair"))
    if up > 0:
        text = "%s %s reach each other" % ("the other" if texts else "all", _count(up, "pair")) if total > 1 else \
            "%s reach each other" % _listed(sorted((called(host_id) for host_id in hosts if host_id not in gone), key=_order))
        relays = sorted({called(way) for way in over}, key=_order)
        texts.append(text + (", %d over %s" % (len(over), _listed(relays) if len(relays) <= 3 else "third hosts") if over else ""))
    ours = {ids.get(name) for name in here}
    settled = not gone & ours and not any(way in ("down", "unknown") and ours.issuperset(pair) for pair, way in pairs.items())
    more = any(problem["severity"] in ("bad", "poor") for problem in mesh.get("problems") or [])
    return "; ".join(texts) + (" (playbooks/status.yml says more)" if more else ""), settled


def _pair(one, other):
    return min(one, other), max(one, other)


def _pairs(hosts):
    """The pairs that do not reach each other directly, as the worse end of each sees it: down,
    unknown, or the ID of the host in between."""
    rank, all_pairs = {"down": 2, "unknown": 1}, {}
    for host in hosts:
        for way in host.get("ways") or []:
            found = way["state"] if way["state"] != "up" else way.get("via", 0)
            pair = _pair(host["host_id"], way["to"])
            if found and rank.get(found, 0) >= rank.get(all_pairs.get(pair), 0):
                all_pairs[pair] = found
    return all_pairs
