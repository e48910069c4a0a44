--- :checkhealth codeforge
local M = {}

local WAIT_MS = 5000

---@param report table
local function service(report)
  local health = vim.health
  health.ok(("daemon %s, pid %d, up %d s, %d MB"):format(report.version, report.pid, report.uptime_seconds, report.rss_mb))
  local index = report.index
  local line = ("index %s: %d of 100 %%, %d files, %d symbols"):format(index.state, index.percent, index.files, index.symbols)
  if index.state == "error" then
    health.error(line .. ": " .. index.message)
  else
    health.ok(line)
  end
  local model = report.model.name
  if type(model) == "string" and model ~= "" then
    health.ok("model " .. model)
  else
    health.warn("no model is set: runs cannot start", "vim.g.codeforge = { settings = { llm = { model = '...' } } }")
  end
  local sandbox = report.sandbox
  health[sandbox.backend == "none" and "warn" or "ok"]("sandbox " .. sandbox.backend)
  for _, problem in ipairs(report.config_problems) do
    health.warn(("%s: %s: %s"):format(problem.file, problem.field, problem.message))
  end
  for _, problem in ipairs(report.policy_problems) do
    health.warn(("%s:%s: %s"):format(problem.file, problem.line, problem.message))
  end
end

function M.check()
  local codeforge = require("codeforge")
  local health = vim.health
  health.start("CodeForge")
  health[vim.fn.has("nvim-0.11") == 1 and "ok" or "error"]("Neovim " .. tostring(vim.version()))
  local given = vim.g.codeforge
  if given ~= nil and type(given) ~= "table" then
    health.error("vim.g.codeforge is no table")
  end
  local program = codeforge.config().cmd[1]
  if vim.fn.executable(program) == 1 then
    health.ok(("%s: %s"):format(program, vim.fn.exepath(program)))
  else
    health.error(program .. " is not executable", { "pipx install codeforge-ls", "or set vim.g.codeforge.cmd" })
  end
  local client = codeforge.client()
  if not client then
    health.warn("no server is attached", "open a file in a git repository; :checkhealth vim.lsp says more")
    return
  end
  health.ok(("attached to %s"):format(codeforge.root(client)))
  local report, problem
  codeforge.call("health", {}, function(result)
    report = result
  end, function(err)
    problem = codeforge.error_text(err)
  end, client)
  vim.wait(WAIT_MS, function()
    return report ~= nil or problem ~= nil
  end, 20)
  if report then
    service(report)
  else
    health.error("the server does not answer: " .. (problem or "time is over"), "see :CodeForge log")
  end
end

return M
