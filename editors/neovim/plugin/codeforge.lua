-- :CodeForge, and the language server in every repository. The rest is loaded when it is first needed.
if vim.g.loaded_codeforge then
  return
end
vim.g.loaded_codeforge = 1

if vim.fn.has("nvim-0.11") ~= 1 then
  vim.notify("codeforge needs Neovim 0.11 or newer", vim.log.levels.ERROR)
  return
end

vim.api.nvim_create_user_command("CodeForge", function(call)
  require("codeforge.commands").run(call)
end, {
  nargs = "*",
  bang = true,
  range = true,
  desc = "CodeForge: search, runs, approvals, checkpoints",
  complete = function(lead, line)
    return require("codeforge.commands").complete(lead, line)
  end,
})

for name, verdict in pairs({ approve = "allow_once", deny = "deny" }) do
  vim.keymap.set("n", ("<Plug>(codeforge-%s)"):format(name), function()
    require("codeforge.approvals").answer(verdict)
  end, { desc = ("CodeForge: %s the question shown"):format(name) })
end

vim.api.nvim_set_hl(0, "CodeForgeTitle", { default = true, link = "Title" })
vim.api.nvim_set_hl(0, "CodeForgeTool", { default = true, link = "Function" })
vim.api.nvim_set_hl(0, "CodeForgeLive", { default = true, link = "Comment" })
vim.api.nvim_set_hl(0, "CodeForgeDenied", { default = true, link = "DiagnosticWarn" })
vim.api.nvim_set_hl(0, "CodeForgeEnd", { default = true, link = "DiagnosticOk" })

local given = vim.g.codeforge
if type(given) ~= "table" or given.enable ~= false then
  vim.lsp.enable("codeforge")
end
