// Keys of model providers: kept by VS Code in the system's keyring, handed to the server, never in a setting or a log.

import * as vscode from "vscode";
import type { Servers } from "./server";

const STORE = "codeforge.keys";
const NAME = /^[A-Z][A-Z0-9_]*(KEY|TOKEN|SECRET|PASSWORD)$/;
const COMMON = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY", "OPENROUTER_API_KEY"];
const OTHER = "Another…";

/** What is kept, by the name of the variable that a provider's client looks for. */
export async function keptKeys(context: vscode.ExtensionContext): Promise<Record<string, string>> {
  const kept: unknown = JSON.parse((await context.secrets.get(STORE)) ?? "{}");
  return typeof kept === "object" && kept !== null ? (kept as Record<string, string>) : {};
}

/** Ask for a key, keep it and hand it over. An empty one takes it back. */
export async function setKey(context: vscode.ExtensionContext, servers: Servers): Promise<void> {
  const kept = await keptKeys(context);
  const names = [...new Set([...Object.keys(kept), ...COMMON]), OTHER];
  const items = names.map((label) => ({ label, description: label in kept ? "kept" : "" }));
  const picked = (await vscode.window.showQuickPick(items, { placeHolder: "Which key?" }))?.label;
  const validateInput = (text: string) => (NAME.test(text) ? undefined : "Such as OPENAI_API_KEY");
  const name = picked === OTHER ? await vscode.window.showInputBox({ prompt: "Name of the key", validateInput }) : picked;
  if (!name) return;
  const prompt = `${name} (empty: forget it)`;
  const value = await vscode.window.showInputBox({ prompt, password: true, ignoreFocusOut: true });
  if (value === undefined) return;
  if (value) kept[name] = value;
  else delete kept[name];
  await context.secrets.store(STORE, JSON.stringify(kept));
  await servers.handOver({ [name]: value || null });
  void vscode.window.showInformationMessage(`CodeForge: ${name} is ${value ? "kept" : "forgotten"}.`);
}
