"""What a deploy says: its phases, what changes and what fails."""

import json
import re
import time

from ansible import constants as C
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = r"""
name: mobula
type: stdout
short_description: phases, changes and failures, without what changed nothing
description:
  - Like P(ansible.builtin.default#callback), but hosts on which a task changed nothing or was skipped are not listed.
  - Each phase (play) that does anything has a line when it begins, and one that says on which hosts when it ends.
  - With C(-v) it is P(ansible.builtin.default#callback).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

# Actions of which the message is all there is to say.
SAYS = ("debug", "ansible.builtin.debug")
REFUSES = ("fail", "ansible.builtin.fail", "mobula_look", "mobula_install")
# What Ansible says in front of why SSH does not reach a host.
NOT_REACHED = re.compile(r'^(Task failed: |Failed to connect to the host via ssh: |Data could not be sent to remote host ".*?"\. Make sure this host can be reached over ssh: )+')
FEW = 5  # hosts that are named; more are counted


class CallbackModule(Default):
    """Lists what happened; the rest is counted."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "mobula"

    def __init__(self):
        super().__init__()
        self._began = self._phase_began = time.monotonic()
        self._phase, self._asked, self._well, self._shown, self._spoke = "", set(), set(), False, False

    @property
    def _quiet(self):
        return self._display.verbosity == 0

    def get_option(self, k):
        if self._quiet and k in ("display_ok_hosts", "display_skipped_hosts"):
            return False
        return super().get_option(k)

    def v2_playbook_on_play_start(self, play):
        if not self._quiet:
            super().v2_playbook_on_play_start(play)
            return
        self._play, phase = play, play.get_name().strip()
        if phase == self._phase:  # the next hosts of the same (serial)
            return
        self._end_phase()
        self._phase, self._phase_began, self._asked, self._well, self._shown = phase, time.monotonic(), set(), set(), False

    def _works(self, result, well=True):
        """Notes that a task was not skipped, and names the phase when it is the first,
        after an empty line where the phase before had something to say."""
        if not self._quiet:
            return
        if not self._shown:
            self._shown = True
            self._display.display("%s%s%s" % ("\n" if self._spoke else "", self._phase, " (check: nothing is changed)" if self._play.check_mode else ""))
            self._spoke = False
        if result._task.run_once or result._task.ignore_unreachable:  # not work on this host
            return
        self._asked.add(result._host.get_name())
        if well:
            self._well.add(result._host.get_name())
        else:
            self._well.discard(result._host.get_name())

    def _end_phase(self):
        if self._quiet and self._asked:
            self._display.display("  %s: done, %.0f s" % (_hosts(self._well, len(self._asked)), time.monotonic() - self._phase_began))

    def _say(self, result, what, color=None):
        """A line of a host, or several. What is done once is about all of them."""
        self._spoke = True
        if isinstance(what, dict):  # for programs
            self._display.display(json.dumps(what, indent=2, ensure_ascii=False))
            return
        whose = "" if result._task.run_once else result._host.get_name() + ": "
        for line in what if isinstance(what, list) else str(what).splitlines():
            self._display.display("  %s%s" % (whose, line), color=color)

    def v2_runner_on_ok(self, result):
        if not self._quiet:
            super().v2_runner_on_ok(result)
            return
        says, changed = result._task.action in SAYS, result._result.get("changed", False)
        if result._task.run_once and not says and not changed:
            return
        self._works(result)
        if isinstance(result._task, TaskInclude):
            return
        if says:
            self._say(result, result._result.get("msg", ""))
        elif changed:
            self._say(result, "%s: changed" % result._task.get_name().split(" : ")[-1], C.COLOR_CHANGED)
            self._handle_warnings(result._result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._works(result, ignore_errors)
        if self._quiet and result._task.action in REFUSES and not ignore_errors:
            self._say(result, result._result.get("msg", ""), C.COLOR_ERROR)
            return
        self._spoke = True
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result):
        self._works(result, False)
        if self._quiet:
            self._say(result, "not reached: %s" % NOT_REACHED.sub("", result._result.get("msg", "")).strip(), C.COLOR_UNREACHABLE)
        else:
            super().v2_runner_on_unreachable(result)

    def v2_runner_item_on_ok(self, result):
        if not self._quiet:
            super().v2_runner_item_on_ok(result)

    def v2_playbook_on_include(self, included_file):
        if not self._quiet:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_stats(self, stats):
        self._end_phase()
        super().v2_playbook_on_stats(stats)
        if self._quiet:
            self._display.display("%.0f s" % (time.monotonic() - self._began))


def _hosts(names, of):
    """The names of a few, in the order of the numbers in them; of many how many, of all."""
    if not names:
        return "no host"
    if len(names) <= FEW:
        return ", ".join(sorted(names, key=lambda name: [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]))
    return "%d hosts" % of if len(names) == of else "%d of %d hosts" % (len(names), of)
