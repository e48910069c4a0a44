-- The language server, as `vim.lsp.enable("codeforge")` finds it. Everything in it can be changed by vim.g.codeforge
-- or by vim.lsp.config("codeforge", {...}).
local config = require("codeforge").config()

---@type table<string, fun(err: table?, params: any, ctx: lsp.HandlerContext): any>
local handlers = {}
for method, name in pairs({
  ["codeforge/run/event"] = "on_run_event",
  ["codeforge/run/delta"] = "on_run_delta",
  ["codeforge/plan/event"] = "on_plan_event",
  ["codeforge/approval"] = "on_approval",
  ["codeforge/status"] = "on_status",
}) do
  handlers[method] = function(_, params, ctx)
    require("codeforge.events")[name](params, ctx.client_id)
  end
end

handlers["codeforge/document/save"] = function(_, params)
  return { saved = require("codeforge.events").save(params.uri) }
end

local options = vim.tbl_deep_extend("force", config.settings, {
  approvals = config.approvals.prompt == "float" and "client" or nil,
  deltas = true,
  save = true,
})

---@type vim.lsp.Config
return {
  cmd = config.cmd,
  root_markers = { ".codeforge", ".git" },
  workspace_required = true, -- no folder, no repository: nothing to know
  init_options = { codeforge = options },
  settings = { codeforge = config.settings },
  handlers = handlers,
  commands = {
    ["codeforge.policy.try"] = function(command, ctx)
      require("codeforge.commands").try_rule(command.arguments[1], vim.lsp.get_client_by_id(ctx.client_id))
    end,
  },
  on_init = function(client)
    require("codeforge").hand_over(client)
  end,
  on_exit = function(_, _, client_id)
    vim.schedule(function()
      require("codeforge.approvals").forget(client_id)
    end)
  end,
}
