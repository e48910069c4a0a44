--- Questions of the server: a float with the diff or the command that never takes the keyboard by itself.
--- Closing it without an answer denies.
local M = {}

---@class codeforge.Question
---@field approval table As in the server's record
---@field client_id integer

---@type codeforge.Question[] Those that wait; the first one is shown
local waiting = {}
---@type integer? The window of the question that is shown
local window

local MAX_HEIGHT = 30
local ANSWERS = {
  { verdict = "allow_once", key = "allow", words = "allow once" },
  { verdict = "allow_run", key = "run", words = "for this run" },
  { verdict = "allow_always", key = "always", words = "always" },
}

---@return boolean
local function prompts_here()
  return require("codeforge").config().approvals.prompt == "float"
end

---@param question codeforge.Question
---@return string[] lines, string filetype
local function body(question)
  local approval = question.approval
  local is_command = type(approval.command) == "string" and approval.command ~= ""
  local text = is_command and ("$ " .. approval.command) or (approval.preview or "")
  local lines = vim.split((text:gsub("%z", "\\0")), "\n", { plain = true, trimempty = true })
  return #lines > 0 and lines or { approval.title or "?" }, is_command and "sh" or "diff"
end

local function close()
  local shown = window
  window = nil
  if shown and vim.api.nvim_win_is_valid(shown) then
    vim.api.nvim_win_close(shown, true)
  end
end

--- Show the first question that waits, if none is shown.
local function show()
  local question = waiting[1]
  if window or not question or not prompts_here() then
    return
  end
  local keys = require("codeforge").config().approvals.keys
  local lines, filetype = body(question)
  local decision = question.approval.decision or {}
  table.insert(lines, 1, "# " .. (question.approval.title or ""))
  local place = (decision.file or "") ~= "" and (", %s:%d"):format(decision.file, decision.line or 0) or ""
  local why = "# asked because: %s (profile %s%s)"
  table.insert(lines, 2, why:format(decision.reason or "?", decision.profile or "?", place))
  local buf = vim.api.nvim_create_buf(false, true)
  vim.bo[buf].bufhidden = "wipe"
  vim.api.nvim_buf_set_lines(
    buf,
    0,
    -1,
    false,
    vim.tbl_map(function(line)
      return (line:gsub("\n", " "))
    end, lines)
  )
  vim.bo[buf].modifiable = false
  vim.bo[buf].filetype = filetype
  local offered, verdicts = {}, {}
  for _, one in ipairs(ANSWERS) do
    if vim.list_contains(question.approval.offers or { "allow_once" }, one.verdict) then
      offered[#offered + 1] = ("%s %s"):format(keys[one.key], one.words)
      verdicts[keys[one.key]] = one.verdict
    end
  end
  local width = math.max(20, math.min(100, vim.o.columns - 4))
  local height = math.max(1, math.min(#lines, MAX_HEIGHT, vim.o.lines - 6))
  window = vim.api.nvim_open_win(buf, false, {
    relative = "editor",
    anchor = "SE",
    row = vim.o.lines - 2,
    col = vim.o.columns,
    width = width,
    height = height,
    style = "minimal",
    border = "rounded",
    title = (" CodeForge asks (%d waiting) "):format(#waiting),
    footer = (" %s  %s deny  %s close = deny; here by :CodeForge approvals "):format(
      table.concat(offered, "  "),
      keys.deny,
      keys.dismiss
    ),
    zindex = 60,
  })
  verdicts[keys.deny], verdicts[keys.dismiss] = "deny", "deny"
  for key, verdict in pairs(verdicts) do
    vim.keymap.set("n", key, function()
      M.answer(verdict, question.approval.id)
    end, { buffer = buf, nowait = true, desc = "CodeForge: " .. verdict })
  end
  local mine = window
  vim.api.nvim_create_autocmd("WinClosed", {
    pattern = tostring(mine),
    once = true,
    callback = function()
      if window == mine then -- closed by hand, not by an answer
        window = nil
        M.answer("deny", question.approval.id)
      end
    end,
  })
end

---@param id string
---@return codeforge.Question?
local function take(id)
  for index, question in ipairs(waiting) do
    if question.approval.id == id then
      if index == 1 then
        close()
      end
      return table.remove(waiting, index)
    end
  end
end

--- A question came in.
---@param approval table
---@param client_id integer
function M.ask(approval, client_id)
  for _, question in ipairs(waiting) do
    if question.approval.id == approval.id then
      return
    end
  end
  waiting[#waiting + 1] = { approval = approval, client_id = client_id }
  show()
  if prompts_here() then
    require("codeforge").notify(
      ("%s? :CodeForge approve, deny or approvals"):format(approval.title or "may it go on"),
      vim.log.levels.WARN
    )
  end
end

--- A question was answered, here or elsewhere, or its time is over.
---@param id string
function M.finish(id)
  take(id)
  vim.schedule(show)
end

--- A client has gone, and its questions with it.
---@param client_id integer
function M.forget(client_id)
  for index = #waiting, 1, -1 do
    if waiting[index].client_id == client_id then
      take(waiting[index].approval.id)
    end
  end
  show()
end

--- Answer a question: the one that is shown, or the one of that id. The server has the last word.
---@param verdict "allow_once"|"allow_run"|"allow_always"|"deny"
---@param id? string
function M.answer(verdict, id)
  local codeforge = require("codeforge")
  id = id or (waiting[1] and waiting[1].approval.id)
  if not id then
    return codeforge.notify("no question waits")
  end
  local question = take(id)
  local client = question and vim.lsp.get_client_by_id(question.client_id) or nil
  codeforge.call("approval.answer", { approval_id = id, verdict = verdict }, function()
    show()
  end, function(err)
    codeforge.notify(codeforge.error_text(err), vim.log.levels.WARN)
    show()
  end, client)
end

--- Go to the question that is shown.
function M.focus()
  show()
  if window and vim.api.nvim_win_is_valid(window) then
    vim.api.nvim_set_current_win(window)
  else
    require("codeforge").notify("no question waits")
  end
end

--- Ids of the questions that wait, for completion.
---@return string[]
function M.ids()
  return vim.tbl_map(function(question)
    return question.approval.id
  end, waiting)
end

return M
