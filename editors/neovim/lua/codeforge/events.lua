--- What the server tells of its own accord: runs, plans, approvals, status. Each is also a User event.
local M = {}

---@class codeforge.RunState
---@field id string
---@field status string
---@field task string

---@type codeforge.RunState[] Runs heard of in this session, newest last
M.runs = {}
---@type table<integer, table> The last codeforge/status of each client
M.status = {}

local AT_WORK = { pending = true, running = true, quality_gate = true }

---@param pattern string
---@param data table
local function emit(pattern, data)
  vim.api.nvim_exec_autocmds("User", { pattern = pattern, modeline = false, data = data })
end

---@param id string
---@return codeforge.RunState
local function run_state(id)
  for _, run in ipairs(M.runs) do
    if run.id == id then
      return run
    end
  end
  local run = { id = id, status = "running", task = "" }
  M.runs[#M.runs + 1] = run
  return run
end

--- The newest run that is at work.
---@return codeforge.RunState?
function M.newest_at_work()
  for index = #M.runs, 1, -1 do
    if AT_WORK[M.runs[index].status] then
      return M.runs[index]
    end
  end
end

--- The paths an event says were changed.
---@param event table
---@return string[]
local function changed_paths(event)
  if event.type == "checkpoint.restored" then
    return (event.payload.restored or {}).changed or {}
  elseif event.type == "run.toolcall.result" then
    local files = (event.payload.applied or {}).files or {}
    return vim.tbl_map(function(file)
      return file.path
    end, files)
  end
  return {}
end

---@param buf integer
---@return boolean
local function is_as_on_disk(buf)
  local file = io.open(vim.api.nvim_buf_get_name(buf), "rb")
  if not file then
    return false
  end
  local disk = file:read("*a")
  file:close()
  local eol = ({ unix = "\n", dos = "\r\n", mac = "\r" })[vim.bo[buf].fileformat]
  local text = table.concat(vim.api.nvim_buf_get_lines(buf, 0, -1, false), eol)
  return disk == text .. (vim.bo[buf].endofline and eol or "")
end

--- Files have changed on disk: reload their buffers. One that the server has edited to the same text is not
--- modified any more; one with changes of the person's own is left alone.
---@param buffers integer[]
function M.reconcile(buffers)
  for _, buf in ipairs(buffers) do
    if vim.api.nvim_buf_is_loaded(buf) then
      if vim.bo[buf].modified and is_as_on_disk(buf) then
        vim.bo[buf].modified = false
      end
      if not vim.bo[buf].modified then
        vim.cmd.checktime(tostring(buf))
      end
    end
  end
end

--- The server has edited a buffer that was saved, and asks to save it again, so that commands see the new text.
---@param uri string
---@return boolean
function M.save(uri)
  local buf = vim.uri_to_bufnr(uri)
  if not vim.api.nvim_buf_is_loaded(buf) then
    return false
  end
  local done = pcall(vim.api.nvim_buf_call, buf, function()
    vim.cmd("silent lockmarks update")
  end)
  return done and not vim.bo[buf].modified
end

---@param client vim.lsp.Client
---@param paths string[]
---@return integer[]
local function buffers_of(client, paths)
  local root, wanted = require("codeforge").root(client), {}
  for _, path in ipairs(paths) do
    wanted[vim.fs.joinpath(root, path)] = true
  end
  return vim.tbl_filter(function(buf)
    return wanted[vim.api.nvim_buf_get_name(buf)] ~= nil
  end, vim.tbl_keys(client.attached_buffers))
end

---@param params { run_id: string, seq: integer, event: table }
---@param client_id integer
function M.on_run_event(params, client_id)
  local event, run = params.event, run_state(params.run_id)
  if event.type == "run.created" then
    run.task = (event.payload.run or {}).task or ""
  elseif event.type == "run.completed" then
    run.status = event.payload.status or "completed"
  elseif event.type == "run.suspended" then
    run.status = "suspended"
  end
  require("codeforge.ui").on_event(params.run_id, event)
  local client = vim.lsp.get_client_by_id(client_id)
  if client then
    M.reconcile(buffers_of(client, changed_paths(event)))
  end
  emit("CodeForgeRunEvent", params)
end

---@param params { run_id: string, text: string }
function M.on_run_delta(params)
  require("codeforge.ui").on_delta(params.run_id, params.text or "")
end

---@param params table
function M.on_plan_event(params)
  emit("CodeForgePlanEvent", params)
end

---@param params table
---@param client_id integer
function M.on_approval(params, client_id)
  if params.state == "pending" then
    require("codeforge.approvals").ask(params.approval, client_id)
    emit("CodeForgeApprovalRequested", params.approval)
  else
    require("codeforge.approvals").finish(params.approval_id)
    emit("CodeForgeApprovalFinished", params)
  end
end

---@param params table
---@param client_id integer
function M.on_status(params, client_id)
  M.status[client_id] = params
  emit("CodeForgeStatus", params)
end

return M
