"""Runs a program on a host in one SSH round trip, without Python there.

argv is the program and its arguments, stdin a text that it reads. The result has
rc, stdout and stderr. In check mode nothing runs, unless the task has
"check_mode: false".
"""

from __future__ import annotations

import shlex

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _VALID_ARGS = frozenset(("argv", "stdin"))

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        argv = [str(word) for word in self._task.args["argv"]]
        if self._task.check_mode:
            return dict(result, skipped=True)
        # With nothing to read there would be a terminal, which mixes stdout and stderr.
        stdin = (self._task.args.get("stdin") or "\n").encode()
        result.update(self._low_level_execute_command(shlex.join(argv), in_data=stdin), changed=True)
        result["stdout"] = result["stdout"].rstrip("\r\n")
        if result["rc"] != 0:
            result.update(failed=True, msg=f"{argv[0]}: exit status {result['rc']}")
        return result
