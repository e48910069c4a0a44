// Saves a document at the server's request: after an approved edit of one that was saved before, so that commands see it.

import * as vscode from "vscode";
import type { ClientCapabilities, FeatureState, StaticFeature } from "vscode-languageclient/node";
import type { SaveRequest } from "./protocol";

export const SAVE = "codeforge/document/save";

/** Tells the server that `codeforge/document/save` is answered here. */
export class SaveFeature implements StaticFeature {
  fillClientCapabilities(capabilities: ClientCapabilities): void {
    const others = (capabilities.experimental ?? {}) as Record<string, unknown>;
    capabilities.experimental = { ...others, codeforge: { save: true } };
  }

  getState(): FeatureState {
    return { kind: "static" };
  }

  initialize(): void {
    // The request handler is registered with the connection.
  }

  clear(): void {
    // Nothing is kept.
  }
}

/** `saved` says whether the document is on disk as the editor shows it. */
export async function saveDocument({ uri, version }: SaveRequest): Promise<{ saved: boolean }> {
  const wanted = vscode.Uri.parse(uri).toString();
  const document = vscode.workspace.textDocuments.find((open) => open.uri.toString() === wanted);
  if (!document || (typeof version === "number" && document.version !== version)) return { saved: false };
  return { saved: !document.isDirty || (await document.save()) };
}
