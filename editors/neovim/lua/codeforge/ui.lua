--- Windows and buffers: scratch splits, lists, and the output of a run as it comes.
local M = {}

local live = vim.api.nvim_create_namespace("codeforge_live")
local MAX_RESULT_LINES = 20

---@class codeforge.RunView
---@field buf integer
---@field client_id integer
---@field seq integer The last event that is shown
---@field live string Text that comes in before its event is stored
---@field loading boolean

---@type table<string, codeforge.RunView>
local runs = {}

---@param value any
---@return string[]
local function lines_of(value)
  return vim.split(tostring(value or ""):gsub("\r\n", "\n"), "\n", { plain = true })
end

--- Show a repo map below its facts and the languages of the index; its files fold.
---@param result table The answer of codeforge.repomap
function M.map(result)
  local facts = ("%d of %d files, %d definitions, %d of %d tokens; %d more definitions do not fit"):format(
    result.files, result.index.files, result.symbols, result.tokens, result.budget, result.cut
  )
  local languages = {}
  for name, files in vim.spairs(result.index.languages) do
    table.insert(languages, ("[%s %d]"):format(name, files))
  end
  local text = table.concat({ facts, table.concat(languages, " "), "", result.text }, "\n")
  M.scratch("map", text, "codeforge-map")
  vim.wo.foldmethod, vim.wo.foldlevel = "indent", 99
end

--- Show text in a split that is thrown away when it is closed.
---@param name string
---@param text string
---@param filetype? string
---@return integer buf
function M.scratch(name, text, filetype)
  local buf = vim.api.nvim_create_buf(false, true)
  vim.bo[buf].bufhidden = "wipe"
  vim.api.nvim_buf_set_lines(buf, 0, -1, false, lines_of(text))
  pcall(vim.api.nvim_buf_set_name, buf, ("codeforge://%s"):format(name))
  vim.cmd(("botright %dsplit"):format(require("codeforge").config().runs.height))
  vim.api.nvim_win_set_buf(0, buf)
  vim.bo[buf].modifiable = false
  vim.bo[buf].filetype = filetype or "text"
  vim.keymap.set("n", "q", "<cmd>close<cr>", { buffer = buf, desc = "Close" })
  return buf
end

--- Search hits in the quickfix or location list.
---@param query string
---@param result table What codeforge.search gives
---@param root string
---@param to_location_list boolean
function M.hits(query, result, root, to_location_list)
  local items = {}
  for _, hit in ipairs(result.hits) do
    local first = vim.trim((lines_of(hit.text)[1] or ""))
    items[#items + 1] = {
      filename = vim.fs.joinpath(root, hit.path),
      lnum = hit.start_line,
      end_lnum = hit.end_line,
      text = hit.symbol ~= "" and ("[%s] %s"):format(hit.symbol, first) or first,
    }
  end
  local index = result.index
  local state = index.percent < 100 and (" (index %d %% complete)"):format(index.percent) or ""
  local what = { title = ("CodeForge: %s%s"):format(query, state), items = items }
  if to_location_list then
    vim.fn.setloclist(0, {}, " ", what)
  else
    vim.fn.setqflist({}, " ", what)
  end
  if #items == 0 then
    require("codeforge").notify("no hits" .. state)
    return
  end
  vim.cmd(to_location_list and "lopen" or "botright copen")
end

-- The output of a run ---------------------------------------------------------------------------------------

--- The buffer of a run, made and filled from its first event where it is new.
---@param run_id string
---@param client vim.lsp.Client
---@return integer buf
function M.run_buffer(run_id, client)
  local view = runs[run_id]
  if view and vim.api.nvim_buf_is_valid(view.buf) then
    return view.buf
  end
  local buf = vim.api.nvim_create_buf(false, true)
  vim.bo[buf].bufhidden = "hide"
  vim.api.nvim_buf_set_name(buf, "codeforge://run/" .. run_id)
  vim.bo[buf].modifiable = false
  vim.bo[buf].filetype = "codeforge-run"
  vim.keymap.set("n", "q", "<cmd>close<cr>", { buffer = buf, desc = "Close; the run goes on" })
  runs[run_id] = { buf = buf, client_id = client.id, seq = 0, live = "", loading = false }
  M.catch_up(run_id)
  return buf
end

--- Open the output of a run in a split below; the cursor stays where it is.
---@param run_id string
---@param client vim.lsp.Client
function M.open_run(run_id, client)
  local buf = M.run_buffer(run_id, client)
  if vim.fn.bufwinid(buf) ~= -1 then
    return
  end
  local window = vim.api.nvim_open_win(buf, false, {
    split = "below",
    win = -1,
    height = require("codeforge").config().runs.height,
  })
  vim.wo[window].wrap = true
  vim.wo[window].number = false
end

--- Whether the output of a run is shown, or was.
---@param run_id string
function M.has_run(run_id)
  return runs[run_id] ~= nil and vim.api.nvim_buf_is_valid(runs[run_id].buf)
end

--- Fetch the events that are not shown yet: from the start, or those that were dropped on the way.
---@param run_id string
function M.catch_up(run_id)
  local view = runs[run_id]
  local client = view and vim.lsp.get_client_by_id(view.client_id)
  if not client or view.loading then
    return
  end
  view.loading = true
  client:request("codeforge/run/events", { run_id = run_id, after = view.seq, limit = 500 }, function(err, page)
    view.loading = false
    if err or not vim.api.nvim_buf_is_valid(view.buf) then
      return
    end
    for _, event in ipairs(page.events) do
      if event.seq > view.seq then
        M.show_event(run_id, event)
      end
    end
    if #page.events == 500 then
      M.catch_up(run_id)
    end
  end)
end

--- An event that came in. Out of order means that some were left out: fetch them.
---@param run_id string
---@param event table
function M.on_event(run_id, event)
  local view = runs[run_id]
  if not M.has_run(run_id) or event.seq <= view.seq then
    return
  end
  if event.seq ~= view.seq + 1 then
    return M.catch_up(run_id)
  end
  M.show_event(run_id, event)
end

---@type table<string, fun(payload: table): string[], string?>
local render = {
  ["run.created"] = function(payload)
    local run = payload.run or {}
    return { ("%s  (profile %s, %s)"):format(run.id, run.profile, run.model), unpack(lines_of(run.task)) }, "CodeForgeTitle"
  end,
  ["run.message"] = function(payload)
    local message = payload.message or {}
    if message.role ~= "assistant" or message.content == "" then
      return {}
    end
    return { "", unpack(lines_of(message.content)) }
  end,
  ["run.toolcall.requested"] = function(payload)
    local arguments = type(payload.arguments) == "table" and payload.arguments or {}
    local subject = arguments.command or arguments.path or arguments.file_path or arguments.pattern or arguments.query or ""
    return { "", ("▸ %s %s"):format(payload.tool, lines_of(subject)[1]) }, "CodeForgeTool"
  end,
  ["run.toolcall.denied"] = function(payload)
    return { "  denied: " .. lines_of(payload.reason)[1] }, "CodeForgeDenied"
  end,
  ["run.toolcall.result"] = function(payload)
    local all = lines_of((payload.applied or {}).output)
    local shown = vim.list_slice(all, 1, MAX_RESULT_LINES)
    if #all > MAX_RESULT_LINES then
      shown[#shown + 1] = ("… %d more lines"):format(#all - MAX_RESULT_LINES)
    end
    return vim.tbl_map(function(line)
      return "  " .. line
    end, shown)
  end,
  ["approval.requested"] = function()
    return { "  waits for your approval" }, "CodeForgeDenied"
  end,
  ["agent.error"] = function(payload)
    return { "  " .. lines_of(payload.message)[1] }, "CodeForgeDenied"
  end,
  ["run.completed"] = function(payload)
    return { "", ("■ %s %s"):format(payload.status, lines_of(payload.reason)[1]) }, "CodeForgeEnd"
  end,
  ["run.suspended"] = function(payload)
    return { "", ("■ suspended %s"):format(lines_of(payload.reason)[1]) }, "CodeForgeEnd"
  end,
}

---@param run_id string
---@param event table
function M.show_event(run_id, event)
  local view = runs[run_id]
  view.seq = event.seq
  local show = render[event.type]
  if not show then
    return
  end
  local lines, group = show(event.payload)
  view.live = ""
  M.append(view, lines, group)
end

---@param view codeforge.RunView
---@param lines string[]
---@param group? string
function M.append(view, lines, group)
  local buf = view.buf
  local last = vim.api.nvim_buf_line_count(buf)
  local is_empty = last == 1 and vim.api.nvim_buf_get_lines(buf, 0, 1, false)[1] == ""
  local followers = vim.tbl_filter(function(window)
    return vim.api.nvim_win_get_cursor(window)[1] == last
  end, vim.fn.win_findbuf(buf))
  local clean = vim.tbl_map(function(line)
    return (line:gsub("[%z\n]", " "))
  end, lines)
  vim.bo[buf].modifiable = true
  vim.api.nvim_buf_set_lines(buf, is_empty and 0 or last, -1, false, clean)
  vim.bo[buf].modifiable = false
  vim.api.nvim_buf_clear_namespace(buf, live, 0, -1)
  local start = is_empty and 0 or last
  for row = start, start + #clean - 1 do
    if group then
      vim.hl.range(buf, vim.api.nvim_create_namespace("codeforge_run"), group, { row, 0 }, { row, -1 })
    end
  end
  for _, window in ipairs(followers) do
    vim.api.nvim_win_set_cursor(window, { vim.api.nvim_buf_line_count(buf), 0 })
  end
end

--- Text that is still coming, shown below the last line until its event is stored.
---@param run_id string
---@param text string
function M.on_delta(run_id, text)
  local view = runs[run_id]
  if not M.has_run(run_id) then
    return
  end
  view.live = (view.live .. text):sub(-4000)
  local virtual = vim.tbl_map(function(line)
    return { { line, "CodeForgeLive" } }
  end, vim.list_slice(lines_of(view.live), -10))
  vim.api.nvim_buf_clear_namespace(view.buf, live, 0, -1)
  local row = vim.api.nvim_buf_line_count(view.buf) - 1
  vim.api.nvim_buf_set_extmark(view.buf, live, row, 0, { virt_lines = virtual })
end

return M
