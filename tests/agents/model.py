"""A scripted model for real agents: OpenAI chat and responses, Anthropic messages and Gemini, on loopback.

The script is a list of steps, ``{"tool": REGEX, "args": {...}}`` or ``{"say": TEXT}``; how many tool results a
conversation holds says which comes next. The pattern is looked for among the tools that the agent offers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COUNT = itertools.count(1)


def names(body: dict, dialect: str) -> list[str]:
    found: list[str] = []
    for tool in body.get("tools") or []:
        if dialect == "gemini":
            found += [
                d["name"] for d in tool.get("functionDeclarations") or tool.get("function_declarations") or []
            ]
        elif tool.get("type") == "namespace":  # Codex groups an MCP server's tools
            found += [f"{tool['name']}::{t.get('name')}" for t in tool.get("tools", [])]
        else:
            found.append(
                tool.get("name") or (tool.get("function") or {}).get("name") or tool.get("type", "?")
            )
    return found


def results(body: dict, dialect: str) -> list:
    out = []
    if dialect == "chat":
        out = [m.get("content") for m in body.get("messages", []) if m.get("role") == "tool"]
    elif dialect == "responses":
        items = body.get("input", [])
        out = [
            i.get("output")
            for i in items
            if isinstance(i, dict) and str(i.get("type", "")).endswith("_output")
        ]
    elif dialect == "anthropic":
        for m in body.get("messages", []):
            if isinstance(m.get("content"), list):
                out += [b.get("content") for b in m["content"] if b.get("type") == "tool_result"]
    elif dialect == "gemini":
        for c in body.get("contents", []):
            out += [
                p["functionResponse"].get("response") for p in c.get("parts", []) if "functionResponse" in p
            ]
    return out


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: tuple[dict, ...] = ()
    log_path = ""

    def log_message(self, *args) -> None:
        pass

    def note(self, **record) -> None:
        with open(self.log_path, "a", encoding="utf-8") as out:
            out.write(json.dumps({"t": round(time.time(), 2), **record}) + "\n")

    def do_HEAD(self) -> None:
        self.reply({})

    def do_GET(self) -> None:
        self.note(get=self.path)
        self.reply({"object": "list", "data": [{"id": "scripted", "object": "model"}], "models": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if "chunked" in (self.headers.get("transfer-encoding") or ""):
            raw = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        enc = self.headers.get("content-encoding", "")
        if enc == "gzip":
            import gzip

            raw = gzip.decompress(raw)
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            self.note(bad=self.path, enc=enc, head=raw[:80].hex())
            self.reply({"error": "unreadable"}, 400)
            return
        path = self.path.split("?")[0]
        if path.endswith("count_tokens"):
            self.reply({"input_tokens": 1})
            return
        if path.endswith(":countTokens"):
            self.reply({"totalTokens": 1})
            return
        dialect = next(
            (
                d
                for end, d in (
                    ("/chat/completions", "chat"),
                    ("/responses", "responses"),
                    ("/messages", "anthropic"),
                )
                if path.endswith(end)
            ),
            None,
        )
        if ":generateContent" in path or ":streamGenerateContent" in path:
            dialect = "gemini"
            body["stream"] = ":stream" in path
        if dialect is None:
            self.note(post=self.path)
            self.reply({})
            return
        tools, done = names(body, dialect), results(body, dialect)
        step, matched = {"say": "Done."}, None
        if len(done) < len(self.script):
            step = self.script[len(done)]
            if "tool" in step:
                matched = next((n for n in tools if re.search(step["tool"], n)), None)
                if matched is None:  # side request (title, summary, safety check): answer with text
                    step = {"say": "ok"}
        tool_chars = len(json.dumps(body.get("tools") or []))
        self.note(
            path=self.path,
            tools=len(tools),
            tool_chars=tool_chars,
            names=tools,
            step=step,
            matched=matched,
            results=[json.dumps(r)[:1500] for r in done[-1:]],
        )
        getattr(self, "as_" + dialect)(body, step, matched)

    # -- plumbing --------------------------------------------------------------------------------
    def reply(self, obj: dict, status: int = 200) -> None:
        data = json.dumps(obj).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def stream(self, events: list[tuple[str | None, object]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for name, data in events:
            head = f"event: {name}\n" if name else ""
            text = data if isinstance(data, str) else json.dumps(data)
            self.wfile.write(f"{head}data: {text}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True

    # -- dialects ----------------------------------------------------------------------------------
    def as_chat(self, body, step, name) -> None:
        n = next(COUNT)
        message: dict = {"role": "assistant", "content": step.get("say")}
        if name:
            call = {
                "id": f"call_{n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(step["args"])},
            }
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        finish = "tool_calls" if name else "stop"
        base = {"id": f"c{n}", "created": 1, "model": body.get("model", "scripted")}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": finish}
            self.reply({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        delta = dict(message)
        if name:
            delta["tool_calls"] = [{**message["tool_calls"][0], "index": 0}]
        chunk = {**base, "object": "chat.completion.chunk"}
        self.stream(
            [
                (None, {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
                (
                    None,
                    {
                        **chunk,
                        "choices": [{"index": 0, "delta": {}, "finish_reason": finish}],
                        "usage": usage,
                    },
                ),
                (None, "[DONE]"),
            ]
        )

    def as_responses(self, body, step, name) -> None:
        n = next(COUNT)
        if name:
            item = {
                "type": "function_call",
                "id": f"fc_{n}",
                "call_id": f"call_{n}",
                "name": name,
                "arguments": json.dumps(step["args"]),
                "status": "completed",
            }
            if "::" in name:
                item["namespace"], item["name"] = name.split("::", 1)
        else:
            part = {"type": "output_text", "text": step.get("say", ""), "annotations": []}
            item = {
                "type": "message",
                "id": f"m_{n}",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        usage = {
            "input_tokens": 1,
            "output_tokens": 1,
            "total_tokens": 2,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        whole = {
            "id": f"r{n}",
            "object": "response",
            "created_at": 1,
            "model": body.get("model"),
            "status": "completed",
            "output": [item],
            "usage": usage,
        }
        if not body.get("stream"):
            self.reply(whole)
            return
        self.stream(
            [
                (
                    "response.created",
                    {
                        "type": "response.created",
                        "response": {**whole, "status": "in_progress", "output": []},
                    },
                ),
                (
                    "response.output_item.added",
                    {"type": "response.output_item.added", "output_index": 0, "item": item},
                ),
                (
                    "response.output_item.done",
                    {"type": "response.output_item.done", "output_index": 0, "item": item},
                ),
                ("response.completed", {"type": "response.completed", "response": whole}),
            ]
        )

    def as_anthropic(self, body, step, name) -> None:
        n = next(COUNT)
        block: dict = {"type": "text", "text": step.get("say", "ok")}
        if name:
            block = {"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": step["args"]}
        stop = "tool_use" if name else "end_turn"
        whole = {
            "id": f"msg_{n}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [block],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if not body.get("stream"):
            self.reply(whole)
            return
        start = {**block, "input": {}} if name else {"type": "text", "text": ""}
        delta = (
            {"type": "input_json_delta", "partial_json": json.dumps(step["args"])}
            if name
            else {"type": "text_delta", "text": block["text"]}
        )
        events = [
            {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop, "stop_sequence": None},
                "usage": {"output_tokens": 1},
            },
            {"type": "message_stop"},
        ]
        self.stream([(e["type"], e) for e in events])

    def as_gemini(self, body, step, name) -> None:
        part = (
            {"functionCall": {"name": name, "args": step["args"]}}
            if name
            else {"text": step.get("say", "ok")}
        )
        whole = {
            "candidates": [
                {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        }
        self.stream([(None, whole)]) if body.get("stream") else self.reply(whole)
        return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=3960)
    parser.add_argument("--script", required=True)
    parser.add_argument("--log", default="llm.jsonl")
    args = parser.parse_args()
    with open(args.script, encoding="utf-8") as src:
        Handler.script = tuple(json.load(src))
    Handler.log_path = args.log
    ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
