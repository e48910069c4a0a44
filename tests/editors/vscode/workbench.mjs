// A real VS Code workbench on loopback and a person at it: installs the .vsix, opens the page, clicks and types.

import { execFileSync, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { join } from "node:path";

const CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

export class Workbench {
  /** Starts the server with the extension installed from the file and opens `query` (folder=… or workspace=…).
   * `trusting`: everything is trusted from the start. */
  static async start({ directory, place, vsix, out, name, query, trusting = true }) {
    const node = join(directory, "node");
    const entry = join(directory, "node_modules/code-server/out/node/entry.js");
    const folders = ["--user-data-dir", place.user, "--extensions-dir", place.extensions];
    // An empty gallery: otherwise the server asks a public one.
    const env = { ...place.env, EXTENSIONS_GALLERY: JSON.stringify({ serviceUrl: "" }) };
    execFileSync(node, [entry, ...folders, "--install-extension", vsix], { env, stdio: "pipe", timeout: 120_000 });
    const port = await freePort();
    const options = ["--auth", "none", "--bind-addr", `127.0.0.1:${port}`, "--disable-telemetry", "--disable-update-check",
      "--disable-getting-started-override", ...(trusting ? ["--disable-workspace-trust"] : [])];
    const server = spawn(node, [entry, ...folders, ...options], { env, stdio: ["ignore", "pipe", "pipe"] });
    const log = createWriteStream(join(out, `${name}.log`));
    server.stdout.pipe(log);
    server.stderr.pipe(log);
    const workbench = new Workbench(server, `http://127.0.0.1:${port}`, out, name);
    try {
      await workbench.answers();
      await workbench.open(createRequire(join(directory, "package.json"))("playwright-core"), query);
    } catch (error) {
      await workbench.end();
      throw error;
    }
    return workbench;
  }

  constructor(server, url, out, name) {
    Object.assign(this, { server, url, out, name, outside: new Set(), shots: 0 });
  }

  async answers() {
    for (let tries = 0; tries < 300; tries += 1) {
      const answer = await fetch(`${this.url}/healthz`).catch(() => undefined);
      if (answer?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error("the workbench server does not answer");
  }

  async open({ chromium }, query) {
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
    this.browser = await chromium.launch({ executablePath, args: CHROMIUM });
    this.page = await this.browser.newPage({ viewport: { width: 1400, height: 900 } });
    this.page.setDefaultTimeout(30_000);
    this.page.on("request", (request) => {
      const { hostname } = new URL(request.url());
      if (hostname && hostname !== "127.0.0.1") this.outside.add(hostname);
    });
    const log = createWriteStream(join(this.out, `${this.name}-console.log`));
    this.page.on("console", (message) => log.write(`[${message.type()}] ${message.text()}\n`));
    await this.page.goto(`${this.url}/?${new URLSearchParams(query)}`);
    await this.page.locator(".monaco-workbench").waitFor({ timeout: 90_000 });
  }

  /** Waits until the status bar says something of CodeForge that matches. */
  async status(pattern, seconds = 60) {
    const item = this.page.locator(".statusbar-item", { hasText: pattern }).first();
    await item.waitFor({ timeout: seconds * 1000 });
    return (await item.textContent()).trim();
  }

  /** Runs a command by its title in the palette. */
  async palette(title) {
    await this.page.keyboard.press("F1");
    await this.input().fill(`>${title}`);
    await this.page.locator(".quick-input-list .monaco-list-row", { hasText: title }).first().waitFor();
    await this.page.keyboard.press("Enter");
  }

  /** Runs one of our commands. */
  command(title) {
    return this.palette(`CodeForge: ${title}`);
  }

  /** Fills an input box whose prompt is known. */
  async answer(prompt, text) {
    await this.page.locator(".quick-input-widget", { hasText: prompt }).waitFor();
    await this.input().fill(text);
    await this.page.keyboard.press("Enter");
  }

  /** Picks the entry with that text. */
  async pick(text) {
    const row = this.page.locator(".quick-input-list .monaco-list-row", { hasText: text }).first();
    await row.waitFor();
    await row.click();
  }

  /** Opens a file of the workspace in a tab of its own. */
  async file(name) {
    await this.page.keyboard.press("Control+p");
    await this.input().fill(name);
    await this.page.locator(`.quick-input-list .monaco-list-row[aria-label^="${name}"]`).first().click();
    await this.page.locator(`.tab.active[data-resource-name="${name}"]`).waitFor();
    await this.page.locator(".monaco-editor .view-line").first().waitFor();
  }

  toast(text) {
    return this.page.locator(".notifications-toasts .notification-list-item", { hasText: text }).first();
  }

  /** Clicks a button of a toast. */
  async click(text, button) {
    const toast = this.toast(text);
    await toast.waitFor();
    await toast.getByRole("button", { name: button, exact: true }).click();
    await toast.waitFor({ state: "detached" }).catch(() => undefined); // the next one may read the same
  }

  /** The buttons of a toast whose titles are cut. */
  async cutButtons(text) {
    const buttons = this.toast(text).locator(".monaco-button");
    return buttons.evaluateAll((all) => all.filter((button) => button.scrollWidth > button.clientWidth).map((button) => button.textContent));
  }

  /** Closes a toast without an answer. */
  async dismiss(text) {
    const toast = this.toast(text);
    await toast.waitFor();
    await toast.hover();
    await toast.locator(".codicon-notifications-clear").click();
  }

  /** The text of the active editor, as far as it is on the screen. */
  async text() {
    const lines = await this.page.locator(".editor-group-container.active .monaco-editor .view-lines").first().innerText();
    return lines.replaceAll("\u00a0", " ");
  }

  /** Waits until the active editor's text matches. */
  async shows(pattern, seconds = 15) {
    for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
      if (pattern.test(await this.text())) return true;
      await this.page.waitForTimeout(100);
    }
    return false;
  }

  /** Whether the tab of a file has unsaved changes. */
  async isDirty(name) {
    return (await this.page.locator(`.tab.dirty[data-resource-name="${name}"]`).count()) > 0;
  }

  /** Closes whatever is open after a failure. */
  async tidy() {
    await this.page.keyboard.press("Escape");
    await this.palette("Notifications: Clear All Notifications");
  }

  async shot(name) {
    this.shots += 1;
    await this.page.waitForTimeout(300); // a message slides in; only the picture waits for that
    await this.page.screenshot({ path: join(this.out, `${this.name}-${String(this.shots).padStart(2, "0")}-${name}.png`) });
  }

  async end() {
    await this.browser?.close();
    if (this.server.exitCode !== null) return;
    const gone = new Promise((resolve) => this.server.once("exit", resolve));
    this.server.kill("SIGTERM");
    await gone;
  }

  input() {
    return this.page.locator(".quick-input-widget input").first();
  }
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
