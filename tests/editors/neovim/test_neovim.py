"""Neovim with the plugin, the real server, a scripted model: what is asserted is on disk and in the server's record."""

from __future__ import annotations

import re
from typing import Any

from tests.editors.neovim.child import BEFORE, EDIT, OTHER, Child, neovim

FIX = [{"tool": "Edit", "arguments": EDIT}, {"say": "The total is right now."}]
AFTER = BEFORE.replace(" - 1", "")


def answers(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Who answered what, as the log has it."""
    payloads = [event["payload"] for event in record["events"] if event["type"] == "approval.answered"]
    return [(payload["state"], payload["answered_by"]) for payload in payloads]


def test_allow_in_the_float_edits_the_file_and_rewind_takes_it_back() -> None:
    edits = [{"tool": "Edit", "arguments": EDIT}, {"tool": "Edit", "arguments": OTHER}, {"say": "Done."}]
    with neovim(edits) as child:
        child.ready()
        before = child.tree()
        child.nvim.command("startinsert")
        run_id = child.run()
        shown = child.until(child.float)
        assert "-    return sum(prices) - 1" in shown["text"]
        assert "+    return sum(prices)" in shown["text"]
        assert not shown["focused"]  # a person who is typing goes on typing
        assert child.tree() == before
        child.nvim.command("CodeForge approvals")
        assert child.float()["focused"]
        child.nvim.feedkeys("a", "x")
        child.until(lambda: (found := child.float()) and "notes.txt" in found["text"])
        child.nvim.command("CodeForge approve")
        record = child.ended(run_id)
        assert record["run"]["status"] == "completed"
        assert [state for state, _ in answers(record)] == ["allowed", "allowed"]
        assert all("editor" in by for _, by in answers(record))
        child.nvim.command("silent! wall")
        assert (child.root / "cart.py").read_text() == AFTER
        assert (child.root / "notes.txt").read_bytes() == b"one\r\n2\r\n"
        assert "\n".join(
            child.nvim.current.buffer[:]
        ) + "\n" == AFTER or child.nvim.current.buffer.name.endswith("notes.txt")
        assert len(child.events("CodeForgeApprovalRequested")) == 2
        assert len(child.events("CodeForgeApprovalFinished")) == 2
        seqs = [event["seq"] for event in child.events("CodeForgeRunEvent")]
        assert seqs == list(range(1, len(seqs) + 1))

        output = f"vim.fn.join(vim.fn.getbufline('codeforge://run/{run_id}', 1, '$'), '\\n')"
        child.until(f"{output}:find('■ completed', 1, true)")
        assert "▸ Edit cart.py" in child.lua(f"return {output}")

        child.nvim.command(f"CodeForge rewind {run_id}")
        child.until(
            "vim.iter(Told):any(function(t) return t:find('files are as they were', 1, true) ~= nil end)"
        )
        assert not child.lua("return vim.bo[vim.fn.bufnr('cart.py')].modified")
        assert {k: v for k, v in child.tree().items() if not k.startswith(".git/")} == {
            k: v for k, v in before.items() if not k.startswith(".git/")
        }


def refused(child: Child, run_id: str, before: dict[str, bytes]) -> None:
    """The run got a no, and nothing has changed."""
    record = child.ended(run_id)
    assert [state for state, _ in answers(record)] == ["denied"]
    assert any(event["type"] == "run.toolcall.denied" for event in record["events"])
    assert child.tree() == before
    child.until(lambda: child.float() is None)
    assert child.lua("return vim.api.nvim_buf_get_lines(vim.fn.bufnr('cart.py'), 1, 2, false)[1]").endswith(
        "- 1"
    )


def test_anything_but_a_clear_yes_in_the_float_changes_nothing() -> None:
    with neovim(FIX) as child:
        child.ready()
        before = child.tree()

        run_id = child.run()
        child.lua("vim.api.nvim_set_current_win(...)", child.until(child.float)["window"])
        child.nvim.feedkeys("d", "x")
        refused(child, run_id, before)

        run_id = child.run()
        child.lua("vim.api.nvim_win_close(..., true)", child.until(child.float)["window"])
        refused(child, run_id, before)

        run_id = child.run()
        child.until(child.float)
        child.nvim.command("CodeForge deny")
        refused(child, run_id, before)

        run_id = child.run()
        child.until(child.float)
        child.nvim.command("CodeForge cancel")
        assert child.ended(run_id)["run"]["status"] == "cancelled"
        child.until(lambda: child.float() is None)
        assert child.tree() == before

        run_id = child.run()  # and a yes from elsewhere closes the float
        child.until(child.float)
        child.approve_from_terminal(child.events("CodeForgeApprovalRequested")[-1]["id"])
        child.until(lambda: child.float() is None)
        assert [state for state, _ in answers(child.ended(run_id))] == ["allowed"]
        child.nvim.command(f"CodeForge rewind {run_id}")  # the edit was never saved: the buffer goes back
        child.until("vim.api.nvim_buf_get_lines(vim.fn.bufnr('cart.py'), 1, 2, false)[1]:sub(-3) == '- 1'")
        child.until("not vim.bo[vim.fn.bufnr('cart.py')].modified")
        assert child.tree() == before
        child.nvim.command("CodeForge approve")
        child.until("table.concat(Told, ' '):find('no question waits', 1, true) ~= nil")


def test_an_answer_for_the_run_one_for_good_and_keys_from_the_settings() -> None:
    edits = [{"tool": "Edit", "arguments": EDIT}, {"tool": "Edit", "arguments": OTHER}, {"say": "Done."}]
    with neovim(edits) as child:
        child.ready()
        child.lua(
            """
            local given = vim.g.codeforge
            given.secrets = function() return { OPENAI_API_KEY = 'from-neovim-123456' } end
            vim.g.codeforge = given
            require('codeforge').hand_over(vim.lsp.get_clients({ name = 'codeforge' })[1])
            """
        )
        child.until(lambda: ("OPENAI_API_KEY", "editor:Neovim") in child.known_keys())
        run_id = child.run()
        shown = child.until(child.float)
        assert re.search(
            r"asked because: rule \d \(Edit: ask\) \(profile editor-interactive, \S+editor-interactive\.yaml:\d+\)",
            shown["text"],
        )
        child.lua("vim.api.nvim_set_current_win(...)", shown["window"])
        child.nvim.feedkeys("r", "x")
        shown = child.until(lambda: (found := child.float()) and "notes.txt" in found["text"] and found)
        child.lua("vim.api.nvim_set_current_win(...)", shown["window"])
        child.nvim.feedkeys("w", "x")
        record = child.ended(run_id)
        assert [state for state, _ in answers(record)] == ["allowed", "allowed"]
        verdicts = [e["payload"]["verdict"] for e in record["events"] if e["type"] == "approval.answered"]
        assert verdicts == ["allow_run", "allow_always"]
        assert "from-neovim" not in str(record)


def test_the_stock_prompt_denies_when_it_is_dismissed() -> None:
    with neovim(FIX, approvals={"prompt": "select"}) as child:
        child.ready()
        before = child.tree()
        child.lua(
            """
            vim.ui.select = function(items, opts, on_choice)
              Asked = opts.prompt
              for i, item in ipairs(items) do
                if item.title == Answer then return on_choice(item, i) end
              end
              on_choice(nil, nil)
            end
            """
        )
        refused(child, child.run(), before)
        assert "sum(prices)" in child.lua("return Asked")
        child.lua("Answer = 'Deny'")
        refused(child, child.run(), before)
        child.lua("Answer = 'Allow once'")
        record = child.ended(child.run())
        assert [state for state, _ in answers(record)] == ["allowed"]
        child.nvim.command("silent wall")
        assert (child.root / "cart.py").read_text() == AFTER


def test_search_map_and_health_without_a_run() -> None:
    with neovim([]) as child:
        child.ready()
        child.nvim.command("CodeForge search total prices")
        child.until("#vim.fn.getqflist() > 0")
        hits = child.nvim.funcs.getqflist()
        assert child.nvim.funcs.bufname(hits[0]["bufnr"]).endswith("cart.py")
        assert hits[0]["lnum"] == 1
        child.nvim.command("cclose | CodeForge! search total")
        child.until("#vim.fn.getloclist(0) > 0")
        child.nvim.command("lclose | CodeForge map")
        child.until("vim.bo.filetype == 'codeforge-map'")
        facts, languages, _, *shown = child.nvim.current.buffer[:]
        assert re.fullmatch(
            r"\d+ of \d+ files, \d+ definitions, \d+ of 4096 tokens; 0 more definitions do not fit", facts
        )
        assert "[python " in languages
        assert "cart.py:" in shown
        child.nvim.command("close | CodeForge policy")
        child.until("vim.api.nvim_buf_get_name(0):find('codeforge://policies', 1, true)")
        assert "editor-interactive" in "\n".join(child.nvim.current.buffer[:])
        child.nvim.command("close | checkhealth codeforge")
        report = child.until(lambda: "\n".join(child.nvim.current.buffer[:]))
        assert "index ready" in report, report
        assert "ERROR" not in report, report
        assert child.lua("return vim.fn.getcompletion('CodeForge re', 'cmdline')") == ["rewind"]
        assert "build" in child.lua("return vim.fn.getcompletion('CodeForge index ', 'cmdline')")
        child.nvim.command("CodeForge nonsense")
        assert "is none of" in child.lua("return Told[#Told]")
        child.nvim.command("CodeForge rewind checkpoint-none")
        child.until("Told[#Told]:find('checkpoint', 1, true)")


def test_the_lens_of_a_policy_rule_asks_for_a_command_and_shows_the_decision() -> None:
    rules = "name: ours\nrules:\n  - {specifier: {tool: Bash}, decision: deny, command_allow: [curl]}\n"
    with neovim([]) as child:
        file = child.root / ".codeforge" / "policies" / "ours.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(rules)
        child.ready()
        child.nvim.command(f"edit {file}")
        child.until("#vim.lsp.get_clients({ name = 'codeforge', bufnr = 0 }) == 1")
        child.lua("vim.ui.input = function(_, done) done('curl x') end")
        child.lua("vim.lsp.codelens.refresh({ bufnr = 0 })")
        child.until("#vim.lsp.codelens.get(0) == 1")
        child.nvim.current.window.cursor = (3, 0)
        child.lua("vim.lsp.codelens.run()")
        shown = child.until(
            lambda: (text := child.nvim.command_output("messages")) and "Rule 1" in text and text
        )
        assert f"curl x: denied, rule 1 (Bash: deny) for 'curl x' ({file}:3)" in shown
