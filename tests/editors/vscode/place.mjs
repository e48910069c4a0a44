// Where the proof happens: a repository, settings and state in a temporary folder, the scripted model, and the CLI beside it.

import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const FILES = {
  "app.py": 'from greeting import polite\n\n\ndef main() -> None:\n    print(polite("world"))\n',
  "greeting.py": '"""Greetings."""\n\n\ndef polite(name: str) -> str:\n    return f"Hello {name}"\n',
  "notes.txt": "one\ntwo\n",
};

const SEEN = "grep -c 'Good evening' greeting.py > seen.txt; cat seen.txt";
const edit = (path, old_text, new_text) => ({ tool: "Edit", arguments: { path, old_text, new_text } });
const SCRIPT = [
  {
    task: "evening",
    turns: [
      edit("greeting.py", "Hello {name}", "Good evening, {name}"),
      { tool: "Bash", arguments: { command: SEEN } },
      { say: "The greeting is an evening one now." },
    ],
  },
  { task: "notes", turns: [edit("notes.txt", "two", "TWO"), { say: "The notes were not mine to change." }] },
  { task: "typed", turns: [edit("app.py", '"world"', '"everybody"'), { say: "Everybody is greeted." }] },
  {
    task: "capitals",
    turns: [edit("notes.txt", "one", "ONE"), edit("notes.txt", "two", "TWO"), { say: "The notes are loud now." }],
  },
  { task: "for good", turns: [edit("app.py", '"world"', '"people"'), { say: "People are greeted." }] },
  { task: "slow", turns: [{ say: "Thinking. ".repeat(200), delay: 2 }] },
];

/** Makes the place and starts the model. */
export async function makePlace(project) {
  const home = mkdtempSync(join(tmpdir(), "cf-"));
  const folder = (name) => {
    const path = join(home, name);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  };
  const workspace = folder("ws");
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(workspace, name), text);
  writeFileSync(join(folder("second"), "second.py"), "def something_of_the_second_folder() -> int:\n    return 2\n");
  writeFileSync(join(home, "both.code-workspace"), JSON.stringify({ folders: [{ path: "ws" }, { path: "second" }] }));
  const git = (...args) => execFileSync("git", ["-C", workspace, "-c", "user.name=p", "-c", "user.email=p@example.org", ...args], { stdio: "ignore" });
  git("init", "-q");
  git("add", ".");
  git("commit", "-qm", "start");
  writeFileSync(join(home, "script.json"), JSON.stringify(SCRIPT));
  const bin = join(project, ".venv/bin");
  const model = spawn(join(bin, "python"), ["-m", "codeforge_ls.llm.scripted", "--script", join(home, "script.json")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [base] = await once(createInterface(model.stdout), "line");
  const env = {
    ...process.env,
    HOME: home,
    XDG_CONFIG_HOME: folder("config"),
    XDG_STATE_HOME: folder("state"),
    XDG_CACHE_HOME: folder("cache"),
    XDG_DATA_HOME: folder("data"),
    XDG_RUNTIME_DIR: folder("run"),
    CODEFORGE_LLM_MODEL: "openai/scripted",
    CODEFORGE_LLM_API_BASE: base,
    OPENAI_API_KEY: "none",
  };
  return new Place(home, workspace, bin, env, model, folder);
}

class Place {
  constructor(home, workspace, bin, env, model, folder) {
    Object.assign(this, { home, workspace, bin, env, model });
    this.user = folder("user");
    this.extensions = folder("extensions");
    folder("user/User");
    folder("user/Machine");
    this.server = { "codeforge.server.path": join(bin, "codeforge-ls") };
    this.settings(this.server);
    writeFileSync(join(this.user, "User/settings.json"), JSON.stringify(QUIET));
  }

  /** Settings of scope machine: the workbench counts as remote, so they are read from Machine/settings.json only. */
  settings(values) {
    writeFileSync(join(this.user, "Machine/settings.json"), JSON.stringify(values));
  }

  /** The processes of the workspaces of this place, as `pid command`. */
  processes() {
    const commands = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map((pid) => {
      try {
        return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")}`;
      } catch {
        return ""; // it has just ended
      }
    });
    return commands.filter((command) => command.includes(this.home));
  }

  /** The daemons of this place. */
  daemons() {
    return this.processes().filter((command) => command.includes("codeforge_ls.daemon"));
  }

  /** A CLI verb with --json, as lines of JSON. */
  codeforge(...args) {
    const options = { env: this.env, cwd: this.workspace, encoding: "utf8", timeout: 60_000 };
    const out = execFileSync(join(this.bin, "codeforge"), ["--root", this.workspace, ...args, "--json"], options);
    return out.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  /** What is on disk, as one hash for each file that the proof knows. */
  hashes() {
    const hash = (name) => createHash("sha256").update(readFileSync(join(this.workspace, name))).digest("hex");
    return JSON.stringify(Object.fromEntries(Object.keys(FILES).map((name) => [name, hash(name)])));
  }

  async until(holds) {
    for (let tries = 0; tries < 75 && !holds(); tries += 1) await new Promise((resolve) => setTimeout(resolve, 200));
  }

  read(name) {
    return readFileSync(join(this.workspace, name), "utf8");
  }

  /** Whether a text is in a file of ours: state, logs, settings, the workspace. */
  written(text) {
    const files = ["state", "config", "ws"].flatMap((folder) =>
      readdirSync(join(this.home, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name)),
    );
    return files.some((file) => readFileSync(file).includes(text));
  }

  /** Waits until the editor has ended its sessions (it would open them again), then stops the daemons. Answers the
   * processes that stay all the same: there should be none. */
  async stop() {
    await this.until(() => !this.processes().some((command) => command.includes("codeforge-ls")));
    for (const root of [this.workspace, join(this.home, "second")]) this.codeforge("--root", root, "daemon", "stop");
    const left = () => this.processes().filter((command) => !command.startsWith(`${this.model.pid} `));
    await this.until(() => !left().length);
    return left();
  }

  /** Stops everything and removes the place; answers like `stop`. */
  async end() {
    try {
      return await this.stop();
    } finally {
      this.model.kill("SIGTERM");
      rmSync(this.home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    }
  }
}

// Nothing is asked of other hosts, nothing saves by itself, nothing gets in the way of the clicks.
const QUIET = {
  "files.autoSave": "off",
  "files.hotExit": "off",
  "telemetry.telemetryLevel": "off",
  "workbench.startupEditor": "none",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.tips.enabled": false,
  "workbench.enableExperiments": false,
  "workbench.welcomePage.walkthroughs.openOnInstall": false,
  "extensions.autoCheckUpdates": false,
  "extensions.autoUpdate": false,
  "extensions.ignoreRecommendations": true,
  "update.mode": "none",
  "chat.disableAIFeatures": true,
  "git.enabled": false,
  "security.workspace.trust.startupPrompt": "never",
  "editor.autoClosingBrackets": "never",
};

function once(emitter, event) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} in 20 s`)), 20_000);
    emitter.once(event, (...values) => {
      clearTimeout(timer);
      resolve(values);
    });
  });
}
