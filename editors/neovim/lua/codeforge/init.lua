--- CodeForge for Neovim: the settings in vim.g.codeforge, and calls of the language server.
local M = {}

---@class codeforge.Config
---@field enable? boolean Start the server in every repository (default true); else call vim.lsp.enable("codeforge")
---@field cmd? string[] How to start the server (default { "codeforge-ls" })
---@field settings? table Settings as in .codeforge/config.yaml, such as { llm = { model = "..." } }
---@field secrets? fun(): table<string, string>? Keys for the server, such as { OPENAI_API_KEY = ... }
---@field approvals? codeforge.ApprovalConfig
---@field runs? codeforge.RunConfig

---@class codeforge.ApprovalConfig
---@field prompt? "float"|"select" A float that does not take the keyboard (default), or vim.ui.select
---@field keys? { allow?: string, run?: string, always?: string, deny?: string, dismiss?: string } (a, r, w, d, q)

---@class codeforge.RunConfig
---@field open? boolean Open the output of a run when it is started here (default true)
---@field height? integer Lines of that window (default 15)

---@type codeforge.Config
local defaults = {
  enable = true,
  cmd = { "codeforge-ls" },
  settings = vim.empty_dict(),
  approvals = { prompt = "float", keys = { allow = "a", run = "r", always = "w", deny = "d", dismiss = "q" } },
  runs = { open = true, height = 15 },
}

--- The settings in force.
---@return codeforge.Config
function M.config()
  local given = vim.g.codeforge
  local merged = vim.tbl_deep_extend("force", defaults, type(given) == "table" and given or {})
  merged.settings = next(merged.settings) and merged.settings or vim.empty_dict()
  return merged
end

--- The client for the current buffer, else for the current folder, else any.
---@return vim.lsp.Client?
function M.client()
  local here = vim.lsp.get_clients({ name = "codeforge", bufnr = 0 })[1]
  if here then
    return here
  end
  local cwd = vim.uv.cwd() or ""
  local all = vim.lsp.get_clients({ name = "codeforge" })
  for _, client in ipairs(all) do
    local root = client.root_dir
    if root and vim.startswith(cwd .. "/", root .. "/") then
      return client
    end
  end
  return all[1]
end

--- Tell the person.
---@param text string
---@param level? integer One of vim.log.levels
function M.notify(text, level)
  vim.notify("CodeForge: " .. text, level or vim.log.levels.INFO)
end

--- Run a command of the server and pass its result on. Never waits: a question of the server may come before
--- its answer. Errors are shown.
---@param name string Such as "search" for codeforge.search
---@param argument table
---@param on_result? fun(result: table, client: vim.lsp.Client)
---@param on_error? fun(err: table) In place of showing it
---@param client? vim.lsp.Client
---@return boolean sent
function M.call(name, argument, on_result, on_error, client)
  client = client or M.client()
  if not client then
    M.notify("no server is attached here; open a file of a repository, or see :checkhealth codeforge", vim.log.levels.WARN)
    return false
  end
  local params = { command = "codeforge." .. name, arguments = { next(argument) and argument or vim.empty_dict() } }
  return client:request("workspace/executeCommand", params, function(err, result)
    if err and on_error then
      on_error(err)
    elseif err then
      M.notify(M.error_text(err), vim.log.levels.ERROR)
    elseif on_result then
      on_result(result, client)
    end
  end)
end

--- Hand the keys of the settings to the server, which keeps them in memory only.
---@param client vim.lsp.Client
function M.hand_over(client)
  local secrets = M.config().secrets
  if type(secrets) ~= "function" then
    return
  end
  local ok, keys = pcall(secrets)
  if not ok or (keys ~= nil and type(keys) ~= "table") then
    M.notify("the function `secrets` of the settings failed; no key was handed over", vim.log.levels.WARN)
  elseif keys and next(keys) then
    M.call("keys.set", { keys = keys }, nil, nil, client)
  end
end

--- What an error says, with the hint that the server gives.
---@param err table
---@return string
function M.error_text(err)
  local data = type(err.data) == "table" and err.data or {}
  local hint = type(data.hint) == "string" and data.hint or ""
  local message = tostring(err.message)
  return (hint ~= "" and not message:find(hint, 1, true)) and (message .. " " .. hint) or message
end

--- The folder a client serves.
---@param client vim.lsp.Client
---@return string
function M.root(client)
  return client.root_dir or vim.uv.cwd() or "."
end

return M
