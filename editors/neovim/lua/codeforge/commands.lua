--- :CodeForge and its subcommands.
local codeforge = require("codeforge")

local M = {}

---@class codeforge.Subcommand
---@field run fun(args: string[], call: vim.api.keyset.create_user_command.command_args)
---@field complete? fun(): string[]

---@return string[]
local function run_ids()
  return vim.tbl_map(function(run)
    return run.id
  end, require("codeforge.events").runs)
end

---@return string[]
local function approval_ids()
  return require("codeforge.approvals").ids()
end

--- The text of a call, or the marked lines.
---@param args string[]
---@param call table
---@param first? integer The argument the text begins with
---@return string
local function text_of(args, call, first)
  local text = table.concat(vim.list_slice(args, first or 1), " ")
  if text == "" and call.range > 0 then
    text = table.concat(vim.api.nvim_buf_get_lines(0, call.line1 - 1, call.line2, false), "\n")
  end
  return text
end

---@param argument string?
---@param what string
---@return string?
local function needed(argument, what)
  if not argument or argument == "" then
    codeforge.notify(what .. " is needed", vim.log.levels.WARN)
    return nil
  end
  return argument
end

---@param value any
---@return string
local function time_of(value)
  return type(value) == "number" and tostring(os.date("%m-%d %H:%M:%S", math.floor(value))) or "?"
end

---@param items table[]
---@param prompt string
---@param format fun(item: table): string
---@param on_choice fun(item: table)
local function pick(items, prompt, format, on_choice)
  if #items == 0 then
    return codeforge.notify("there are none")
  end
  vim.ui.select(items, { prompt = prompt, format_item = format }, function(item)
    if item then
      on_choice(item)
    end
  end)
end

---@param checkpoint table
---@return string
local function checkpoint_line(checkpoint)
  return ("%s  %-6s %s  %s"):format(time_of(checkpoint.created_at), checkpoint.kind, checkpoint.label, checkpoint.id)
end

---@param argument table { checkpoint_id } or { run_id, to }
local function rewind(argument)
  codeforge.call("checkpoint.restore", argument, function(result, client)
    local text = ("%s: files are as they were, %d of them changed on disk"):format(result.status, #result.changed)
    if #result.conflicts > 0 then
      text = ("%s; left as they are: %s"):format(text, table.concat(result.conflicts, ", "))
    end
    require("codeforge.events").reconcile(vim.tbl_keys(client.attached_buffers))
    codeforge.notify(("%s. Undo with :CodeForge rewind %s"):format(text, result.safety_checkpoint_id))
  end)
end

---@param run_id string?
---@param on_found fun(checkpoints: table[], client: vim.lsp.Client)
local function with_checkpoints(run_id, on_found)
  codeforge.call("checkpoint.list", run_id and { run_id = run_id } or {}, function(result, client)
    on_found(result.checkpoints, client)
  end)
end

---@param started table { run_id }
---@param client vim.lsp.Client
local function show_started(started, client)
  codeforge.notify(("started %s (profile %s, model %s)"):format(started.run_id, started.profile, started.model))
  if codeforge.config().runs.open then
    require("codeforge.ui").open_run(started.run_id, client)
  end
end

---@param report table
---@return string
local function index_line(report)
  local index = report.index or report
  return ("%s, %d %%: %d files, %d symbols, %d chunks, %d stale, %d skipped %s"):format(
    index.state,
    index.percent,
    index.files,
    index.symbols,
    index.chunks,
    index.stale_files,
    index.skipped,
    index.message or ""
  )
end

---@type table<string, codeforge.Subcommand>
M.subcommands = {
  search = {
    run = function(args, call)
      local query = needed(text_of(args, call), "a query")
      if query then
        codeforge.call("search", { query = query, limit = 50 }, function(result, client)
          require("codeforge.ui").hits(query, result, codeforge.root(client), call.bang)
        end)
      end
    end,
  },
  map = {
    run = function(args)
      local budget = tonumber(args[1])
      local argument = { budget_tokens = budget or 4096, query = table.concat(args, " ", budget and 2 or 1) }
      codeforge.call("repomap", argument, function(result)
        require("codeforge.ui").map(result)
      end)
    end,
  },
  run = {
    run = function(args, call)
      local task = needed(text_of(args, call), "a task")
      if task then
        codeforge.call("run.start", { task = task }, show_started)
      end
    end,
  },
  runs = {
    run = function(args)
      if args[1] then
        local client = codeforge.client()
        return client and require("codeforge.ui").open_run(args[1], client)
      end
      codeforge.call("run.list", {}, function(result, client)
        pick(result.runs, "Runs", function(run)
          return ("%s  %-10s %s"):format(time_of(run.created_at), run.status, run.task:match("[^\n]*"))
        end, function(run)
          require("codeforge.ui").open_run(run.id, client)
        end)
      end)
    end,
    complete = run_ids,
  },
  cancel = {
    run = function(args)
      local newest = require("codeforge.events").newest_at_work()
      local id = needed(args[1] or (newest and newest.id), "a run that is at work")
      if id then
        codeforge.call("run.cancel", { run_id = id }, function(result)
          codeforge.notify(("%s is %s"):format(id, result.run.status))
        end)
      end
    end,
    complete = run_ids,
  },
  plan = {
    run = function(args, call)
      local text = needed(text_of(args, call), "tasks, with | or a new line between them,")
      if text then
        local tasks = vim.tbl_filter(function(task)
          return task ~= ""
        end, vim.tbl_map(vim.trim, vim.split(text, "[|\n]")))
        codeforge.call("plan.start", { tasks = tasks }, function(result)
          codeforge.notify(("started %s: %d tasks"):format(result.plan_id, #tasks))
        end)
      end
    end,
  },
  checkpoints = {
    run = function(args)
      with_checkpoints(args[1], function(checkpoints, client)
        pick(checkpoints, "What changed since", checkpoint_line, function(checkpoint)
          codeforge.call("checkpoint.diff", { checkpoint_id = checkpoint.id }, function(result)
            if result.diff == "" then
              return codeforge.notify("nothing on disk has changed since")
            end
            require("codeforge.ui").scratch("diff/" .. checkpoint.id, result.diff, "diff")
          end, nil, client)
        end)
      end)
    end,
    complete = run_ids,
  },
  rewind = {
    run = function(args)
      local target = args[1]
      if target and vim.startswith(target, "run-") then
        return rewind({ run_id = target, to = args[2] or "first" })
      elseif target then
        return rewind({ checkpoint_id = target })
      end
      with_checkpoints(nil, function(checkpoints)
        pick(checkpoints, "Take files back to", checkpoint_line, function(checkpoint)
          rewind({ checkpoint_id = checkpoint.id })
        end)
      end)
    end,
    complete = run_ids,
  },
  approve = {
    run = function(args)
      require("codeforge.approvals").answer("allow_once", args[1])
    end,
    complete = approval_ids,
  },
  deny = {
    run = function(args)
      require("codeforge.approvals").answer("deny", args[1])
    end,
    complete = approval_ids,
  },
  approvals = {
    run = function()
      require("codeforge.approvals").focus()
    end,
  },
  policy = {
    run = function(args)
      if args[1] then
        return codeforge.call("policy.get", { name = args[1] }, function(result)
          require("codeforge.ui").scratch("policy/" .. args[1], vim.inspect(result.layers), "lua")
        end)
      end
      codeforge.call("policy.list", {}, function(result)
        local lines = {}
        for _, profile in ipairs(result.profiles) do
          local mark = profile.name == result.default and "*" or " "
          lines[#lines + 1] = ("%s %-28s %s"):format(mark, profile.name, profile.description or "")
        end
        for _, problem in ipairs(result.problems) do
          lines[#lines + 1] = ("! %s:%s %s"):format(problem.file, problem.line, problem.message)
        end
        require("codeforge.ui").scratch("policies", table.concat(lines, "\n"))
      end)
    end,
  },
  health = {
    run = function()
      vim.cmd.checkhealth("codeforge")
    end,
  },
  log = {
    run = function()
      local server = codeforge.config().cmd[1]
      local program = vim.fs.joinpath(vim.fs.dirname(server), "codeforge")
      program = vim.fn.executable(program) == 1 and program or "codeforge"
      local client = codeforge.client()
      vim.cmd("botright 15new")
      vim.fn.jobstart({ program, "logs" }, { term = true, cwd = client and client.root_dir or nil })
    end,
  },
  index = {
    run = function(args)
      if args[1] == "build" then
        codeforge.call("index.build", { force = args[2] == "force" }, function(result)
          codeforge.notify("index " .. index_line(result))
        end)
      elseif args[1] == "skipped" then
        codeforge.call("index.skipped", {}, function(result)
          local lines = vim.tbl_map(function(file)
            return ("%-12s %s"):format(file.reason, file.path)
          end, result.skipped)
          require("codeforge.ui").scratch("skipped", table.concat(lines, "\n"))
        end)
      else
        codeforge.call("index.status", {}, function(result)
          codeforge.notify("index " .. index_line(result))
        end)
      end
    end,
    complete = function()
      return { "build", "skipped", "status" }
    end,
  },
}

--- Run one; without any, say what there is.
---@param call vim.api.keyset.create_user_command.command_args
function M.run(call)
  local args = vim.list_slice(call.fargs, 2)
  local subcommand = M.subcommands[call.fargs[1]]
  if not subcommand then
    local names = table.concat(vim.fn.sort(vim.tbl_keys(M.subcommands)), ", ")
    return codeforge.notify(("%s is none of: %s"):format(call.fargs[1] or "nothing", names), vim.log.levels.ERROR)
  end
  subcommand.run(args, call)
end

--- Try a rule of a policy file out, as the lens over it does. The server shows what came of it.
---@param lens { uri: string, rule: integer }
---@param client vim.lsp.Client?
function M.try_rule(lens, client)
  vim.ui.input({ prompt = "A command or path (nothing: the rule's own examples): " }, function(text)
    if text then
      local input = text ~= "" and text or nil
      codeforge.call("policy.try", { uri = lens.uri, rule = lens.rule, input = input }, nil, nil, client)
    end
  end)
end

--- Completion of subcommands and of their first argument.
---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  local words = vim.split(vim.trim(line:match("CodeForge!?%s*(.*)$") or ""), "%s+", { trimempty = true })
  local position = #words + (lead == "" and 1 or 0)
  local found = {}
  if position <= 1 then
    found = vim.fn.sort(vim.tbl_keys(M.subcommands))
  elseif position == 2 and M.subcommands[words[1]] and M.subcommands[words[1]].complete then
    found = M.subcommands[words[1]].complete()
  end
  return vim.tbl_filter(function(word)
    return vim.startswith(word, lead)
  end, found)
end

return M
