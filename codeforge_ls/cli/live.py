"""A run or a plan as it happens, on the terminal: what the agent says and does, and the questions it raises."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

from codeforge_ls.cli.connection import Connection
from codeforge_ls.cli.output import BOLD, CYAN, DIM, GREEN, RED, YELLOW, Output
from codeforge_ls.cli.times import span

ENDINGS = ("run.completed", "run.suspended", "plan.completed", "plan.failed", "plan.cancelled")
# Verdict: what may be typed for it, and how it is offered.
ANSWERS = {
    "allow_once": (("a", "allow", "y", "yes"), "[a]llow once"),
    "allow_run": (("r", "run"), "for this [r]un"),
    "allow_always": (("w", "always"), "al[w]ays here"),
    "deny": (("d", "deny", "n", "no"), "[d]eny"),
}
MAX_ARGUMENT = 160  # characters of a tool call's arguments on its line


class Live:
    """Shows streams of events until the first of them ends, and answers questions where it may.

    ``ask``: put approvals to the person at this terminal; ``allow``: answer them with yes (``--yes``). Both only
    speak for what this session started, unless ``everything`` is asked here. The first Ctrl-C cancels it, the second
    leaves it at work.
    """

    def __init__(
        self, daemon: Connection, out: Output, *, ask: bool, allow: bool, everything: bool = False
    ) -> None:
        self._daemon, self._out, self._allow = daemon, out, allow
        self._questions: list[dict[str, Any]] = []
        self._streamed: dict[str, int] = {}
        self._open_line = False
        self._main = ""
        self._ending: dict[str, Any] | None = None
        self._interrupts = 0
        self._cancel: tuple[str, dict[str, Any]] = ("", {})
        daemon.on_event, daemon.on_ask = self.show, self._questions.append
        daemon.on_withdraw = self._withdraw
        if ask or allow:
            daemon.call("attach", {"scope": "all" if everything else "mine"})

    def follow(self, stream: str, after: int, cancel: tuple[str, dict[str, Any]]) -> dict[str, Any] | None:
        """Show a stream to its end and return its last event; None when the person left. ``cancel`` is the request
        that the first Ctrl-C sends."""
        self._main, self._cancel = stream, cancel
        self._watch(stream, after)
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            while self._ending is None:
                self._daemon.handle(self._daemon.receive())
                while self._questions:
                    self._answer(self._questions.pop(0))
        except KeyboardInterrupt:
            return None
        finally:
            signal.signal(signal.SIGINT, before)
            self._end_line()
        return self._ending

    def answer_all(self) -> None:
        """Put every question of the workspace to this terminal, until the person leaves with Ctrl-C."""
        while True:
            while self._questions:
                self._answer(self._questions.pop(0))
            self._daemon.handle(self._daemon.receive())

    @property
    def was_interrupted(self) -> bool:
        """Whether the person pressed Ctrl-C."""
        return self._interrupts > 0

    def _watch(self, stream: str, after: int) -> None:
        self._daemon.send("watch", {"stream": stream, "after": after})

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self._out.note("cancelling; Ctrl-C again leaves it at work")
        self._daemon.send(*self._cancel)

    # -- questions

    def _withdraw(self, approval_id: str) -> None:
        self._questions = [question for question in self._questions if question["id"] != approval_id]

    def _answer(self, approval: dict[str, Any]) -> None:
        self._end_line()
        self._show_question(approval)
        verdict = "allow_once" if self._allow else self._prompt(approval)
        if verdict:
            self._daemon.post({"answer": {"approval_id": approval["id"], "verdict": verdict}})

    def _show_question(self, approval: dict[str, Any]) -> None:
        out = self._out
        out.line(out.paint("approval", BOLD, YELLOW), out.paint(approval["title"], BOLD))
        if approval.get("command"):
            out.line(out.paint("  $", DIM), out.paint(approval["command"], lines=True))
        else:
            out.diff(approval["preview"])
        decision = approval["decision"]
        place = f", {decision['file']}:{decision['line']}" if decision.get("file") else ""
        out.line(out.paint(f"  why asked: {decision['reason']} (profile {decision['profile']}{place})", DIM))

    def _prompt(self, approval: dict[str, Any]) -> str | None:
        """The person's verdict; anything but a clear yes is no. None: it was settled elsewhere."""
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        offered = [ANSWERS[verdict] for verdict in approval["offers"] if verdict in ANSWERS]
        sys.stdout.write(f"{', '.join(words for _, words in offered)}? (deny) ")
        sys.stdout.flush()
        later: list[dict[str, Any]] = []
        try:
            while not self._daemon.poll(beside=sys.stdin.fileno()):
                later += self._daemon.pending()
                if any(message.get("withdraw") == approval["id"] for message in later):
                    self._out.line("\n  settled elsewhere")
                    return None
            typed = os.read(sys.stdin.fileno(), 4096).decode(errors="replace").strip().lower()
        finally:
            self._daemon.put_back(later)
        said = next((verdict for verdict, (keys, _) in ANSWERS.items() if typed in keys), "deny")
        return said if said in approval["offers"] else "deny"

    # -- events

    def show(self, event: dict[str, Any]) -> None:
        """Print one event or delta."""
        self._out.json(event)
        if "offset" in event:
            self._delta(event)
            return
        kind, payload = event["type"], event["payload"]
        show = getattr(self, "_on_" + kind.replace(".", "_"), None)
        if show is not None:
            show(event, payload)
        if event["stream"] == self._main and kind in ENDINGS:
            self._ending = event

    def _delta(self, delta: dict[str, Any]) -> None:
        shown = self._streamed.get(delta["event_id"], 0)
        text = delta["text"][max(0, shown - delta["offset"]) :]
        if delta["channel"] == "text":
            self._streamed[delta["event_id"]] = max(shown, delta["offset"] + len(delta["text"]))
        self._say(text, dim=delta["channel"] != "text")

    def _say(self, text: str, *, dim: bool = False) -> None:
        if self._out.as_json or not text:
            return
        self._out.write(text) if not dim else print(
            self._out.paint(text, DIM, lines=True), end="", flush=True
        )
        self._open_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._open_line:
            print()
        self._open_line = False

    def _line(self, *parts: str) -> None:
        self._end_line()
        self._out.line(*parts)

    def _on_run_created(self, _event: dict[str, Any], payload: dict[str, Any]) -> None:
        run = payload["run"]
        self._line(
            self._out.paint(run["id"], BOLD),
            self._out.paint(f"{run['mode']}, {run['profile']}, {run['model']}", DIM),
        )

    def _on_run_message(self, event: dict[str, Any], payload: dict[str, Any]) -> None:
        message = payload["message"]
        if message["role"] == "assistant":
            self._say(message["content"][self._streamed.pop(event["id"], 0) :])
            self._end_line()

    def _on_run_toolcall_requested(self, _event: dict[str, Any], payload: dict[str, Any]) -> None:
        arguments = payload["arguments"]
        shown = (
            arguments.get("command")
            or arguments.get("path")
            or arguments.get("query")
            or arguments.get("pattern")
        )
        text = str(shown if shown is not None else arguments)
        cut = text if len(text) <= MAX_ARGUMENT else text[:MAX_ARGUMENT] + "..."
        self._line(self._out.paint(payload["tool"], BOLD, CYAN), self._out.paint(cut))

    def _on_run_toolcall_denied(self, _event: dict[str, Any], payload: dict[str, Any]) -> None:
        self._line(self._out.paint("  denied:", RED), self._out.paint(payload.get("reason", "")))

    def _on_run_toolcall_result(self, _event: dict[str, Any], payload: dict[str, Any]) -> None:
        applied = payload["applied"]
        if applied["outcome"] != "denied":
            color = GREEN if applied["outcome"] == "applied" else RED
            self._line(
                self._out.paint(f"  {applied['outcome']}", color),
                self._out.paint(span(payload["duration"]), DIM),
            )
        for change in applied["files"]:
            self._line("  ", self._out.paint(change["path"]), f"+{change['added']} -{change['removed']}")

    def _on_run_stall_detected(self, _event: dict[str, Any], _payload: dict[str, Any]) -> None:
        self._line(self._out.paint("  the agent repeats itself", YELLOW))

    def _on_agent_error(self, _event: dict[str, Any], payload: dict[str, Any]) -> None:
        self._line(self._out.paint("  model:", RED), self._out.paint(payload.get("message", "")))

    def _on_run_suspended(self, event: dict[str, Any], payload: dict[str, Any]) -> None:
        run = event["stream"].partition(":")[2]
        self._line(self._out.paint(f"suspended: {payload.get('reason', '')}", YELLOW))
        self._line(self._out.paint(f"go on: codeforge run --resume {run}", DIM))

    def _on_run_completed(self, event: dict[str, Any], payload: dict[str, Any]) -> None:
        done = payload["status"] == "completed"
        self._line(
            self._out.paint(payload["status"], BOLD, GREEN if done else RED),
            self._out.paint(payload["reason"]),
        )
        if done:
            self._line(
                self._out.paint(f"take it back: codeforge rewind {event['stream'].partition(':')[2]}", DIM)
            )

    def _on_plan_step_changed(self, _event: dict[str, Any], payload: dict[str, Any]) -> None:
        step = payload["step"]
        self._line(
            self._out.paint(f"step {step['index'] + 1} {step['status']}", BOLD), self._out.paint(step["task"])
        )
        if step["status"] == "running" and step["run_id"]:
            self._watch(f"run:{step['run_id']}", 0)
