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
local CHANGES = {
  ["run.toolcall.result"] = true,
  ["checkpoint.restored"] = true,
}

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

---@param params { run_id: string, seq: integer, event: table }
function M.on_run_event(params)
  local event, run = params.event, run_state(params.run_id)
  if event.type == "run.created" then
    run.task = (event.payload.run or {}).task or ""
  elseif event.type == "run.completed" then
    run.status = event.payload.status or "completed"
  elseif event.type == "run.suspended" then
    run.status = "suspended"
  end
  require("codeforge.ui").on_event(params.run_id, event)
  if CHANGES[event.type] then
    vim.cmd.checktime() -- files on disk have changed under unmodified buffers
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
